//! Waiting for a payload: for its start, its end, and meanwhile for what it asks a supervisor.
//!
//! Responsible for hearing all of these at once. Must not set anything up. Invariant: while the
//! container lives and is supervised, nothing here waits for only one of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::Exit;
use crate::error::{Error, Result, ResultExt};
use crate::process::payload::{Refusal, Report};
use crate::signals::Forwarder;
use crate::supervisor::{Finished, Start, Supervisor};
use crate::sys;

/// The one who waits.
pub(super) struct Attendance {
    report: OwnedFd,
    supervisor: Option<Supervisor>,
}

impl Attendance {
    /// For a payload whose calls the kernel answers.
    pub(super) fn unsupervised(report: OwnedFd) -> Self {
        Self {
            report,
            supervisor: None,
        }
    }

    /// For a payload whose filter forwards calls: takes the listener and starts the supervisor.
    pub(super) fn supervised(
        report: OwnedFd,
        payload: BorrowedFd<'_>,
        start: impl FnOnce(OwnedFd) -> Result<Start>,
    ) -> Result<Self> {
        let mut attendance = Self::unsupervised(report);
        match attendance.read_report()? {
            Some(Report::Listener(number)) => {
                let listener = sys::notify::take_fd(payload, number).op("take listener")?;
                // The payload has a copy of this thread's mount namespace. Handles of the one are of
                // other mounts than those of the other, between which nothing can be linked.
                move_into_thread_name_spaces(payload, ThreadNameSpaceType::MOUNT)
                    .op("enter payload's mount namespace")?;
                attendance.supervisor = Some(Supervisor::new(start(listener)?)?);
                Ok(attendance)
            }
            Some(Report::Refusal(refusal)) => Err(Error::new(refusal.operation())
                .cause(refusal.errno)
                .hint("an emulated identity needs a seccomp filter that notifies, of which a process can have only one: not inside of another such sandbox")),
            None => Err(Error::new("start payload: it ended early")),
        }
    }

    /// Waits until the program is executed; returns what was refused instead.
    pub(super) fn until_executed(&mut self) -> Result<Option<Refusal>> {
        loop {
            if self.supervisor.is_some() {
                let report = self.report.try_clone().op("duplicate pipe")?;
                self.serve(&[report.as_fd()])?;
            }
            match self.read_report()? {
                None => return Ok(None),
                Some(Report::Refusal(refusal)) => return Ok(Some(refusal)),
                Some(Report::Listener(_)) => {}
            }
        }
    }

    /// Waits for the payload's end, passing signals on.
    pub(super) fn until_ended(&mut self, payload: &OwnedFd, forwarder: &Forwarder) -> Result<Exit> {
        loop {
            self.serve(&[payload.as_fd(), forwarder.as_fd()])?;
            while let Some(signal) = forwarder.next() {
                // A payload that has just ended needs no signal.
                let _: rustix::io::Result<()> = sys::pidfd_signal(payload.as_fd(), signal);
            }
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let status = rustix::process::waitid(WaitId::PidFd(payload.as_fd()), options)
                .op("wait for payload")?;
            if let Some(status) = status {
                return exit_of(&status);
            }
        }
    }

    /// Ends, when no process of the container is left; returns what the supervisor leaves.
    pub(super) fn finish(self) -> Result<Finished> {
        match self.supervisor {
            None => Ok(Finished::default()),
            Some(supervisor) => supervisor.finish(),
        }
    }

    /// Answers calls until one of `others` is readable.
    fn serve(&mut self, others: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            let (is_called, is_over) = self.poll(others)?;
            if is_called && let Some(supervisor) = &mut self.supervisor {
                supervisor.attend()?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Waits; tells whether there is a call, and whether one of `others` is readable.
    fn poll(&self, others: &[BorrowedFd<'_>]) -> Result<(bool, bool)> {
        let listener = self.supervisor.as_ref().map(Supervisor::listener);
        let mut fds: Vec<PollFd<'_>> = others
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        if let Some(listener) = listener {
            fds.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)).op("wait for payload")?;
        let (others, listener) = fds.split_at(others.len());
        let is_called = listener
            .iter()
            .any(|fd| fd.revents().contains(PollFlags::IN));
        let is_over = others.iter().any(|fd| !fd.revents().is_empty());
        Ok((is_called, is_over))
    }

    fn read_report(&self) -> Result<Option<Report>> {
        let mut bytes = [0; 5];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.report, &mut bytes))
            .op("read payload's report")?;
        Report::parse(&bytes[..count])
    }
}

fn exit_of(status: &WaitIdStatus) -> Result<Exit> {
    if let Some(signal) = status.terminating_signal() {
        return Ok(Exit::Signal(signal));
    }
    status
        .exit_status()
        .and_then(|code| u8::try_from(code & 0xff).ok())
        .map(Exit::Code)
        .ok_or_else(|| Error::new("wait for payload: unknown status"))
}
