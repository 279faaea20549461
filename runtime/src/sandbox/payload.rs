//! From fork to exec: the process that becomes the payload.
//!
//! Responsible for what only a RUN step's process does: it enters the container's user namespace
//! and connects its streams; the rest is [`crate::process::payload`]'s. Must not allocate, lock or
//! read anything but what was prepared. Invariant: after the program is executed, nothing of the
//! job remains but standard streams.

use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::enter_legacy;
use crate::process::payload::{Payload, Refusal, Stage, Step, at};
use crate::process::program::Program;
use crate::rlimits::Rlimits;
use crate::sys;

/// All that the child needs.
pub(super) struct Prepared<'a> {
    pub(super) user_namespace: Option<&'a OwnedFd>,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) terminal: bool,
    pub(super) payload: Payload<'a>,
    pub(super) program: Program<'a>,
    pub(super) rlimits: &'a Rlimits,
    /// Files by which it enters groups of version 1.
    pub(super) groups: &'a [OwnedFd],
    pub(super) report: &'a OwnedFd,
    /// The job's alone from now on: its last copy tells init that the job is gone.
    pub(super) go: &'a OwnedFd,
}

/// Becomes the payload. Returns only by ending the process.
pub(super) fn run(p: &Prepared<'_>) -> ! {
    let refusal = match become_payload(p) {
        Ok(()) => Refusal {
            stage: Stage::Execute,
            errno: p.program.execute(),
        },
        Err(refusal) => refusal,
    };
    // The reader sees either five bytes or an end that it reports as such.
    let _: rustix::io::Result<_> = rustix::io::write(p.report, &refusal.to_bytes());
    sys::exit(125)
}

fn become_payload(p: &Prepared<'_>) -> Step<()> {
    // SAFETY: this side of the fork uses it no more and never runs a destructor.
    #[expect(unsafe_code, reason = "part of the clone site")]
    unsafe { sys::close_fd(p.go) }.map_err(at(Stage::Descriptors))?;
    enter_legacy(p.groups).map_err(at(Stage::Group))?;
    if let Some(user) = p.user_namespace {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(at(Stage::UserNamespace))?;
        // A copy that another user namespace owns: the kernel locks what is in it.
        sys::unshare(libc::CLONE_NEWNS).map_err(at(Stage::MountNamespace))?;
    }
    // Its root is the group that this process is in by now. Into a group outside of such a namespace
    // nobody in it could be moved (cgroups(7), "nsdelegate").
    sys::unshare(libc::CLONE_NEWCGROUP).map_err(at(Stage::GroupNamespace))?;
    rustix::process::setsid().map_err(at(Stage::Session))?;
    for (number, fd) in (0..).zip(&p.stdio) {
        sys::dup_onto(fd.as_fd(), number, false).map_err(at(Stage::Streams))?;
    }
    if p.terminal {
        rustix::process::ioctl_tiocsctty(&p.stdio[0]).map_err(at(Stage::Terminal))?;
    }
    p.rlimits.apply().map_err(at(Stage::Limits))?;
    p.payload.assume()
}
