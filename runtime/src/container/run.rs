//! Making a container and executing its program at once.
//!
//! Responsible for what `run` adds to `create` and `start`. Must not leave a container of the
//! foreground behind, unless it is to be kept.

use std::os::fd::AsFd;

use super::CreateOptions;
use super::create::make;
use super::foreground::{Exit, follow};
use crate::error::Result;
use crate::process::protocol::Kind;
use crate::signals::Forwarder;
use crate::state::Root;

/// What `run` does when the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Returns.
    Detached,
    /// Waits for its end, then deletes the container.
    Foreground,
    /// Waits for its end, and keeps the container for `delete`.
    Kept,
}

/// Makes a container and executes its program. Returns how it ended, unless detached.
///
/// # Errors
/// As `create` and `start`. Nothing is left then.
pub fn run(
    root: &Root,
    options: &CreateOptions,
    mode: Mode,
    warn: &mut dyn FnMut(String),
) -> Result<Option<Exit>> {
    let foreground = mode != Mode::Detached;
    let signals = foreground.then(Forwarder::all).transpose()?;
    let made = make(root, options, foreground, warn)?;
    let (container, mut child) = (made.container, made.child);
    let begun = container
        .dir
        .begin_start()
        .and_then(|()| child.channel.send(Kind::Execute, &[]))
        .and_then(|()| child.executed())
        .and_then(|()| container.after_start(&made.spec));
    drop(made.lock);
    if let Err(error) = begun {
        drop(child);
        container.discard(&made.spec, warn);
        return Err(error);
    }
    child.release();
    let Some(signals) = signals else {
        return Ok(None);
    };
    let exit = follow(&child.pidfd, &signals, made.console.into_master());
    if mode == Mode::Foreground {
        // A process that could not be followed is ended with the container.
        if exit.is_err() {
            let _: rustix::io::Result<()> =
                crate::sys::pidfd_signal(child.pidfd.as_fd(), libc::SIGKILL);
        }
        container.delete(true, warn)?;
    }
    exit.map(Some)
}
