//! Files of the process file system, written to by the runtime.
//!
//! Responsible for making sure that they are such files: a container's `/proc` is what its image
//! and its mounts made of it (CVE-2019-16884, CVE-2025-52881 of runc). Must not know what is
//! written. Invariant: every file that is opened here lies in the one proc mount whose root was
//! checked, with nothing mounted over it on the way, and no link but the kernel's own
//! `thread-self` and `self`.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::{Errno, Result};

use crate::rootfs::kernel;
use crate::weaken::{self, Protection};

/// Inode number of the root of every proc (`PROC_ROOT_INO`, fs/proc/root.c; since Linux 2.6).
const ROOT_INODE: u64 = 1;

/// The root of a proc mount.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
}

impl Proc {
    /// Makes a new proc that nobody else sees, for the calling process's pid namespace; where the
    /// kernel refuses that, opens the one at `path`. Usable in a forked child.
    ///
    /// The kernel refuses it without `CAP_SYS_ADMIN`, and in a user namespace whose visible proc
    /// is partly hidden (mount_namespaces(7), "locked").
    ///
    /// # Errors
    /// As [`Proc::open`].
    pub fn new(path: &Path) -> Result<Self> {
        Self::new_own().or_else(|_| Self::open(path))
    }

    /// Makes a new proc that nobody else sees, for the calling process's pid namespace.
    pub(crate) fn new_own() -> Result<Self> {
        Self::check(kernel::new_own_proc()?)
    }

    /// Opens the proc mounted at `path`.
    ///
    /// # Errors
    /// Those of open(2); `EXDEV` where something else is mounted there, or only a part of a proc.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::check(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn check(root: OwnedFd) -> Result<Self> {
        if weaken::off(Protection::ProcFiles) {
            return Ok(Self { root });
        }
        if fstatfs(&root)?.f_type != PROC_SUPER_MAGIC || fstat(&root)?.st_ino != ROOT_INODE {
            return Err(Errno::XDEV);
        }
        Ok(Self { root })
    }

    /// Opens a file by its name beneath the root. Usable in a forked child.
    ///
    /// # Errors
    /// Those of openat2(2); `EXDEV` where something is mounted on the way.
    pub fn file(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        if weaken::off(Protection::ProcFiles) {
            let path = Path::new("/proc").join(OsStr::from_bytes(name.to_bytes()));
            return rustix::fs::open(path, flags, Mode::empty());
        }
        loop {
            match openat2(&self.root, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Writes to a file, in one call, as its kind demands. Usable in a forked child.
    ///
    /// # Errors
    /// As [`Proc::file`], and those of the file.
    pub fn write(&self, name: &CStr, bytes: &[u8]) -> Result<()> {
        let file = self.file(name, OFlags::WRONLY)?;
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, bytes))?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(Errno::IO)
        }
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_proc_will_do() {
        assert!(Proc::open(Path::new("/proc")).is_ok());
        for other in ["/proc/sys", "/tmp", "/sys"] {
            let opened = Proc::open(Path::new(other)).map(drop);
            assert_eq!(opened, Err(Errno::XDEV), "{other}");
        }
    }

    #[test]
    fn files_are_those_of_this_thread_and_nothing_beyond() {
        let proc = Proc::open(Path::new("/proc")).expect("open");
        proc.write(c"thread-self/comm", b"renamed").expect("write");
        let name = rustix::thread::name().expect("name");
        assert_eq!(name.as_c_str(), c"renamed");
        let open = |name| proc.file(name, OFlags::RDONLY).map(drop);
        assert_eq!(open(c"self/root/etc/passwd"), Err(Errno::LOOP));
        assert_eq!(open(c"../etc/passwd"), Err(Errno::XDEV));
        assert_eq!(open(c"/etc/passwd"), Err(Errno::XDEV));
    }
}
