//! Cache mounts: directories that outlive the builds whose steps write to them.
//!
//! Responsible for where they are, for the locks on them and for putting new ones in place. Must not
//! enter their trees, whose files belong to other ids. Invariant: a directory that is here has a tree
//! and a lock; it goes while no session lives, or while who takes it away holds the lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use runtime::identity::Identity;

use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::lock::{Session, is_linked};
use crate::store::make_dir;
use crate::store::measure::{self, Measurer};
use crate::store::snapshots::Staging;

/// The file in a cache mount's directory that its users lock, whose time is that of the last use, and
/// which has its name for people.
const LOCK: &str = "lock";

/// The store's cache mounts.
#[derive(Debug, Clone)]
pub struct CacheMounts {
    dir: PathBuf,
}

/// One of the directories of a cache mount: there are several when steps want one each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDir {
    dir: PathBuf,
}

/// A cache mount found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its directory.
    pub dir: PathBuf,
    /// When a step last began to use it.
    pub used: SystemTime,
    /// The id that steps use, for people.
    pub name: String,
}

impl CacheDir {
    /// Returns the directory that steps see.
    pub fn fs(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Tells whether a lock, which is held by now, is still that of the directory: who trims may have
    /// taken it away meanwhile.
    pub fn is_held_by(&self, lock: &File) -> bool {
        is_linked(lock, &self.dir.join(LOCK))
    }

    /// Opens the lock, and notes that it is used now; `None` when the directory is not there.
    pub fn lock(&self) -> Result<Option<File>> {
        let path = self.dir.join(LOCK);
        let file = match File::options().write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.op_path("open", &path)?,
        };
        file.set_modified(SystemTime::now())
            .op_path("set time of", &path)?;
        Ok(Some(file))
    }
}

impl CacheMounts {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns one of the directories of the cache mount `key`, which need not be there.
    pub fn at(&self, identity: Identity, key: &Digest, number: usize) -> CacheDir {
        CacheDir {
            dir: self
                .dir
                .join(identity.name())
                .join(format!("{}-{number}", key.hex())),
        }
    }

    /// Puts a finished tree in place. When another process was quicker, its tree stays and this one
    /// is dropped. `name` is what steps call it.
    pub fn commit(
        &self,
        session: &Session,
        staging: Staging,
        place: &CacheDir,
        name: &str,
    ) -> Result<()> {
        let parent = place.dir.parent().unwrap_or(&self.dir);
        make_dir(&self.dir)?;
        make_dir(parent)?;
        let lock = staging.dir().join(LOCK);
        fs::write(&lock, name).op_path("create", &lock)?;
        match fs::rename(staging.dir(), &place.dir) {
            Ok(()) => Ok(()),
            // Not empty: it has a lock at least.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty || place.exists() => {
                drop(e);
                debug_assert!(staging.dir().starts_with(session.scratch().dir()));
                Ok(())
            }
            Err(e) => Err(Error::new("store cache mount").path(&place.dir).source(e)),
        }
    }

    /// Moves those that were used least recently to the session's directory, until the others take no
    /// more than `limit` bytes; returns which. What a step has locked stays.
    pub fn trim(
        &self,
        session: &Session,
        limit: u64,
        measurer: &Measurer<'_>,
    ) -> Result<Vec<(Found, u64)>> {
        let mut all = self.list()?;
        all.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.dir.cmp(&b.dir)));
        let dirs: Vec<PathBuf> = all.iter().map(|found| found.dir.clone()).collect();
        let sizes = measure::trees(&dirs, Some(measurer))?;
        let mut total: u64 = sizes.iter().sum();
        let mut gone = Vec::new();
        for (found, bytes) in all.into_iter().zip(sizes) {
            if total <= limit {
                break;
            }
            let Ok(lock) = File::open(found.dir.join(LOCK)) else {
                continue;
            };
            if lock.try_lock().is_err() || !is_linked(&lock, &found.dir.join(LOCK)) {
                continue;
            }
            let aside = session.scratch().fresh("cache-mount");
            fs::rename(&found.dir, aside).op_path("move", &found.dir)?;
            total -= bytes;
            gone.push((found, bytes));
        }
        Ok(gone)
    }

    /// Lists all of them.
    pub fn list(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for identity in entries(&self.dir)? {
            for dir in entries(&identity)? {
                let lock = dir.join(LOCK);
                let used = fs::metadata(&lock).and_then(|m| m.modified());
                all.push(Found {
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                    name: fs::read_to_string(&lock).unwrap_or_default(),
                    dir,
                });
            }
        }
        all.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(all)
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.op_path("read", dir)?.path()))
            .collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::new("read").path(dir).source(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn the_first_tree_stays() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let mounts = store.cache_mounts();
        let place = mounts.at(Identity::Emulated, &Digest::of(b"key"), 0);
        assert!(!place.exists() && mounts.list().expect("list").is_empty());
        for content in ["first", "second"] {
            let staging = store.snapshots().staging(&session).expect("staging");
            fs::write(staging.fs().join("file"), content).expect("write");
            mounts
                .commit(&session, staging, &place, "/c")
                .expect("commit");
        }
        assert_eq!(
            fs::read_to_string(place.fs().join("file")).expect("read"),
            "first"
        );
        let found = mounts.list().expect("list");
        assert_eq!((found.len(), found[0].name.as_str()), (1, "/c"));
        let lock = place.lock().expect("open").expect("lock");
        lock.try_lock().expect("free");
        let again = place.lock().expect("open").expect("lock");
        assert!(again.try_lock_shared().is_err());
        assert!(mounts.list().expect("list")[0].used >= found[0].used);
    }

    #[test]
    fn the_least_recently_used_ones_go_unless_they_are_locked() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let mounts = store.cache_mounts();
        let place = |name: &str| mounts.at(Identity::Emulated, &Digest::of(name.as_bytes()), 0);
        for (name, age) in [("a", 4), ("b", 3), ("c", 2), ("d", 1)] {
            let staging = store.snapshots().staging(&session).expect("staging");
            fs::write(staging.fs().join("file"), vec![1; 100_000]).expect("write");
            mounts
                .commit(&session, staging, &place(name), name)
                .expect("commit");
            let lock = place(name).lock().expect("open").expect("lock");
            let then = SystemTime::now() - std::time::Duration::from_secs(age * 60);
            lock.set_modified(then).expect("age");
        }
        let all = &|_: &[PathBuf]| panic!("all of it is the caller's");
        assert_eq!(mounts.trim(&session, 1 << 20, all).expect("trim"), []);
        let held = File::open(place("a").dir.join(LOCK)).expect("open");
        held.lock_shared().expect("lock");
        let late = File::open(place("b").dir.join(LOCK)).expect("open");
        let gone = mounts.trim(&session, 250_000, all).expect("trim");
        let names: Vec<&str> = gone.iter().map(|(found, _)| found.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert!(gone[0].1 >= 100_000);
        // Who was waiting for the lock notices.
        late.lock().expect("lock");
        assert!(!place("b").is_held_by(&late) && place("a").is_held_by(&held));
        assert!(place("b").lock().expect("open").is_none());
    }
}
