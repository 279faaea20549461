//! The change of root.
//!
//! Responsible for putting the container's root in place and letting the host's go. Must not
//! mount anything else. Invariant: afterwards no mount of the host is reachable by path in this
//! mount namespace.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::{mount, mountinfo};
use crate::error::{Error, Result, ResultExt};

/// Attaches the detached root on top of the host's, which stays reachable by path until
/// [`finish`].
pub(crate) fn attach(root: BorrowedFd<'_>) -> Result<()> {
    mount::attach_at(root, Path::new("/")).op("attach root")
}

/// Makes the attached root the root of this mount namespace, and detaches the host's.
pub(crate) fn finish(root: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(root, ".", flags, Mode::empty()).op("open root")?;
    rustix::process::fchdir(&dir).op("enter root")?;
    // The same directory twice stacks the old root on the new one, whence it is taken off.
    rustix::process::pivot_root(".", ".").op("change root")?;
    unmount(".", UnmountFlags::DETACH).op("detach old root")?;
    rustix::process::chdir("/").op("enter root")
}

/// How the container's root becomes `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// pivot_root(2): the host's mounts leave the mount namespace.
    Pivot,
    /// The container's root is moved over the host's, which the namespace keeps beneath it: for
    /// hosts whose root is an initramfs, which can't be pivoted.
    Move,
    /// chroot(2) only, without a mount namespace.
    Chroot,
}

/// Makes the mount `root`, which is attached, the root. `below` is where the host sees it.
pub(super) fn enter(root: BorrowedFd<'_>, way: Way, below: &Path) -> Result<()> {
    match way {
        Way::Pivot => pivot(root),
        Way::Move => cover(root, below),
        Way::Chroot => {
            rustix::process::fchdir(root).op("enter root")?;
            rustix::process::chroot(".").op("change root")?;
            rustix::process::chdir("/").op("enter root")
        }
    }
}

fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty()).op("open old root")?;
    rustix::process::fchdir(root).op("enter root")?;
    rustix::process::pivot_root(".", ".").map_err(|errno| {
        let error = Error::new("change root").cause(errno);
        match errno {
            Errno::INVAL => {
                error.hint("where the host's root is an initramfs, `--no-pivot` is needed")
            }
            _ => error,
        }
    })?;
    rustix::process::fchdir(&old).op("enter old root")?;
    // What is detached here must not be detached on the host.
    mount_change(".", SLAVES).op("cut off old root")?;
    unmount(".", UnmountFlags::DETACH).op("detach old root")?;
    rustix::process::chdir("/").op("enter root")
}

const SLAVES: MountPropagationFlags =
    MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC);

fn cover(root: BorrowedFd<'_>, below: &Path) -> Result<()> {
    // While a full proc or sysfs is in the namespace, even hidden, the kernel would let the
    // container make one without masks.
    for found in mountinfo::read()?.iter().rev() {
        let is_whole =
            found.root == Path::new("/") && (found.kind == "proc" || found.kind == "sysfs");
        if is_whole && !found.point.starts_with(below) {
            remove(&found.point)?;
        }
    }
    rustix::process::fchdir(root).op("enter root")?;
    match mount::attach_at(root, Path::new("/")) {
        // Attached there from the beginning.
        Err(Errno::LOOP | Errno::INVAL) if below == Path::new("/") => {}
        other => other.op("move root")?,
    }
    rustix::process::chroot(".").op("change root")?;
    rustix::process::chdir("/").op("enter root")
}

fn remove(point: &Path) -> Result<()> {
    mount_change(point, SLAVES).op_path("cut off", point)?;
    match unmount(point, UnmountFlags::DETACH) {
        // Locked by a more privileged namespace (mount_namespaces(7)), so it is covered.
        Err(Errno::INVAL | Errno::PERM) => {
            let attributes = mount::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
            let empty = mount::new("tmpfs", &[], attributes).op("create cover")?;
            mount::attach_at(empty, point).op_path("cover", point)
        }
        other => other.op_path("detach", point),
    }
}
