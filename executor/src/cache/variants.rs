//! Compressed forms of layers, so that each is made once.
//!
//! Responsible for remembering which blob is a layer's form under a compression. Must not
//! compress. Invariant: a descriptor that [`Variants::get`] returns names a blob that is in the
//! store with the recorded size.

use std::path::PathBuf;

use crate::cache::{Shelf, note_use};
use crate::error::Result;
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::Descriptor;
use crate::store::blobs::Blobs;
use crate::store::record;

const KIND: &str = "sandcrab-variant-1";

/// The records of compressed forms.
#[derive(Debug, Clone)]
pub struct Variants {
    shelf: Shelf,
    blobs: Blobs,
}

/// A record with the file that holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The file.
    pub(crate) path: PathBuf,
    /// The layer; `None` for a foreign file.
    pub(crate) diff_id: Option<DiffId>,
    /// The compressed blob; `None` when it is gone or the record is torn.
    pub(crate) blob: Option<Digest>,
}

impl Variants {
    pub(super) fn new(shelf: Shelf, blobs: Blobs) -> Self {
        Self { shelf, blobs }
    }

    /// Finds a layer's form. `compression` names algorithm and level, such as `gzip-6`; letters,
    /// digits and hyphens only.
    pub fn get(&self, diff_id: DiffId, compression: &str) -> Option<Descriptor> {
        let path = self.shelf.path(&file_name(diff_id, compression));
        let found = self.read(&path)?;
        note_use(&path);
        Some(found)
    }

    /// Records a layer's form; its blob is in the store already.
    pub fn put(&self, diff_id: DiffId, compression: &str, descriptor: &Descriptor) -> Result<()> {
        self.shelf
            .write(&file_name(diff_id, compression), KIND, descriptor)
    }

    /// Lists all records.
    pub(crate) fn list(&self) -> Vec<Stored> {
        self.shelf
            .list()
            .into_iter()
            .map(|path| Stored {
                diff_id: path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .and_then(|n| n.split_once('.'))
                    .and_then(|(hex, _)| format!("sha256:{hex}").parse().ok().map(DiffId)),
                blob: self.read(&path).map(|d| d.digest),
                path,
            })
            .collect()
    }

    fn read(&self, path: &std::path::Path) -> Option<Descriptor> {
        let descriptor: Descriptor = record::read(path, KIND)?;
        (self.blobs.size(&descriptor.digest) == Some(descriptor.size)).then_some(descriptor)
    }
}

fn file_name(diff_id: DiffId, compression: &str) -> String {
    format!("{}.{compression}", diff_id.0.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::media_type;
    use crate::store::fixture;

    #[test]
    fn a_variant_counts_while_its_blob_is_here() {
        let (_dir, session) = fixture::session();
        let variants = session.cache().variants();
        let diff_id = DiffId(Digest::of(b"tar"));
        let blob = session.blobs().put(b"compressed").expect("blob");
        let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, b"compressed");
        variants.put(diff_id, "gzip-6", &descriptor).expect("put");
        assert_eq!(variants.get(diff_id, "gzip-6"), Some(descriptor));
        assert_eq!(variants.get(diff_id, "gzip-9"), None);
        assert_eq!(variants.list()[0].diff_id, Some(diff_id));
        std::fs::remove_file(session.blobs().path(&blob)).expect("remove");
        assert_eq!(variants.get(diff_id, "gzip-6"), None);
    }
}
