//! `/proc` and `/sys`, and what a container must not see or change in them.
//!
//! Responsible for mounting both, masking and write protection; the paths are those that Docker
//! hides. Must not be given paths of a container. Invariant: a mask is put on the very file that
//! was opened beneath the kernel file system's own root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen,
};

use super::mount;
use crate::error::{Error, Result, ResultExt};

const PROC_MASKED: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// The last three are mount points: a host's `/sys` comes with what is mounted on them, which a
/// root without capabilities could still read.
const SYS_MASKED: [&str; 5] = [
    "firmware",
    "devices/virtual/powercap",
    "fs/bpf",
    "kernel/debug",
    "kernel/tracing",
];

/// Which `/sys` a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sys {
    /// A new one, for the calling thread's network namespace.
    New,
    /// The host's.
    Host,
}

/// Makes a new proc for a pid namespace, without attaching it.
///
/// # Errors
/// `EINVAL` before Linux 6.17, which can only make it for the calling process's own namespace;
/// see [`new_own_proc`].
pub(crate) fn new_proc(pid_namespace: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "proc")?;
    fsconfig_set_fd(&context, "pidns", pid_namespace)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, mount::INERT)
}

/// Makes a new proc for the calling process's pid namespace, without attaching it. Usable in a
/// forked child.
pub(crate) fn new_own_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"proc")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, mount::INERT)
}

/// Mounts `/proc` on `target`, masked: a new one, if the kernel has allowed that.
///
/// It refuses (`EPERM`) where the caller's own `/proc` is partly hidden, as in a container with
/// masked paths. Then the caller's is bound: weaker, since it lists the processes of the outer
/// pid namespace.
pub(crate) fn mount_proc(
    target: BorrowedFd<'_>,
    new: rustix::io::Result<OwnedFd>,
    masks: &Masks,
) -> Result<()> {
    let tree = match new {
        Err(Errno::PERM) => bind(Path::new("/proc"), mount::INERT)?,
        other => other.op("create proc")?,
    };
    mount::attach(&tree, target).op("mount /proc")?;
    for path in PROC_READ_ONLY {
        protect(tree.as_fd(), path)?;
    }
    for path in PROC_MASKED {
        masks.hide(tree.as_fd(), path)?;
    }
    Ok(())
}

/// Mounts a read-only `/sys` on `target`, masked.
pub(crate) fn mount_sys(target: BorrowedFd<'_>, sys: Sys, masks: &Masks) -> Result<()> {
    let read_only = mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let new = match sys {
        Sys::New => mount::new("sysfs", &[], read_only),
        Sys::Host => Err(Errno::PERM),
    };
    let tree = match new {
        Err(Errno::PERM) => bind(Path::new("/sys"), read_only)?,
        other => other.op("create sysfs")?,
    };
    mount::attach(&tree, target).op("mount /sys")?;
    for path in SYS_MASKED {
        masks.hide(tree.as_fd(), path)?;
    }
    Ok(())
}

fn bind(path: &Path, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let tree = mount::copy(path, true).op_path("bind", path)?;
    mount::restrict(tree.as_fd(), true, attributes).op_path("bind", path)?;
    Ok(tree)
}

/// What is put over a hidden path: an empty directory or an empty device.
#[derive(Debug)]
pub(crate) struct Masks {
    dir: OwnedFd,
    file: OwnedFd,
}

impl Masks {
    /// Prepares both.
    pub(crate) fn new() -> Result<Self> {
        let attributes = mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let dir = mount::new("tmpfs", &["mode=0555"], attributes).op("create mask")?;
        let file =
            mount::copy(Path::new("/dev/null"), false).op_path("open device", "/dev/null")?;
        let stat = fstat(&file).op_path("open device", "/dev/null")?;
        if stat.st_rdev != rustix::fs::makedev(1, 3) {
            return Err(Error::new("not the character device 1:3").path("/dev/null"));
        }
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        mount::restrict(file.as_fd(), false, flags).op("create mask")?;
        Ok(Self { dir, file })
    }

    /// Hides a path beneath a kernel file system, if it is there.
    fn hide(&self, root: BorrowedFd<'_>, path: &str) -> Result<()> {
        let Some(target) = open(root, path)? else {
            return Ok(());
        };
        let stat = fstat(&target).op_path("hide", path)?;
        let mask = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            &self.dir
        } else {
            &self.file
        };
        let copy = mount::copy_at(mask.as_fd(), false).op_path("hide", path)?;
        mount::attach(copy, target).op_path("hide", path)
    }
}

/// Makes a path beneath a kernel file system read-only, if it is there.
fn protect(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(target) = open(root, path)? else {
        return Ok(());
    };
    let copy = mount::copy_at(target.as_fd(), true).op_path("protect", path)?;
    let attributes = mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount::restrict(copy.as_fd(), true, attributes).op_path("protect", path)?;
    mount::attach(copy, target).op_path("protect", path)
}

fn open(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::new("open").path(path).cause(e)),
    }
}
