//! Pid 1 of a container.
//!
//! Responsible for holding the namespaces and, by the kernel's rule, for taking in orphans, which
//! are reaped at once. Must not run anything. Invariant: it has no capabilities, no descriptor but
//! the one it waits on, and no dumpable memory, so the payload can neither read nor trace it; it
//! dies with the job.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType};

use super::Network;
use crate::error::{Error, Result, ResultExt};
use crate::identity::{IdMap, Identity, detect, nested_maps};
use crate::rootfs::kernel;
use crate::{caps, sys};

/// The init of a container, from outside. Dropping it kills the container.
pub(super) struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    /// Open as long as the container may live: its end is what the process waits for.
    go: OwnedFd,
    user: Option<OwnedFd>,
    pids: OwnedFd,
}

impl Init {
    /// Starts the process in new namespaces, with the container's ids.
    pub(super) fn start(identity: Identity, ids: IdMap, network: Network) -> Result<Self> {
        let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if network == Network::None {
            flags |= libc::CLONE_NEWNET;
        }
        let nested = identity != Identity::Host;
        if nested {
            flags |= libc::CLONE_NEWUSER;
        }
        let (wait, go) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .op("create socket pair")?;
        let arguments = sys::find_arguments();
        // SAFETY: the child calls only `be_init`, which neither allocates nor locks.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork(u64::from(flags.cast_unsigned())) };
        let (pid, pidfd) = match fork.map_err(|e| detect::explain("create namespaces", e))? {
            sys::Fork::Child => be_init(&wait, &go, arguments),
            sys::Fork::Parent(pid, pidfd) => (pid, pidfd),
        };
        let mut init = Self {
            pids: open_namespace(pid, "pid")?,
            pid,
            pidfd,
            go,
            user: None,
        };
        if nested {
            init.write_maps(ids)?;
            init.user = Some(open_namespace(pid, "user")?);
        }
        Ok(init)
    }

    fn write_maps(&self, ids: IdMap) -> Result<()> {
        let (uids, gids) = nested_maps(ids)?;
        for (file, text) in [("uid_map", uids), ("gid_map", gids)] {
            let path = Path::new("/proc").join(self.pid.to_string()).join(file);
            fs::write(&path, text).op_path("write id map", &path)?;
        }
        Ok(())
    }

    /// Moves the calling thread into the namespaces, except those of users and mounts. Processes
    /// that it forks are in the pid namespace.
    pub(super) fn join(&self, network: Network) -> Result<()> {
        let mut kinds = ThreadNameSpaceType::PROCESS_ID
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
        if network == Network::None {
            kinds |= ThreadNameSpaceType::NETWORK;
        }
        rustix::thread::move_into_thread_name_spaces(self.pidfd.as_fd(), kinds)
            .op("enter namespaces")
    }

    /// Makes a proc for the container, from a thread that has joined it.
    pub(super) fn new_proc(&self) -> Result<rustix::io::Result<OwnedFd>> {
        match kernel::new_proc(self.pids.as_fd()) {
            Err(Errno::INVAL) => new_proc_by_child(),
            other => Ok(other),
        }
    }

    /// Returns the container's user namespace, if it has one of its own.
    pub(super) fn user_namespace(&self) -> Option<&OwnedFd> {
        self.user.as_ref()
    }

    /// Lets the process give up what it needed for being set up, and waits until it has. From now
    /// on nothing may look into it.
    pub(super) fn seal(&self) -> Result<()> {
        rustix::io::write(&self.go, &[1]).op("seal init")?;
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.go, &mut [0])) {
            Ok(1) => Ok(()),
            Ok(_) => Err(Error::new("seal init: it ended early")),
            Err(errno) => Err(errno).op("seal init"),
        }
    }

    /// Lets a listener live as long as the process does. When the kernel closes the job's, calls that
    /// wait for an answer would be said not to exist, and the payload would tell; so they wait until it
    /// is killed.
    pub(super) fn hold(&self, listener: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [listener];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        // It stays in the queue of the socket, which is never read again.
        sendmsg(
            &self.go,
            &[IoSlice::new(&[1])],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
        .op("hand on listener")
    }

    /// The end that must be closed everywhere but in the job for the process to see the job's end.
    pub(super) fn go(&self) -> &OwnedFd {
        &self.go
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Already dead is as good. The kernel kills the rest of the pid namespace with its init,
        // and the wait ends when all of it is gone.
        let _: rustix::io::Result<()> = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

/// Opens a namespace of a process, which must not be sealed yet.
fn open_namespace(pid: Pid, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let file = fs::File::open(&path).op_path("open namespace", path)?;
    Ok(file.into())
}

/// Lets a child, which is in the joined pid namespace, make the proc.
fn new_proc_by_child() -> Result<rustix::io::Result<OwnedFd>> {
    // SAFETY: `new_own_proc` neither allocates nor locks.
    #[expect(unsafe_code, reason = "a clone site")]
    unsafe { sys::open_by_child(kernel::new_own_proc) }.op("create proc")
}

/// The life of the init process.
fn be_init(wait: &OwnedFd, go: &OwnedFd, arguments: Option<sys::Arguments>) -> ! {
    sys::block_signals();
    sys::ignore_children();
    // `/proc/1/cmdline` is for all to read, and the command line is the caller's.
    if let Some(arguments) = arguments {
        // SAFETY: this process uses its arguments no more, nor what was derived from them.
        #[expect(unsafe_code, reason = "part of the clone site")]
        unsafe {
            arguments.wipe();
        }
    }
    if prepare(wait, go).is_ok() {
        // Data, which may come, is left where it is: the queue is where a listener is held.
        while !is_closed(wait) {}
        sys::kill_namespace();
    }
    sys::exit(1)
}

/// Waits until the other end of a socket is closed.
fn is_closed(wait: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(wait, PollFlags::RDHUP)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(errno) => errno != Errno::INTR,
    }
}

fn prepare(wait: &OwnedFd, go: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: this process uses `go` no more; its own copy must not keep the pipe open.
    #[expect(unsafe_code, reason = "part of the clone site")]
    unsafe { sys::close_fd(go) }?;
    // It shares the mount namespace whose root will be changed, and with that its own root is, too, and
    // a working directory that is the root: who may look into it, such as a supervisor on a path
    // through proc, finds the container there.
    rustix::process::chdir(c"/")?;
    // A parent that died before the line above has closed its end.
    if rustix::io::retry_on_intr(|| rustix::io::read(wait, &mut [0]))? != 1 {
        return Err(Errno::PIPE);
    }
    rustix::thread::set_name(c"init")?;
    rustix::thread::set_no_new_privs(true)?;
    caps::set(CapabilitySet::empty())?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let kept = wait.as_raw_fd().cast_unsigned();
    let below = kept.checked_sub(1).map(|last| (0, last));
    for (first, last) in below.into_iter().chain([(kept + 1, u32::MAX)]) {
        // SAFETY: this process uses no descriptor but `wait` and never runs a destructor.
        #[expect(unsafe_code, reason = "part of the clone site")]
        unsafe {
            sys::close_fds(first, last)?;
        }
    }
    // The job's end is seen at the socket, which its payload has closed, too. To be killed would close the
    // listener before the kernel gets to the rest of the container; and the signal alone was seen to be
    // missed by an init whose job is killed together with its own parent (Linux 6.18).
    rustix::process::set_parent_process_death_signal(None)?;
    rustix::io::write(wait, &[1]).map(drop)
}
