//! A terminal for a program's standard error.
//!
//! Responsible for the pair of pseudo-terminals, its size and its settings. Must not interpret what is
//! written to it.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// A pair of pseudo-terminals.
#[derive(Debug)]
pub struct Terminal {
    controller: OwnedFd,
    /// Until a program has it: what is left of a program's output ends with its last holder.
    user: Option<OwnedFd>,
}

impl Terminal {
    /// Makes one of this size, which passes line ends on as they are.
    ///
    /// # Panics
    /// When the system has none left.
    pub fn open(columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).expect("open a pseudo-terminal");
        grantpt(&controller).expect("prepare a pseudo-terminal");
        unlockpt(&controller).expect("unlock a pseudo-terminal");
        let name = ptsname(&controller, Vec::new()).expect("name a pseudo-terminal");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let user = rustix::fs::open(name, flags, Mode::empty()).expect("open a pseudo-terminal");
        let mut settings = tcgetattr(&user).expect("read settings");
        settings.output_modes -= OutputModes::OPOST;
        tcsetattr(&user, OptionalActions::Now, &settings).expect("change settings");
        let terminal = Self {
            controller,
            user: Some(user),
        };
        terminal.resize(columns, rows);
        terminal
    }

    /// Changes its size.
    ///
    /// # Panics
    /// When that is refused.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.controller, size).expect("change the size");
    }

    /// Returns its settings, such as echo, in a form that can be compared.
    ///
    /// # Panics
    /// When they can't be read.
    pub fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.controller).expect("read settings"))
    }

    /// Takes what a program writes to.
    pub(crate) fn user(&mut self) -> File {
        self.user.take().expect("one program for each").into()
    }

    /// Returns what is read to see it; the end comes with an error.
    pub(crate) fn seen(&self) -> File {
        self.controller
            .try_clone()
            .expect("copy a descriptor")
            .into()
    }
}
