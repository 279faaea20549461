//! Programs that the runtime starts outside containers' own processes.
//!
//! Responsible for a child that shares nothing with its parent but three descriptors. Must not
//! know what is run. Invariant: the child neither allocates nor locks before it executes.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{Fork, Pointers, close_on_exec_from, dup_onto, execve, exit, fork, reset_signals};

/// Starts a program in a process group of its own, with exactly the arguments, the environment
/// and the three standard descriptors that are given, and with default signal actions; in
/// `directory`, if that is given and there.
///
/// # Errors
/// Those of execve(2) too: what is returned has executed its program.
pub(crate) fn spawn(
    path: &CStr,
    arguments: &Pointers<'_>,
    environment: &Pointers<'_>,
    directory: Option<&CStr>,
    standard: [BorrowedFd<'_>; 3],
) -> Result<(Pid, OwnedFd)> {
    let (executed, failed) = pipe_with(PipeFlags::CLOEXEC)?;
    // A descriptor that has one of the three numbers would be overwritten before it is used.
    let [input, output, error] = standard;
    let above = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let standard = [above(input)?, above(output)?, above(error)?];
    let failure = above(failed.as_fd())?;
    drop(failed);
    // SAFETY: the child only makes system calls and ends by `exit`.
    let (pid, pidfd) = match unsafe { fork(0) }? {
        Fork::Child => {
            let errno = become_program(path, arguments, environment, directory, &standard);
            let _: Result<usize> = rustix::io::write(&failure, &errno.raw_os_error().to_ne_bytes());
            exit(127)
        }
        Fork::Parent(pid, pidfd) => (pid, pidfd),
    };
    drop(failure);
    let mut errno = [0; 4];
    if rustix::io::retry_on_intr(|| rustix::io::read(&executed, &mut errno))? == errno.len() {
        let _: Result<_> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        });
        return Err(Errno::from_raw_os_error(i32::from_ne_bytes(errno)));
    }
    Ok((pid, pidfd))
}

/// The child's part. Returns only the error.
fn become_program(
    path: &CStr,
    arguments: &Pointers<'_>,
    environment: &Pointers<'_>,
    directory: Option<&CStr>,
    standard: &[OwnedFd; 3],
) -> Errno {
    let prepare = || -> Result<()> {
        rustix::process::setpgid(None, None)?;
        reset_signals()?;
        match directory.map(rustix::process::chdir) {
            None | Some(Ok(()) | Err(Errno::NOENT)) => {}
            Some(Err(errno)) => return Err(errno),
        }
        for (number, fd) in (0..).zip(standard) {
            dup_onto(fd.as_fd(), number, false)?;
        }
        close_on_exec_from(3)
    };
    match prepare() {
        Ok(()) => execve(path, arguments, environment),
        Err(errno) => errno,
    }
}
