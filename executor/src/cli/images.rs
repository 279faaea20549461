//! `sandcrab images`: lists what is in the store.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::table::{ListFormat, write, write_json_lines, write_table};
use super::units;
use crate::error::{Error, Kind, Result};
use crate::image::digest::ChainId;
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::images::{Image, short};

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only images of this repository, or with this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(super) repository: Option<String>,
    /// Show also images that have lost their names
    #[arg(short, long)]
    pub(super) all: bool,
    /// Show ids only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Show ids in full
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Show the digests under which registries know the images
    #[arg(long)]
    pub(super) digests: bool,
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
    /// Show only what fits: dangling=true|false or reference=PATTERN
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub(super) filters: Vec<String>,
}

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    repository: String,
    tag: String,
    digest: String,
    #[serde(rename = "ID")]
    id: String,
    created_at: String,
    created_since: String,
    size: String,
}

/// What `--filter` asks for.
#[derive(Debug, Default)]
struct Filter {
    dangling: Option<bool>,
    references: Vec<String>,
}

/// Returns the sum of an image's layers in bytes: unpacked where that is known, else as stored.
pub(super) fn image_size(store: &Store, image: &Image) -> u64 {
    let mut chain = None;
    let diff_ids = image.config.rootfs.diff_ids.iter();
    diff_ids
        .zip(&image.manifest.layers)
        .map(|(diff_id, layer)| {
            let next = ChainId::child(chain, *diff_id);
            chain = Some(next);
            store.snapshots().size(next).unwrap_or(layer.size)
        })
        .sum()
}

/// Runs the command; data goes to `out`.
///
/// # Errors
/// [`Kind::Usage`] for an unknown filter; those of the store.
pub(super) fn run(args: &Args, store: &Store, out: &mut dyn Write) -> Result<()> {
    let mut filter = parse_filters(&args.filters)?;
    filter.references.extend(args.repository.clone());
    let now = Timestamp::now();
    let mut images = Vec::new();
    for record in store.images().list()?.iter().rev() {
        let dangling = record.names.is_empty();
        let wanted = filter.dangling.unwrap_or(dangling);
        if wanted != dangling || (dangling && !args.all && filter.dangling != Some(true)) {
            continue;
        }
        images.push(store.images().read(record)?);
    }
    let time = |i: &Image| {
        let created = i.config.created.as_deref();
        created.and_then(|t| t.parse::<Timestamp>().ok())
    };
    images.sort_by_key(|i| std::cmp::Reverse(time(i)));
    let mut lines = Vec::new();
    for image in &images {
        let id = if args.no_trunc {
            image.config_digest.to_string()
        } else {
            short(&image.config_digest)
        };
        let names: Vec<Option<&Reference>> = match &image.names[..] {
            [] => vec![None],
            names => names.iter().map(Some).collect(),
        };
        for name in names {
            if !filter.fits(name) {
                continue;
            }
            let created = image.config.created.clone();
            lines.push(Line {
                repository: name.map_or_else(none, repository),
                tag: name.and_then(|n| n.tag.clone()).unwrap_or_else(none),
                digest: digest(image, name),
                id: id.clone(),
                created_since: units::ago(created.as_deref(), now),
                created_at: created.unwrap_or_default(),
                size: units::size(image_size(store, image)),
            });
        }
    }
    if args.quiet {
        let mut ids: Vec<String> = lines.into_iter().map(|l| l.id + "\n").collect();
        ids.dedup();
        return write(out, ids.concat().as_bytes());
    }
    match args.format {
        ListFormat::Json => write_json_lines(out, &lines),
        ListFormat::Table => table(args, lines, out),
    }
}

fn table(args: &Args, lines: Vec<Line>, out: &mut dyn Write) -> Result<()> {
    let mut heading = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    if !args.digests {
        heading.remove(2);
    }
    let rows: Vec<Vec<String>> = lines
        .into_iter()
        .map(|l| {
            let mut row = vec![l.repository, l.tag, l.digest, l.id, l.created_since, l.size];
            if !args.digests {
                row.remove(2);
            }
            row
        })
        .collect();
    write_table(out, &heading, &rows)
}

fn none() -> String {
    "<none>".to_owned()
}

