//! The directory that holds the containers' directories.
//!
//! Responsible for making, finding, listing and removing them. Must not read the environment: the
//! caller says where it is. Invariant: a directory that another user could have prepared is never
//! taken for one of ours; containers of two users can't be confused.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Dir, Id, Lock, Record};
use crate::error::{Error, Result, ResultExt};
use crate::weaken::{self, Protection};

/// The phrase that callers look for (CRI-O, containerd's runc shim).
const UNKNOWN: &str = "container does not exist";

/// Where containers are kept.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: Option<OwnedFd>,
}

/// An entry of [`Root::list`].
#[derive(Debug)]
pub struct Listed {
    /// The container's name.
    pub id: Id,
    /// Its directory and record, or why they can't be read.
    pub found: Result<(Dir, Record)>,
}

impl Root {
    /// Where containers are kept when no one says where: `/run/sandcrab` for root, `sandcrab` in
    /// the user's run-time directory, else a directory in `/tmp` that has the user's id in its
    /// name. `run` is the run-time directory (`$XDG_RUNTIME_DIR`), if it counts.
    pub fn default_path(run: Option<&Path>, user: u32) -> PathBuf {
        match run {
            Some(run) => run.join("sandcrab"),
            None if user == 0 => PathBuf::from("/run/sandcrab"),
            None => PathBuf::from(format!("/tmp/sandcrab-{user}")),
        }
    }

