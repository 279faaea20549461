//! The store: what survives between builds, shared by concurrent ones.
//!
//! Responsible for the directory's layout and for opening it. Must not know what a build is. The
//! layout (format 1):
//!
//! ```text
//! version                    the format's number
//! lock                       shared by sessions, exclusive for a collector
//! blobs/sha256/HEX           immutable content
//! images/{index.json,lock}   names of images
//! cache/…                    records that may vanish at any time
//! snapshots/IDENTITY/HEX/    unpacked layers
//! cache-mounts/IDENTITY/HEX-N/ directories that outlive builds
//! tmp/NAME.lock, tmp/NAME/   a session's unfinished work; a lock alone is a claim
//! ```
//!
//! Invariant: everything is written aside and renamed into place; a killed writer leaves garbage
//! in `tmp/` only.

pub mod blobs;
pub mod cache_mounts;
pub mod census;
pub mod claims;

#[cfg(test)]
pub(crate) mod fixture;
pub mod gc;
pub mod images;
pub mod import;
mod index;
pub mod lock;
pub mod measure;
pub mod record;
pub(crate) mod removal;
pub mod snapshots;
pub(crate) mod steady;
pub mod usage;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::{Error, Kind, Result, ResultExt};

use blobs::Blobs;
use cache_mounts::CacheMounts;
use images::Images;
use lock::Session;
use snapshots::Snapshots;

/// The format that this program reads and writes.
const FORMAT: u32 = 1;

/// Deletes trees that hold files of other ids, which only a job in the user namespace can do.
/// A path that is already gone is no error.
pub type Remover<'a> = dyn Fn(&[PathBuf]) -> Result<()> + 'a;

/// An open store; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens a store, making it when the directory is missing or empty.
    ///
    /// # Errors
    /// When the directory is somebody else's, holds something else, or is a store of a newer
    /// program.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).op_path("find store", root)?;
        let store = Self { root };
        match fs::read_to_string(store.root.join("version")) {
            Ok(text) => check_format(&text, &store.root)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => store.create()?,
            Err(e) => {
                return Err(Error::new("open store")
                    .path(&store.root)
                    .source(e)
                    .hint("SANDCRAB_ROOT names another place for the store"));
            }
        }
        for dir in [
            "blobs",
            "blobs/sha256",
            "images",
            "cache",
            "snapshots",
            "tmp",
        ] {
            make_dir(&store.root.join(dir))?;
        }
        Ok(store)
    }

    /// Returns the store's directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the blobs for reading; a [`Session`] has them for writing.
    pub fn blobs(&self) -> Blobs {
        Blobs::read_only(self.root.join("blobs/sha256"))
    }

    /// Returns the images.
    pub fn images(&self) -> Images {
        Images::new(self.root.join("images"), self.blobs())
    }

    /// Returns the unpacked layers.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.root.join("snapshots"))
    }

    /// Returns the cache mounts.
    pub fn cache_mounts(&self) -> CacheMounts {
        CacheMounts::new(self.root.join("cache-mounts"))
    }

    /// Returns the records of earlier work.
    pub fn cache(&self) -> Cache {
        Cache::new(self.root.join("cache"), self.blobs())
    }

    /// Starts a session; waits while the store is being collected.
    pub fn session(&self) -> Result<Session> {
        Session::start(self)
    }

    fn create(&self) -> Result<()> {
        if let Some(parent) = self.root.parent() {
            fs::create_dir_all(parent).op_path("create", parent)?;
        }
        make_dir(&self.root)?;
        let metadata = fs::metadata(&self.root).op_path("read", &self.root)?;
        let caller = rustix::process::geteuid().as_raw();
        if metadata.uid() != caller {
            return Err(Error::new("store belongs to another user")
                .path(&self.root)
                .hint(format!(
                    "it is owned by uid {}, and this is uid {caller}; SANDCRAB_ROOT names another place",
                    metadata.uid()
                )));
        }
        for entry in fs::read_dir(&self.root).op_path("read", &self.root)? {
            let name = entry.op_path("read", &self.root)?.file_name();
            // Another process may be creating the same store at this moment, or just have done so.
            if !name.to_string_lossy().starts_with("version") {
                if let Ok(text) = fs::read_to_string(self.root.join("version")) {
                    return check_format(&text, &self.root);
                }
                return Err(Error::new("not a store and not empty")
                    .path(&self.root)
                    .hint("name an empty or missing directory as the store"));
            }
        }
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        fs::set_permissions(&self.root, mode).op_path("protect", &self.root)?;
        let aside = tempfile::Builder::new()
            .prefix("version.")
            .tempfile_in(&self.root)
            .op_path("create file in", &self.root)?;
        let target = self.root.join("version");
        replace(aside.path(), &target, format!("{FORMAT}\n").as_bytes())
    }
}

