//! The change of root.
//!
//! Responsible for putting the container's root in place and letting the host's go. Must not
//! mount anything else. Invariant: afterwards no mount of the host is reachable by path in this
//! mount namespace.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};

use super::mount;
use crate::error::{Result, ResultExt};

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
