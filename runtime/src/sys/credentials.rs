//! Calls that change the credentials of one thread, where the C library changes all threads'.
//!
//! For tests, which compare rules of ours with the kernel's.

use libc::c_long;
use rustix::io::Result;

/// Makes a system call whose arguments are numbers only: one of the set*id family, or a prctl(2)
/// option about capabilities.
pub(crate) fn call_with_numbers(number: c_long, arguments: [c_long; 5]) -> Result<c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the kernel takes the arguments as numbers.
    super::check_long(unsafe { libc::syscall(number, a, b, c, d, e) })
}
