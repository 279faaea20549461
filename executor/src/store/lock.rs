//! Sessions: which processes use the store right now, and where their unfinished work is.
//!
//! Responsible for the store's lock and for the private directories in `tmp/`. Must not know what
//! is built there. Invariant: a session's directory is garbage exactly when the lock on its
//! `NAME.lock` can be had, since the kernel drops a lock with its process; the lock file is made
//! before the directory and removed after it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::cache::Cache;
use crate::error::{Error, Result, ResultExt};
use crate::store::blobs::Blobs;
use crate::store::{Remover, Store, lock_error, make_dir, removal};

/// A private directory in `tmp/` that the kernel knows to be in use.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    lock_path: PathBuf,
    /// Held for its lock.
    _lock: File,
    next: AtomicU64,
}

/// A process's use of the store: nothing that it can see is collected while it lives.
///
/// Dropped, it removes its directory as far as the caller may; what belongs to other ids stays
/// for [`Session::clear`] or a collector.
#[derive(Debug)]
pub struct Session {
    store: Store,
    blobs: Blobs,
    scratch: Scratch,
    /// Held for its shared lock.
    _shared: File,
}

/// The store for one collector alone.
#[derive(Debug)]
pub struct Exclusive {
    _lock: File,
}

impl Scratch {
    /// Makes a directory of the caller's own in `tmp/`.
    pub(crate) fn new(store: &Store) -> Result<Self> {
        Self::within(&store.root().join("tmp"), "")
    }

    /// Makes a directory of the caller's own in another one.
    fn within(tmp: &Path, prefix: &str) -> Result<Self> {
        loop {
            let file = tempfile::Builder::new()
                .prefix(prefix)
                .suffix(".lock")
                .tempfile_in(tmp)
                .op_path("create file in", tmp)?;
            let (file, lock_path) = file.keep().op_path("create file in", tmp)?;
            match file.try_lock() {
                Ok(()) => {}
                // A collector looks at the new file at this moment.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(e)) => return Err(lock_error(&lock_path, e)),
            }
            if !is_linked(&file, &lock_path) {
                continue;
            }
            let dir = lock_path.with_extension("");
            make_dir(&dir)?;
            return Ok(Self {
                dir,
                lock_path,
                _lock: file,
                next: AtomicU64::new(0),
            });
        }
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns a path in the directory that was not given out before.
    pub fn fresh(&self, prefix: &str) -> PathBuf {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{prefix}-{n}"))
    }

    /// Removes everything in the directory.
    pub(crate) fn clear(&self, remover: &Remover<'_>) -> Result<()> {
        let mut doomed = Vec::new();
        for entry in fs::read_dir(&self.dir).op_path("read", &self.dir)? {
            doomed.push(entry.op_path("read", &self.dir)?.path());
        }
        // Often all of it is the caller's own, and then no job is needed.
        let left: Vec<PathBuf> = removal::remove(&doomed).into_iter().map(|l| l.0).collect();
        if left.is_empty() {
            return Ok(());
        }
        remover(&left)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.dir).is_ok() {
            drop(fs::remove_file(&self.lock_path));
        }
    }
}

impl Session {
    pub(crate) fn start(store: &Store) -> Result<Self> {
        let (path, shared) = open_lock(store)?;
        shared.lock_shared().map_err(|e| lock_error(&path, e))?;
        let scratch = Scratch::new(store)?;
        let blobs = store.root().join("blobs/sha256");
        Ok(Self {
            store: store.clone(),
            blobs: Blobs::new(blobs, scratch.dir.clone()),
            scratch,
            _shared: shared,
        })
    }