fn check_format(text: &str, root: &Path) -> Result<()> {
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(other) if other > FORMAT => Err(Error::new(format!(
            "store has format {other}, and this program knows {FORMAT} only"
        ))
        .path(root)
        .hint("use a newer sandcrab, or another store (SANDCRAB_ROOT)")),
        Ok(other) => Err(Error::new(format!(
            "store has format {other}, which is older than what this program knows ({FORMAT})"
        ))
        .path(root)
        .hint("save its images with the sandcrab that made it, and name another store (SANDCRAB_ROOT)")),
        _ => Err(Error::new("not a store: its `version` file is not a known number").path(root)),
    }
}

/// Makes a directory that only the caller can enter; one that exists is fine.
fn make_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::new("create").path(path).source(e))
        }
        _ => Ok(()),
    }
}

/// Replaces a small file so that it is there whole or not at all, also after a power cut.
/// `aside` is on the same file system, and the caller alone writes there.
pub(crate) fn replace(aside: &Path, target: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(aside).op_path("create", aside)?;
    file.write_all(bytes).op_path("write", aside)?;
    file.sync_all().op_path("sync", aside)?;
    fs::rename(aside, target).op_path("replace", target)?;
    let parent = target.parent().unwrap_or(target);
    fs::File::open(parent)
        .and_then(|d| d.sync_all())
        .op_path("sync", parent)
}

/// Makes a lock's contention an error that says what it means.
pub(crate) fn lock_error(path: &Path, error: io::Error) -> Error {
    let unsupported = error.kind() == io::ErrorKind::Unsupported;
    let error = Error::new("lock").path(path).source(error);
    if unsupported {
        error.hint("the store's file system has no file locks; SANDCRAB_ROOT names another place")
    } else {
        error
    }
}

/// Makes an internal error for an operation that needs a session.
pub(crate) fn needs_session(what: &str) -> Error {
    Error::new(format!("{what} outside of a session")).kind(Kind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn creates_private_directories_and_opens_again() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("a/store");
        for _ in 0..2 {
            let store = Store::open(&root).expect("open");
            let mode = |p: &Path| fs::metadata(p).expect("stat").permissions().mode() & 0o777;
            assert_eq!(mode(store.root()), 0o700);
            assert_eq!(mode(&root.join("blobs/sha256")), 0o700);
        }
    }

    #[test]
    fn refuses_other_formats_and_directories() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("version"), "2\n").expect("write");
        let error = Store::open(dir.path()).expect_err("newer");
        assert!(error.to_string().contains("format 2"), "{error}");
        fs::write(dir.path().join("version"), "0\n").expect("write");
        let error = Store::open(dir.path()).expect_err("older");
        assert!(error.to_string().contains("older"), "{error}");
        fs::write(dir.path().join("version"), "x").expect("write");
        assert!(Store::open(dir.path()).is_err());
        fs::remove_file(dir.path().join("version")).expect("remove");
        fs::write(dir.path().join("mine.txt"), "x").expect("write");
        let error = Store::open(dir.path()).expect_err("not empty");
        assert!(error.to_string().contains("not empty"), "{error}");
    }

    #[test]
    fn concurrent_creation_is_fine() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("store");
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Store::open(&root).map(drop)))
                .collect();
            for one in all {
                one.join().expect("thread").expect("open");
            }
        });
    }
}
