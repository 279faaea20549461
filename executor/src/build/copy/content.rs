//! The bytes of a file, copied the cheapest way that the file systems allow.
//!
//! Responsible for sharing extents, for copying in the kernel, and for holes. Must not know names.
//! Invariant: the copy has the size that was announced, or there is an error; memory is one
//! buffer.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{SeekFrom, Stat};
use rustix::io::{Errno, Result};

const BUFFER: usize = 256 << 10;
/// Unit of `st_blocks`, in bytes (stat(3type)).
const BLOCK: u64 = 512;

/// Copies file contents, and remembers what this pair of file systems can't do.
#[derive(Debug)]
pub(super) struct Transfer {
    clone: bool,
    range: bool,
    buffer: Vec<u8>,
}

impl Transfer {
    pub(super) fn new() -> Self {
        Self {
            clone: true,
            range: true,
            buffer: Vec::new(),
        }
    }

    /// Copies the contents of `from`, whose status is `stat`, to the empty file `to`.
    ///
    /// Returns `false` when the file has become shorter meanwhile. A file that has become longer
    /// is copied up to its old size; the caller compares the status.
    pub(super) fn copy(&mut self, from: &impl AsFd, to: &impl AsFd, stat: &Stat) -> Result<bool> {
        let size = stat.st_size.cast_unsigned();
        if size == 0 {
            return Ok(true);
        }
        if self.clone {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(true),
                Err(_) => self.clone = false,
            }
        }
        if stat.st_blocks.cast_unsigned().saturating_mul(BLOCK) >= size {
            return self.extent(from.as_fd(), to.as_fd(), 0, size);
        }
        // Size first: a trailing hole is then there already.
        rustix::fs::ftruncate(to, size)?;
        let mut at = 0;
        while at < size {
            let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                Err(Errno::NXIO) => return Ok(true),
                Err(e) => return Err(e),
            };
            let end = match rustix::fs::seek(from, SeekFrom::Hole(start)) {
                Ok(end) => end.min(size),
                Err(Errno::NXIO) => return Ok(false),
                Err(e) => return Err(e),
            };
            if !self.extent(from.as_fd(), to.as_fd(), start, end)? {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// Copies the bytes from `at` to `end`.
    fn extent(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        mut at: u64,
        end: u64,
    ) -> Result<bool> {
        while self.range && at < end {
            let (mut input, mut output) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), length)
            {
                Ok(0) => return Ok(false),
                Ok(n) => at += n as u64,
                Err(Errno::INTR) => {}
                // Not between these two, or not on this kernel.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    self.range = false;
                }
                Err(e) => return Err(e),
            }
        }
        self.buffer.resize(BUFFER, 0);
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let n = match rustix::io::pread(from, &mut self.buffer[..length], at) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            let mut written = 0;
            while written < n {
                match rustix::io::pwrite(to, &self.buffer[written..n], at + written as u64) {
                    Ok(more) => written += more,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e),
                }
            }
            at += n as u64;
        }
        Ok(true)
    }
}
