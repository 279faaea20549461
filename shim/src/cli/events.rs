//! `events`: what a container uses, and that it ran out of memory.

use std::time::{Duration, Instant};

use runtime::cgroup::{Event, Stats, Watch};
use runtime::state::{Dir, Id, Record, Status};
use runtime::{Error, Result};
use serde::Serialize;

use super::args::{Flag, Matches, Stop, invalid};
use super::context::Context;
use super::output;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "events",
    usage: "[OPTIONS] ID",
    about: "show what a container uses and its lack of memory",
    details: "Prints a document a line: `stats` at every interval, `oom` when a process was killed\n\
              for lack of memory. Ends with the container.",
    flags: &[&[
        Flag::switch("stats", "print the statistics once"),
        Flag::value("interval", "TIME", "such as 5s (default), 500ms, 1m"),
    ]],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run,
};

/// One line, in runc's form.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let interval = match matches.text("interval")? {
        None => Duration::from_secs(5),
        Some(text) => duration(text)
            .filter(|time| !time.is_zero())
            .ok_or_else(|| {
                invalid(
                    "interval",
                    text.as_ref(),
                    "it is no time, such as 5s or 500ms",
                )
            })?,
    };
    let (_root, id, dir) = context.find(matches)?;
    let (record, status) = context.status(&id, &dir)?;
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(Error::new("container not running").into());
    }
    if matches.switch("stats") {
        print_stats(&id, &record)?;
        return Ok(0);
    }
    let mut watch = record
        .cgroup
        .watch()
        .inspect_err(|error| context.log.warn(&super::log::render(error)))
        .ok();
    loop {
        if wait(&id, watch.as_mut(), interval)? || is_over(&record, &dir)? {
            return Ok(0);
        }
        print_stats(&id, &record)?;
    }
}

/// Waits for the interval's end and prints what happens meanwhile. Returns whether the group has
/// gone.
fn wait(id: &Id, watch: Option<&mut Watch>, interval: Duration) -> Result<bool> {
    let Some(watch) = watch else {
        std::thread::sleep(interval);
        return Ok(false);
    };
    let end = Instant::now() + interval;
    loop {
        match watch.wait(end.saturating_duration_since(Instant::now()))? {
            Event::OutOfMemory => print(&Line {
                kind: "oom",
                id,
                data: None,
            })?,
            Event::Gone => return Ok(true),
            Event::Nothing => return Ok(false),
        };
    }
}

fn is_over(record: &Record, dir: &Dir) -> Result<bool> {
    Ok(record.status(dir)? == Status::Stopped)
}

fn print_stats(id: &Id, record: &Record) -> Result<()> {
    print(&Line {
        kind: "stats",
        id,
        data: Some(record.cgroup.stats()?),
    })
}

fn print(line: &Line<'_>) -> Result<()> {
    output::print_line(output::json(line)?)
}

/// Reads a time as Go writes it: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += value.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("2000us", 2),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["5", "s", "-1s", "1x", "1s2", "1..5s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
