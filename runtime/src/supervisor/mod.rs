//! The supervisor of a container that has one id and shall seem to have all.
//!
//! A filter forwards calls whose answers depend on who owns what (seccomp_unotify(2)); here they
//! are answered as the kernel would if the recorded owners and the emulated credentials were real.
//! Responsible for the loop, and for what all families of calls share. Must not know what is built.
//!
//! Invariants: it stands in the container's mount namespace and root, and holds only rights that
//! the container's own user has, so that no answer gives a step what it could not do to its own
//! files. To let the kernel go on is never a decision about security: arguments may change after
//! they were looked at, and then a step deceives nobody but itself. What is not understood is left
//! to the kernel; a record that can't be read fails the step.

mod attributes;
mod call;
mod capabilities;
mod create;
mod credentials;
mod dispatch;
mod exec;
mod ids;
mod inode;
mod magic;
mod open;
mod owner;
mod paths;
mod peek;
mod peers;
mod proc;
mod processes;
mod remove;
mod rights;
mod signals;
mod sockets;
mod status;
mod wake;
mod xattrs;

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use crate::error::{Error, Result, ResultExt};
use crate::identity::{Owner, Specials};
use crate::seccomp::{self, Filter};
use crate::sys::notify::{self, Notification, Reply};

use call::{Answer, Call, Caller, Outcome, Stop};
pub(crate) use credentials::Credentials;
use credentials::{INITIAL, Table};
use rights::Rights;
use wake::Wake;

/// A process' soft limit on real-time processing is this and the number of its credentials. It
/// limits nothing: it is more than a hundred thousand years, in microseconds.
const LIMIT_BASE: u64 = 1 << 62;

/// How many notes one container may leave.
const MAX_NOTES: usize = 16;

/// Returns the filter that forwards.
pub(crate) fn filter() -> Result<&'static Filter> {
    seccomp::forwarding_filter(dispatch::FORWARDED)
}

/// Returns what the filter forwards.
#[cfg(test)]
pub(crate) fn forwarded() -> seccomp::Forwarded {
    dispatch::FORWARDED
}

/// What a supervisor starts with.
#[derive(Debug)]
pub(crate) struct Start {
    /// The listener of [`filter`].
    pub(crate) listener: OwnedFd,
    /// A proc of this process' pid namespace, from outside of the container.
    pub(crate) proc: OwnedFd,
    /// The container's first process.
    pub(crate) first: Pid,
    /// Its credentials.
    pub(crate) credentials: Credentials,
    /// Owners of what can't carry a record.
    pub(crate) specials: Specials,
    /// Whether the container's files may hold placeholders of devices.
    pub(crate) devices: bool,
    /// Whether an emulator executes the programs of this processor's 32-bit mode.
    pub(crate) emulates_native: bool,
}

/// What a supervisor leaves.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Owners of what can't carry a record.
    pub(crate) specials: Specials,
    /// What people should know, each once.
    pub(crate) notes: Vec<String>,
    /// Whether the container's files may hold placeholders of devices.
    pub(crate) devices: bool,
}

/// The supervisor of one container.
#[derive(Debug)]
pub(crate) struct Supervisor {
    listener: OwnedFd,
    wake: Wake,
    state: State,
    _rights: Rights,
}

/// What answers depend on.
#[derive(Debug)]
struct State {
    /// The container's root.
    root: OwnedFd,
    /// The root's device and inode numbers.
    root_id: (u64, u64),
    /// Device number of the container's proc.
    proc_device: Option<u64>,
    /// Device numbers of what is in no directory: pipes, sockets, memory files and the like.
    nameless: Vec<u64>,
    /// Device number of the container's terminals.
    terminals: Option<u64>,
    /// The file system ids of whoever asks at the moment.
    asking: Cell<Owner>,
    table: Table,
    specials: Specials,
    /// How many of their inodes are kept in memory.
    pinned: usize,
    /// Whether there may be placeholders of devices.
    devices: bool,
    /// Whether an emulator executes the programs of this processor's 32-bit mode.
    emulates_native: bool,
    /// Until the first execve(2), which ends this, the process is the runtime's own: its changes of
    /// ids, groups and capabilities are real ones, and the kernel's to make.
    preparing: bool,
    /// Whether some process has called chroot(2), so that roots differ.
    chrooted: bool,
    /// Sockets that are being bound, whose owners will be recorded.
    bound: Vec<sockets::Bound>,
    /// Executions whose success is not known yet.
    executions: Vec<exec::Execution>,
    /// Who is at the other ends of sockets.
    peers: peers::Peers,
    protected: Protected,
    /// This thread's umask.
    umask: Option<u32>,
    notes: Vec<String>,
    broken: Option<String>,
}