    /// Opens the directory, which need not exist: then it holds nothing.
    ///
    /// # Errors
    /// It is no directory, or another user could change what is in it.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = match open_dir(path) {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno).op_path("open state directory", path),
        };
        if let Some(fd) = &fd {
            let stat = rustix::fs::fstat(fd).op_path("check state directory", path)?;
            check_root(path, &stat)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            fd,
        })
    }

    /// Opens the directory and makes it, and those above it, where it is missing.
    ///
    /// # Errors
    /// As [`Root::open`], or it can't be made.
    pub fn make(path: &Path) -> Result<Self> {
        let root = Self::open(path)?;
        if root.fd.is_some() {
            return Ok(root);
        }
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .op_path("make state directory", path)?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a container's directory: record, copy of `config.json`, pipes, and the lock taken.
    ///
    /// # Errors
    /// A container has that name (`EEXIST`), or the directory can't be made.
    pub fn create(&self, record: &Record, config: &[u8]) -> Result<(Dir, Lock)> {
        let id = &record.id;
        let path = self.path.join(id.as_str());
        let root = self.fd.as_ref().ok_or(Errno::NOENT);
        let root = root.op_path("open state directory", &self.path)?;
        // `~` is in no container's name. An old directory of this name is that of a dead process.
        let new = format!("new~{}", rustix::process::getpid().as_raw_pid());
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(root, &new, mode) {
            Err(Errno::EXIST) => {
                if let Some(dir) = self.open_entry(root, &new)? {
                    self.remove_entry(root, &dir, &new)?;
                }
                rustix::fs::mkdirat(root, &new, mode)
            }
            other => other,
        }
        .op_path("make container directory", self.path.join(&new))?;
        let mut dir = self.open_entry(root, &new)?.ok_or_else(|| {
            Error::new("open container directory")
                .path(self.path.join(&new))
                .cause(Errno::NOENT)
        })?;
        let lock = dir.fill(record, config).inspect_err(|_| {
            // The first error is the one to report.
            let _removed = self.remove_entry(root, &dir, &new);
        })?;
        // Fails when the target has anything in it, as every container's directory has.
        match rustix::fs::renameat(root, &new, root, id.as_str()) {
            Ok(()) => {
                dir.path = path;
                Ok((dir, lock))
            }
            Err(errno) => {
                let _removed = self.remove_entry(root, &dir, &new);
                Err(match errno {
                    Errno::EXIST | Errno::NOTEMPTY => {
                        Error::new(format!("container with id {id} already exists"))
                            .cause(Errno::EXIST)
                    }
                    errno => Error::new("name container directory")
                        .path(path)
                        .cause(errno),
                })
            }
        }
    }

    /// Opens a container's directory; none if there is no container of that name.
    ///
    /// # Errors
    /// It is another user's, or can't be opened.
    pub fn find(&self, id: &Id) -> Result<Option<Dir>> {
        match &self.fd {
            Some(root) => self.open_entry(root, id.as_str()),
            None => Ok(None),
        }
    }

    /// Opens a container's directory.
    ///
    /// # Errors
    /// As [`Root::find`], or there is none.
    pub fn get(&self, id: &Id) -> Result<Dir> {
        self.find(id)?.ok_or_else(|| Self::unknown(id))
    }

    /// The error of a container that is not there.
    pub fn unknown(id: &Id) -> Error {
        Error::new(UNKNOWN).path(id.as_str())
    }

    /// Removes a container's directory. The caller holds its lock, or it is broken.
    ///
    /// # Errors
    /// Something in it can't be removed.
    pub fn remove(&self, id: &Id, dir: &Dir) -> Result<()> {
        match &self.fd {
            Some(root) => self.remove_entry(root, dir, id.as_str()),
            None => Ok(()),
        }
    }

    /// Lists the containers by name, broken ones included. What is no container of the caller's is
    /// left out.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let Some(root) = &self.fd else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        let entries = rustix::fs::Dir::read_from(root).op_path("list containers", &self.path)?;
        for entry in entries {
            let entry = entry.op_path("list containers", &self.path)?;
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown)
                && let Ok(name) = entry.file_name().to_str()
                && let Ok(id) = Id::new(name)
            {
                ids.push(id);
            }
        }
        ids.sort();
        let mut listed = Vec::with_capacity(ids.len());
        for id in ids {
            let found = match self.open_entry(root, id.as_str()) {
                Ok(Some(dir)) => dir.record().map(|record| (dir, record)),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            // Deleted between the two looks.
            if !(found.is_err() && self.find(&id).is_ok_and(|dir| dir.is_none())) {
                listed.push(Listed { id, found });
            }
        }
        Ok(listed)
    }

    fn open_entry(&self, root: &OwnedFd, name: &str) -> Result<Option<Dir>> {
        const OP: &str = "open container directory";
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(root, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).op_path(OP, path),
        };
        let stat = rustix::fs::fstat(&fd).op_path(OP, &path)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Error::new(OP)
                .path(path)
                .cause(format!("it belongs to user {}", stat.st_uid)));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(Error::new(OP)
                .path(path)
                .cause("other users can write to it".to_owned()));
        }
        Ok(Some(Dir { fd, path }))
    }

    fn remove_entry(&self, root: &OwnedFd, dir: &Dir, name: &str) -> Result<()> {
        dir.empty()?;
        let path = self.path.join(name);
        let name = CString::new(name).map_err(|_| Errno::INVAL);
        let name = name.op_path("remove container directory", &path)?;
        match rustix::fs::unlinkat(root, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).op_path("remove container directory", path),
        }
    }
}

/// Opens the directory. A symbolic link in its place counts only if no other user can have put it
/// there, as with `fs.protected_symlinks` (proc_sys_fs(5)).
fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let link = rustix::fs::lstat(path)?;
            if ![0, rustix::process::geteuid().as_raw()].contains(&link.st_uid) {
                return Err(Errno::LOOP);
            }
            rustix::fs::open(path, flags, Mode::empty())
        }
        other => other,
    }
}

/// Refuses a directory in which another user than root could swap what is ours.
fn check_root(path: &Path, stat: &Stat) -> Result<()> {
    const STICKY: u32 = 0o1000;
    let me = rustix::process::geteuid().as_raw();
    if weaken::off(Protection::State) {
        return Ok(());
    }
    let why = if stat.st_uid != me && stat.st_uid != 0 {
        format!("it belongs to user {}", stat.st_uid)
    } else if stat.st_mode & 0o022 != 0 && stat.st_mode & STICKY == 0 {
        "other users can write to it".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new("check state directory")
        .path(path)
        .cause(why)
        .hint("name a directory of your own with `--root`"))
}

