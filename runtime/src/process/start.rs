//! Starting a process of a container, from outside.
//!
//! Responsible for the clone, for the stage that joins namespaces before it, and for the end of a
//! process that is given up. Must not know what the process does. Invariant: until
//! [`Child::release`] the process dies with its [`Child`]; it is always a child of the calling
//! process, whatever it went through, so that nobody else can reap it.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, waitid,
};

use super::protocol::{Channel, Kind, Message, failure};
use crate::error::{Error, Result, ResultExt};
use crate::{identity, sys};

/// A process of a container, being set up.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
    released: bool,
}

/// What the stage does, before the process is made that speaks through the channel.
pub(crate) type Join<'a> = dyn Fn(&Channel) -> Result<()> + 'a;

/// How to come into the namespaces.
pub(crate) struct Way<'a> {
    /// Joins those that exist, in the stage; none needs no stage.
    pub(crate) join: Option<&'a Join<'a>>,
    /// `CLONE_NEW*` flags of those that are new.
    pub(crate) new: u64,
    /// Control group of version 2 to begin in; the stage, too, as what is joined may not see it.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Starts a process that runs `body`, which returns only if the program could not be executed.
pub(crate) fn start(
    way: &Way<'_>,
    body: &mut dyn FnMut(&Channel) -> Result<Infallible>,
) -> Result<Child> {
    let (ours, theirs) = Channel::pair()?;
    let Some(join) = way.join else {
        // SAFETY: `sandcrab-oci` is single-threaded, and the child ends by exec or `exit`.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork_into(way.new, way.cgroup) };
        return match explain(fork, way.new)? {
            sys::Fork::Child => {
                drop(ours);
                become_process(&theirs, body)
            }
            sys::Fork::Parent(pid, pidfd) => Ok(Child {
                pid,
                pidfd,
                channel: ours,
                released: false,
            }),
        };
    };
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "a clone site")]
    let fork = unsafe { sys::fork_into(0, way.cgroup) };
    match fork.op("fork stage")? {
        sys::Fork::Child => {
            drop(ours);
            be_stage(way, join, &theirs, body)
        }
        sys::Fork::Parent(_, stage) => {
            drop(theirs);
            let message = ours.receive();
            wait(&stage)?;
            let pid = match message? {
                Some(Message {
                    kind: Kind::Pid,
                    body,
                    ..
                }) => body.try_into().ok().map(i32::from_ne_bytes),
                Some(message) if message.kind == Kind::Failed => {
                    return Err(failure(&message.body));
                }
                _ => None,
            };
            let pid = pid
                .and_then(Pid::from_raw)
                .ok_or_else(|| Error::new("join namespaces: the process was killed"))?;
            // Our own child can't be reaped by anyone else, so the number still means it.
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                .op("open process descriptor")?;
            Ok(Child {
                pid,
                pidfd,
                channel: ours,
                released: false,
            })
        }
    }
}

/// Joins, then makes the process as a sibling, which has the caller as its parent.
fn be_stage(
    way: &Way<'_>,
    join: &Join<'_>,
    channel: &Channel,
    body: &mut dyn FnMut(&Channel) -> Result<Infallible>,
) -> ! {
    let made = join(channel).and_then(|()| {
        let flags = way.new | libc::CLONE_PARENT as u64;
        // SAFETY: the stage is single-threaded, and the child ends by exec or `exit`.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork(flags) };
        match explain(fork, way.new)? {
            sys::Fork::Child => become_process(channel, body),
            sys::Fork::Parent(pid, _) => {
                let number = pid.as_raw_pid().to_ne_bytes();
                channel.send(Kind::Pid, &number)
            }
        }
    });
    if let Err(error) = made {
        channel.fail(&error);
    }
    sys::exit(0)
}

fn become_process(channel: &Channel, body: &mut dyn FnMut(&Channel) -> Result<Infallible>) -> ! {
    match body(channel) {
        Ok(never) => match never {},
        Err(error) => channel.fail(&error),
    }
    sys::exit(1)
}

fn explain(fork: rustix::io::Result<sys::Fork>, flags: u64) -> Result<sys::Fork> {
    const OP: &str = "create namespaces";
    fork.map_err(|errno| {
        if flags & libc::CLONE_NEWUSER as u64 != 0 {
            return identity::detect::explain(OP, errno);
        }
        let error = Error::new(OP).cause(errno);
        if errno == rustix::io::Errno::PERM && !rustix::process::geteuid().is_root() {
            return error.hint("without root a container needs a user namespace; `sandcrab-oci spec --rootless` writes such a configuration");
        }
        error
    })
}

fn wait(pidfd: &OwnedFd) -> Result<Option<WaitIdStatus>> {
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))
        .op("wait for process")
}

impl Child {
    /// Waits for what the process says next. A failure, and its silent end, are errors.
    pub(crate) fn next(&self) -> Result<Message> {
        match self.channel.receive()? {
            Some(message) if message.kind == Kind::Failed => Err(failure(&message.body)),
            Some(message) => Ok(message),
            None => Err(self.vanished()),
        }
    }

    /// Waits for the program's execution, after which the process's end of the channel is closed.
    pub(crate) fn executed(&self) -> Result<()> {
        match self.channel.receive()? {
            None => Ok(()),
            Some(message) if message.kind == Kind::Failed => Err(failure(&message.body)),
            Some(_) => Err(Error::new("execute program: unexpected message")),
        }
    }

    fn vanished(&self) -> Error {
        let error = Error::new("set up container: its process ended unexpectedly");
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options));
        match status.ok().flatten().and_then(|s| s.terminating_signal()) {
            Some(libc::SIGKILL) => {
                error.cause("it was killed, perhaps for lack of memory".to_owned())
            }
            Some(signal) => error.cause(format!("it was killed by signal {signal}")),
            None => error,
        }
    }

    /// Lets the process live on by itself.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // Already dead is as good.
        let _: rustix::io::Result<()> = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        drop(wait(&self.pidfd));
    }
}

/// Keeps other processes from looking into this one, prctl(2) `PR_SET_DUMPABLE`.
pub(crate) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).op("hide process")
}
