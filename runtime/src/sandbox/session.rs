//! The thread that sets a container up, starts its payload and waits for it.
//!
//! Responsible for the order of things. Must not be the job's main thread: its mount namespace
//! and working directory become the container's. Invariant: the payload is forked only when
//! nothing that could be refused before is left.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid, WaitId, WaitIdOptions};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::attendance::Attendance;
use super::confinement::Entrance;
use super::init::Init;
use super::payload::{self, Prepared};
use super::{Exit, Network, Outcome, Plan};
use crate::binfmt::Emulator;
use crate::caps::Sets;
use crate::cgroup::Group;
use crate::error::{Error, Result, ResultExt};
use crate::identity::Identity;
use crate::path::Root;
use crate::process::payload::{Listener, Payload, Refusal, Stage};
use crate::process::program::{self, Program};
use crate::rootfs::files::{self, Created, Mounted};
use crate::rootfs::kernel::{self, Sys};
use crate::rootfs::protect::Masks;
use crate::rootfs::step_mounts::{self, Content, StepMount};
use crate::rootfs::{devices, host_devices, mount, pivot};
use crate::signals::Forwarder;
use crate::supervisor::{Credentials, Start};
use crate::sys;

/// Runs a plan to its end on the calling thread.
pub(super) fn run(mut plan: Plan, group: &Group, created: &mut Created) -> Result<Outcome> {
    let emulated = plan.identity == Identity::Emulated;
    for id in plan.groups.iter().chain([&plan.uid, &plan.gid]) {
        if plan.ids.to_executor(*id).is_none() {
            return Err(missing_id(*id, plan.identity));
        }
    }
    let forwarder = Forwarder::new()?;
    let program = Program::new(&plan.argv, &plan.env)?;
    let groups = settable_groups(&plan)?;
    let mut own_notes = Vec::new();
    let settled = plan.confinement.settle(plan.identity, &mut own_notes)?;
    let entrance = Entrance::open(group)?;

    let _home = Home::leave()?;
    let outside = emulated.then(open_proc).transpose()?;
    let init = Init::start(plan.identity, plan.ids, plan.network)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).op("make mounts private")?;
    // Before init, which is dropped earlier than this: what is registered stays so for all processes.
    let _registered = plan
        .emulator
        .as_ref()
        .map(|emulator| emulator.register(init.user_namespace()))
        .transpose()?;
    init.join(plan.network)?;
    init.seal()?;
    set_host(&plan)?;

    let mounts = std::mem::take(&mut plan.mounts);
    let terminal = plan.stdin.as_ref().filter(|_| plan.terminal);
    let (root, files) = mount_root(&plan, &init, terminal, mounts, created)?;
    let stdio = [
        stream(&root, plan.stdin.as_ref())?,
        stream(&root, plan.stdout.as_ref())?,
        stream(&root, plan.stderr.as_ref())?,
    ];
    let owner = Uid::from_raw(plan.ids.to_executor(plan.uid).unwrap_or(0));
    for stream in &stdio {
        own_pipe(stream.as_fd(), owner);
    }
    let (report_read, report) = pipe_with(PipeFlags::CLOEXEC).op("create pipe")?;
    // What is emulated is root's in truth.
    let (uid, gid) = if emulated {
        (0, 0)
    } else {
        (plan.uid, plan.gid)
    };
    let capabilities = if uid == 0 || settled.for_all {
        settled.real
    } else {
        CapabilitySet::empty()
    };
    let handed_on = if settled.for_all {
        settled.real
    } else {
        CapabilitySet::empty()
    };
    let prepared = Prepared {
        user_namespace: init.user_namespace(),
        stdio,
        terminal: plan.terminal,
        payload: Payload {
            keyring: true,
            umask: Some(Mode::from_raw_mode(0o022)),
            capabilities: Sets {
                bounding: settled.real,
                effective: capabilities,
                permitted: capabilities,
                inheritable: handed_on,
                ambient: handed_on,
            },
            no_new_privileges: false,
            filter: settled.filter.as_deref(),
            listener: if emulated {
                Listener::Report(&report)
            } else {
                Listener::None
            },
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups,
            cwd: Some(&plan.cwd),
            descriptors: 3,
        },
        program,
        rlimits: &settled.rlimits,
        groups: &entrance.files,
        report: &report,
        go: init.go(),
    };
    // SAFETY: the child calls only `payload::run`, which neither allocates nor locks.
    #[expect(unsafe_code, reason = "a clone site")]
    let fork = unsafe { sys::fork_into(0, entrance.directory.as_ref().map(AsFd::as_fd)) };
    let (pid, pidfd) = match fork.op("fork payload")? {
        sys::Fork::Child => payload::run(&prepared),
        sys::Fork::Parent(pid, pidfd) => (pid, pidfd),
    };
    // Before init, which is dropped later than this: the kernel ends a pid namespace only when all of
    // it was reaped, and the payload is this thread's child.
    let _reaper = Reaper(&pidfd);
    drop(prepared);
    drop(report);
    let mut attendance = match outside {
        None => Attendance::unsupervised(report_read),
        Some(proc) => {
            let credentials =
                Credentials::user(plan.uid, plan.gid, &plan.groups).bounded(settled.capabilities);
            let specials = std::mem::take(&mut plan.specials);
            Attendance::supervised(report_read, pidfd.as_fd(), |listener| {
                init.hold(listener.as_fd())?;
                Ok(Start {
                    listener,
                    proc,
                    first: pid,
                    credentials,
                    specials,
                    devices: plan.devices,
                    emulates_native: plan.emulator.as_ref().is_some_and(Emulator::is_native),
                })
            })?
        }
    };
    let refusal = attendance.until_executed()?;
    if let Some(refusal) = refusal {
        let _: Exit = attendance.until_ended(&pidfd, &forwarder)?;
        let exit = refused(&plan, &refusal)?;
        drop(init);
        let left = attendance.finish()?;
        own_notes.extend(left.notes);
        return Ok(Outcome {
            exit,
            files: Vec::new(),
            specials: left.specials,
            devices: left.devices,
            touched: Vec::new(),
            notes: own_notes,
            unenforced: Vec::new(),
            memory_exceeded: false,
        });
    }
    // The streams' other ends see the end of file when the container has closed its own.
    let Plan {
        stdin,
        stdout,
        stderr,
        ..
    } = plan;
    drop((stdin, stdout, stderr));
    let exit = attendance.until_ended(&pidfd, &forwarder)?;
    // Processes that the payload left behind write no more.
    drop(init);
    let left = attendance.finish()?;
    own_notes.extend(left.notes);
    Ok(Outcome {
        exit,
        files: files.read()?,
        specials: left.specials,
        devices: left.devices,
        touched: Vec::new(),
        notes: own_notes,
        unenforced: Vec::new(),
        memory_exceeded: false,
    })
}

