//! What COPY and ADD take: files of the context, other trees, and what a URL gives.
//!
//! Responsible for reading a copy's sources once before it, for the step's key, and for handing
//! the job the very tree that was read. Must not place files. Invariant: a step is cached under
//! the content that was copied: the job reports the files' identity, and a copy whose files
//! changed meanwhile is not recorded.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use runtime::path::Root;

use super::copy::{CopyRequest, IgnoreFile, Owners};
use super::keys;
use super::state::Layer;
use crate::cache::stat::{FileStat, StatCache};
use crate::context::digest::{self, FileDigests, FileKey, SelectRequest};
use crate::context::ignore::Matcher;
use crate::error::{Result, ResultExt};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::plan::step::Copy;

/// The build context, ready to be selected from.
#[derive(Debug)]
pub struct Sources {
    root: Root,
    ignore: Matcher,
    ignore_file: Option<IgnoreFile>,
    known: Known,
}

/// The sources of one copy.
#[derive(Debug)]
pub struct Prepared {
    digest: Digest,
    /// Identity of the context's files as they were read.
    stamp: Option<Digest>,
    place: Place,
    ignore: Option<IgnoreFile>,
    changed: AtomicBool,
}

/// Where a copy's sources are.
#[derive(Debug)]
pub enum Place {
    /// Under this directory of the caller's.
    Directory(OwnedFd),
    /// In the tree of these layers; the name is for the progress display.
    Layers(Vec<Layer>, String),
}

/// Digests of files that were read in earlier builds.
#[derive(Debug)]
struct Known(StatCache);

impl Sources {
    /// Takes the context's directory, its ignore file and the digests known from earlier builds.
    pub fn new(root: Root, ignore_file: Option<IgnoreFile>, known: StatCache) -> Result<Self> {
        let ignore = match &ignore_file {
            Some(file) => Matcher::parse(&file.name, &file.text)?,
            None => Matcher::none(),
        };
        Ok(Self {
            root,
            ignore,
            ignore_file,
            known: Known(known),
        })
    }

    /// Reads what a copy from the context selects.
    pub(super) fn prepare(&self, copy: &Copy) -> Result<Prepared> {
        let request = SelectRequest {
            sources: &copy.sources,
            chmod: copy.chmod,
            owners: None,
        };
        let selection = digest::select(&self.root, &self.ignore, &request, &self.known)?;
        let dir = self.root.as_fd().try_clone_to_owned();
        Ok(Prepared {
            digest: selection.digest,
            stamp: Some(selection.stamp),
            place: Place::Directory(dir.op("duplicate descriptor")?),
            ignore: self.ignore_file.clone(),
            changed: AtomicBool::new(false),
        })
    }

    /// Keeps the digests of the files that were read for later builds.
    pub fn save(&self) -> Result<()> {
        self.known.0.save()
    }
}

impl Prepared {
    /// Prepares a copy from another tree: the whole of it stands for what is selected.
    pub(super) fn tree(layers: Vec<Layer>, name: String) -> Self {
        let diff_ids: Vec<DiffId> = layers.iter().map(|l| l.diff_id).collect();
        Self {
            digest: keys::tree_content(ChainId::of(&diff_ids)),
            stamp: None,
            place: Place::Layers(layers, name),
            ignore: None,
            changed: AtomicBool::new(false),
        }
    }

    /// Returns the digest of what is copied.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns where the sources are.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the request for the job.
    pub(super) fn request(&self, copy: &Copy) -> CopyRequest {
        let owners = match (&copy.chown, &self.place) {
            (Some(spec), _) => Owners::Named(spec.clone()),
            (None, Place::Directory(_)) => Owners::Ids { uid: 0, gid: 0 },
            (None, Place::Layers(..)) => Owners::Source,
        };
        CopyRequest {
            sources: copy.sources.clone(),
            dest: copy.dest.clone(),
            ignore: self.ignore.clone(),
            owners,
            chmod: copy.chmod,
        }
    }

    /// Compares the identity of the files that the job read with that of those the key is for.
    pub(super) fn check(&self, stamp: &Digest) {
        if self.stamp.is_some_and(|s| s != *stamp) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether the job copied what the key is for.
    pub(super) fn is_unchanged(&self) -> bool {
        !self.changed.load(Ordering::Relaxed)
    }
}

impl FileDigests for Known {
    fn lookup(&self, key: &FileKey) -> Option<Digest> {
        self.0.lookup(&file_stat(key))
    }

    fn insert(&self, key: &FileKey, digest: Digest) {
        self.0.insert(file_stat(key), digest, SystemTime::now());
    }
}

fn file_stat(key: &FileKey) -> FileStat {
    FileStat {
        dev: key.dev,
        ino: key.ino,
        size: key.size,
        mtime: split(key.mtime),
        ctime: split(key.ctime),
    }
}

/// Splits nanoseconds since the epoch into seconds and the rest.
fn split(nanoseconds: i128) -> (i64, u32) {
    const SECOND: i128 = 1_000_000_000;
    let seconds = nanoseconds.div_euclid(SECOND);
    let rest = nanoseconds.rem_euclid(SECOND);
    (
        i64::try_from(seconds).unwrap_or(i64::MAX),
        u32::try_from(rest).unwrap_or(0),
    )
}

/// Lends a place's directory, if it has one.
impl Place {
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Directory(fd) => Some(fd.as_fd()),
            Self::Layers(..) => None,
        }
    }
}
