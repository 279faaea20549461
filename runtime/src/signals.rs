//! Signals that a job passes on to what runs in its sandbox.
//!
//! Responsible for blocking them in a job process and reading them as descriptors. Must not
//! decide what a signal means; the payload does. Invariant: a job blocks these signals before it
//! starts a thread, so none of them can end it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Result, ResultExt};
use crate::sys::Action;

/// The signals that are forwarded.
pub const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// What a terminal or a service manager sends to end a process group.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// What a process keeps to itself when it forwards all others.
const OWN: [Signal; 11] = [
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

fn forwarded() -> SigSet {
    FORWARDED.into_iter().collect()
}

/// Ignores the signals that end process groups: the main process decides, not the spawner.
pub(crate) fn ignore_ending() -> Result<()> {
    set_ending(Action::Ignore)
}

/// Blocks the forwarded signals, and no others, in this thread and those it starts, so that they
/// wait for [`Forwarder`].
pub(crate) fn hold() -> Result<()> {
    forwarded().thread_set_mask().op("block signals")?;
    // An ignored signal is dropped unless blocked; blocked first, none is lost.
    set_ending(Action::Default)
}

fn set_ending(action: Action) -> Result<()> {
    for signal in ENDING {
        crate::sys::set_action(signal, action).op("set signal action")?;
    }
    Ok(())
}

/// Receives the forwarded signals of this process.
#[derive(Debug)]
pub struct Forwarder {
    fd: SignalFd,
}

impl Forwarder {
    /// Blocks the signals in the calling thread and opens a descriptor for them.
    pub fn new() -> Result<Self> {
        let set = forwarded();
        set.thread_block().op("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).op("open signal descriptor")?;
        Ok(Self { fd })
    }

    /// As [`Forwarder::new`], for all signals that are not about the calling process itself:
    /// those of its children, its faults, its pipes and its job control stay its own.
    pub fn all() -> Result<Self> {
        let mut set = SigSet::all();
        for own in OWN {
            set.remove(own);
        }
        set.thread_block().op("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).op("open signal descriptor")?;
        Ok(Self { fd })
    }

    /// Returns the number of a signal that has arrived, if any.
    pub fn next(&self) -> Option<i32> {
        let info = self.fd.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok()
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
