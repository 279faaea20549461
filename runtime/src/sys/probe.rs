//! Questions to the kernel that change nothing.
//!
//! Responsible for finding out what a system call would accept. Must hold no policy. Invariant: no
//! state of the process changes.

use std::ptr;

use rustix::io::Errno;

/// Says whether seccomp(2) knows a flag of filters.
///
/// Flags are looked at before the program, which is missing here (`EFAULT`).
pub(crate) fn seccomp_has_flag(flag: libc::c_ulong) -> bool {
    let mut flags = flag;
    if flag == libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
        // It goes with a listener only.
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    // SAFETY: a null program is never read; the call always fails.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    ret == -1 && super::last_errno() == Errno::FAULT
}
