//! A process that is added to a container.
//!
//! Responsible for coming into the container's namespaces and root. Must not change anything in
//! it. Invariant: before it can be seen from inside it is closed to being looked into, and it has
//! nothing open that the container could take over (CVE-2016-9962 of runc).

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::ThreadNameSpaceType;

use super::init::{become_root, die_with_parent};
use super::protocol::{Channel, Kind};
use super::start::hide;
use super::task::Task;
use crate::error::{Result, ResultExt};
use crate::namespaces;
use crate::procfs::Proc;
use crate::spec::User;
use crate::{sys, tty};

/// The container, as the process needs it.
#[derive(Debug)]
pub(crate) struct Place {
    init: OwnedFd,
    kinds: ThreadNameSpaceType,
    /// The root of the first process, where the container has no mount namespace.
    root: Option<OwnedFd>,
}

impl Place {
    /// Looks at a container by its first process: its number and descriptor.
    pub(crate) fn find(pid: i32, init: OwnedFd) -> Result<Self> {
        let kinds = namespaces::of_process(pid)?;
        let root = if kinds.contains(ThreadNameSpaceType::MOUNT) {
            None
        } else {
            let path = format!("/proc/{pid}/root");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(&path, flags, Mode::empty());
            Some(root.op_path("open root of container", path)?)
        };
        // Should the process be gone, the number may have been another one's by now, such as one
        // of the host's. Signal 0 asks whether it is there; a zombie is, and keeps its number.
        if sys::pidfd_signal(init.as_fd(), 0) == Err(Errno::SRCH) {
            return Err(Errno::SRCH).op("look at process of container");
        }
        Ok(Self { init, kinds, root })
    }

    /// Joins, all at once: what is in a user namespace may be joined with the capabilities that
    /// joining it gives (setns(2), Linux 5.8). What the process does not need is closed before it
    /// can be seen from inside: a container with `CAP_SYS_PTRACE` and no user namespace of its own
    /// looks into what is hidden, too, and a directory of the host's is a way out.
    pub(crate) fn join(&self, task: &Task<'_>, kept: &Kept<'_>, channel: &Channel) -> Result<()> {
        hide()?;
        if !self.kinds.is_empty() {
            rustix::thread::move_into_thread_name_spaces(self.init.as_fd(), self.kinds)
                .op("join namespaces")?;
        }
        // Where one can be made here, the process can make one for itself.
        let proc = match self.own_proc() {
            Some(_) => None,
            None => Some(kept.proc.as_fd().as_raw_fd()),
        };
        let root = self.root.as_ref().map(AsRawFd::as_raw_fd);
        let files = kept.files.iter().map(AsRawFd::as_raw_fd);
        let keep: Vec<RawFd> = root.into_iter().chain(proc).chain(files).collect();
        task.close_others(channel, &keep)
    }

    /// Makes a proc that shows no more than the container's. From within a user namespace of the
    /// container's own nobody looks into the process, so that the outer one will do.
    fn own_proc(&self) -> Option<Proc> {
        if self.kinds.contains(ThreadNameSpaceType::USER) {
            return None;
        }
        Proc::new_own().ok()
    }
}

/// What stays open for the process, as far as it needs it.
pub(crate) struct Kept<'a> {
    pub(crate) proc: &'a Proc,
    /// Of control groups.
    pub(crate) files: &'a [OwnedFd],
}

/// Is the process.
pub(crate) fn run(
    place: &Place,
    task: &Task<'_>,
    user: &User,
    proc: &Proc,
    channel: &Channel,
) -> Result<Infallible> {
    die_with_parent()?;
    task.run_first_on()?;
    channel.expect(Kind::Go)?;
    task.run_then_on()?;
    if place.kinds.contains(ThreadNameSpaceType::USER) {
        become_root(user)?;
        // The change of ids has set this to `fs.suid_dumpable`, proc_sys_fs(5).
        hide()?;
        // The change of ids has taken this away, prctl(2).
        die_with_parent()?;
    }
    rustix::process::setsid().op("start session")?;
    if let Some(root) = &place.root {
        rustix::process::fchdir(root).op("enter root")?;
        rustix::process::chroot(".").op("enter root")?;
    }
    task.take_terminal(&tty::own_root()?, channel)?;
    // Closed with all others, by number.
    let own = ManuallyDrop::new(place.own_proc());
    task.run(own.as_ref().unwrap_or(proc), channel, &[], &mut || {
        // Whoever started the process may end while it runs.
        rustix::process::set_parent_process_death_signal(None).op("outlive parent")
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    /// A container's process that ends while `exec` looks at it leaves its number to others.
    #[test]
    fn another_process_with_the_number_is_not_the_container() {
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.expect("start sleep");
        let pidfd = || pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("open");
        let (before, after) = (pidfd(), pidfd());
        let own = rustix::process::getpid().as_raw_pid();
        Place::find(own, before).expect("it is there");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(
            Place::find(own, after).expect_err("it is gone").errno(),
            Some(libc::ESRCH)
        );
    }
}
