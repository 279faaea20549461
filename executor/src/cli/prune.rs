//! `sandcrab prune`: gives back what nobody needs.

use std::io::{BufRead, Write};
use std::time::Duration;

use super::table::write;
use super::units;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::store::gc::{self, Options, Report};
use crate::store::{Remover, Store};

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Forget the cache too: keep only what named images need
    #[arg(short, long)]
    pub(super) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) force: bool,
    /// Wait until no build runs
    #[arg(long)]
    pub(super) wait: bool,
    /// With until=DURATION, forget cache records and cache mounts unused for that long, such as 24h or 7d
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub(super) filters: Vec<String>,
}

/// What the command talks to.
pub(super) struct Terminal<'a> {
    /// Standard output.
    pub(super) out: &'a mut dyn Write,
    /// Standard error.
    pub(super) notes: &'a mut dyn Write,
    /// Where an answer comes from, when somebody is there to give it.
    pub(super) answers: Option<&'a mut dyn BufRead>,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal")
            .field("interactive", &self.answers.is_some())
            .finish_non_exhaustive()
    }
}

/// Runs the command.
///
/// # Errors
/// [`Kind::Usage`] for an unknown filter; those of the store and of the remover.
pub(super) fn run(
    args: &Args,
    store: &Store,
    remover: &Remover<'_>,
    terminal: Terminal<'_>,
) -> Result<()> {
    let mut options = Options {
        all: args.all,
        wait: args.wait,
        unused_for: None,
    };
    for filter in &args.filters {
        options.unused_for = Some(parse_until(filter)?);
    }
    let Terminal {
        out,
        notes,
        answers,
    } = terminal;
    if let (false, Some(answers)) = (args.force, answers) {
        let what = if args.all {
            "all images without a name, the whole cache, all cache mounts, and all layers that no image needs"
        } else {
            "all images without a name, and all layers that no image and no cached step needs"
        };
        write(
            notes,
            format!("This removes {what}.\nContinue? [y/N] ").as_bytes(),
        )?;
        let mut answer = String::new();
        answers.read_line(&mut answer).op("read answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    let report = gc::collect(store, options, remover)?;
    if report.limited {
        let note = "note: builds are running; only leftovers of interrupted ones were removed \
                    (--wait waits for the builds)\n";
        write(notes, note.as_bytes())?;
    }
    write(out, describe(&report).as_bytes())
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    for id in &report.images {
        text += &format!("Deleted: {id}\n");
    }
    for (count, what) in [
        (report.blobs, "blobs"),
        (report.snapshots, "unpacked layers"),
        (report.cache_mounts, "cache mounts"),
        (report.records, "cache records"),
        (report.sessions, "leftovers of interrupted commands"),
    ] {
        if count > 0 {
            text += &format!("Removed {what}: {count}\n");
        }
    }
    text + &format!("Total reclaimed space: {}\n", units::size(report.bytes))
}

/// Parses `until=`, a sum of numbers with units as Go writes durations, and `d` for days.
fn parse_until(filter: &str) -> Result<Duration> {
    let invalid = || {
        Error::new(format!("unknown filter `{filter}`"))
            .kind(Kind::Usage)
            .hint("the filter is until=DURATION, such as until=24h or until=7d")
    };
    let mut rest = filter.strip_prefix("until=").ok_or_else(invalid)?;
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let (unit, after) = match &rest.as_bytes()[digits..] {
            [b's', ..] => (1, &rest[digits + 1..]),
            [b'm', ..] => (60, &rest[digits + 1..]),
            [b'h', ..] => (3600, &rest[digits + 1..]),
            [b'd', ..] => (24 * 3600, &rest[digits + 1..]),
            _ => return Err(invalid()),
        };
        let seconds = number.checked_mul(unit).ok_or_else(invalid)?;
        total = total
            .checked_add(Duration::from_secs(seconds))
            .ok_or_else(invalid)?;
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("until=90s", 90),
            ("until=24h", 86_400),
            ("until=1h30m", 5400),
            ("until=7d", 604_800),
        ] {
            assert_eq!(parse_until(text).expect(text).as_secs(), seconds);
        }
        for text in [
            "until=",
            "until=5",
            "until=x",
            "label=a",
            "until=1ä",
            "until=99999999999999999999d",
        ] {
            assert!(parse_until(text).is_err(), "{text}");
        }
    }

    #[test]
    fn asks_reports_and_limits_itself() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        fixture::image(&session, &["a"], &[]);
        let prune = |answers: Option<&str>, force: bool| {
            let args = Args {
                all: false,
                force,
                wait: false,
                filters: Vec::new(),
            };
            let (mut out, mut notes) = (Vec::new(), Vec::new());
            let mut answers = answers.map(str::as_bytes);
            let terminal = Terminal {
                out: &mut out,
                notes: &mut notes,
                answers: answers.as_mut().map(|a| a as &mut dyn BufRead),
            };
            run(&args, &store, &|_| Ok(()), terminal).expect("prune");
            let text = |bytes| String::from_utf8(bytes).expect("text");
            (text(out), text(notes))
        };
        let (out, notes) = prune(None, false);
        assert!(out.contains("reclaimed space: 0B"), "{out}");
        assert!(notes.contains("builds are running"), "{notes}");
        drop(session);
        let (out, notes) = prune(Some("n\n"), false);
        assert!(out.is_empty() && notes.contains("[y/N]"));
        let (out, notes) = prune(Some("n\n"), true);
        assert!(
            out.contains("Deleted: sha256:") && out.contains("blobs: 3"),
            "{out}"
        );
        assert!(notes.is_empty());
    }
}
