//! The local step cache: what a step with this key made.
//!
//! Responsible for the records and for telling whether what they name is still here. Invariant: a
//! record that [`Steps::get`] returns names a layer whose blob is in the store with the recorded
//! size, or known to be elsewhere, or no layer at all.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cache::remotes::Remotes;
use crate::cache::{Shelf, last_use, note_use};
use crate::error::Result;
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::image::manifest::Descriptor;
use crate::store::blobs::Blobs;
use crate::store::record::{self, side_by_side};

const KIND: &str = "sandcrab-step-1";
const NAME_KIND: &str = "sandcrab-step-name-1";

/// The step records.
#[derive(Debug, Clone)]
pub struct Steps {
    shelf: Shelf,
    /// A file for each name that a record has.
    names: Shelf,
    blobs: Blobs,
    remotes: Remotes,
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer; `None` when the step made none.
    pub diff_id: Option<DiffId>,
    /// Size of the layer's uncompressed tar in bytes.
    pub size: u64,
    /// The stack after the step; `None` for an empty one.
    pub chain: Option<ChainId>,
    /// When the step ran (RFC 3339); goes into the history of every image that uses it.
    pub created: String,
    /// The instruction, for people.
    pub name: String,
    /// The layer's blob where that is not the plain tar: it came from a cache elsewhere, or will when
    /// something needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
    /// Manifests of the images that the step stands on, of whose names the last may have gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Digest>,
    /// The step's key by content, where it has one and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
}

/// A record with the file that holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its content, `None` when it is torn or its layer is gone.
    pub(crate) record: Option<CacheRecord>,
    /// When it was last used.
    pub(crate) used: SystemTime,
}

impl Steps {
    pub(super) fn new(shelf: Shelf, names: Shelf, blobs: Blobs, remotes: Remotes) -> Self {
        Self {
            shelf,
            names,
            blobs,
            remotes,
        }
    }

    /// Finds what a step with this key made, and notes that it was used.
    pub fn get(&self, key: &Digest) -> Option<CacheRecord> {
        let path = self.shelf.path(&key.hex());
        let record = self.read(&path)?;
        note_use(&path);
        Some(record)
    }

    /// Records what a step with this key made; its blob is in the store already.
    ///
    /// # Errors
    /// Those of the file system; the build can go on without the record.
    pub fn put(&self, key: &Digest, record: &CacheRecord) -> Result<()> {
        // Before the record: who finds none of its name finds no record either.
        let file = name_of(&record.name);
        if !self.names.path(&file).exists() {
            self.names.write(&file, NAME_KIND, &record.name)?;
        }
        self.shelf.write(&key.hex(), KIND, record)
    }

    /// Tells whether there may be a record of a step with this name, at the cost of one question. Of
    /// records that were made before names were noted it does not know.
    pub(crate) fn may_know(&self, name: &str) -> bool {
        self.names.path(&name_of(name)).exists()
    }

    /// Lists the files of names of which no step is among those that stay.
    pub(crate) fn names_without<'a>(&self, stay: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
        let stay: HashSet<PathBuf> = stay.map(|name| self.names.path(&name_of(name))).collect();
        let mut gone = self.names.list();
        gone.retain(|path| !stay.contains(path));
        gone
    }

    /// Lists all records.
    pub(crate) fn list(&self) -> Vec<Stored> {
        side_by_side(self.shelf.list(), |path| Stored {
            record: self.read(&path),
            used: last_use(&path),
            path,
        })
    }

    fn read(&self, path: &std::path::Path) -> Option<CacheRecord> {
        let record: CacheRecord = record::read(path, KIND)?;
        let has = |digest: &Digest, size| self.blobs.size(digest) == Some(size);
        let known = match (record.diff_id, &record.blob) {
            (None, _) => true,
            (Some(id), None) => has(&id.0, record.size),
            (Some(_), Some(blob)) => {
                has(&blob.digest, blob.size) || self.remotes.get(blob).is_some()
            }
        };
        known.then_some(record)
    }
}

/// Returns the file that notes a name.
fn name_of(name: &str) -> String {
    Digest::of(name.as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn the_last_use_is_noted_once_an_hour() {
        let (_dir, session) = fixture::session();
        let steps = session.cache().steps();
        let key = Digest::of(b"key");
        let record = CacheRecord {
            diff_id: None,
            size: 0,
            chain: None,
            created: "2026-01-01T00:00:00Z".into(),
            name: "WORKDIR /".into(),
            blob: None,
            bases: Vec::new(),
            content: None,
        };
        steps.put(&key, &record).expect("put");
        let path = steps.list()[0].path.clone();
        let now = SystemTime::now();
        for (age, noted) in [(60, false), (2 * 3600, true)] {
            let then = now - Duration::from_secs(age);
            let file = fs::File::open(&path).expect("open");
            file.set_modified(then).expect("set time");
            assert_eq!(steps.get(&key).as_ref(), Some(&record));
            assert_eq!(steps.list()[0].used != then, noted, "{age}");
        }
    }

    #[test]
    fn a_record_counts_while_its_layer_is_here() {
        let (_dir, session) = fixture::session();
        let store = session.store();
        let steps = session.cache().steps();
        let layer = session.blobs().put(b"layer").expect("blob");
        let key = Digest::of(b"key");
        let record = CacheRecord {
            diff_id: Some(DiffId(layer)),
            size: 5,
            chain: Some(ChainId(layer)),
            created: "2026-01-01T00:00:00Z".into(),
            name: "RUN true".into(),
            blob: None,
            bases: Vec::new(),
            content: None,
        };
        assert_eq!(steps.get(&key), None);
        steps.put(&key, &record).expect("put");
        assert_eq!(store.cache().steps().get(&key), Some(record));
        fs::write(store.cache().steps().shelf.path("torn"), "").expect("write");
        assert!(steps.may_know("RUN true") && !steps.may_know("RUN false"));
        assert!(
            store
                .cache()
                .steps()
                .put(&key, &steps.get(&key).expect("get"))
                .is_err()
        );
        fs::write(session.blobs().path(&layer), b"torn").expect("write");
        assert_eq!(steps.get(&key), None);
    }
}