    /// Starts a session that reads only, where the store can't be written to. Its private directory is
    /// in `tmp`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn reading(store: &Store, tmp: &Path) -> Result<Self> {
        let path = store.root().join("lock");
        let shared = File::open(&path).op_path("open", &path)?;
        shared.lock_shared().map_err(|e| lock_error(&path, e))?;
        Ok(Self {
            blobs: store.blobs(),
            store: store.clone(),
            scratch: Scratch::within(tmp, "sandcrab-")?,
            _shared: shared,
        })
    }

    /// Makes sure that layers can be unpacked here: what overlayfs and emulated ids note about files are
    /// attributes of the user's.
    ///
    /// # Errors
    /// When the file system has none.
    pub fn check_attributes(&self) -> Result<()> {
        let dir = self.scratch.dir();
        match rustix::fs::setxattr(dir, "user.sandcrab.probe", b"1", XattrFlags::empty()) {
            Err(e) if e == Errno::NOTSUP || e == Errno::NOSYS => {
                Err(Error::new("the store's file system has no user attributes, and layers can't be unpacked on it:")
                    .path(self.store.root())
                    .source(e)
                    .hint("name a place on ext4, xfs, btrfs or, since Linux 6.6, tmpfs by SANDCRAB_ROOT or --root"))
            }
            other => other.op_path("set an attribute of", dir),
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the session's private directory, for work that a kill may leave behind.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Returns the blobs for reading and writing.
    pub fn blobs(&self) -> Blobs {
        self.blobs.clone()
    }

    /// Returns the cache for reading and writing.
    pub fn cache(&self) -> Cache {
        self.store.cache().writable(self.scratch.dir.clone())
    }

    /// Removes all unfinished work of this session, with the help of a job where it belongs to
    /// other ids. Nothing of it may be in use.
    pub fn clear(&self, remover: &Remover<'_>) -> Result<()> {
        self.scratch.clear(remover)
    }
}

impl Exclusive {
    /// Takes the store alone: `None` when sessions live and `wait` is not set.
    pub fn take(store: &Store, wait: bool) -> Result<Option<Self>> {
        let (path, lock) = open_lock(store)?;
        if wait {
            lock.lock().map_err(|e| lock_error(&path, e))?;
        } else {
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(lock_error(&path, e)),
            }
        }
        Ok(Some(Self { _lock: lock }))
    }
}

/// A session whose process is gone. While this lives, no other collector takes it.
#[derive(Debug)]
pub struct Dead {
    /// Its directory, which may be missing.
    pub dir: PathBuf,
    lock_path: PathBuf,
    _lock: Option<File>,
}

impl Dead {
    /// Moves the directory into a collector's own, from where it is removed, and forgets the
    /// session.
    pub(crate) fn bury(self, scratch: &Scratch) -> Result<()> {
        match fs::rename(&self.dir, scratch.fresh("dead")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::new("move").path(&self.dir).source(e));
            }
            _ => {}
        }
        match fs::remove_file(&self.lock_path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::new("remove").path(&self.lock_path).source(e))
            }
            _ => Ok(()),
        }
    }
}

/// Finds the sessions whose processes are gone.
pub fn dead_sessions(store: &Store) -> Result<Vec<Dead>> {
    let tmp = store.root().join("tmp");
    let mut dead = Vec::new();
    for entry in fs::read_dir(&tmp).op_path("read", &tmp)? {
        let path = entry.op_path("read", &tmp)?.path();
        if path.extension().is_some_and(|e| e == "lock") {
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if file.try_lock().is_ok() && is_linked(&file, &path) {
                dead.push(Dead {
                    dir: path.with_extension(""),
                    lock_path: path,
                    _lock: Some(file),
                });
            }
        } else {
            let lock_path = path.with_added_extension("lock");
            // The lock outlives the directory, so its absence proves that nobody is there.
            if !lock_path.exists() && path.exists() {
                dead.push(Dead {
                    dir: path,
                    lock_path,
                    _lock: None,
                });
            }
        }
    }
    Ok(dead)
}

/// Lists the directories of sessions whose processes live.
pub fn live_sessions(store: &Store) -> Result<Vec<PathBuf>> {
    let tmp = store.root().join("tmp");
    let mut live = Vec::new();
    for entry in fs::read_dir(&tmp).op_path("read", &tmp)? {
        let path = entry.op_path("read", &tmp)?.path();
        let dir = path.with_extension("");
        if path.extension().is_some_and(|e| e == "lock")
            && dir.is_dir()
            && let Ok(file) = File::open(&path)
            && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
        {
            live.push(dir);
        }
    }
    Ok(live)
}

fn open_lock(store: &Store) -> Result<(PathBuf, File)> {
    let path = store.root().join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| unwritable(store, e))?;
    Ok((path, file))
}

/// The error for a store that can't be written to.
fn unwritable(store: &Store, error: io::Error) -> Error {
    let kind = error.kind();
    let path = store.root().join("lock");
    let read_only = matches!(
        kind,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    );
    if !read_only {
        return Error::new("open").path(path).source(error);
    }
    Error::new("the store can't be written to: open")
        .path(path)
        .source(error)
        .hint("images, inspect, history, df and save work with it; SANDCRAB_ROOT or --root names another store")
}

