//! `sandcrab df`: what the store holds.
//!
//! Responsible for the tables. Must not count.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::table::{ListFormat, write_json_lines, write_table};
use super::units;
use crate::error::Result;
use crate::store::Store;
use crate::store::measure::Measurer;
use crate::store::usage::{self, Item, Share};

/// Arguments of `df`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
    /// List each thing that the cache remembers
    #[arg(short, long)]
    pub(super) verbose: bool,
}

/// One kind of content; sizes in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(rename = "Type")]
    kind: &'static str,
    total_count: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// One thing of the cache; the size in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type")]
    kind: &'static str,
    size: u64,
    shared: bool,
    last_used: Option<String>,
    description: &'a str,
}

/// Runs the command; data goes to `out`.
pub(super) fn run(
    args: &Args,
    store: &Store,
    measurer: &Measurer<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    if args.verbose {
        return list(&usage::items(store, measurer)?, args.format, out);
    }
    let usage = usage::measure(store, measurer)?;
    let line = |kind, share: Share| Line {
        kind,
        total_count: share.count,
        active: share.active,
        size: share.bytes,
        reclaimable: share.reclaimable,
    };
    let lines = [
        line("Images", usage.images),
        line("Layers", usage.layers),
        line("Unpacked layers", usage.snapshots),
        line("Cached steps", usage.steps),
        line("Downloads", usage.downloads),
        line("Cache mounts", usage.cache_mounts),
        line("Context digests", usage.files),
        line("Other records", usage.records),
        line("Work in progress", usage.work),
        line("Leftovers", usage.garbage),
    ];
    if args.format == ListFormat::Json {
        return write_json_lines(out, &lines);
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|l| {
            let percent = (l.reclaimable * 100).checked_div(l.size).unwrap_or(0);
            vec![
                l.kind.to_owned(),
                l.total_count.to_string(),
                l.active.to_string(),
                units::size(l.size),
                format!("{} ({percent}%)", units::size(l.reclaimable)),
            ]
        })
        .collect();
    let heading = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"];
    write_table(out, &heading, &rows)
}

fn list(items: &[Item], format: ListFormat, out: &mut dyn Write) -> Result<()> {
    if format == ListFormat::Json {
        let entries: Vec<Entry<'_>> = (items.iter())
            .map(|item| Entry {
                id: &item.id,
                kind: item.kind.name(),
                size: item.bytes,
                shared: item.shared,
                last_used: Timestamp::try_from(item.used).ok().map(|t| t.to_string()),
                description: &item.description,
            })
            .collect();
        return write_json_lines(out, &entries);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = (items.iter())
        .map(|item| {
            vec![
                units::id(&item.id),
                item.kind.name().to_owned(),
                units::size(item.bytes),
                item.shared.to_string(),
                units::since(item.used, now),
                units::line(&item.description),
            ]
        })
        .collect();
    let heading = ["ID", "TYPE", "SIZE", "SHARED", "LAST USED", "DESCRIPTION"];
    write_table(out, &heading, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn has_a_line_for_each_kind() {
        let (_dir, session) = fixture::session();
        fixture::image(&session, &["a"], &["app"]);
        fixture::image(&session, &["b"], &[]);
        let print = |format| {
            let mut out = Vec::new();
            let args = Args {
                format,
                verbose: false,
            };
            let measurer = &|_: &[_]| panic!("the caller's own");
            run(&args, session.store(), measurer, &mut out).expect("df");
            String::from_utf8(out).expect("text")
        };
        let table = print(ListFormat::Table);
        assert_eq!(table.lines().count(), 11);
        assert!(table.contains("(50%)"), "{table}");
        let first: serde_json::Value =
            serde_json::from_str(print(ListFormat::Json).lines().next().expect("line"))
                .expect("json");
        assert_eq!(
            (&first["TotalCount"], &first["Active"]),
            (&2.into(), &1.into())
        );
    }
}
