//! One container: its plan, and running it to the end.
//!
//! Responsible for what the payload of a step sees: namespaces, root file system, identity,
//! capabilities, system calls. Must not know why it is run. Invariant: when [`run`] returns, no
//! process of the container is left and none of its mounts is visible anywhere.
//!
//! Three processes take part. The *init* holds the namespaces and is pid 1. A thread of the job
//! enters them, from a mount namespace that the executor's user namespace owns, mounts, and
//! changes the root. The *payload* is forked from that thread into the pid namespace; it joins
//! the container's user namespace and copies the mount namespace into it, which makes the kernel
//! lock every mount: a mask can't be taken off from inside.

mod attendance;
mod confinement;
mod init;
mod payload;
mod session;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::binfmt::Emulator;
use crate::error::{Error, Result, ResultExt};
use crate::identity::{IdMap, Identity, Specials};
use crate::rootfs::files::{Created, ProvidedFile};
use crate::rootfs::step_mounts::StepMount;
use crate::sys;

pub use confinement::{Confinement, HostBind, HostDevice};

/// What a container's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// A network namespace with nothing but loopback, which is up.
    None,
}

/// Everything about a run, decided.
#[derive(Debug)]
pub struct Plan {
    /// The root, a detached mount such as [`crate::rootfs::overlay::mount`] returns.
    pub rootfs: OwnedFd,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of
    /// `env`, inside the container.
    pub argv: Vec<CString>,
    /// The environment, `NAME=value`, exactly.
    pub env: Vec<CString>,
    /// The working directory, which must exist.
    pub cwd: CString,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary group ids in the container.
    pub groups: Vec<u32>,
    /// The host name.
    pub hostname: String,
    /// The network.
    pub network: Network,
    /// The ids of the container, as its request says.
    pub ids: IdMap,
    /// The identity, as its request says.
    pub identity: Identity,
    /// Files that exist in the container while it runs.
    pub files: Vec<ProvidedFile>,
    /// What else is mounted while it runs, in this order, after everything else.
    pub mounts: Vec<StepMount>,
    /// Standard input; `None` is `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Standard output; `None` is `/dev/null`.
    pub stdout: Option<OwnedFd>,
    /// Standard error; `None` is `/dev/null`.
    pub stderr: Option<OwnedFd>,
    /// Owners of what can't carry a record, for [`Identity::Emulated`].
    pub specials: Specials,
    /// Whether the root file system may hold placeholders of devices, for [`Identity::Emulated`].
    pub devices: bool,
    /// Whether standard input is a terminal that becomes the controlling one and `/dev/console`.
    pub terminal: bool,
    /// What it may do and use up.
    pub confinement: Confinement,
    /// What executes programs for another processor, where the container has such.
    pub emulator: Option<Emulator>,
}

/// How the payload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2). 127 and 126 also when the program was not found or could not be executed,
    /// which its standard error then says.
    Code(u8),
    /// By a signal, with its number.
    Signal(i32),
}

impl Exit {
    /// Returns the status as a shell shows it: 128 + signal number.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What a container leaves besides its root file system.
#[derive(Debug)]
pub struct Outcome {
    /// How the payload ended.
    pub exit: Exit,
    /// What is in the provided files now, in the order of [`Plan::files`]; none when the program
    /// could not be executed.
    pub files: Vec<Vec<u8>>,
    /// Owners of what can't carry a record, in place of those of [`Plan::specials`].
    pub specials: Specials,
    /// Whether the root file system may hold placeholders of devices now.
    pub devices: bool,
    /// What people should know.
    pub notes: Vec<String>,
    /// Directories in which mount points were made and removed again. In an overlay they were copied
    /// up for that.
    pub touched: Vec<PathBuf>,
    /// Limits of [`Plan::confinement`]'s control group that don't hold, and why.
    pub unenforced: Vec<String>,
    /// Whether processes were killed since they wanted more memory than the limit.
    pub memory_exceeded: bool,
}

/// Runs a container to its end, in a job process. Signals that arrive at the job
/// ([`crate::signals::FORWARDED`]) are passed on to the payload.
///
/// # Errors
/// The container could not be set up; the step that was refused is named. A payload that ends
/// badly is no error.
pub fn run(plan: Plan) -> Result<Outcome> {
    let mut created = Created::default();
    // Before the root changes, beneath which groups can't be found.
    let made = plan.confinement.make_group()?;
    let limit = plan.confinement.resources.memory.as_ref();
    let limited = limit.is_some_and(|memory| memory.limit.is_some());
    let group = &made.group;
    // Mount namespaces, working directories and death signals belong to threads; one of its own
    // keeps all of that out of the job.
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn_scoped(scope, || session::run(plan, group, &mut created))
            .op("start thread")?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::new("run container: the thread panicked")))
    });
    let removed = created.remove();
    let memory_exceeded = limited && group.memory_kills() > 0;
    let ungrouped = group.remove();
    let mut outcome = result?;
    outcome.touched = removed?;
    outcome.unenforced = made.unenforced;
    outcome.memory_exceeded = memory_exceeded;
    ungrouped.map(|()| outcome)
}

/// Tries, in a job process, whether the kernel makes a new proc for a container.
pub(crate) fn try_proc(identity: Identity, ids: IdMap) -> Result<()> {
    let attempt = || {
        let init = init::Init::start(identity, ids, Network::Host)?;
        sys::unshare(libc::CLONE_NEWNS).op("enter mount namespace")?;
        init.join(Network::Host)?;
        init.new_proc()?.map(drop).op("create proc")
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, attempt)
            .op("start thread")?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::new("create proc: the thread panicked")))
    })
}
