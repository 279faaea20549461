//! Standard input that can be given up.
//!
//! Responsible for reading it such that a raised flag ends a read that waits for more: a context
//! or a password may never come. Must not know what is read. Invariant: a read waits for standard
//! input and the flag together, so that one Ctrl-C is enough.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use crate::cancel::{Cancel, Registration};
use crate::error::{Result, ResultExt};

/// Standard input, without a buffer.
#[derive(Debug)]
pub(super) struct Input<T = io::Stdin> {
    source: T,
    wake: PipeReader,
    _hook: Registration,
}

impl Input {
    /// Takes standard input, until `cancel` is raised.
    pub(super) fn standard(cancel: &Cancel) -> Result<Self> {
        Self::new(io::stdin(), cancel)
    }
}

impl<T: AsFd> Input<T> {
    fn new(source: T, cancel: &Cancel) -> Result<Self> {
        let (wake, raise) = io::pipe().op("create pipe")?;
        let hook = cancel.on_raise(move || {
            // The reader may be gone; then nobody waits.
            drop((&raise).write_all(&[0]));
        });
        Ok(Self {
            source,
            wake,
            _hook: hook,
        })
    }
}

impl<T: AsFd> Read for Input<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [
                PollFd::new(&self.wake, PollFlags::IN),
                PollFd::new(&self.source, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if !fds[0].revents().is_empty() {
                // Not `ErrorKind::Interrupted`, after which callers read again.
                return Err(io::Error::other("interrupted"));
            }
            match rustix::io::read(&self.source, &mut *buffer) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cause;

    #[test]
    fn a_raised_flag_ends_a_read() {
        let (source, mut data) = io::pipe().expect("pipe");
        let cancel = Cancel::new();
        let mut input = Input::new(source, &cancel).expect("input");
        data.write_all(b"ab").expect("write");
        let mut buffer = [0; 8];
        assert_eq!(input.read(&mut buffer).expect("read"), 2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| input.read(&mut buffer));
            cancel.raise(Cause::Signal(2));
            let error = waiting.join().expect("joined").expect_err("given up");
            assert_ne!(error.kind(), io::ErrorKind::Interrupted);
        });
    }

    #[test]
    fn the_end_is_the_end() {
        let (source, data) = io::pipe().expect("pipe");
        drop(data);
        let mut input = Input::new(source, &Cancel::new()).expect("input");
        assert_eq!(input.read(&mut [0; 8]).expect("read"), 0);
    }
}
