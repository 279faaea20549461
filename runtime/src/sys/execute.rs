//! System calls of programs' beginnings: execution by descriptor, kinds of namespaces.
//!
//! Responsible for their raw forms, as the parent module says.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::{Errno, Result};

use super::{Pointers, check, last_errno};

/// Replaces the program by the file of a descriptor, execveat(2). Returns only the error.
pub(crate) fn execute_fd(file: BorrowedFd<'_>, argv: &Pointers<'_>, env: &Pointers<'_>) -> Errno {
    // SAFETY: `Pointers` ends with a null and borrows the strings it points to; the path is a
    // valid C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.list.as_ptr(),
            env.list.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Returns the `CLONE_NEW*` flag of the namespace at `fd`, ioctl_nsfs(2). `ENOTTY` when it is none.
pub(crate) fn namespace_kind(fd: BorrowedFd<'_>) -> Result<c_int> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })
}

/// Sets the NIS domain name, setdomainname(2).
pub(crate) fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: the pointer and the length are those of one slice, which the kernel copies.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Says whether a number is an open descriptor's. Usable in a forked child.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: the request takes no argument and changes nothing.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }).is_ok()
}
