//! `/proc` and `/sys`, and what a container must not see or change in them.
//!
//! Responsible for mounting both, masking and write protection; the paths are those that Docker
//! hides. Must not be given paths of a container. Invariant: a mask is put on the very file that
//! was opened beneath the kernel file system's own root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen,
};

use super::protect::Masks;
use super::{mount, protect};
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

/// Mounts `/proc` on `target`, masked unless there are no masks: a new one, if the kernel has allowed that.
///
/// It refuses (`EPERM`) where the caller's own `/proc` is partly hidden, as in a container with
/// masked paths. Then the caller's is bound: weaker, since it lists the processes of the outer
/// pid namespace.
pub(crate) fn mount_proc(
    target: BorrowedFd<'_>,
    new: rustix::io::Result<OwnedFd>,
    masks: Option<&Masks>,
) -> Result<()> {
    let tree = match new {
        Err(Errno::PERM) => bind(Path::new("/proc"), mount::INERT)?,
        other => other.op("create proc")?,
    };
    mount::attach(&tree, target).op("mount /proc")?;
    let Some(masks) = masks else { return Ok(()) };
    for path in PROC_READ_ONLY {
        protect(tree.as_fd(), path)?;
    }
    for path in PROC_MASKED {
        hide(tree.as_fd(), path, masks)?;
    }
    Ok(())
}

/// Mounts `/sys` on `target`, read-only and masked unless there are no masks.
pub(crate) fn mount_sys(target: BorrowedFd<'_>, sys: Sys, masks: Option<&Masks>) -> Result<()> {
    let attributes = match masks {
        Some(_) => mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY,
        None => mount::INERT,
    };
    let new = match sys {
        Sys::New => mount::new("sysfs", &[], attributes),
        Sys::Host => Err(Errno::PERM),
    };
    let tree = match new {
        Err(Errno::PERM) => bind(Path::new("/sys"), attributes)?,
        other => other.op("create sysfs")?,
    };
    mount::attach(&tree, target).op("mount /sys")?;
    let Some(masks) = masks else { return Ok(()) };
    for path in SYS_MASKED {
        hide(tree.as_fd(), path, masks)?;
    }
    Ok(())
}

fn bind(path: &Path, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let tree = mount::copy(path, true).op_path("bind", path)?;
    mount::restrict(tree.as_fd(), true, attributes).op_path("bind", path)?;
    Ok(tree)
}

/// Hides a path beneath a kernel file system, if it is there.
fn hide(root: BorrowedFd<'_>, path: &str, masks: &Masks) -> Result<()> {
    match open(root, path)? {
        Some(target) => masks.put(target.as_fd()).op_path("hide", path),
        None => Ok(()),
    }
}

/// Makes a path beneath a kernel file system read-only, if it is there.
fn protect(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    match open(root, path)? {
        Some(target) => {
            protect::make_read_only(target.as_fd(), mount::INERT).op_path("protect", path)
        }
        None => Ok(()),
    }
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