/// Ends and reaps the payload, if nobody has.
struct Reaper<'a>(&'a OwnedFd);

impl Drop for Reaper<'_> {
    fn drop(&mut self) {
        // One that was reaped needs neither.
        let _: rustix::io::Result<()> = sys::pidfd_signal(self.0.as_fd(), libc::SIGKILL);
        let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

/// Opens the proc that shows this process, in which the container's are seen from outside.
fn open_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).op_path("open", "/proc")?;
    let own = rustix::fs::readlinkat(&proc, "self", Vec::new()).op_path("read", "/proc/self")?;
    let id = rustix::process::getpid().to_string();
    if own.to_bytes() != id.as_bytes() {
        return Err(
            Error::new("`/proc` is of another pid namespace than this process")
                .hint("mount a proc of the surrounding container's own"),
        );
    }
    Ok(proc)
}

/// The mount namespace that this thread came from. Dropping it goes back, whereupon the kernel
/// unmounts what only this thread still held: the end of a thread would do so too late for a
/// caller that mounts the same layers again.
struct Home(OwnedFd);

impl Home {
    /// Enters a copy of the mount namespace.
    fn leave() -> Result<Self> {
        let path = "/proc/thread-self/ns/mnt";
        let home = std::fs::File::open(path).op_path("open mount namespace", path)?;
        sys::unshare(libc::CLONE_NEWNS).op("enter mount namespace")?;
        // This thread's own from now on; the caller's must not decide about mount points.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        Ok(Self(home.into()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Refused only when the thread shares its working directory, which it has just unshared.
        let _: rustix::io::Result<()> =
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Mount));
    }
}

fn missing_id(id: u32, identity: Identity) -> Error {
    let error = Error::new(format!("the container has no id {id}"));
    match identity {
        Identity::Emulated => error.hint("the largest id is 4294967294"),
        _ => error.hint("give the caller a larger range in /etc/subuid and /etc/subgid"),
    }
}

/// Sets what belongs to the new namespaces: host name and loopback.
fn set_host(plan: &Plan) -> Result<()> {
    nix::unistd::sethostname(&plan.hostname).op("set host name")?;
    if plan.network == Network::None {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .op("create socket")?;
        sys::loopback_up(socket.as_fd()).op("set loopback interface up")?;
    }
    Ok(())
}

