//! One system call, made without a library in between.
//!
//! Responsible for the call and the name of its error. Must not know what it is good for.

use std::ffi::CString;

/// What a system call returned, or the name of its error.
pub(crate) type Answer = Result<i64, String>;

/// Makes a system call of this architecture.
pub(crate) fn call(number: i64, arguments: &[usize]) -> Answer {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: the callers pass pointers to living buffers that are as large as the call needs.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result == -1 {
        Err(name(&std::io::Error::last_os_error()))
    } else {
        Ok(result)
    }
}

/// Returns a path as the kernel takes it.
pub(crate) fn path(text: &str) -> CString {
    CString::new(text).expect("no argument of a program has a zero byte")
}

/// `AT_FDCWD` as an argument.
pub(crate) const HERE: usize = libc::AT_FDCWD as isize as usize;

/// Returns the name of an error, or its number where no test expects it.
pub(crate) fn name(error: &std::io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let name = match number {
        libc::EPERM => "EPERM",
        libc::EAGAIN => "EAGAIN",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EACCES => "EACCES",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENXIO => "ENXIO",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::ELOOP => "ELOOP",
        libc::ENODATA => "ENODATA",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EXDEV => "EXDEV",
        libc::EFAULT => "EFAULT",
        libc::EBADF => "EBADF",
        libc::EBUSY => "EBUSY",
        libc::ECONNREFUSED => "ECONNREFUSED",
        _ => return format!("errno-{number}"),
    };
    name.to_owned()
}
