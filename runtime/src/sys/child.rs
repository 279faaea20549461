//! A descriptor that only another process can open.
//!
//! Responsible for letting a forked child, which may enter namespaces that its parent does not, open
//! something for its parent. Must not know what. Invariant: the child is gone when the caller goes on.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};

use super::{Fork, dup_onto, exit, fork};

/// Lets a child make something and returns it; what the child was refused is in the inner result.
/// It shares the table of descriptors, so what it opens is ours.
///
/// # Safety
/// `make` neither allocates nor locks.
pub(crate) unsafe fn open_by_child(
    make: impl FnOnce() -> Result<OwnedFd>,
) -> Result<Result<OwnedFd>> {
    // Any descriptor will do as a place for the child's.
    let (place, _) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the child calls only `make`, of which the caller has promised it, and `dup_onto`.
    let pidfd = match unsafe { fork(libc::CLONE_FILES as u64) }? {
        Fork::Child => {
            let made = make().and_then(|fd| dup_onto(fd.as_fd(), place.as_raw_fd(), true));
            exit(made.map_or_else(Errno::raw_os_error, |()| 0))
        }
        Fork::Parent(_, pidfd) => pidfd,
    };
    let status = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    })?;
    Ok(match status.and_then(|s| s.exit_status()) {
        Some(0) => Ok(place),
        Some(errno) => Err(Errno::from_raw_os_error(errno)),
        // It was killed.
        None => Err(Errno::INTR),
    })
}