/// Mounts everything and makes it this thread's root.
fn mount_root(
    plan: &Plan,
    init: &Init,
    terminal: Option<&OwnedFd>,
    mounts: Vec<StepMount>,
    created: &mut Created,
) -> Result<(Root, Mounted)> {
    let proc = init.new_proc()?;
    pivot::attach(plan.rootfs.as_fd())?;
    let root = Root::new(rustix::io::fcntl_dupfd_cloexec(&plan.rootfs, 3).op("open root")?);
    let insecure = plan.confinement.insecure;
    let masks = (!insecure).then(Masks::new).transpose()?;
    let masks = masks.as_ref();
    kernel::mount_proc(mount_point(&root, "proc")?.as_fd(), proc, masks)?;
    let sys = match plan.network {
        Network::None => Sys::New,
        Network::Host => Sys::Host,
    };
    kernel::mount_sys(mount_point(&root, "sys")?.as_fd(), sys, masks)?;
    let dev = mount_point(&root, "dev")?;
    let dev = devices::mount(
        dev.as_fd(),
        plan.ids,
        terminal.map(AsFd::as_fd),
        plan.confinement.shm_size,
    )?;
    let given = plan.confinement.devices.iter();
    for device in given {
        host_devices::bind(dev.as_fd(), plan.ids, device)?;
    }
    if insecure {
        host_devices::bind_all(dev.as_fd(), plan.ids)?;
    }
    let files = files::mount(&root, plan.ids, &plan.files, created)?;
    let mut all = Vec::new();
    for bind in &plan.confinement.binds {
        let mount = mount::copy(&bind.host, true).op_path("bind", &bind.host)?;
        all.push(StepMount {
            target: bind.path.clone(),
            content: Content::Tree {
                mount,
                source: "/".into(),
            },
            read_only: bind.read_only,
        });
    }
    all.extend(mounts);
    step_mounts::attach(&root, plan.identity, plan.ids, all, created)?;
    pivot::finish(root.as_fd())?;
    Ok((root, files))
}

/// Opens a mount point at the top of the container. A link there would let an image choose where
/// the kernel's file systems go, so it is refused.
fn mount_point(root: &Root, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, name, flags, Mode::empty(), resolve).map_err(|errno| {
        let error = Error::new("open mount point").path(Path::new("/").join(name));
        match errno {
            Errno::NOENT => error.cause(errno).hint("the image lacks this directory"),
            _ => error.cause(errno),
        }
    })
}

/// Returns a stream for the payload, numbered above the standard ones.
fn stream(root: &Root, given: Option<&OwnedFd>) -> Result<OwnedFd> {
    const FIRST: i32 = 3;
    match given {
        Some(fd) => rustix::io::fcntl_dupfd_cloexec(fd, FIRST).op("duplicate stream"),
        None => {
            let null = root
                .open("dev/null", OFlags::RDWR, Mode::empty())
                .op_path("open device", "/dev/null")?;
            if null.as_raw_fd() >= FIRST {
                return Ok(null);
            }
            rustix::io::fcntl_dupfd_cloexec(&null, FIRST).op("duplicate stream")
        }
    }
}

/// Gives a pipe to the container's user, so that `/dev/stdout` can be opened again. Where that is
/// refused, everything else still works.
fn own_pipe(stream: BorrowedFd<'_>, owner: Uid) {
    let is_pipe = rustix::fs::fstat(stream)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
    if is_pipe {
        let _: rustix::io::Result<()> = rustix::fs::fchown(stream, Some(owner), None);
    }
}

/// Returns the groups to set, or `None` where setgroups(2) has been given up for the one id.
fn settable_groups(plan: &Plan) -> Result<Option<Vec<Gid>>> {
    if plan.identity == Identity::Emulated {
        return Ok(None);
    }
    let state = std::fs::read_to_string("/proc/self/setgroups");
    let denied = state.is_ok_and(|s| s.trim() == "deny");
    if !denied {
        return Ok(Some(
            plan.groups.iter().copied().map(Gid::from_raw).collect(),
        ));
    }
    if plan.groups.iter().any(|g| *g != plan.gid) {
        return Err(Error::new(
            "supplementary groups can't be set with a single id",
        ));
    }
    Ok(None)
}

fn refused(plan: &Plan, refusal: &Refusal) -> Result<Exit> {
    let error = Error::new(refusal.operation()).cause(refusal.errno);
    match refusal.stage {
        Stage::Execute => {
            let (code, text) = program::refusal(&plan.argv[0], refusal.errno);
            if let Some(stderr) = &plan.stderr {
                // Nobody is left to tell when this can't be written.
                let _: rustix::io::Result<usize> = rustix::io::write(stderr, text.as_bytes());
            }
            Ok(Exit::Code(code))
        }
        Stage::WorkingDirectory => {
            use std::os::unix::ffi::OsStrExt;
            let path = std::ffi::OsStr::from_bytes(plan.cwd.to_bytes());
            Err(error.path(path))
        }
        _ => Err(error),
    }
}
