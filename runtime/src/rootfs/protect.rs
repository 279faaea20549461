//! Paths of a container that are hidden or write-protected.
//!
//! Responsible for masks and for read-only copies of parts of a tree. Must not choose the paths.
//! Invariant: what is put over a path was opened and checked before the container's root was
//! entered (CVE-2025-31133), and goes on the very file that was opened beneath that root.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::{mount, target};
use crate::error::{Error, Result, ResultExt};
use crate::path::Root;
use crate::weaken::{self, Protection};

/// What is put over a hidden path: an empty directory or an empty device.
#[derive(Debug)]
pub(crate) struct Masks {
    dir: Mask,
    file: Mask,
}

/// A mount that is put in several places. Before Linux 6.15 only what is attached somewhere can
/// be copied, so the first place gets the mount itself and the others copies of it.
#[derive(Debug)]
struct Mask {
    mount: OwnedFd,
    attached: Cell<bool>,
}

impl Masks {
    /// Prepares both, from the host's `/dev/null`.
    pub(crate) fn new() -> Result<Self> {
        let attributes = mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let dir = mount::new("tmpfs", &["mode=0555"], attributes).op("create mask")?;
        let file =
            mount::copy(Path::new("/dev/null"), false).op_path("open device", "/dev/null")?;
        let stat = fstat(&file).op_path("open device", "/dev/null")?;
        let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        let is_null = is_char && stat.st_rdev == makedev(1, 3);
        if !is_null && !weaken::off(Protection::Masks) {
            return Err(Error::new("not the character device 1:3").path("/dev/null"));
        }
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        mount::restrict(file.as_fd(), false, flags).op("create mask")?;
        let mask = |mount| Mask {
            mount,
            attached: Cell::new(false),
        };
        Ok(Self {
            dir: mask(dir),
            file: mask(file),
        })
    }

    /// Puts a mask over what a descriptor refers to.
    pub(crate) fn put(&self, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if target::is_dir(target)? {
            self.dir.put(target)
        } else {
            self.file.put(target)
        }
    }
}

impl Mask {
    fn put(&self, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if self.attached.get() {
            return mount::attach(mount::copy_at(self.mount.as_fd(), false)?, target);
        }
        mount::attach(&self.mount, target)?;
        self.attached.set(true);
        Ok(())
    }
}

/// Puts a write-protected copy over what a descriptor refers to, with all that is mounted below.
pub(crate) fn make_read_only(
    target: BorrowedFd<'_>,
    more: MountAttrFlags,
) -> rustix::io::Result<()> {
    let copy = mount::copy_at(target, true)?;
    mount::restrict(copy.as_fd(), true, more | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    mount::attach(copy, target)
}

/// Opens a path of the container that is to be hidden or protected; `None` if it is not there.
pub(super) fn open(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Error::new("open").path(path).cause(errno)),
    }
}
