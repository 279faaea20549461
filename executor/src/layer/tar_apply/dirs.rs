//! The directories that entries go into.
//!
//! Responsible for finding and making them, for their times, and for remembering which paths this
//! archive has brought. Most entries lie in the same directory as the one before, which is kept
//! open. Invariant: the kept directory is the one that its path leads to, so it is given up
//! whenever a directory or a link is removed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use runtime::identity::ownership::Trouble;
use runtime::identity::{Owner, Ownership};
use runtime::path::Root;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::unpacking;
use crate::error::{Error, Result};
use crate::layer::entry::split;

pub(super) struct Dirs<'a> {
    root: &'a Root,
    ownership: &'a Ownership,
    /// The directory used last, and its path.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories whose time is still to be set, in the order in which it was learnt.
    times: Vec<DirTime>,
    /// Device and inode of those in `times`.
    timed: HashSet<(u64, u64)>,
    /// Hashes of the paths that this archive has brought, and of the directories above them. The
    /// key is random, so an archive cannot aim for a collision.
    own: HashSet<u64>,
    hasher: RandomState,
}

struct DirTime {
    path: Vec<u8>,
    time: Timespec,
    /// Whether the last component may be a link: the archive named it as a directory, but has no
    /// entry for it.
    follow: bool,
}

impl<'a> Dirs<'a> {
    pub(super) fn new(root: &'a Root, ownership: &'a Ownership) -> Self {
        Self {
            root,
            ownership,
            parent: None,
            times: Vec::new(),
            timed: HashSet::new(),
            own: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn root(&self) -> &'a Root {
        self.root
    }

    /// Returns the directory `path`, made if missing and root's then.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((known, fd)) = &self.parent
            && known == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.root.open_dir(host_path(path)) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.make(path)?,
            Err(Errno::NOTDIR) => return Err(through_file(path)),
            Err(e) => return Err(unpacking(path)(e)),
        };
        self.keep_time(path, &fd)?;
        let fd = Rc::new(fd);
        self.parent = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Takes a directory as the next entry's likely parent.
    pub(super) fn remember_parent(&mut self, path: &[u8], fd: OwnedFd) {
        self.parent = Some((path.to_vec(), Rc::new(fd)));
    }

    /// Gives the kept directory up, because its path may lead elsewhere now.
    pub(super) fn forget_parent(&mut self) {
        self.parent = None;
    }

    fn make(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut existing = path;
        let mut dir = loop {
            (existing, _) = split(existing);
            match self.root.open_dir(host_path(existing)) {
                Ok(fd) => break fd,
                Err(Errno::NOENT) if !existing.is_empty() => {}
                Err(Errno::NOTDIR) => return Err(through_file(existing)),
                Err(e) => return Err(unpacking(existing)(e)),
            }
        };
        self.keep_time(existing, &dir)?;
        let mut end = existing.len();
        for name in path[end..].split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            end += name.len() + usize::from(end > 0);
            let made = &path[..end];
            let name = OsStr::from_bytes(name);
            match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    return Err(
                        Error::new("the entry's directory is a dangling link").path_bytes(made)
                    );
                }
                Err(e) => return Err(unpacking(made)(e)),
            }
            dir = self.adopt(&dir, name).map_err(unpacking(made))?;
            self.set_time(made, dir.as_fd(), 0)?;
        }
        Ok(dir)
    }

    fn adopt(&self, dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Trouble> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        self.ownership.set(&fd, Owner::ROOT)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        Ok(fd)
    }

    /// Notes that a directory of lower layers shall keep the time that it has now, unless its
    /// time is known already.
    pub(super) fn keep_time(&mut self, path: &[u8], fd: &OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(fd).map_err(unpacking(path))?;
        if self.timed.insert((stat.st_dev, stat.st_ino)) {
            self.times.push(DirTime {
                path: path.to_vec(),
                time: Timespec {
                    tv_sec: stat.st_mtime,
                    // Below 10^9, whatever the type.
                    tv_nsec: stat.st_mtime_nsec as _,
                },
                follow: true,
            });
        }
        Ok(())
    }

    /// Notes the time in seconds that a directory shall have.
    pub(super) fn set_time(&mut self, path: &[u8], fd: BorrowedFd<'_>, time: i64) -> Result<()> {
        let stat = rustix::fs::fstat(fd).map_err(unpacking(path))?;
        self.timed.insert((stat.st_dev, stat.st_ino));
        self.times.push(DirTime {
            path: path.to_vec(),
            time: seconds(time),
            follow: false,
        });
        Ok(())
    }

    /// Sets all noted times. Directories that have gone since are passed over.
    pub(super) fn restore_times(&mut self) -> Result<()> {
        for dir in std::mem::take(&mut self.times) {
            let mut flags = OFlags::PATH | OFlags::DIRECTORY;
            if !dir.follow {
                flags |= OFlags::NOFOLLOW;
            }
            let fd = match self.root.open(host_path(&dir.path), flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(unpacking(&dir.path)(e)),
            };
            rustix::fs::utimensat(&fd, "", &timestamps(dir.time), AtFlags::EMPTY_PATH)
                .map_err(unpacking(&dir.path))?;
        }
        Ok(())
    }

    /// Notes that this archive has brought `path`.
    pub(super) fn mark_own(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() && self.own.insert(self.hasher.hash_one(path)) {
            (path, _) = split(path);
        }
    }

    /// Tells whether this archive has brought `path` or something below it.
    pub(super) fn is_own(&self, path: &[u8]) -> bool {
        self.own.contains(&self.hasher.hash_one(path))
    }
}

fn through_file(path: &[u8]) -> Error {
    Error::new("the archive has entries below something that is no directory").path_bytes(path)
}

/// Returns a path of the image for use with a [`Root`], where empty means the root itself.
pub(super) fn host_path(path: &[u8]) -> Cow<'_, Path> {
    if path.is_empty() {
        Cow::Borrowed(Path::new("/"))
    } else {
        Cow::Borrowed(Path::new(OsStr::from_bytes(path)))
    }
}

pub(super) fn seconds(time: i64) -> Timespec {
    Timespec {
        tv_sec: time,
        tv_nsec: 0,
    }
}

/// A modification time; access times are nobody's concern.
pub(super) fn timestamps(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: time,
    }
}
