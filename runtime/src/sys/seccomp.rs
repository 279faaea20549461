//! seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_long, c_ulong};
use rustix::io::{Errno, Result};

/// Installs a seccomp program for the calling thread, seccomp(2). Usable in a forked child.
/// Returns the listener when one is asked for.
///
/// Needs `CAP_SYS_ADMIN` in the user namespace or no-new-privs.
pub(crate) fn set_filter(
    program: &[libc::sock_filter],
    flags: c_ulong,
    listens: bool,
) -> Result<Option<OwnedFd>> {
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    let mut flags = flags;
    if flags & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
        // Else a thread that can't follow is told by a positive value, like a listener.
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    }
    if listens {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
        // The kernel refuses it where nothing is received.
        flags &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    let ret = set_mode_filter(flags, ptr::from_ref(&header));
    if ret == -1 {
        return Err(super::last_errno());
    }
    if !listens {
        return Ok(None);
    }
    let fd = RawFd::try_from(ret).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Says whether the kernel knows flags of seccomp(2).
pub(crate) fn seccomp_has_flags(flags: c_ulong) -> bool {
    let mut flags = flags;
    if flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        if flags & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
            flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        }
    }
    // Known flags get as far as reading the program, which is not there.
    set_mode_filter(flags, ptr::null()) == -1 && super::last_errno() == Errno::FAULT
}

fn set_mode_filter(flags: c_ulong, program: *const libc::sock_fprog) -> c_long {
    // SAFETY: the program is null or describes a borrowed one; the kernel copies it.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            program,
        )
    }
}

/// Says whether the kernel offers a seccomp return action, such as `SECCOMP_RET_USER_NOTIF`.
pub(crate) fn seccomp_has_action(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            ptr::from_ref(&action),
        )
    };
    ret == 0
}
