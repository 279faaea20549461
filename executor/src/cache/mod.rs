//! The cache: what earlier builds found out, so that this one need not.
//!
//! Responsible for the records under `cache/`. Must not decide what a step depends on beyond
//! offering the means to write it down ([`key`]). Invariant: every record may vanish or be torn
//! at any time; then it reads as absent, and work is done again.

pub mod downloads;
pub mod exchange;
pub mod key;
pub mod remotes;
pub mod stat;
pub mod steps;
pub mod variants;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::blobs::Blobs;
use crate::store::{needs_session, record};

use downloads::Downloads;
use remotes::Remotes;
use stat::StatCache;
use steps::Steps;
use variants::Variants;

/// The store's cache; for reading, or with a session's directory also for writing.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    blobs: Blobs,
    tmp: Option<PathBuf>,
}

impl Cache {
    pub(crate) fn new(dir: PathBuf, blobs: Blobs) -> Self {
        Self {
            dir,
            blobs,
            tmp: None,
        }
    }

    pub(crate) fn writable(mut self, tmp: PathBuf) -> Self {
        self.tmp = Some(tmp);
        self
    }

    /// Returns the results of steps, by key.
    pub fn steps(&self) -> Steps {
        let (records, names) = (self.shelf("steps"), self.shelf("names"));
        Steps::new(records, names, self.blobs.clone(), self.remotes())
    }

    /// Returns the compressed forms of layers.
    pub fn variants(&self) -> Variants {
        Variants::new(self.shelf("variants"), self.blobs.clone())
    }

    /// Returns what URLs gave.
    pub fn downloads(&self) -> Downloads {
        Downloads::new(self.shelf("downloads"), self.blobs.clone())
    }

    /// Returns where layers are that are not here.
    pub fn remotes(&self) -> Remotes {
        Remotes::new(self.shelf("remotes"))
    }

    /// Loads the file digests known for one context. `name` is any text that stands for the
    /// context, such as its directory's path.
    pub fn stats(&self, name: &[u8]) -> StatCache {
        let path = self.stat_dir().join(Digest::of(name).hex());
        StatCache::load(path, self.tmp.clone())
    }

    /// Returns the directory of the file digests.
    pub(crate) fn stat_dir(&self) -> PathBuf {
        self.dir.join("stat")
    }

    fn shelf(&self, name: &str) -> Shelf {
        Shelf {
            dir: self.dir.join(name),
            tmp: self.tmp.clone(),
        }
    }
}

/// A directory of records.
#[derive(Debug, Clone)]
struct Shelf {
    dir: PathBuf,
    tmp: Option<PathBuf>,
}

impl Shelf {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write<T: Serialize>(&self, name: &str, kind: &str, value: &T) -> Result<()> {
        let tmp = self
            .tmp
            .as_deref()
            .ok_or_else(|| needs_session("write record"))?;
        fs::create_dir_all(&self.dir).op_path("create", &self.dir)?;
        record::write(tmp, &self.path(name), kind, value)
    }

    /// Lists the records' files; none when the directory is missing.
    fn list(&self) -> Vec<PathBuf> {
        files(&self.dir)
    }
}

/// A use is not noted again for this long, so that a build that changes nothing writes nothing.
const NOTED: Duration = Duration::from_secs(3600);

/// Notes that a record was used, which only decides what is collected first.
fn note_use(path: &Path) {
    let now = SystemTime::now();
    let is_recent = |noted| now.duration_since(noted).is_ok_and(|age| age < NOTED);
    if !is_recent(last_use(path))
        && let Ok(file) = fs::File::open(path)
    {
        drop(file.set_modified(now));
    }
}

/// Returns when a record was last used.
fn last_use(path: &Path) -> SystemTime {
    let noted = fs::metadata(path).and_then(|m| m.modified());
    noted.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Lists the files of a directory, sorted; none when it is missing.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .collect();
    all.sort();
    all
}
