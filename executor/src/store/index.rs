//! The image index: which manifests are images, and what they are called.
//!
//! Responsible for the file `images/index.json` and for changing it under a lock. Must not read
//! blobs. Invariant: a name belongs to one image at most; readers see the file before or after a
//! change, never between.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::{lock_error, replace};

const FORMAT: u32 = 1;

/// One image as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the manifest blob.
    pub manifest: Digest,
    /// Digest of the config blob: the image's id.
    pub config: Digest,
    /// Complete references with a tag, sorted; none for a dangling image.
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// Complete references with a digest under which registries know it, sorted.
    #[serde(default)]
    pub origins: BTreeSet<String>,
    /// Digest of the index, where these are the names of one: `manifest` is then the part of it
    /// that serves this machine best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// Digests of all manifests of the index, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Digest>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    images: Vec<Record>,
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    dir: PathBuf,
}

impl Index {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Reads all records, the latest added last.
    pub(crate) fn read(&self) -> Result<Vec<Record>> {
        let path = self.dir.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::new("read image index").path(path).source(e)),
        };
        let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new("image index is corrupt")
                .path(&path)
                .source(e)
                .hint("remove the file: the images lose their names, and builds make them again")
        })?;
        if document.version != FORMAT {
            return Err(Error::new(format!(
                "image index has format {}, and this program knows {FORMAT}",
                document.version
            ))
            .path(path));
        }
        Ok(document.images)
    }

    /// Changes the records under the index's lock and returns what `change` returned. Nothing is
    /// written when it fails or changes nothing; `prepare` is called before something is.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&mut Vec<Record>) -> Result<T>,
        prepare: impl FnOnce() -> Result<()>,
    ) -> Result<T> {
        let lock_path = self.dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .op_path("open", &lock_path)?;
        lock.lock().map_err(|e| lock_error(&lock_path, e))?;
        let before = self.read()?;
        let mut images = before.clone();
        let value = change(&mut images)?;
        if images != before {
            let document = Document {
                version: FORMAT,
                images,
            };
            let bytes = serde_json::to_vec_pretty(&document).op("encode image index")?;
            prepare()?;
            let (aside, target) = (self.dir.join("index.new"), self.dir.join("index.json"));
            replace(&aside, &target, &bytes)?;
        }
        Ok(value)
    }
}
