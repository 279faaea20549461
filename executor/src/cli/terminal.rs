//! A terminal of its own for `sandcrab run -t`, connected to the caller's.
//!
//! Responsible for the pair of pseudo-terminals, the raw mode of the caller's terminal, and the
//! bytes between them. Must not hand the caller's own terminal to a container, which could push
//! input into it. Invariant: the caller's terminal has its old mode back when this is dropped.

use std::io::{Stdin, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::error::{Error, Result, ResultExt};

/// How often the window's size is compared, in nanoseconds: a tenth of a second.
const TICK: i64 = 100_000_000;

/// The caller's terminal in raw mode, and the controlling side of the container's.
#[derive(Debug)]
pub(super) struct Terminal {
    caller: Stdin,
    before: Termios,
    controller: OwnedFd,
    size: Winsize,
}

impl Terminal {
    /// Makes a pair and returns it with the container's side.
    ///
    /// # Errors
    /// When stdin is no terminal.
    pub(super) fn open() -> Result<(Self, OwnedFd)> {
        let caller = std::io::stdin();
        let before = tcgetattr(&caller).map_err(|e| {
            Error::new("stdin is not a terminal")
                .source(e)
                .hint("leave out `-t`, or start it from a terminal")
        })?;
        let size = tcgetwinsize(&caller).op("read window size")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).op("open pseudo-terminal")?;
        grantpt(&controller).op("prepare pseudo-terminal")?;
        unlockpt(&controller).op("unlock pseudo-terminal")?;
        let name = ptsname(&controller, Vec::new()).op("name pseudo-terminal")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let container = rustix::fs::open(name, flags, Mode::empty()).op("open pseudo-terminal")?;
        tcsetwinsize(&controller, size).op("set window size")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&caller, OptionalActions::Now, &raw).op("set raw mode")?;
        let terminal = Self {
            caller,
            before,
            controller,
            size,
        };
        Ok((terminal, container))
    }

    /// Carries bytes both ways until the container's side is closed by all its users.
    pub(super) fn carry(&mut self) {
        let mut buffer = [0; 1 << 14];
        let mut input_open = true;
        loop {
            self.follow_size();
            let (input, output) = {
                let mut fds = [
                    PollFd::new(&self.controller, PollFlags::IN),
                    PollFd::new(&self.caller, PollFlags::IN),
                ];
                let count = if input_open { 2 } else { 1 };
                let tick = Timespec {
                    tv_sec: 0,
                    tv_nsec: TICK,
                };
                match poll(&mut fds[..count], Some(&tick)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return,
                }
                (
                    input_open && !fds[1].revents().is_empty(),
                    !fds[0].revents().is_empty(),
                )
            };
            if output {
                match rustix::io::read(&self.controller, &mut buffer) {
                    Err(Errno::INTR) => {}
                    // EIO is how Linux says that the other side is closed.
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        let mut out = std::io::stdout().lock();
                        if out
                            .write_all(&buffer[..n])
                            .and_then(|()| out.flush())
                            .is_err()
                        {
                            return;
                        }
                    }
                }
            }
            if input {
                match rustix::io::read(&self.caller, &mut buffer) {
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => input_open = false,
                    Ok(n) => {
                        if write_all(&self.controller, &buffer[..n]).is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn follow_size(&mut self) {
        if let Ok(now) = tcgetwinsize(&self.caller)
            && (now.ws_row, now.ws_col) != (self.size.ws_row, self.size.ws_col)
            && tcsetwinsize(&self.controller, now).is_ok()
        {
            self.size = now;
        }
    }
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(&self.caller, OptionalActions::Now, &self.before);
    }
}
