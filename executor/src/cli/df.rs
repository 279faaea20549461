//! `sandcrab df`: what the store holds.

use std::io::Write;

use serde::Serialize;

use super::table::{ListFormat, write_json_lines, write_table};
use super::units;
use crate::error::Result;
use crate::store::Store;
use crate::store::usage::{self, Share};

/// Arguments of `df`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
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

/// Runs the command; data goes to `out`.
pub(super) fn run(args: &Args, store: &Store, out: &mut dyn Write) -> Result<()> {
    let usage = usage::measure(store)?;
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
        line("Cache mounts", usage.cache_mounts),
        line("Cache records", usage.cache),
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
            run(&Args { format }, session.store(), &mut out).expect("df");
            String::from_utf8(out).expect("text")
        };
        let table = print(ListFormat::Table);
        assert_eq!(table.lines().count(), 7);
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