fn repository(name: &Reference) -> String {
    let bare = Reference {
        tag: None,
        digest: None,
        ..name.clone()
    };
    bare.familiar()
}

fn digest(image: &Image, name: Option<&Reference>) -> String {
    let same = |o: &&Reference| name.is_none_or(|n| n.name() == o.name());
    let origin = image.origins.iter().find(same).and_then(|o| o.digest);
    origin.map_or_else(none, |d| d.to_string())
}

fn parse_filters(texts: &[String]) -> Result<Filter> {
    let mut filter = Filter::default();
    for text in texts {
        let invalid = || {
            Error::new(format!("unknown filter `{text}`"))
                .kind(Kind::Usage)
                .hint("filters are dangling=true|false and reference=PATTERN")
        };
        match text.split_once('=') {
            Some(("dangling", value)) => {
                filter.dangling = Some(value.parse().map_err(|_| invalid())?);
            }
            Some(("reference", pattern)) => filter.references.push(pattern.to_owned()),
            _ => return Err(invalid()),
        }
    }
    Ok(filter)
}

impl Filter {
    fn fits(&self, name: Option<&Reference>) -> bool {
        let fits_one = |pattern: &String| {
            name.is_some_and(|name| {
                let full = repository(name);
                let tag = name.tag.clone().unwrap_or_default();
                let last = full.rsplit('/').next().unwrap_or_default().to_owned();
                [&full, &last].into_iter().any(|repository| {
                    glob(pattern.as_bytes(), repository.as_bytes())
                        || glob(pattern.as_bytes(), format!("{repository}:{tag}").as_bytes())
                }) || pattern.parse::<Reference>().is_ok_and(|r| {
                    r.name() == name.name() && (!pattern.contains(':') || r.tag == name.tag)
                })
            })
        };
        self.references.is_empty() || self.references.iter().any(fits_one)
    }
}

/// Matches `*` and `?`, neither of which crosses a slash.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text)
                || text
                    .split_first()
                    .is_some_and(|(c, more)| *c != b'/' && glob(pattern, more))
        }
        (Some((p, rest)), Some((c, more))) => {
            (p == c || (*p == b'?' && *c != b'/')) && glob(rest, more)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn list(store: &Store, argv: &[&str]) -> Result<String> {
        let argv = std::iter::once(&"images").chain(argv);
        let args = Cli::try_parse_from(argv).expect("arguments").args;
        let mut out = Vec::new();
        run(&args, store, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn lists_names_and_dangling_images() {
        let (_dir, session) = fixture::session();
        let store = session.store();
        let app = fixture::image(&session, &["a"], &["app:1", "quay.io/x/app:2"]);
        let lost = fixture::image(&session, &["b"], &[]);
        let text = list(store, &[]).expect("list");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("REPOSITORY      TAG   IMAGE ID"),
            "{text}"
        );
        assert_eq!(lines.len(), 3, "{text}");
        assert!(!text.contains("<none>"));
        let text = list(store, &["-a", "--digests"]).expect("list");
        assert!(text.contains("DIGEST") && text.contains("<none>"), "{text}");
        let text = list(store, &["-q", "--no-trunc"]).expect("list");
        assert_eq!(text, format!("{}\n", app.config_digest));
        let text = list(store, &["-f", "dangling=true", "-q"]).expect("list");
        assert_eq!(text, format!("{}\n", short(&lost.config_digest)));
    }

    #[test]
    fn filters_by_name() {
        let (_dir, session) = fixture::session();
        let store = session.store();
        fixture::image(&session, &["a"], &["app:1", "quay.io/x/app:2", "other:1"]);
        for (argv, count) in [
            (&["app"][..], 2),
            (&["app:1"], 1),
            (&["quay.io/x/app"], 1),
            (&["-f", "reference=*:1"], 2),
            (&["-f", "reference=quay.io/*/app"], 1),
            (&["-f", "reference=nothing"], 0),
        ] {
            let argv: Vec<&str> = argv.iter().copied().chain(["--format", "json"]).collect();
            let text = list(store, &argv).expect("list");
            assert_eq!(text.lines().count(), count, "{argv:?}: {text}");
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line).expect("json");
                assert!(value["ID"].is_string());
            }
        }
        assert!(list(store, &["-f", "label=x"]).is_err());
    }
}