impl Supervisor {
    /// Starts, in a thread that stands in the container's root and has a working directory of its
    /// own, which becomes `start.proc`.
    pub(crate) fn new(start: Start) -> Result<Self> {
        rustix::process::fchdir(&start.proc).op("enter proc")?;
        let root =
            rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).op("open root")?;
        let stat = rustix::fs::fstat(&root).op("read status of root")?;
        mark(start.first)?;
        Ok(Self {
            _rights: Rights::reduce()?,
            wake: Wake::new(start.listener.as_fd()),
            listener: start.listener,
            state: State {
                root,
                root_id: (stat.st_dev, stat.st_ino),
                proc_device: rustix::fs::stat("/proc").ok().map(|s| s.st_dev),
                nameless: nameless().op("make a pipe")?,
                terminals: rustix::fs::stat("/dev/pts").ok().map(|s| s.st_dev),
                asking: Cell::new(Owner::ROOT),
                table: Table::new(start.credentials),
                specials: start.specials,
                pinned: 0,
                devices: start.devices,
                emulates_native: start.emulates_native,
                preparing: true,
                chrooted: false,
                bound: Vec::new(),
                executions: Vec::new(),
                peers: peers::Peers::new(),
                protected: Protected::read(),
                umask: None,
                notes: Vec::new(),
                broken: None,
            },
        })
    }

    /// Returns what becomes readable when a call is there, and hangs up when nobody is left who
    /// could make one.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers a call, waiting for one.
    pub(crate) fn attend(&mut self) -> Result<()> {
        let listener = self.listener.as_fd();
        match notify::receive(listener) {
            Ok(got) => {
                self.wake.note(listener, got.tid);
                self.state.answer(listener, &got);
                Ok(())
            }
            // The caller was killed before it was heard.
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN | Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::new("receive system call").cause(errno)),
        }
    }

    /// Ends: returns what is to be kept.
    ///
    /// # Errors
    /// The step saw something that is not to be relied on.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        self.state.settle(None);
        match self.state.broken {
            Some(what) => Err(Error::new("emulate owners").cause(what)),
            None => Ok(Finished {
                specials: self.state.specials,
                notes: self.state.notes,
                devices: self.state.devices,
            }),
        }
    }
}

/// Finds out where the kernel keeps what is in no directory, by making one of each kind.
fn nameless() -> rustix::io::Result<Vec<u64>> {
    let (pipe, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let memory = rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC)?;
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
    [pipe, socket, memory, event].iter().map(device).collect()
}

/// Gives a container's first process its number.
fn mark(first: Pid) -> Result<()> {
    let marked = notify::realtime_limit(first, Some(LIMIT_BASE + u64::from(INITIAL)));
    marked.map(drop).map_err(|errno| {
        let op = match errno {
            // Only root can raise it.
            Errno::PERM => {
                "emulate ids: the hard limit RLIMIT_RTTIME is not unlimited (`ulimit -HR`)"
            }
            _ => "emulate ids: set the limit RLIMIT_RTTIME",
        };
        Error::new(op).cause(errno)
    })
}

/// What the machine protects in directories that everybody may write to, proc_sys_fs(5): the
/// kernel, to which all files are one user's, has no reason to.
#[derive(Debug, Clone, Copy)]
struct Protected {
    links: bool,
    symlinks: bool,
    /// 2 for directories that a group may write to, too.
    regular: u8,
    fifos: u8,
    /// What processes are that have changed their credentials.
    dumpable: u8,
}

