//! What is checked, and in which settings.
//!
//! Responsible for the list and for one line of the report for each. Must not start or prepare
//! anything itself. Invariant: names are unique, `CHECK::SETTING`, and the list is the same on the
//! host and in the machine.

mod build;
mod cgroup;
mod lifecycle;
mod rootless;

use std::fmt;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::place::{Place, Setting};
use crate::report;

/// On the root that the kernel boots from.
const INITRAMFS: &str = "initramfs";
/// On an ordinary root.
const SYSTEM: &str = "system";

const ROOT: &[Setting] = &[Setting::Root];
const DELEGATED: &[Setting] = &[Setting::Root, Setting::Subids, Setting::Plain];
const ROOTLESS: &[Setting] = &[Setting::Subids, Setting::Plain, Setting::Session];
const ALL: &[Setting] = &[
    Setting::Root,
    Setting::Subids,
    Setting::Plain,
    Setting::Session,
];
const SESSION: &[Setting] = &[Setting::Session];

type Body = fn(&Place) -> Result<()>;

/// Every check: its stage, its name, where it runs, and what it does.
const CHECKS: &[(&str, &str, &[Setting], Body)] = &[
    (INITRAMFS, "no_pivot", ROOT, lifecycle::no_pivot),
    (INITRAMFS, "no_pivot_asked", ROOT, lifecycle::no_pivot_asked),
    (SYSTEM, "lifecycle", ALL, lifecycle::lifecycle),
    (SYSTEM, "exit_code", ALL, lifecycle::exit_code),
    (SYSTEM, "exec", ALL, lifecycle::exec),
    (SYSTEM, "seccomp", ALL, lifecycle::seccomp),
    (SYSTEM, "kill_all", DELEGATED, lifecycle::kill_all),
    (SYSTEM, "memory", DELEGATED, cgroup::memory),
    (SYSTEM, "pids", DELEGATED, cgroup::pids),
    (SYSTEM, "cpu_quota", DELEGATED, cgroup::cpu_quota),
    (SYSTEM, "cpu_weight", DELEGATED, cgroup::cpu_weight),
    (SYSTEM, "cpuset", DELEGATED, cgroup::cpuset),
    (SYSTEM, "io", DELEGATED, cgroup::io),
    (SYSTEM, "unified", DELEGATED, cgroup::unified),
    (SYSTEM, "update", DELEGATED, cgroup::update),
    (SYSTEM, "pause", DELEGATED, cgroup::pause),
    (SYSTEM, "stats", DELEGATED, cgroup::stats),
    (SYSTEM, "exec_in_group", DELEGATED, cgroup::exec_in_group),
    (
        SYSTEM,
        "group_namespace",
        DELEGATED,
        cgroup::group_namespace,
    ),
    (
        SYSTEM,
        "group_read_only",
        DELEGATED,
        cgroup::group_read_only,
    ),
    (SYSTEM, "devices", ROOT, cgroup::devices),
    (SYSTEM, "no_group", ROOTLESS, rootless::no_group),
    (
        SYSTEM,
        "limits_undelegated",
        SESSION,
        rootless::limits_undelegated,
    ),
    (SYSTEM, "group_beside", DELEGATED, rootless::group_beside),
    (SYSTEM, "id_maps", ROOTLESS, rootless::id_maps),
    (SYSTEM, "build", DELEGATED, build::build),
    (SYSTEM, "build_limits", DELEGATED, build::build_limits),
    (SYSTEM, "build_memory", DELEGATED, build::build_memory),
    (SYSTEM, "build_parent", DELEGATED, build::build_parent),
    (SYSTEM, "build_killed", DELEGATED, build::build_killed),
    (
        SYSTEM,
        "build_undelegated",
        SESSION,
        build::build_undelegated,
    ),
    (SYSTEM, "doctor", ROOTLESS, build::doctor),
];

/// The error of a check that can't be run, and why.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

fn full_name(name: &str, setting: Setting) -> String {
    format!("{name}::{}", setting.name())
}

fn is_chosen(name: &str, filters: &[&str]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter))
}

/// Returns the names of the checks that contain one of the filters; of all where there is none.
pub(crate) fn names(filters: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for (_, name, settings, _) in CHECKS {
        names.extend(settings.iter().map(|setting| full_name(name, *setting)));
    }
    names.retain(|name| is_chosen(name, filters));
    names
}

/// Runs the chosen checks of a stage, one on each processor at a time, and reports each.
pub(crate) fn run(stage: &str, filters: &[&str]) {
    let mut chosen = Vec::new();
    for (of, name, settings, body) in CHECKS {
        for setting in *settings {
            let full = full_name(name, *setting);
            if *of == stage && is_chosen(&full, filters) {
                chosen.push((full, *name, *setting, *body));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some((full, name, setting, body)) =
                    chosen.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let started = Instant::now();
                    let result = catch_unwind(|| body(&Place::new(name, *setting)?))
                        .unwrap_or_else(|_| Err(anyhow!("it panicked, see the console")));
                    report(full, started.elapsed(), result);
                }
            });
        }
    });
}

fn report(full: &str, took: Duration, result: Result<()>) {
    match result {
        Ok(()) => report::line(&format!("ok {full} {:.2}", took.as_secs_f32())),
        Err(error) => match error.downcast_ref::<Skipped>() {
            Some(Skipped(why)) => report::line(&format!("skip {full}: {why}")),
            None => report::lines(&format!("not ok {full}"), &format!("{error:#}")),
        },
    }
}
