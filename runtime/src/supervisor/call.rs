//! A call that waits for an answer, and the thread that made it.
//!
//! Responsible for what is read from the caller: its memory, its descriptors, its directories. Must
//! not decide anything. Invariant: nothing read from a caller is used before it is checked, and
//! before an effect the caller is checked to be still waiting, since a number of a dead thread may
//! be another's.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::credentials::Credentials;
use crate::sys::notify;

/// The longest path with its closing NUL (`PATH_MAX`).
pub(super) const PATH_MAX: usize = 4096;

/// A forwarded call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) listener: BorrowedFd<'a>,
    pub(super) id: u64,
    pub(super) number: i32,
    /// The calling thread in the supervisor's pid namespace, whose proc is the supervisor's working
    /// directory.
    pub(super) tid: Pid,
    pub(super) arguments: [u64; 6],
}

/// Who makes a call.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) credentials: Arc<Credentials>,
    /// The rules by which its paths are resolved, openat2(2).
    pub(super) resolve: ResolveFlags,
}

/// Why a call is not carried out here.
#[derive(Debug)]
pub(super) enum Stop {
    /// The kernel's own answer is the right one.
    Kernel,
    /// The answer is an error.
    Errno(Errno),
    /// Something is wrong that must not pass as a result: the step fails.
    Broken(String),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// The answer to a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// The kernel executes it.
    Continue,
    Value(i64),
    /// A new descriptor of the caller's, whose number is the value.
    Descriptor {
        fd: OwnedFd,
        close_on_exec: bool,
    },
}

pub(super) type Outcome = Result<Answer, Stop>;

/// The answer of a call that returns nothing.
pub(super) const DONE: Outcome = Ok(Answer::Value(0));

impl Call<'_> {
    /// An argument of type `int`, of which the upper half means nothing.
    pub(super) fn int(&self, index: usize) -> i32 {
        (self.arguments[index] & 0xffff_ffff) as u32 as i32
    }

    /// An argument of type `unsigned int`.
    pub(super) fn unsigned(&self, index: usize) -> u32 {
        (self.arguments[index] & 0xffff_ffff) as u32
    }

    /// An argument that is a pointer or a size.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.arguments[index]
    }

    /// Checks that the caller still waits: call it before anything that changes something.
    pub(super) fn still_waits(&self) -> Result<(), Stop> {
        if notify::is_waiting(self.listener, self.id) {
            Ok(())
        } else {
            // Nobody gets this.
            Err(Stop::Errno(Errno::INTR))
        }
    }

    /// Reads exactly `buffer.len()` bytes of the caller's memory; `EFAULT`.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Stop> {
        match notify::read_memory(self.tid, address, buffer) {
            Ok(count) if count == buffer.len() => Ok(()),
            _ => Err(Errno::FAULT.into()),
        }
    }

    /// Writes to the caller's memory; `EFAULT`.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.still_waits()?;
        match notify::write_memory(self.tid, address, bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            _ => Err(Errno::FAULT.into()),
        }
    }

    /// Reads a string of at most `max` bytes with its NUL, which is left out; `None` when it is
    /// longer.
    pub(super) fn string(&self, address: u64, max: usize) -> Result<Option<Vec<u8>>, Stop> {
        const PAGE: u64 = 4096;
        const CHUNK: usize = 256;
        let mut text = Vec::with_capacity(CHUNK);
        while text.len() < max {
            let at = address
                .checked_add(text.len() as u64)
                .ok_or(Stop::Errno(Errno::FAULT))?;
            // What lies on the next page may not be mapped.
            let in_page = usize::try_from(PAGE - at % PAGE).unwrap_or(CHUNK);
            let size = in_page.min(CHUNK).min(max - text.len());
            let start = text.len();
            text.resize(start + size, 0);
            let count =
                notify::read_memory(self.tid, at, &mut text[start..]).map_err(|_| Errno::FAULT)?;
            text.truncate(start + count);
            if let Some(end) = text[start..].iter().position(|b| *b == 0) {
                text.truncate(start + end);
                return Ok(Some(text));
            }
            if count == 0 {
                return Err(Errno::FAULT.into());
            }
        }
        Ok(None)
    }

    /// Reads a path. What is wrong with one is the kernel's to say.
    pub(super) fn path(&self, argument: usize) -> Result<Vec<u8>, Stop> {
        match self.string(self.arguments[argument], PATH_MAX) {
            Ok(Some(path)) => Ok(path),
            Ok(None) | Err(Stop::Errno(Errno::FAULT)) => Err(Stop::Kernel),
            Err(other) => Err(other),
        }
    }

    /// Opens something of the caller's in proc, such as `cwd` or `fd/3`: a handle only.
    pub(super) fn open_own(&self, name: &str) -> Result<OwnedFd, Stop> {
        let path = format!("{}/{name}", self.tid.as_raw_pid());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        // A descriptor that is not open, or a thread that is gone: the kernel knows which.
        fd.map_err(|_| Stop::Kernel)
    }

    /// Opens what a descriptor of the caller's refers to.
    pub(super) fn open_fd(&self, number: i32) -> Result<OwnedFd, Stop> {
        if number < 0 {
            return Err(Stop::Kernel);
        }
        self.open_own(&format!("fd/{number}"))
    }

    /// As [`Self::open_fd`], for calls that are refused for descriptors of `O_PATH`.
    pub(super) fn open_file(&self, number: i32) -> Result<OwnedFd, Stop> {
        let fd = self.open_fd(number)?;
        if self.is_handle(number) {
            return Err(Stop::Kernel);
        }
        Ok(fd)
    }

    /// Whether a descriptor was opened with `O_PATH`, proc_pid_fdinfo(5).
    pub(super) fn is_handle(&self, number: i32) -> bool {
        let path = format!("{}/fdinfo/{number}", self.tid.as_raw_pid());
        let flags = std::fs::read_to_string(path).ok().and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            u32::from_str_radix(flags.trim(), 8).ok()
        });
        flags.is_some_and(|flags| OFlags::from_bits_retain(flags).contains(OFlags::PATH))
    }
}