#[cfg(test)]
mod tests {
    use super::super::Fifo;
    use super::super::record::tests::record;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn id(name: &str) -> Id {
        Id::new(name).expect("id")
    }

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::make(&dir.path().join("a/b")).expect("make root");
        (dir, root)
    }

    #[test]
    fn life_of_a_directory() {
        let (_keep, root) = root();
        let mut record = record("x");
        let (dir, lock) = root.create(&record, b"{ }").expect("create");
        assert_eq!(dir.config().expect("config"), b"{ }");
        assert_eq!(dir.record().expect("record"), record);
        assert!(dir.awaits_start().expect("pipe"));
        dir.open_fifo(Fifo::Start, OFlags::RDWR).expect("open pipe");
        dir.begin_start().expect("begin");
        assert!(!dir.awaits_start().expect("no pipe"));
        assert_eq!(dir.begin_start().expect_err("twice").errno(), Some(2));
        record.ready = true;
        dir.set_record(&record).expect("replace");
        assert!(
            root.get(&id("x"))
                .expect("get")
                .record()
                .expect("record")
                .ready
        );
        root.remove(&id("x"), &dir).expect("remove");
        drop(lock);
        assert!(root.find(&id("x")).expect("find").is_none());
        assert_eq!(dir.lock().expect_err("gone").errno(), Some(2));
        let error = root.get(&id("x")).expect_err("gone");
        assert_eq!(error.to_string(), "container does not exist `x`");
        assert_eq!(std::fs::read_dir(root.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_name_is_given_once() {
        let (_keep, root) = root();
        let (dir, _lock) = root.create(&record("x"), b"1").expect("create");
        let error = root.create(&record("x"), b"2").expect_err("taken");
        assert_eq!(error.to_string(), "container with id x already exists");
        assert_eq!(dir.config().expect("config"), b"1");
        assert_eq!(std::fs::read_dir(root.path()).expect("read").count(), 1);
    }

    #[test]
    fn what_a_crash_leaves_is_no_obstacle() {
        let (_keep, root) = root();
        let me = std::process::id();
        std::fs::create_dir(root.path().join(format!("new~{me}"))).expect("mkdir");
        std::fs::write(root.path().join(format!("new~{me}/lock")), "").expect("write");
        assert!(root.list().expect("list").is_empty());
        let (_dir, _lock) = root.create(&record("x"), b"").expect("create");
        std::fs::create_dir(root.path().join("broken")).expect("mkdir");
        std::fs::write(root.path().join("broken/state.json"), "{").expect("write");
        std::fs::write(root.path().join("a file"), "").expect("write");
        let listed = root.list().expect("list");
        let seen: Vec<_> = listed
            .iter()
            .map(|l| (l.id.as_str(), l.found.is_ok()))
            .collect();
        assert_eq!(seen, [("broken", false), ("x", true)]);
        let broken = root.get(&id("broken")).expect("get");
        root.remove(&id("broken"), &broken).expect("remove");
        // An empty directory is not in the way of a new container either.
        std::fs::create_dir(root.path().join("empty")).expect("mkdir");
        root.create(&record("empty"), b"").expect("create");
    }

    #[test]
    fn nothing_prepared_by_others_is_used() {
        let (keep, root) = root();
        symlink(keep.path(), root.path().join("link")).expect("symlink");
        assert!(root.get(&id("link")).is_err());
        let open = root.path().join("open");
        std::fs::create_dir(&open).expect("mkdir");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(root.get(&id("open")).is_err());
        let path = root.path().to_path_buf();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(Root::open(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).expect("chmod");
        assert!(Root::open(&path).is_ok());
    }

    #[test]
    fn a_missing_root_holds_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open(&dir.path().join("none")).expect("open");
        assert!(root.list().expect("list").is_empty());
        assert!(root.find(&id("x")).expect("find").is_none());
        assert!(root.create(&record("x"), b"").is_err());
    }

    #[test]
    fn default_places() {
        let path = |run: Option<&str>, user| Root::default_path(run.map(Path::new), user);
        assert_eq!(path(None, 0), Path::new("/run/sandcrab"));
        assert_eq!(
            path(Some("/run/user/7"), 7),
            Path::new("/run/user/7/sandcrab")
        );
        assert_eq!(path(None, 7), Path::new("/tmp/sandcrab-7"));
    }
}
