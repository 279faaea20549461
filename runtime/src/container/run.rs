//! Making a container and executing its program at once.
//!
//! Responsible for what `run` adds to `create` and `start`. Must not leave a container of the
//! foreground behind, unless it is to be kept.

use std::os::fd::AsFd;

use super::create::make;
use super::foreground::{Exit, follow};
use super::hooks::describe;
use super::notify::Notify;
use super::{Container, CreateOptions};
use crate::error::Result;
use crate::process::protocol::Kind;
use crate::process::start::Child;
use crate::signals::Forwarder;
use crate::spec::Spec;
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
    let begun = begin(&container, &child, &made.spec, options);
    drop(made.lock);
    let notify = match begun {
        Ok(notify) => notify,
        Err(error) => {
            drop(child);
            container.discard(&made.spec, warn);
            return Err(error);
        }
    };
    child.release();
    let Some(signals) = signals else {
        let waited = notify.map(|n| n.wait(child.pidfd.as_fd(), child.pid.as_raw_pid()));
        if let Some(Err(error)) = waited {
            warn(describe(&error));
        }
        return Ok(None);
    };
    let master = made.console.into_master();
    let exit = follow(&child.pidfd, &signals, master, notify.as_ref());
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

/// Executes the program. Returns the socket where it says that it is ready, if there is one.
fn begin(
    container: &Container<'_>,
    child: &Child,
    spec: &Spec,
    options: &CreateOptions,
) -> Result<Option<Notify>> {
    let manager = options.notify_socket.as_deref();
    let notify = manager.map(|manager| Notify::listen(&container.dir, manager));
    let notify = notify.transpose()?.flatten();
    container.dir.begin_start()?;
    child.channel.send(Kind::Execute, &[])?;
    child.executed()?;
    container.after_start(spec)?;
    Ok(notify)
}
