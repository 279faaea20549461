//! `ps`: the processes of a container.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use runtime::error::ResultExt;
use runtime::state::Status;
use runtime::{Error, Result};

use super::args::{Flag, Matches, Stop};
use super::context::Context;
use super::list::{Format, format};
use super::output;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "ps",
    usage: "[OPTIONS] ID [OPTIONS OF PS]",
    about: "show the processes of a container",
    details: "The table is what ps(1) of the host says, with the options after the id, or -ef.",
    flags: &[&[Flag::value(
        "format",
        "FORMAT",
        "`table` (default), or `json` for process numbers only",
    )
    .short(b'f')]],
    arguments: (1, usize::MAX),
    stop: Stop::Format(1),
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let format = format(matches)?;
    let options = &matches.arguments[1..];
    if format == Format::Json && !options.is_empty() {
        let text = format!("options of ps have no effect on json: {:?}", options[0]);
        return Err(Error::new(text).into());
    }
    let (_root, id, dir) = context.find(matches)?;
    let (record, status) = context.status(&id, &dir)?;
    let init = match (record.init, status) {
        (None, _) | (_, Status::Stopped) => None,
        (Some(init), _) => Some(init.pid),
    };
    let mut pids: BTreeSet<i32> = record.cgroup.pids()?.into_iter().collect();
    if record.cgroup.is_none()
        && let Some(init) = init
    {
        pids = pids_in_namespace(init)?;
    }
    if format == Format::Json {
        output::print_line(output::json(&pids)?)?;
        return Ok(0);
    }
    output::print(table(&pids, options)?)
}

/// Finds the processes of the first process's pid namespace, for a container without a control
/// group. One that shares the runtime's namespace is not told from the rest of the host that way.
fn pids_in_namespace(init: i32) -> Result<BTreeSet<i32>> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(&init.to_string());
    if wanted.is_none() || wanted == namespace("self") {
        return Err(Error::new("list processes")
            .cause("the container has neither a control group nor a pid namespace".to_owned()));
    }
    let entries = std::fs::read_dir("/proc").op_path("list processes", "/proc")?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let inside = names.filter(|name| namespace(name) == wanted);
    Ok(inside.filter_map(|name| name.parse().ok()).collect())
}

/// Runs ps(1) and keeps the lines of these processes.
fn table(pids: &BTreeSet<i32>, options: &[OsString]) -> Result<String> {
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    } else {
        ps.args(options);
    }
    let output = ps
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| {
            Error::new("run ps")
                .cause(e)
                .hint("`--format json` needs no ps")
        })?;
    if !output.status.success() {
        return Err(Error::new("run ps").cause(format!("it ended with {}", output.status)));
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

/// Keeps the head and the lines whose column `PID` is one of `pids`.
fn filter(text: &str, pids: &BTreeSet<i32>) -> Result<String> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| {
        Error::new("ps shows no column PID").hint("ask for it, as with `-o pid,args`")
    })?;
    let mut kept = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column);
        let pid: Option<i32> = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            kept += line;
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_left_out() {
        let text = "UID          PID    PPID CMD\nroot           1       0 init 7\nann            7       1 sh\n";
        let pids = BTreeSet::from([7]);
        let kept = "UID          PID    PPID CMD\nann            7       1 sh\n";
        assert_eq!(filter(text, &pids).expect("filter"), kept);
        assert!(filter("CMD\nsh\n", &pids).is_err());
    }
}
