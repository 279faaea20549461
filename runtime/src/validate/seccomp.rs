//! `linux.seccomp` (config-linux.md, "Seccomp").
//!
//! Responsible for its names and for what goes with what. Must not know system calls: a call that
//! is not known is left out, as libseccomp's users do. Invariant: as for its parent module.

use super::document::check_text;
use super::{Report, quote};
use crate::spec::{Seccomp, SeccompArg, SeccompCall};

/// Actions of the specification.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Comparisons.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Flags of a filter.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Architectures of the specification.
pub const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// The highest number that a call can return as an error (`MAX_ERRNO`, include/linux/err.h).
const HIGHEST_ERRNO: u32 = 4095;
/// What fits into a filter's answer (`SECCOMP_RET_DATA`).
const HIGHEST_DATA: u32 = 0xffff;

pub(super) fn check(seccomp: &Seccomp, report: &mut Report) {
    check_action("defaultAction", &seccomp.default_action, report);
    check_errno(
        "defaultErrnoRet",
        seccomp.default_errno_ret,
        &seccomp.default_action,
        report,
    );
    if seccomp.default_action == "SCMP_ACT_NOTIFY" {
        // The write that hands the descriptor over would wait for its own answer.
        report.add_at("defaultAction", "`SCMP_ACT_NOTIFY` can't be the default");
    }
    check_names(
        "architectures",
        "architecture",
        &seccomp.architectures,
        &ARCHITECTURES,
        report,
    );
    check_names(
        "flags",
        "flag",
        seccomp.flags.as_deref().unwrap_or_default(),
        &FLAGS,
        report,
    );
    check_text("listenerPath", &seccomp.listener_path, report);
    if !seccomp.listener_metadata.is_empty() && seccomp.listener_path.is_empty() {
        report.add_at("listenerMetadata", "needs `listenerPath`");
    }
    report.each("syscalls", &seccomp.syscalls, |report, call| {
        check_call(call, report);
        if call.action == "SCMP_ACT_NOTIFY" && seccomp.listener_path.is_empty() {
            report.add_at("action", "`SCMP_ACT_NOTIFY` needs `listenerPath`");
        }
    });
}

fn check_call(call: &SeccompCall, report: &mut Report) {
    if call.names.is_empty() {
        report.add_at("names", "is empty");
    }
    report.each("names", &call.names, |report, name| {
        if name.is_empty() {
            report.add("is empty");
        }
    });
    check_action("action", &call.action, report);
    check_errno("errnoRet", call.errno_ret, &call.action, report);
    if call.action == "SCMP_ACT_NOTIFY" && call.names.iter().any(|n| n == "write") {
        // As runc: a runtime could not go on after the filter is there.
        report.add_at("action", "`SCMP_ACT_NOTIFY` can't be used for `write`");
    }
    report.each("args", &call.args, |report, arg| check_arg(arg, report));
}

fn check_arg(arg: &SeccompArg, report: &mut Report) {
    if arg.index > 5 {
        report.add_at("index", format!("{} is not 0 to 5", arg.index));
    }
    if !OPERATORS.contains(&arg.op.as_str()) {
        report.add_at("op", format!("unknown comparison {}", quote(&arg.op)));
    }
}

fn check_action(name: &str, action: &str, report: &mut Report) {
    if action.is_empty() {
        report.add_at(name, "is required");
    } else if !ACTIONS.contains(&action) {
        report.add_at(name, format!("unknown action {}", quote(action)));
    }
}

/// "When the action does not support an errno, the runtime MUST print and error and fail"
/// (config-linux.md, "Seccomp").
fn check_errno(name: &str, errno: Option<u32>, action: &str, report: &mut Report) {
    let Some(errno) = errno else {
        return;
    };
    let highest = match action {
        "SCMP_ACT_ERRNO" => HIGHEST_ERRNO,
        "SCMP_ACT_TRACE" => HIGHEST_DATA,
        action if ACTIONS.contains(&action) => {
            report.add_at(name, format!("`{action}` takes no error number"));
            return;
        }
        _ => return,
    };
    if errno > highest {
        report.add_at(name, format!("{errno} is above {highest}"));
    }
}

fn check_names(field: &str, what: &str, list: &[String], known: &[&str], report: &mut Report) {
    report.each(field, list, |report, name| {
        if !known.contains(&name.as_str()) {
            report.add(format!("unknown {what} {}", quote(name)));
        }
    });
}
