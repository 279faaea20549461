//! One system call: its words for the log, its arguments, and its result.
//!
//! Responsible for making calls without the C library between, which keeps ids and modes to itself
//! in threads and caches. Must not know what they are for.

use std::fmt::{Display, Write};
use std::io::{Error, Result};
use std::os::fd::AsRawFd;

/// The descriptor of the output, which no sequence chooses.
pub(crate) const OUTPUT: i64 = 100;

/// Makes a call. Errors are negative numbers, as the kernel returns them.
pub(crate) fn raw(number: i64, arguments: [i64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every caller passes memory of its own, or addresses that the kernel refuses.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        -i64::from(Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        result
    }
}

/// As [`raw`], for calls of the program's own that must not fail.
pub(crate) fn must(number: i64, arguments: [i64; 6]) -> Result<i64> {
    match raw(number, arguments) {
        error @ ..0 => Err(Error::from_raw_os_error(
            i32::try_from(-error).unwrap_or_default(),
        )),
        result => Ok(result),
    }
}

/// Puts the output where it stays over execve(2).
pub(crate) fn keep_output(file: &std::fs::File) -> Result<()> {
    let fd = i64::from(file.as_raw_fd());
    must(libc::SYS_dup3, [fd, OUTPUT, 0, 0, 0, 0]).map(drop)
}

/// Writes to the output.
pub(crate) fn print(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let length = i64::try_from(rest.len()).unwrap_or(i64::MAX);
        let arguments = [OUTPUT, rest.as_ptr() as i64, length, 0, 0, 0];
        match usize::try_from(raw(libc::SYS_write, arguments)) {
            Ok(written) => rest = &rest[written.min(rest.len())..],
            Err(_) => return,
        }
    }
}

/// A call that is being put together.
#[derive(Debug)]
pub(crate) struct Call {
    number: i64,
    text: String,
    arguments: Vec<i64>,
}

impl Call {
    /// Begins a call.
    pub(crate) fn new(name: &str, number: i64) -> Self {
        Self {
            number,
            text: format!("{name}("),
            arguments: Vec::new(),
        }
    }

    /// Adds an argument and its word for the log.
    pub(crate) fn arg(mut self, word: impl Display, value: i64) -> Self {
        let comma = if self.arguments.is_empty() { "" } else { ", " };
        let _ = write!(self.text, "{comma}{word}");
        self.arguments.push(value);
        self
    }

    /// Adds a number.
    pub(crate) fn int(self, value: i64) -> Self {
        self.arg(value, value)
    }

    /// Adds a number that is written in octal.
    pub(crate) fn octal(self, value: i64) -> Self {
        self.arg(format_args!("0{value:o}"), value)
    }

    /// Adds a number that is written in hexadecimal.
    pub(crate) fn hex(self, value: i64) -> Self {
        self.arg(format_args!("{value:#x}"), value)
    }

    /// Adds the sum of flags with names.
    pub(crate) fn flags(self, flags: &[(&str, i64)]) -> Self {
        let names: Vec<&str> = flags.iter().map(|(name, _)| *name).collect();
        let word = if names.is_empty() {
            "0".to_owned()
        } else {
            names.join("|")
        };
        self.arg(word, flags.iter().fold(0, |sum, (_, bits)| sum | bits))
    }

    /// Adds the address of something that the kernel reads or writes.
    pub(crate) fn at(self, word: impl Display, address: i64) -> Self {
        self.arg(word, address)
    }

    /// Returns its first argument.
    pub(crate) fn first(&self) -> i64 {
        self.arguments.first().copied().unwrap_or_default()
    }

    /// Returns another call with the same arguments but the first.
    pub(crate) fn again(mut self, name: &str, number: i64, first: i64) -> Self {
        let rest = self.text.find('(').unwrap_or_default();
        self.text.replace_range(..rest, name);
        self.number = number;
        self.arguments[0] = first;
        self
    }

    /// Returns how it looks in the log.
    pub(crate) fn words(&self) -> String {
        format!("{})", self.text)
    }

    /// Makes it.
    pub(crate) fn make(&self) -> i64 {
        let mut arguments = [0; 6];
        arguments[..self.arguments.len()].copy_from_slice(&self.arguments);
        let mut result = raw(self.number, arguments);
        // Something else on this machine was renamed meanwhile, openat2(2).
        while self.number == libc::SYS_openat2 && result == -i64::from(libc::EAGAIN) {
            result = raw(self.number, arguments);
        }
        result
    }
}

/// Returns the name of an error, or a number.
pub(crate) fn result(value: i64) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EROFS, "EROFS"),
        (libc::EMLINK, "EMLINK"),
        (libc::ERANGE, "ERANGE"),
        (libc::ESRCH, "ESRCH"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENODATA, "ENODATA"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::ESTALE, "ESTALE"),
        (libc::ENOTSOCK, "ENOTSOCK"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EIO, "EIO"),
        (libc::ESPIPE, "ESPIPE"),
    ];
    if value >= 0 {
        return value.to_string();
    }
    NAMES
        .iter()
        .find(|(number, _)| i64::from(*number) == -value)
        .map_or_else(
            || format!("errno {}", -value),
            |(_, name)| (*name).to_owned(),
        )
}
