//! Memory that ends where nothing follows.
//!
//! Responsible for placing what a call reads, or writes, directly before a page that can't be
//! read: whoever takes more than it was given fails. Must not know the calls.

use std::io::Result;
use std::ptr;

/// How many arguments of one call may lie in memory.
const REGIONS: usize = 4;
/// Bytes of a region, the unreadable page not counted: more than a path may have.
const SIZE: usize = 16384;
const PAGE: usize = 4096;

/// The regions.
#[derive(Debug)]
pub(crate) struct Memory {
    start: *mut u8,
    next: usize,
}

impl Memory {
    /// Maps the regions.
    pub(crate) fn new() -> Result<Self> {
        let stride = SIZE + PAGE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                stride * REGIONS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        for region in 0..REGIONS {
            let guard = start.wrapping_byte_add(region * stride + SIZE);
            // SAFETY: the page lies in the mapping that was made above, and nothing uses it.
            if unsafe { libc::mprotect(guard, PAGE, libc::PROT_NONE) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(Self {
            start: start.cast(),
            next: 0,
        })
    }

    /// Copies bytes to the end of the next region and returns their address.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> i64 {
        let bytes = &bytes[..bytes.len().min(SIZE)];
        let region = self.next % REGIONS;
        self.next += 1;
        let end = region * (SIZE + PAGE) + SIZE;
        let target = self.start.wrapping_add(end - bytes.len());
        // SAFETY: the target ends where the region ends, and is no longer than it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        target as i64
    }

    /// Returns bytes that [`Memory::place`] placed, as they are now.
    pub(crate) fn read(&self, address: i64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        // SAFETY: the caller has the address from `place`, with at least that length.
        unsafe { ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), length) };
        bytes
    }
}
