//! `sandcrab history`: how an image was made.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::table::{ListFormat, write, write_json_lines, write_table};
use super::units;
use crate::error::Result;
use crate::image::digest::ChainId;
use crate::store::Store;
use crate::store::images::short;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or id of an image
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,
    /// Show everything in full
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
}

/// One step, latest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(rename = "ID")]
    id: String,
    created_at: String,
    created_since: String,
    created_by: String,
    size: String,
    comment: String,
}

/// Runs the command; data goes to `out`.
///
/// # Errors
/// When the image does not exist.
pub(super) fn run(args: &Args, store: &Store, out: &mut dyn Write) -> Result<()> {
    let image = store.images().get(&args.image)?;
    let now = Timestamp::now();
    let mut layers = image
        .config
        .rootfs
        .diff_ids
        .iter()
        .zip(&image.manifest.layers);
    let mut chain = None;
    let mut lines = Vec::new();
    for step in &image.config.history {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        let size = layer.map_or(0, |(diff_id, layer)| {
            let next = ChainId::child(chain, *diff_id);
            chain = Some(next);
            store.snapshots().size(next).unwrap_or(layer.size)
        });
        let by = if args.no_trunc {
            step.created_by.clone()
        } else {
            units::line(&step.created_by)
        };
        lines.push(Line {
            id: "<missing>".to_owned(),
            created_at: step.created.clone().unwrap_or_default(),
            created_since: units::ago(step.created.as_deref(), now),
            created_by: by,
            size: units::size(size),
            comment: step.comment.clone(),
        });
    }
    if let Some(last) = lines.last_mut() {
        last.id = if args.no_trunc {
            image.config_digest.to_string()
        } else {
            short(&image.config_digest)
        };
    }
    lines.reverse();
    if args.quiet {
        let ids: Vec<String> = lines.into_iter().map(|l| l.id + "\n").collect();
        return write(out, ids.concat().as_bytes());
    }
    match args.format {
        ListFormat::Json => write_json_lines(out, &lines),
        ListFormat::Table => {
            let heading = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
            let rows: Vec<Vec<String>> = lines
                .into_iter()
                .map(|l| vec![l.id, l.created_since, l.created_by, l.size, l.comment])
                .collect();
            write_table(out, &heading, &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn lists_the_latest_first() {
        let (_dir, session) = fixture::session();
        let image = fixture::image(&session, &["a", &"b".repeat(80)], &["app"]);
        let mut args = Args {
            image: "app".into(),
            no_trunc: false,
            quiet: false,
            format: ListFormat::Table,
        };
        let print = |args: &Args| {
            let mut out = Vec::new();
            run(args, session.store(), &mut out).expect("history");
            String::from_utf8(out).expect("text")
        };
        let text = print(&args);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with(&short(&image.config_digest)), "{text}");
        assert!(lines[1].contains("USER 1000") && lines[1].contains("0B"));
        assert!(lines[2].contains('…') && lines[3].contains("COPY a /"));
        args.no_trunc = true;
        args.format = ListFormat::Json;
        assert!(print(&args).contains(&"b".repeat(80)));
        args.quiet = true;
        assert_eq!(print(&args).lines().count(), 3);
    }
}
