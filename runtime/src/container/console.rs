//! Where the outer side of a process's terminal goes.
//!
//! Responsible for choosing between the caller's socket and the foreground. Must not make
//! terminals. Invariant: a caller that can't get a terminal is told before a process exists.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::process::protocol::Message;
use crate::tty;

/// A destination.
#[derive(Debug)]
pub(super) struct Console {
    socket: Option<OwnedFd>,
    master: Option<OwnedFd>,
}

impl Console {
    /// Decides, and connects to the caller's socket. The errors are those of runc 1.1.
    pub(super) fn new(terminal: bool, socket: Option<&Path>, foreground: bool) -> Result<Self> {
        if terminal && socket.is_none() && !foreground {
            return Err(Error::new(
                "cannot allocate tty if the process is detached without setting console socket",
            ));
        }
        if socket.is_some() && !terminal {
            return Err(Error::new(
                "cannot use console socket if the process does not allocate tty",
            ));
        }
        Ok(Self {
            socket: socket.map(tty::connect).transpose()?,
            master: None,
        })
    }

    /// Takes the outer side in.
    pub(super) fn receive(&mut self, message: Message) -> Result<()> {
        let master = message
            .fd
            .ok_or_else(|| Error::new("receive terminal: there was none"))?;
        match self.socket.take() {
            Some(socket) => {
                let name = String::from_utf8_lossy(&message.body);
                tty::send(socket.as_fd(), &name, master.as_fd())
            }
            None => {
                self.master = Some(master);
                Ok(())
            }
        }
    }

    /// The outer side, for the foreground.
    pub(super) fn into_master(self) -> Option<OwnedFd> {
        self.master
    }
}
