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

use super::mountinfo::{self, Mounted};
use super::{mount, target};
use crate::error::{Error, Result, ResultExt};
use crate::weaken::{self, Protection};

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

/// Makes the mount `root`, which is attached, the root.
pub(super) fn enter(root: BorrowedFd<'_>, way: Way) -> Result<()> {
    match way {
        Way::Pivot => pivot(root),
        Way::Move => cover(root),
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
    if !weaken::off(Protection::OldRoot) {
        unmount(".", UnmountFlags::DETACH).op("detach old root")?;
    }
    rustix::process::chdir("/").op("enter root")
}

const SLAVES: MountPropagationFlags =
    MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC);

fn cover(root: BorrowedFd<'_>) -> Result<()> {
    // While a full proc or sysfs is in the namespace, even hidden, the kernel would let the
    // container make one without masks.
    let (own, _) = target::place(root).op("find mount of root")?;
    let mounts = mountinfo::read()?;
    for found in mounts.iter().rev() {
        let is_whole =
            found.root == Path::new("/") && (found.kind == "proc" || found.kind == "sysfs");
        if is_whole && !is_below(found, own, &mounts) {
            remove(&found.point)?;
        }
    }
    rustix::process::fchdir(root).op("enter root")?;
    let host = mounts.iter().find(|m| m.id == own);
    // A root that had to be attached over the host's is where it belongs.
    let covers = host.is_some_and(|m| m.point == Path::new("/"));
    if !covers && !weaken::off(Protection::OldRoot) {
        mount::attach_at(root, Path::new("/")).op("move root")?;
    }
    rustix::process::chroot(".").op("change root")?;
    rustix::process::chdir("/").op("enter root")
}

/// Whether a mount is the one with the number `top`, or on it.
fn is_below(mounted: &Mounted, top: u64, all: &[Mounted]) -> bool {
    let mut here = mounted;
    // No chain is longer than the list; the first mount may be its own parent.
    for _ in all {
        if here.id == top {
            return true;
        }
        match all.iter().find(|m| m.id == here.parent) {
            Some(parent) => here = parent,
            None => return false,
        }
    }
    false
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
