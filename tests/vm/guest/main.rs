//! The program inside the virtual machine: its first process, and the checks.
//!
//! ```text
//! vm-guest                            pid 1: prepares the system, runs the checks, powers off
//! vm-guest check STAGE FILTER…        runs the checks of one stage, one line for each
//! vm-guest list FILTER…               names the checks (on the host, too)
//! vm-guest as UID GID CGROUP PROGRAM… enters a control group, drops to a user, executes
//! ```
//!
//! Responsible for choosing between these. Must not be used outside of the machine, except to
//! list: it assumes that everything there is its own.
//!
//! A line on the report is `ok NAME SECONDS`, `skip NAME: WHY`, or `not ok NAME` followed by what
//! happened, each line after a `| `. The last one is `done`.

mod bundle;
mod checks;
mod init;
mod place;
mod report;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(&format!("fatal: {error:#}"));
            if std::process::id() == 1 {
                init::power_off();
            }
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] if std::process::id() == 1 => init::first(),
        ["second"] if std::process::id() == 1 => init::second(),
        ["list", filters @ ..] => {
            for name in checks::names(filters) {
                report::line(&name);
            }
            Ok(())
        }
        ["check", stage, filters @ ..] => {
            checks::run(stage, filters);
            Ok(())
        }
        ["as", uid, gid, group, program, arguments @ ..] => {
            drop_to(uid.parse()?, gid.parse()?, group, program, arguments)
        }
        _ => bail!("usage: vm-guest list [FILTER…]"),
    }
}

/// Enters a control group as root, then becomes the user and the program.
fn drop_to(uid: u32, gid: u32, group: &str, program: &str, arguments: &[&str]) -> Result<()> {
    std::fs::write(
        format!("{}{group}/cgroup.procs", place::CGROUPS),
        std::process::id().to_string(),
    )
    .with_context(|| format!("enter `{group}`"))?;
    // As root this drops the supplementary groups, too.
    let error = Command::new(program)
        .args(arguments)
        .uid(uid)
        .gid(gid)
        .exec();
    Err(error).with_context(|| format!("execute `{program}`"))
}
