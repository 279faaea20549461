//! `process` (config.md, "Process").
//!
//! Responsible for one process, a container's first or one that `exec` starts. Invariant: as for
//! its parent module.

use super::Report;
use super::document::{check_path, check_text, no_nul};
use crate::caps;
use crate::rlimits::Rlimits;
use crate::scheduling::{Affinity, IoPriority, Scheduler};
use crate::spec::{Capabilities, Process, User};

pub(super) fn check(process: &Process, report: &mut Report) {
    report.field("user", |report| check_user(&process.user, report));
    report.each("args", &process.args, |report, text| no_nul(text, report));
    if process.command_line.is_some() {
        report.add_at("commandLine", "is for Windows and not supported");
    }
    check_environment(&process.env, report);
    check_path("cwd", &process.cwd, report);
    if let Some(sets) = &process.capabilities {
        report.field("capabilities", |report| check_capabilities(sets, report));
    }
    Rlimits::check(&process.rlimits, report);
    check_text("apparmorProfile", &process.apparmor_profile, report);
    check_text("selinuxLabel", &process.selinux_label, report);
    if let Some(score) = process.oom_score_adj
        && !(-1000..=1000).contains(&score)
    {
        // proc_pid_oom_score_adj(5).
        report.add_at("oomScoreAdj", format!("{score} is not -1000 to 1000"));
    }
    if let Some(priority) = &process.io_priority {
        report.field("ioPriority", |report| {
            IoPriority::check(priority, report);
        });
    }
    if let Some(scheduler) = &process.scheduler {
        report.field("scheduler", |report| {
            Scheduler::check(scheduler, report);
        });
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        report.field("execCPUAffinity", |report| {
            Affinity::check(affinity, report);
        });
    }
}

fn check_user(user: &User, report: &mut Report) {
    let mut id = |name: &str, id: u32| {
        // setresuid(2) takes it for "leave as it is".
        if id == u32::MAX {
            report.add_at(name, format!("{id} is no id"));
        }
    };
    id("uid", user.uid);
    id("gid", user.gid);
    report.each("additionalGids", &user.additional_gids, |report, gid| {
        if *gid == u32::MAX {
            report.add(format!("{gid} is no id"));
        }
    });
    if let Some(umask) = user.umask
        && umask > 0o777
    {
        report.add_at("umask", format!("{umask} is above 511 (octal 777)"));
    }
    if user.username.is_some() {
        report.add_at("username", "is for Windows and not supported");
    }
}

pub(super) fn check_environment(list: &[String], report: &mut Report) {
    report.each("env", list, |report, entry| {
        match entry.split_once('=') {
            None => report.add("has no `=`"),
            Some(("", _)) => report.add("has no name before `=`"),
            Some(_) => {}
        }
        // The value may be a secret, and is not shown.
        if entry.contains('\0') {
            report.add("has a null character");
        }
    });
}

/// What capset(2) refuses. Names that are not known are warnings (config.md, "Process").
fn check_capabilities(sets: &Capabilities, report: &mut Report) {
    let mut within = |name: &str, list: &[String], other: &str, limit: &[String]| {
        let limit: Vec<_> = limit.iter().filter_map(|n| caps::by_name(n)).collect();
        report.each(name, list, |report, capability| {
            if caps::by_name(capability).is_some_and(|c| !limit.contains(&c)) {
                report.add(format!("`{capability}` is not among the {other} ones"));
            }
        });
    };
    within("effective", &sets.effective, "permitted", &sets.permitted);
    within("inheritable", &sets.inheritable, "bounding", &sets.bounding);
}
