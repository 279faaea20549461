//! Large files that reach the disk while they are being written.
//!
//! Responsible for asking the kernel to begin writing what is in its cache, piece by piece, so that
//! a sync at the end has little left to wait for and does not hold up everybody else's. Must not
//! sync. Invariant: the content is that of the plain writes.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};

/// Bytes that are gathered before the disk is asked to begin.
const PIECE: u64 = 8 << 20;

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Steady<F> {
    file: F,
    written: u64,
    begun: u64,
}

impl<F> Steady<F> {
    /// Takes an empty file.
    pub(crate) fn new(file: F) -> Self {
        Self {
            file,
            written: 0,
            begun: 0,
        }
    }

    /// Returns the file.
    pub(crate) fn into_inner(self) -> F {
        self.file
    }
}

impl<F: Write + AsFd> Write for Steady<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.written += n as u64;
        let fresh = self.written - self.begun;
        if fresh >= PIECE {
            // Before it forgets clean pages, of which there are none here, Linux begins to write
            // the dirty ones, which it then keeps (mm/fadvise.c). Advice may be ignored.
            let _: rustix::io::Result<()> = fadvise(
                &self.file,
                self.begun,
                NonZeroU64::new(fresh),
                Advice::DontNeed,
            );
            self.begun = self.written;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn content_is_that_of_the_writes() {
        let mut steady = Steady::new(tempfile::tempfile().expect("temporary file"));
        let piece: Vec<u8> = (0..1_000_003).map(|n| (n % 251) as u8).collect();
        for _ in 0..20 {
            steady.write_all(&piece).expect("write");
        }
        assert!(steady.begun > PIECE && steady.begun <= steady.written);
        let mut file = steady.into_inner();
        file.rewind().expect("rewind");
        let mut back = Vec::new();
        file.read_to_end(&mut back).expect("read");
        assert!(back == piece.repeat(20));
    }
}
