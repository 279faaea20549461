//! `sandcrab prune`: gives back what nobody needs.
//!
//! Responsible for the question before it and for the report after it. Must not decide what goes.

use std::io::{BufRead, Write};
use std::time::SystemTime;

use jiff::Timestamp;

use super::table::{write, write_table};
use super::{filters, limits, units};
use crate::error::{Result, ResultExt};
use crate::store::Store;
use crate::store::gc::{self, Forgotten, Hands, Limits, Options, Report};

/// Arguments of `prune`.
#[derive(Debug, Default, clap::Args)]
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
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// List what the cache forgets
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Forget what the filters choose of the cache: until=24h (unused for that long), type=KIND, id=ID,
    /// shared, private
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub(super) filters: Vec<String>,
    /// Forget what was used least recently, and keep this much of the cache, such as 10g
    #[arg(long, value_name = "BYTES", visible_alias = "keep-storage")]
    pub(super) reserved_space: Option<String>,
    /// Forget what was used least recently, until the cache takes no more than this
    #[arg(long, value_name = "BYTES")]
    pub(super) max_used_space: Option<String>,
    /// Forget what was used least recently, until this much is free in the store's file system
    #[arg(long, value_name = "BYTES")]
    pub(super) min_free_space: Option<String>,
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
/// Wrong filters and sizes; those of the store and of the remover.
pub(super) fn run(
    args: &Args,
    store: &Store,
    hands: Hands<'_>,
    terminal: Terminal<'_>,
) -> Result<()> {
    let space = |flag, text: &Option<String>| {
        let text = text.as_deref();
        text.map(|text| limits::size(flag, text)).transpose()
    };
    let options = Options {
        all: args.all,
        wait: args.wait,
        dry_run: args.dry_run,
        filters: filters::parse(&args.filters, SystemTime::now())?,
        limits: Limits {
            reserved: space("--reserved-space", &args.reserved_space)?,
            max_used: space("--max-used-space", &args.max_used_space)?,
            min_free: space("--min-free-space", &args.min_free_space)?,
        },
    };
    let Terminal {
        out,
        notes,
        answers,
    } = terminal;
    if let (false, Some(answers)) = (args.force || args.dry_run, answers) {
        let some = !options.filters.is_empty() || !options.limits.is_empty();
        let what = match (some, args.all) {
            (true, _) => {
                "all images without a name, what the options choose of the cache and its mounts, and all layers that nothing needs then"
            }
            (false, true) => {
                "all images without a name, the whole cache, all cache mounts, and all layers that no image needs"
            }
            (false, false) => {
                "all images without a name, and all layers that no image and no cached step needs"
            }
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
    let report = gc::collect(store, &options, hands)?;
    if report.limited {
        let note = "note: builds are running; only leftovers of interrupted ones were removed \
                    (--wait waits for the builds)\n";
        write(notes, note.as_bytes())?;
    }
    if (args.verbose || args.dry_run) && !report.forgotten.is_empty() {
        list(&report.forgotten, out)?;
    }
    write(out, describe(&report, args.dry_run).as_bytes())
}

/// Lists what the cache forgets.
fn list(forgotten: &[Forgotten], out: &mut dyn Write) -> Result<()> {
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = (forgotten.iter())
        .map(|entry| {
            vec![
                units::id(&entry.id),
                entry.kind.name().to_owned(),
                units::size(entry.bytes),
                units::since(entry.used, now),
                units::line(&entry.description),
            ]
        })
        .collect();
    let heading = ["ID", "TYPE", "SIZE", "LAST USED", "DESCRIPTION"];
    write_table(out, &heading, &rows)
}

fn describe(report: &Report, dry_run: bool) -> String {
    let (deleted, removed, total) = if dry_run {
        ("Would delete", "Would remove", "Reclaimable space")
    } else {
        ("Deleted", "Removed", "Total reclaimed space")
    };
    let mut text = String::new();
    for id in &report.images {
        text += &format!("{deleted}: {id}\n");
    }
    for (count, what) in [
        (report.blobs, "blobs"),
        (report.snapshots, "unpacked layers"),
        (report.cache_mounts, "cache mounts"),
        (report.records, "cache records"),
        (report.sessions, "leftovers of interrupted commands"),
    ] {
        if count > 0 {
            text += &format!("{removed} {what}: {count}\n");
        }
    }
    text + &format!("{total}: {}\n", units::size(report.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn asks_reports_and_limits_itself() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        fixture::image(&session, &["a"], &[]);
        let prune = |answers: Option<&str>, force: bool| {
            let args = Args {
                force,
                ..Args::default()
            };
            let (mut out, mut notes) = (Vec::new(), Vec::new());
            let mut answers = answers.map(str::as_bytes);
            let terminal = Terminal {
                out: &mut out,
                notes: &mut notes,
                answers: answers.as_mut().map(|a| a as &mut dyn BufRead),
            };
            let hands = Hands {
                remover: &|_| Ok(()),
                measurer: &|_| Ok(Vec::new()),
            };
            run(&args, &store, hands, terminal).expect("prune");
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