/// Tells whether `path` still names the open file.
pub(super) fn is_linked(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn a_live_session_is_not_garbage_and_a_dead_one_is() {
        let (_dir, store) = store();
        let session = store.session().expect("session");
        assert!(dead_sessions(&store).expect("list").is_empty());
        // What a kill leaves: a directory and a lock file that nobody holds, and one without.
        let tmp = store.root().join("tmp");
        fs::create_dir(tmp.join("killed")).expect("mkdir");
        fs::write(tmp.join("killed.lock"), "").expect("write");
        fs::create_dir(tmp.join("half-removed")).expect("mkdir");
        let dead = dead_sessions(&store).expect("list");
        let mut names: Vec<_> = dead
            .iter()
            .map(|d| d.dir.file_name().expect("name"))
            .collect();
        names.sort();
        assert_eq!(names, ["half-removed", "killed"]);
        for one in dead {
            one.bury(session.scratch()).expect("bury");
        }
        session.clear(&|_| Ok(())).expect("clear");
        drop(session);
        assert_eq!(fs::read_dir(&tmp).expect("list").count(), 0);
    }

    #[test]
    fn sessions_share_and_collectors_do_not() {
        let (_dir, store) = store();
        let first = store.session().expect("session");
        let second = store.session().expect("session");
        assert_ne!(first.scratch().dir(), second.scratch().dir());
        assert!(Exclusive::take(&store, false).expect("take").is_none());
        drop((first, second));
        let alone = Exclusive::take(&store, false).expect("take");
        assert!(alone.is_some());
        assert!(Exclusive::take(&store, false).expect("take").is_none());
        let waiting = std::thread::scope(|scope| {
            let session = scope.spawn(|| store.session().map(drop));
            drop(alone);
            session.join().expect("thread")
        });
        waiting.expect("session after the collector");
    }

    #[test]
    fn clear_asks_for_help_only_with_what_it_cannot_remove() {
        let (_dir, store) = store();
        let session = store.session().expect("session");
        fs::create_dir_all(session.scratch().fresh("staging").join("fs")).expect("mkdir");
        session
            .clear(&|paths| panic!("own files need no job: {paths:?}"))
            .expect("clear");
    }

    /// What the next test kills: a process in the midst of its work.
    #[test]
    #[ignore = "runs as a child of another test"]
    fn child_at_work() {
        let root = std::env::var_os("TEST_STORE").expect("a store");
        let session = Store::open(Path::new(&root))
            .expect("open")
            .session()
            .expect("session");
        let staging = session.store().snapshots().staging(&session);
        fs::write(staging.expect("staging").fs().join("file"), "x").expect("write");
        let mut blob = session.blobs().writer().expect("writer");
        io::Write::write_all(&mut blob, &[1; 10_000]).expect("write");
        println!("ready");
        std::thread::sleep(std::time::Duration::from_secs(600));
        drop(blob);
    }

    #[test]
    fn a_killed_process_leaves_garbage_that_is_recognised() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let (_dir, store) = store();
        let mut children = Vec::new();
        for _ in 0..2 {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "store::lock::tests::child_at_work"])
                .args(["--ignored", "--nocapture"])
                .env("TEST_STORE", store.root())
                .stdout(Stdio::piped())
                .spawn()
                .expect("child");
            let out = BufReader::new(child.stdout.take().expect("a pipe"));
            assert!(out.lines().any(|l| l.expect("line").contains("ready")));
            children.push(child);
        }
        assert!(dead_sessions(&store).expect("list").is_empty());
        assert!(Exclusive::take(&store, false).expect("take").is_none());
        let mut dead = 0;
        for mut child in children {
            child.kill().expect("kill");
            child.wait().expect("wait");
            dead += 1;
            assert_eq!(dead_sessions(&store).expect("list").len(), dead);
        }
        let session = store.session().expect("the next session");
        for one in dead_sessions(&store).expect("list") {
            one.bury(session.scratch()).expect("bury");
        }
        drop(session);
        let left = |d: &str| fs::read_dir(store.root().join(d)).expect("list").count();
        assert_eq!(
            (left("tmp"), left("blobs/sha256"), left("snapshots")),
            (0, 0, 0)
        );
    }
}
