//! One container's directory.
//!
//! Responsible for its files: `state.json`, `config.json`, `lock`, the two pipes of `start`, and
//! the directory `notify`, which the container sees if there is a service manager.
//! Must not know what they mean to a container. Invariant: everything is done by the directory's
//! handle, so that a directory of the same name made later is never touched.
//!
//! Reading takes no lock: a hook may ask for the state while `create` holds it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Record;
use crate::error::{Error, Result, ResultExt};
use crate::path::remove::remove_children;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const LOCK: &str = "lock";
const NOTIFY: &str = "notify";

/// Largest file that is read: a record or configuration beyond it is none of ours.
const LARGEST: u64 = 16 << 20;

/// A container's directory, opened.
#[derive(Debug)]
pub struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// A named pipe between the first process and `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fifo {
    /// `start` writes: go on.
    Start,
    /// The first process writes: how it went.
    Started,
}

/// The right to change a container, held until dropped.
///
/// A lock of the process (fcntl_locking(2)) and not of the descriptor (flock(2)), which a forked
/// first process would go on holding for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Fifo {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Started => "started",
        }
    }
}

impl Dir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the record.
    ///
    /// # Errors
    /// It is missing, unreadable or of a later version; `ENOENT` when the container was deleted.
    pub fn record(&self) -> Result<Record> {
        Record::parse(&self.read(STATE)?)
    }

    /// Replaces the record. The caller holds the lock.
    ///
    /// # Errors
    /// The file can't be written or renamed.
    pub fn set_record(&self, record: &Record) -> Result<()> {
        // Only the holder of the lock writes, so one temporary name is enough.
        const NEW: &str = "state.json~";
        self.write(NEW, &encode(record)?, OFlags::TRUNC)?;
        rustix::fs::renameat(&self.fd, NEW, &self.fd, STATE)
            .op_path("replace", self.path.join(STATE))
    }

    /// Reads the copy of the bundle's `config.json` as it was when the container was made.
    ///
    /// # Errors
    /// It is missing or unreadable.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG)
    }

    /// Waits for the right to change the container.
    ///
    /// # Errors
    /// The container was deleted meanwhile (`ENOENT`), or the lock can't be taken.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.fd, LOCK, flags, Mode::empty()).op_path("open lock", &path)?;
        lock_file(file.as_fd(), &path)?;
        let stat = rustix::fs::fstat(&file).op_path("check lock", &path)?;
        if stat.st_nlink == 0 {
            return Err(Error::new("check lock").path(path).cause(Errno::NOENT));
        }
        Ok(Lock { _file: file })
    }

    /// Opens a pipe of `start`.
    ///
    /// # Errors
    /// Those of openat(2); `ENXIO` when it is to be written without waiting and no one reads.
    pub fn open_fifo(&self, fifo: Fifo, flags: OFlags) -> Result<OwnedFd> {
        let path = self.path.join(fifo.name());
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat(&self.fd, fifo.name(), flags, Mode::empty()) {
                Err(Errno::INTR) => {}
                other => return other.op_path("open pipe", path),
            }
        }
    }

    /// Whether `start` is still to come.
    ///
    /// # Errors
    /// The directory can't be searched.
    pub fn awaits_start(&self) -> Result<bool> {
        match rustix::fs::statat(&self.fd, Fifo::Start.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).op_path("look for pipe", self.path.join(Fifo::Start.name())),
        }
    }

    /// Notes that `start` has come: removes its pipe's name, once what needs it has opened it.
    ///
    /// # Errors
    /// The name can't be removed; `ENOENT` when `start` has come before.
    pub fn begin_start(&self) -> Result<()> {
        let name = Fifo::Start.name();
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .op_path("remove pipe", self.path.join(name))
    }

    /// Makes the directory that the container sees, and which its users may search; returns where
    /// it is.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make_notify(&self) -> Result<PathBuf> {
        const OP: &str = "make directory";
        let path = self.path.join(NOTIFY);
        rustix::fs::mkdirat(&self.fd, NOTIFY, Mode::from_raw_mode(0o755)).op_path(OP, &path)?;
        // Whatever the umask is.
        rustix::fs::chmodat(
            &self.fd,
            NOTIFY,
            Mode::from_raw_mode(0o755),
            AtFlags::empty(),
        )
        .op_path(OP, &path)?;
        Ok(path)
    }

    /// Opens the directory that the container sees, if there is one.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn notify(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, NOTIFY, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).op_path("open directory", self.path.join(NOTIFY)),
        }
    }

    /// Writes all that belongs to a new container into an empty directory and locks it.
    pub(super) fn fill(&self, record: &Record, config: &[u8]) -> Result<Lock> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, LOCK, flags, Mode::from_raw_mode(0o600))
            .op_path("make lock", &path)?;
        lock_file(file.as_fd(), &path)?;
        self.write(CONFIG, config, OFlags::EXCL)?;
        self.write(STATE, &encode(record)?, OFlags::EXCL)?;
        for fifo in [Fifo::Start, Fifo::Started] {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(&self.fd, fifo.name(), FileType::Fifo, mode, 0)
                .op_path("make pipe", self.path.join(fifo.name()))?;
        }
        Ok(Lock { _file: file })
    }

    /// Removes what is in the directory, the record and the lock last.
    ///
    /// `ENOENT` is success: a second `delete --force` may be at work.
    pub(super) fn empty(&self) -> Result<()> {
        let mut names = Vec::new();
        let entries = rustix::fs::Dir::read_from(&self.fd).op_path("read directory", &self.path)?;
        for entry in entries {
            let entry = entry.op_path("read directory", &self.path)?;
            let name = entry.file_name();
            if ![c".", c".."].contains(&name) {
                names.push(name.to_owned());
            }
        }
        let late = |name: &std::ffi::CString| match name.to_bytes() {
            name if name == STATE.as_bytes() => 1,
            name if name == LOCK.as_bytes() => 2,
            _ => 0,
        };
        names.sort_by_key(late);
        for name in names {
            let removed = match rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()) {
                Err(Errno::ISDIR) if name.to_bytes() == NOTIFY.as_bytes() => {
                    if let Some(dir) = self.notify()? {
                        // A container that may mount could have put anything there.
                        remove_children(dir, &mut |_| false).op_path("empty", &self.path)?;
                    }
                    rustix::fs::unlinkat(&self.fd, NOTIFY, AtFlags::REMOVEDIR)
                }
                other => other,
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = self.path.join(name.to_string_lossy().as_ref());
                    return Err(errno).op_path("remove", path);
                }
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        // A pipe or device in a broken directory must not stop us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.fd, name, flags, Mode::empty()).op_path("open", &path)?;
        let mut bytes = Vec::new();
        File::from(file)
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .op_path("read", &path)?;
        Ok(bytes)
    }

    fn write(&self, name: &str, bytes: &[u8], how: OFlags) -> Result<()> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .op_path("make", &path)?;
        File::from(file).write_all(bytes).op_path("write", &path)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn encode(record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| Error::new("write state.json").cause(e.to_string()))
}

fn lock_file(file: BorrowedFd<'_>, path: &Path) -> Result<()> {
    loop {
        match rustix::fs::fcntl_lock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other.op_path("take lock", path),
        }
    }
}
