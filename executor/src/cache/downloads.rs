//! What URLs gave, so that a server is only asked whether it changed.
//!
//! Responsible for remembering a download's content, name and validators by its URL. Must not fetch.
//! Invariant: a record that [`Downloads::get`] returns names a blob that is in the store with the
//! recorded size; the URL itself, which may hold a password, is not written.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cache::{Shelf, last_use, note_use};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::store::blobs::Blobs;
use crate::store::record;

const KIND: &str = "sandcrab-download-1";

/// The records of downloads.
#[derive(Debug, Clone)]
pub struct Downloads {
    shelf: Shelf,
    blobs: Blobs,
}

/// A download that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The blob with the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The file's name, when the URL or the server gave one.
    pub name: Option<String>,
    /// The file's time in seconds since the epoch.
    pub mtime: u64,
    /// `ETag`, verbatim.
    pub etag: Option<String>,
    /// `Last-Modified`, verbatim.
    pub last_modified: Option<String>,
}

/// A record with the file that holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its content; `None` when it is torn or its blob is gone.
    pub(crate) record: Option<Download>,
    /// When it was last used.
    pub(crate) used: SystemTime,
}

impl Downloads {
    pub(super) fn new(shelf: Shelf, blobs: Blobs) -> Self {
        Self { shelf, blobs }
    }

    /// Finds what a URL gave, and notes that it was used.
    pub fn get(&self, url: &str) -> Option<Download> {
        let path = self.shelf.path(&file_name(url));
        let found = self.read(&path)?;
        note_use(&path);
        Some(found)
    }

    /// Records what a URL gave; the blob is in the store already.
    pub fn put(&self, url: &str, download: &Download) -> Result<()> {
        self.shelf.write(&file_name(url), KIND, download)
    }

    /// Lists all records.
    pub(crate) fn list(&self) -> Vec<Stored> {
        let paths = self.shelf.list().into_iter();
        paths
            .map(|path| Stored {
                record: self.read(&path),
                used: last_use(&path),
                path,
            })
            .collect()
    }

    fn read(&self, path: &std::path::Path) -> Option<Download> {
        let found: Download = record::read(path, KIND)?;
        (self.blobs.size(&found.digest) == Some(found.size)).then_some(found)
    }
}

fn file_name(url: &str) -> String {
    Digest::of(url.as_bytes()).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{fixture, gc};

    #[test]
    fn a_download_counts_while_its_blob_is_here() {
        let (_dir, store) = fixture::store();
        let session = store.session().expect("session");
        let downloads = session.cache().downloads();
        let digest = session.blobs().put(b"content").expect("blob");
        let download = Download {
            digest,
            size: 7,
            name: Some("f".into()),
            mtime: 1,
            etag: Some("\"x\"".into()),
            last_modified: None,
        };
        let url = "https://u:secret@h/f";
        downloads.put(url, &download).expect("put");
        assert_eq!(downloads.get(url), Some(download));
        assert_eq!(downloads.get("https://h/f"), None);
        drop(session);
        // The collector keeps it until everything has to go.
        let collect = |all| {
            let options = gc::Options {
                all,
                ..gc::Options::default()
            };
            let hands = gc::Hands {
                remover: &|_| panic!("the caller's own"),
                measurer: &|_| panic!("the caller's own"),
            };
            gc::collect(&store, &options, hands).expect("collect")
        };
        collect(false);
        assert!(store.cache().downloads().get(url).is_some());
        let report = collect(true);
        assert_eq!((report.records, report.blobs), (1, 1));
        assert!(store.cache().downloads().get(url).is_none());
    }
}
