//! The first process of a container, from its clone to its program.
//!
//! Responsible for the order of things inside: ids, clocks, names, root, hooks, then the task.
//! Must not know verbs; it is told whether to wait for `start`. Invariant: until it was told to go
//! on without it, the process ends when the one that made it does.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Gid, Signal, Uid};

use super::protocol::{Channel, Kind};
use super::start::hide;
use super::task::Task;
use crate::error::{Error, Result, ResultExt};
use crate::namespaces::{Kind as Namespace, Namespaces};
use crate::procfs::Proc;
use crate::rootfs::Layout;
use crate::spec::{Hook, Hooks, Spec, User};
use crate::sysctl::Sysctls;
use crate::weaken::{self, Protection};
use crate::{hooks, sys};

/// What is prepared in the parent.
pub(crate) struct Init<'a> {
    pub(crate) spec: &'a Spec,
    /// The bundle, as the runtime's mount namespace has it.
    pub(crate) bundle: &'a Path,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) time_offsets: Vec<u8>,
    pub(crate) sysctls: Sysctls,
    /// Taken when it is built.
    pub(crate) layout: Option<Layout>,
    pub(crate) proc: Proc,
    pub(crate) user: &'a User,
    pub(crate) task: Task<'a>,
    pub(crate) hooks: &'a Hooks,
    /// Whether hooks run outside while the root is not changed yet.
    pub(crate) outer_hooks: bool,
    /// The state document for hooks in here.
    pub(crate) state: &'a dyn Fn(Moment) -> Result<Vec<u8>>,
    /// What `start` writes to and reads from.
    pub(crate) pipes: Pipes,
}

/// When a hook of the container's process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `createContainer`.
    Creating,
    /// `startContainer`.
    Created,
}

/// Both pipes of `start`, as the first process holds them.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// Read: go on.
    pub(crate) start: OwnedFd,
    /// Written: what went wrong. Closed by execve(2).
    pub(crate) started: OwnedFd,
}

impl Init<'_> {
    /// Is the process.
    pub(crate) fn run(&mut self, channel: &Channel) -> Result<Infallible> {
        let shared = !self.namespaces.makes(Namespace::Pid);
        let mapped = self.namespaces.makes(Namespace::User);
        if shared && !mapped {
            hide()?;
        }
        die_with_parent()?;
        channel.expect(Kind::Go)?;
        self.namespaces.enter_time(&self.time_offsets)?;
        if self.namespaces.differs(Namespace::User) {
            become_root(self.user)?;
            // The change of ids has taken this away, prctl(2).
            die_with_parent()?;
        }
        if shared {
            hide()?;
        }
        rustix::process::setsid().op("start session")?;
        self.namespaces.enter_cgroup()?;
        self.set_names()?;

        let layout = self.layout.take();
        let layout = layout.ok_or_else(|| Error::new("set up root: it was built before"))?;
        let built = layout.build()?;
        for warning in built.warnings() {
            channel.send(Kind::Warning, warning.as_bytes())?;
        }
        if self.outer_hooks {
            channel.send(Kind::Hooks, &[])?;
            channel.expect(Kind::HooksDone)?;
        }
        self.run_hooks(&self.hooks.create_container, Moment::Creating)?;
        if let Some(terminal) = self.task.take_terminal(built.root(), channel)? {
            terminal.bind_console(built.root())?;
        }
        built.enter()?;
        self.sysctls.apply(&self.proc)?;
        built.protect()?;
        drop(built);

        let keep = [self.pipes.start.as_raw_fd(), self.pipes.started.as_raw_fd()];
        let mut waited = false;
        let result = self.task.run(&self.proc, channel, &keep, &mut || {
            waited = self.wait(channel)?;
            self.run_hooks(&self.hooks.start_container, Moment::Created)
        });
        if let Err(error) = &result
            && waited
        {
            self.report(error);
            sys::exit(1);
        }
        result
    }

    /// Says that everything is ready and waits for what is next. Returns whether `start` came.
    fn wait(&self, channel: &Channel) -> Result<bool> {
        // Whoever made the container may end now.
        rustix::process::set_parent_process_death_signal(None).op("outlive parent")?;
        channel.send(Kind::Ready, &[])?;
        match channel.receive()? {
            Some(message) if message.kind == Kind::Execute => Ok(false),
            Some(message) if message.kind == Kind::Wait => {
                channel.close();
                let read = rustix::io::retry_on_intr(|| {
                    rustix::io::read(&self.pipes.start, &mut [0_u8; 1])
                });
                read.op("wait for start")?;
                Ok(true)
            }
            _ => Err(Error::new("the process that makes the container is gone")),
        }
    }

    fn run_hooks(&self, list: &[Hook], moment: Moment) -> Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        let (name, directory) = match moment {
            Moment::Creating => ("createContainer", Some(self.bundle)),
            Moment::Created => ("startContainer", None),
        };
        let state = (self.state)(moment)?;
        hooks::run(list, &state, directory).map_err(|error| error.within(name))
    }

    /// Tells `start` why the program was not executed.
    fn report(&self, error: &Error) {
        let text = serde_json::to_vec(error).unwrap_or_default();
        // Less than PIPE_BUF, or cut: nobody may be reading.
        let text = text.get(..libc::PIPE_BUF).unwrap_or(&text);
        let _: rustix::io::Result<usize> = rustix::io::write(&self.pipes.started, text);
    }

    /// Sets what belongs to new namespaces: names and the loopback interface.
    fn set_names(&self) -> Result<()> {
        if !self.spec.hostname.is_empty() {
            nix::unistd::sethostname(&self.spec.hostname).op("set host name")?;
        }
        if !self.spec.domainname.is_empty() {
            sys::set_domain_name(self.spec.domainname.as_bytes()).op("set domain name")?;
        }
        if self.namespaces.makes(Namespace::Network) {
            let socket = rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                None,
            )
            .op("create socket")?;
            use std::os::fd::AsFd;
            sys::loopback_up(socket.as_fd()).op("set loopback interface up")?;
        }
        Ok(())
    }
}

/// Asks the kernel to kill this process with its parent.
pub(crate) fn die_with_parent() -> Result<()> {
    if weaken::off(Protection::Parent) {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).op("follow parent")
}

/// Becomes root in the user namespace, so that what is made belongs to an id that is mapped. Where
/// the namespace has no root, the user that the container will have serves as well.
pub(crate) fn become_root(user: &User) -> Result<()> {
    match rustix::thread::set_thread_groups(&[]) {
        // Given up for a single id.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).op("drop groups"),
    }
    let (root, gid) = (Gid::ROOT, Gid::from_raw(user.gid));
    let set = |gid| rustix::thread::set_thread_res_gid(gid, gid, gid);
    match set(root) {
        Err(Errno::INVAL) => set(gid),
        other => other,
    }
    .op("become root group")?;
    let (root, uid) = (Uid::ROOT, Uid::from_raw(user.uid));
    let set = |uid| rustix::thread::set_thread_res_uid(uid, uid, uid);
    match set(root) {
        Err(Errno::INVAL) => set(uid),
        other => other,
    }
    .op("become root")
}
