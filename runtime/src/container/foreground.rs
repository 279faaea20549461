//! A process in the foreground: its signals, its terminal, its end.
//!
//! Responsible for being, to the caller, as if it were the process itself. Must not reap anything
//! else: an ancestor, or the caller, may be a subreaper. Invariant: signals are caught before the
//! process exists, so that none is lost.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::notify::Notify;
use crate::error::{Error, Result, ResultExt};
use crate::signals::Forwarder;
use crate::{sys, tty};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2).
    Code(u8),
    /// By a signal, with its number.
    Signal(i32),
}

impl Exit {
    /// The status as a shell shows it: 128 + signal number.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// Stays until a process ends, passing signals, what a terminal shows and that it is ready.
pub(super) fn follow(
    pidfd: &OwnedFd,
    signals: &Forwarder,
    master: Option<OwnedFd>,
    notify: Option<&Notify>,
) -> Result<Exit> {
    let mut forward = |signal| {
        // A process that has just ended needs no signal.
        let _: rustix::io::Result<()> = sys::pidfd_signal(pidfd.as_fd(), signal);
    };
    let pass = || {
        if let Some(notify) = notify {
            notify.pass();
        }
    };
    match master {
        Some(master) => {
            let own = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).op("duplicate stream");
            let (input, output) = (own(rustix::stdio::stdin())?, own(rustix::stdio::stdout())?);
            tty::Relay::new(master, input, output)?.run(
                pidfd,
                signals,
                &mut forward,
                notify.map(|n| (n.as_fd(), &pass as &dyn Fn())),
            )?;
        }
        None => loop {
            let mut fds = vec![
                PollFd::new(pidfd, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            fds.extend(notify.map(|notify| PollFd::new(notify, PollFlags::IN)));
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))
                .op("wait for process")?;
            let ended = !fds[0].revents().is_empty();
            while let Some(signal) = signals.next() {
                forward(signal);
            }
            pass();
            if ended {
                break;
            }
        },
    }
    // What the process said last.
    pass();
    let status =
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    let status = status.op("wait for process")?;
    status
        .as_ref()
        .and_then(exit_of)
        .ok_or_else(|| Error::new("wait for process: unknown status"))
}

fn exit_of(status: &WaitIdStatus) -> Option<Exit> {
    if let Some(signal) = status.terminating_signal() {
        return Some(Exit::Signal(signal));
    }
    let code = u8::try_from(status.exit_status()? & 0xff).ok()?;
    Some(Exit::Code(code))
}
