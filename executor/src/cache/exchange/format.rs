//! The documents of a cache: a list of steps, beside a manifest whose layers they made.
//!
//! Responsible for writing and reading them. What is read comes from somewhere else: its shape is
//! checked, an entry that makes no sense is left out and counted, a document that makes none is
//! refused. Invariants: the same steps give the same bytes; no document makes reading panic or take
//! more memory than a small multiple of its size.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::{Descriptor, Manifest, media_type};
use crate::layer::estargz::TOC_DIGEST;
use crate::output::transcode::format_of;

/// Media type of the document, which a cache's manifest calls its config.
pub const CONFIG_TYPE: &str = "application/vnd.sandcrab.cache.config.v1+json";

/// Key of the same document in an image's config.
pub const INLINE: &str = "sandcrab.cache";

/// What BuildKit's caches have in the place of [`CONFIG_TYPE`].
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The only version there is.
const VERSION: u32 = 1;

/// No cache has more steps.
const MAX_STEPS: usize = 1 << 16;

/// No layer is larger, compressed or not.
pub const MAX_LAYER: u64 = 1 << 40;

/// A date is not longer.
const MAX_DATE: usize = 64;

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    steps: Vec<serde_json::Value>,
}

/// A step in the document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: Digest,
    /// Its key by content, where it has one and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Digest>,
    created: String,
    /// Digest and size of the layer's plain tar; none for a step that made no layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    diff_id: Option<DiffId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Position of the layer in the manifest; none for one that is known and not carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The step's key.
    pub key: Digest,
    /// Its key by content, where it has one and that is known.
    pub content: Option<Digest>,
    /// When it ran (RFC 3339).
    pub created: String,
    /// The layer; `None` when it made none.
    pub layer: Option<Made>,
}

/// A layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// Size of the plain tar in bytes; 0 where that is not known.
    pub size: u64,
    /// The blob that has it; `None` when the cache only tells that it exists.
    pub blob: Option<Descriptor>,
}