impl Protected {
    fn read() -> Self {
        let level = |name: &str| {
            let text = std::fs::read_to_string(format!("sys/fs/{name}"));
            text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            links: level("protected_hardlinks") > 0,
            symlinks: level("protected_symlinks") > 0,
            regular: level("protected_regular"),
            fifos: level("protected_fifos"),
            dumpable: level("suid_dumpable"),
        }
    }
}

/// Describes a process whose limit holds no credentials.
fn lost(call: &Call<'_>, limit: u64) -> String {
    let name = std::fs::read_to_string(format!("{}/comm", call.tid.as_raw_pid()));
    let name = name.unwrap_or_default();
    format!(
        "the process `{}` has lost its credentials (call {}, limit {limit})",
        name.trim().escape_debug(),
        call.number
    )
}

impl State {
    fn answer(&mut self, listener: BorrowedFd<'_>, got: &Notification) {
        let call = Call {
            listener,
            id: got.id,
            number: got.number,
            tid: got.tid,
            arguments: got.arguments,
        };
        if !self.bound.is_empty() {
            self.settle(Some(&call));
        }
        if !self.executions.is_empty() {
            self.settle_executions(call.tid);
        }
        let reply = match dispatch::handler(got.number) {
            Some(handler) => {
                let outcome = handler(self, &call);
                self.reply_to(&call, outcome)
            }
            None => Reply::Continue,
        };
        // A caller that has been killed needs no answer.
        let _: rustix::io::Result<()> = notify::reply(listener, got.id, reply);
    }

    fn reply_to(&mut self, call: &Call<'_>, outcome: Outcome) -> Reply {
        match outcome {
            Ok(Answer::Continue) | Err(Stop::Kernel) => Reply::Continue,
            Ok(Answer::Value(value)) => Reply::Value(value),
            Ok(Answer::Descriptor { fd, close_on_exec }) => {
                // Two steps: with the flag that answers at once, the caller is woken slowly.
                match notify::add_fd(call.listener, call.id, fd.as_fd(), close_on_exec) {
                    Ok(number) => Reply::Value(number.into()),
                    Err(errno) => Reply::Error(errno),
                }
            }
            Err(Stop::Errno(errno)) => Reply::Error(errno),
            Err(Stop::Broken(what)) => {
                self.broken.get_or_insert(what);
                Reply::Error(Errno::IO)
            }
        }
    }

    /// Finds out who calls.
    fn caller(&self, call: &Call<'_>) -> std::result::Result<Caller, Stop> {
        if let Some(credentials) = self.table.only() {
            return Ok(self.heard(credentials));
        }
        let limit = notify::realtime_limit(call.tid, None)?;
        let number = limit.wrapping_sub(LIMIT_BASE);
        let found = u32::try_from(number)
            .ok()
            .and_then(|number| self.table.get(number));
        match found {
            Some(credentials) => Ok(self.heard(credentials)),
            None => {
                // A caller that was killed leaves its number to others.
                call.still_waits()?;
                Err(Stop::Broken(lost(call, limit)))
            }
        }
    }

    fn heard(&self, credentials: &Arc<Credentials>) -> Caller {
        self.asking.set(Owner {
            uid: credentials.fsuid,
            gid: credentials.fsgid,
        });
        Caller {
            credentials: Arc::clone(credentials),
            resolve: ResolveFlags::empty(),
        }
    }

    /// Gives the calling process other credentials; `EAGAIN` when too many are in use.
    fn assume(
        &mut self,
        call: &Call<'_>,
        credentials: Credentials,
    ) -> std::result::Result<(), Stop> {
        let number = self.table.number(credentials)?;
        call.still_waits()?;
        notify::realtime_limit(call.tid, Some(LIMIT_BASE + u64::from(number)))?;
        Ok(())
    }

    /// Keeps something for people, once.
    fn note(&mut self, text: String) {
        if self.notes.len() < MAX_NOTES && !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}