impl Made {
    /// Returns the blob, where it is eStargz: that unpacks to more than the plain tar.
    pub fn estargz(&self) -> Option<&Descriptor> {
        let blob = self.blob.as_ref();
        blob.filter(|blob| blob.annotations.contains_key(TOC_DIGEST))
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The entries that make sense, the first for each key.
    pub steps: Vec<StepResult>,
    /// How many do not.
    pub broken: usize,
}

/// Writes the document for these steps; `layers` are those of the manifest that goes with it, by
/// what they unpack to. A key that comes again is left out.
pub fn write(steps: &[StepResult], layers: &[DiffId]) -> Vec<u8> {
    serde_json::to_vec(&document(steps, layers)).expect("a document has string keys only")
}

fn document(steps: &[StepResult], layers: &[DiffId]) -> Document {
    let mut seen = HashSet::new();
    let entry = |step: &StepResult| {
        let made = step.layer.as_ref();
        let entry = Entry {
            key: step.key,
            content: step.content,
            created: step.created.clone(),
            diff_id: made.map(|made| made.diff_id),
            size: made.map(|made| made.size).filter(|size| *size != 0),
            layer: made.and_then(|made| layers.iter().position(|l| *l == made.diff_id)),
        };
        serde_json::to_value(entry).expect("an entry has string keys only")
    };
    let distinct = steps.iter().filter(|step| seen.insert(step.key));
    Document {
        version: VERSION,
        steps: distinct.map(entry).collect(),
    }
}

/// Puts the document for these steps into an image's config, in place of one that its base had.
/// Steps refer to the image's own layers; those that are not among them are known only.
pub fn embed(config: &mut ImageConfig, steps: &[StepResult]) {
    let document = document(steps, &config.rootfs.diff_ids);
    let value = serde_json::to_value(document).expect("a document has string keys only");
    config.extra.insert(INLINE.to_owned(), value);
}

/// Takes what another image's config says about its steps out of one that is built on it.
pub fn strip(config: &mut ImageConfig) {
    config.extra.remove(INLINE);
}

/// Reads a cache: a manifest, and the document that it calls its config, which is a cache's or an
/// image's.
///
/// # Errors
/// When it is neither, or of another version.
pub fn read(manifest: &Manifest, config: &[u8]) -> Result<Found> {
    match manifest.config.media_type.as_str() {
        CONFIG_TYPE => {
            let document: Document = serde_json::from_slice(config)
                .map_err(|e| Error::new("read the cache's document").source(e))?;
            entries(document, &manifest.layers, None)
        }
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => inline(manifest, config),
        BUILDKIT => Err(Error::new(
            "it is a cache in BuildKit's format, which sandcrab does not read",
        )),
        other => Err(Error::new(format!(
            "it is no cache but an artifact of type `{}`",
            other.escape_debug()
        ))),
    }
}

fn inline(manifest: &Manifest, config: &[u8]) -> Result<Found> {
    let config = ImageConfig::parse(config)?;
    let Some(value) = config.extra.get(INLINE) else {
        return Err(Error::new("it is an image without a cache")
            .hint("build it with --cache-to=type=inline"));
    };
    let document: Document = serde_json::from_value(value.clone())
        .map_err(|e| Error::new("read the cache in the image's config").source(e))?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(Error::new(format!(
            "the image has {} layers, but its config names {}",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    entries(document, &manifest.layers, Some(diff_ids))
}

fn entries(document: Document, layers: &[Descriptor], known: Option<&[DiffId]>) -> Result<Found> {
    if document.version != VERSION {
        return Err(Error::new(format!(
            "it is a cache of version {}, and this program knows {VERSION} only",
            document.version
        )));
    }
    let mut found = Found::default();
    let mut seen = HashSet::new();
    found.broken = document.steps.len().saturating_sub(MAX_STEPS);
    for value in document.steps.into_iter().take(MAX_STEPS) {
        match serde_json::from_value(value)
            .ok()
            .and_then(|entry| check(entry, layers, known))
        {
            Some(step) if seen.insert(step.key) => found.steps.push(step),
            Some(_) => {}
            None => found.broken += 1,
        }
    }
    Ok(found)
}

/// Takes an entry that makes sense.
fn check(entry: Entry, layers: &[Descriptor], known: Option<&[DiffId]>) -> Option<StepResult> {
    let dated = entry.created.len() <= MAX_DATE;
    if !dated || entry.created.parse::<jiff::Timestamp>().is_err() {
        return None;
    }
    let layer = match (entry.diff_id, entry.layer) {
        (None, None) => None,
        (None, Some(_)) => return None,
        (Some(diff_id), None) => Some(Made {
            diff_id,
            size: entry.size.unwrap_or(0),
            blob: None,
        }),
        (Some(diff_id), Some(position)) => {
            let blob = layers.get(position)?;
            let table = blob.annotations.get(TOC_DIGEST);
            // An image's name for a layer in eStargz is of more than the step made. What that was is
            // compared when it is taken out.
            if table.is_none() && known.is_some_and(|known| known.get(position) != Some(&diff_id)) {
                return None;
            }
            let usable = format_of(&blob.media_type).is_some() && blob.urls.is_empty();
            if !usable || blob.size > MAX_LAYER {
                return None;
            }
            let mut own = Descriptor::new(&blob.media_type, blob.digest, blob.size);
            if let Some(table) = table {
                own.annotations.insert(TOC_DIGEST.to_owned(), table.clone());
            }
            Some(Made {
                diff_id,
                size: entry.size.unwrap_or(0),
                blob: Some(own),
            })
        }
    };
    if layer.as_ref().is_some_and(|made| made.size > MAX_LAYER) {
        return None;
    }
    Some(StepResult {
        key: entry.key,
        content: entry.content,
        created: entry.created,
        layer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::platform::Platform;
    use proptest::prelude::*;

    fn made(content: &[u8]) -> Made {
        Made {
            diff_id: DiffId(Digest::of(content)),
            size: content.len() as u64,
            blob: Some(Descriptor::new(
                media_type::OCI_LAYER_GZIP,
                Digest::of(&[content, b"gzip"].concat()),
                3,
            )),
        }
    }

    fn steps() -> Vec<StepResult> {
        let step = |name: &[u8], layer| StepResult {
            key: Digest::of(name),
            content: (name == b"one").then(|| Digest::of(b"content")),
            created: "2026-01-01T00:00:00Z".into(),
            layer,
        };
        vec![
            step(b"one", Some(made(b"a"))),
            step(b"two", None),
            step(
                b"three",
                Some(Made {
                    blob: None,
                    ..made(b"b")
                }),
            ),
        ]
    }

    fn manifest(kind: &str, config: &[u8]) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: None,
            config: Descriptor::of(kind, config),
            layers: vec![made(b"a").blob.expect("a blob")],
            annotations: Default::default(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let layers = [DiffId(Digest::of(b"a"))];
        let bytes = write(&steps(), &layers);
        assert_eq!(write(&[steps(), steps()].concat(), &layers), bytes);
        let found = read(&manifest(CONFIG_TYPE, &bytes), &bytes).expect("a cache");
        assert_eq!((found.steps, found.broken), (steps(), 0));
    }

    #[test]
    fn in_an_image() {
        let mut config = ImageConfig::scratch(Platform::host());
        config.rootfs.diff_ids.push(DiffId(Digest::of(b"a")));
        let plain = config.to_bytes();
        let error = read(&manifest(media_type::OCI_CONFIG, &plain), &plain).expect_err("none");
        assert!(error.to_string().contains("without a cache"), "{error}");
        embed(&mut config, &steps());
        let bytes = config.to_bytes();
        let whole = manifest(media_type::OCI_CONFIG, &bytes);
        assert_eq!(read(&whole, &bytes).expect("a cache").steps, steps());
        // An entry that calls a layer something else than the image does is not believed.
        config.rootfs.diff_ids[0] = DiffId(Digest::of(b"other"));
        let bytes = config.to_bytes();
        let found = read(&whole, &bytes).expect("a cache");
        assert_eq!((found.steps.len(), found.broken), (2, 1));
        // But of eStargz, which the image has to call something else.
        let mut table = whole.clone();
        let annotations = &mut table.layers[0].annotations;
        annotations.insert(TOC_DIGEST.to_owned(), "sha256:x".to_owned());
        let found = read(&table, &bytes).expect("a cache");
        assert_eq!((found.steps.len(), found.broken), (3, 0));
        let is_estargz = |step: &StepResult| Some(step.layer.as_ref()?.estargz().is_some());
        let all: Vec<_> = found.steps.iter().map(is_estargz).collect();
        assert_eq!(all, [Some(true), None, Some(false)]);
        strip(&mut config);
        assert!(!String::from_utf8_lossy(&config.to_bytes()).contains(INLINE));
    }

    #[test]
    fn entries_that_make_no_sense_are_left_out() {
        let key = Digest::of(b"key");
        let id = Digest::of(b"a");
        let date = "2026-01-01T00:00:00Z";
        let cases = [
            serde_json::json!(null),
            serde_json::json!({"key": key}),
            serde_json::json!({"key": "sha256:x", "created": date}),
            serde_json::json!({"key": key, "created": "yesterday"}),
            serde_json::json!({"key": key, "created": format!("{date}{}", " ".repeat(100))}),
            serde_json::json!({"key": key, "created": date, "layer": 0}),
            serde_json::json!({"key": key, "created": date, "diffId": id, "layer": 1}),
            serde_json::json!({"key": key, "created": date, "diffId": id, "layer": -1}),
            serde_json::json!({"key": key, "created": date, "diffId": id, "size": u64::MAX}),
        ];
        for case in cases {
            let text = serde_json::json!({"version": 1, "steps": [case]}).to_string();
            let found = read(&manifest(CONFIG_TYPE, b""), text.as_bytes()).expect("a document");
            assert_eq!((found.steps.len(), found.broken), (0, 1), "{text}");
        }
        let mut foreign = manifest(CONFIG_TYPE, b"");
        for (kind, size) in [("text/plain", 3), (media_type::OCI_LAYER_GZIP, u64::MAX)] {
            foreign.layers[0].media_type = kind.into();
            foreign.layers[0].size = size;
            let bytes = write(&steps(), &[DiffId(id)]);
            let found = read(&foreign, &bytes).expect("a document");
            assert_eq!(found.broken, 1, "{kind} {size}");
        }
    }

    #[test]
    fn documents_that_are_something_else_are_refused() {
        for (kind, bytes, wanted) in [
            (CONFIG_TYPE, r#"{"version":2,"steps":[]}"#, "version 2"),
            (CONFIG_TYPE, r#"{"version":1}"#, "read the cache"),
            (CONFIG_TYPE, "[", "read the cache"),
            (BUILDKIT, "{}", "BuildKit"),
            ("text/\u{1b}[31m", "{}", "\\u{1b}"),
        ] {
            let error = read(&manifest(kind, b""), bytes.as_bytes()).expect_err(kind);
            assert!(error.chain().contains(wanted), "{}", error.chain());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_reading_panic(text in "\\PC*", position: usize, size: u64) {
            let whole = manifest(CONFIG_TYPE, b"");
            drop(read(&whole, text.as_bytes()));
            let step = serde_json::json!({"key": Digest::of(b""), "created": text,
                "diffId": Digest::of(b"a"), "layer": position, "size": size});
            let text = serde_json::json!({"version": 1, "steps": [step]}).to_string();
            drop(read(&whole, text.as_bytes()));
        }
    }
}
