//! Making a container.
//!
//! Responsible for everything from the configuration to a first process that waits. Must not
//! execute the container's program unless asked to. Invariant: what fails is undone, in the
//! reverse order; the directory is made first and removed last, so that `kill -9` at any moment
//! leaves something that can be deleted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::Pid;

use super::console::Console;
use super::entrance::Entrance;
use super::{Container, CreateOptions, encode, notify, send_pidfd, write_pid_file};
use crate::cgroup::{self, enter_legacy};
use crate::error::{Error, Result, ResultExt};
use crate::namespaces::{Kind as Namespace, Namespaces, render_offsets};
use crate::net_devices;
use crate::process::ids;
use crate::process::init::{Init, Moment, Pipes};
use crate::process::protocol::{Channel, Kind};
use crate::process::start::{Child, Way, start};
use crate::process::task::Task;
use crate::procfs::Proc;
use crate::rootfs::{Layout, Settings};
use crate::spec::{Hooks, Linux, NetDevice, Spec};
use crate::state::{self, Dir, Fifo, Lock, ProcessId, Record, Root, Status};
use crate::sysctl::Sysctls;
use crate::validate;

/// Makes a container whose first process waits for `start`.
///
/// # Errors
/// The configuration is wrong, or something that it asks for is refused. Nothing is left then.
pub fn create<'a>(
    root: &'a Root,
    options: &CreateOptions,
    warn: &mut dyn FnMut(String),
) -> Result<Container<'a>> {
    let mut made = make(root, options, false, warn)?;
    if let Err(error) = made.child.channel.send(Kind::Wait, &[]) {
        drop(made.child);
        made.container.discard(&made.spec, warn);
        return Err(error);
    }
    made.child.release();
    Ok(made.container)
}

/// A container up to its program's execution. Until the child is released, dropping it kills it;
/// the container is then to be discarded.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) container: Container<'a>,
    pub(super) lock: Lock,
    pub(super) spec: Spec,
    pub(super) child: Child,
    pub(super) console: Console,
}

/// Makes a container up to its program's execution.
pub(super) fn make<'a>(
    root: &'a Root,
    options: &CreateOptions,
    foreground: bool,
    warn: &mut dyn FnMut(String),
) -> Result<Made<'a>> {
    let mut spec = Spec::parse(&options.config)?;
    let problems = validate::validate(&spec);
    if !problems.is_empty() {
        return Err(validate::error(&problems));
    }
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    let mut console = Console::new(terminal, options.console_socket.as_deref(), foreground)?;
    let rootfs = spec.root.as_ref().map_or("", |root| root.path.as_str());
    let rootfs = options.bundle.join(rootfs);
    let mut record = Record::new(options.id.clone(), options.bundle.clone(), rootfs)?;
    record.annotations.clone_from(&spec.annotations);
    let (dir, lock) = root.create(&record, &options.config)?;
    let mut container = Container { root, dir, record };
    let prepared = match &options.notify_socket {
        Some(_) => notify::prepare(&container.dir, &mut spec),
        None => Ok(()),
    };
    let made = prepared.and_then(|()| set_up(&mut container, &spec, options, &mut console, warn));
    match made {
        Ok(child) => Ok(Made {
            container,
            lock,
            spec,
            child,
            console,
        }),
        Err(error) => {
            container.discard(&spec, warn);
            Err(error)
        }
    }
}

fn set_up(
    container: &mut Container<'_>,
    spec: &Spec,
    options: &CreateOptions,
    console: &mut Console,
    warn: &mut dyn FnMut(String),
) -> Result<Child> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let no_hooks = Hooks::default();
    let hooks = spec.hooks.as_ref().unwrap_or(&no_hooks);
    let process = spec.process.as_ref();
    let process = process.ok_or_else(|| Error::new("config.json has no process"))?;

    let namespaces = Namespaces::open(&linux.namespaces)?;
    let settings = Settings {
        no_pivot: options.no_pivot,
    };
    let mut layout = Layout::new(spec, &options.bundle, settings)?;
    layout.open_sources()?;
    let sysctls = Sysctls::parse(&linux.sysctl, &linux.namespaces)?;
    sysctls.check_joined(&linux.namespaces)?;
    let task = Task::new(process, linux, &options.inherited, warn)?;

    let (group, warnings) = cgroup::create(&cgroup::Request {
        id: options.id.as_str(),
        path: &linux.cgroups_path,
        resources: linux.resources.as_ref(),
        driver: options.driver,
        rootless: options.rootless,
        annotations: &spec.annotations,
        owner: group_owner(spec, linux, process.user.uid),
        bus: options.bus.as_deref(),
    })?;
    warnings.into_iter().for_each(&mut *warn);
    if !group.is_none() {
        container.record.cgroup = group;
        // From now on it has to be found again.
        container.dir.set_record(&container.record)?;
    }
    let group = container.record.cgroup.clone();
    let entrance = Entrance::open(&group)?;

    let document = |moment| {
        let status = match moment {
            Moment::Creating => Status::Creating,
            Moment::Created => Status::Created,
        };
        let mut document = state::document(&container.record, status);
        // As seen in the container (runtime.md, "State").
        document.pid = rustix::process::getpid().as_raw_pid();
        encode(&document)
    };
    let mut init = Init {
        spec,
        bundle: &options.bundle,
        namespaces: &namespaces,
        time_offsets: render_offsets(&linux.time_offsets),
        sysctls,
        layout: Some(layout),
        proc: Proc::open(Path::new("/proc")).op_path("open", "/proc")?,
        user: &process.user,
        task,
        hooks,
        outer_hooks: !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty(),
        state: &document,
        pipes: open_pipes(&container.dir)?,
    };
    let join = |_: &Channel| namespaces.join();
    let way = Way {
        join: namespaces.joins_any().then_some(&join),
        new: namespaces.clone_flags(),
        cgroup: entrance.directory(),
    };
    let child = start(&way, &mut |channel| {
        enter_legacy(entrance.files()).op("enter control group")?;
        init.run(channel)
    })?;
    drop(init);

    if namespaces.makes(Namespace::User) {
        ids::map(child.pid, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    if let Some(score) = process.oom_score_adj {
        set_oom_score(child.pid.as_raw_pid(), score, warn)?;
    }
    move_interfaces(child.pid, &linux.net_devices)?;
    container.record.init = Some(ProcessId::of(child.pid.as_raw_pid())?);
    entrance.move_in(child.pid, warn)?;
    child.channel.send(Kind::Go, &[])?;
    loop {
        let message = child.next()?;
        match message.kind {
            Kind::Warning => warn(String::from_utf8_lossy(&message.body).into_owned()),
            Kind::Hooks => {
                // A hook may ask for the state.
                container.dir.set_record(&container.record)?;
                container.run_hooks("prestart", &hooks.prestart, Status::Creating)?;
                let list = &hooks.create_runtime;
                container.run_hooks("createRuntime", list, Status::Creating)?;
                child.channel.send(Kind::HooksDone, &[])?;
            }
            Kind::Terminal => console.receive(message)?,
            Kind::Listener => {
                container.pass_listener(linux, Status::Creating, child.pid, &message)?;
            }
            Kind::Ready => break,
            _ => return Err(Error::new("set up container: unexpected message")),
        }
    }
    container.record.ready = true;
    container.dir.set_record(&container.record)?;
    if let Some(path) = &options.pidfd_socket {
        send_pidfd(path, child.pidfd.as_fd())?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, child.pid.as_raw_pid())?;
    }
    Ok(child)
}

/// Moves the network interfaces that the container takes over into its network namespace, which
/// exists, new or joined, once its process does.
fn move_interfaces(pid: Pid, devices: &BTreeMap<String, NetDevice>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{}/ns/net", pid.as_raw_pid());
    let namespace = File::open(&path).op_path("open network namespace", &path)?;
    net_devices::move_all(devices, namespace.as_fd())
}

/// Opens the first process's ends of the pipes of `start`, without waiting for the others.
fn open_pipes(dir: &Dir) -> Result<Pipes> {
    // Reading and writing: a pipe that only this process reads is never at its end.
    let start = dir.open_fifo(Fifo::Start, OFlags::RDWR)?;
    // Opened for writing alone, which needs a reader at that moment.
    let reader: OwnedFd = dir.open_fifo(Fifo::Started, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let started = dir.open_fifo(Fifo::Started, OFlags::WRONLY)?;
    drop(reader);
    Ok(Pipes { start, started })
}

/// The host user that gets the control group: who the container's process is, if it sees a group
/// of its own that it may write to (config-linux.md, "Cgroup ownership").
fn group_owner(spec: &Spec, linux: &Linux, user: u32) -> Option<u32> {
    let new = |kind: Namespace| {
        let mut list = linux.namespaces.iter();
        list.any(|n| n.kind == kind.name() && n.path.as_deref().is_none_or(str::is_empty))
    };
    let writable = spec.mounts.iter().any(|mount| {
        let read_only = mount.options.iter().any(|option| option == "ro");
        matches!(mount.kind.as_str(), "cgroup" | "cgroup2") && !read_only
    });
    if !writable || !new(Namespace::Cgroup) || !new(Namespace::User) {
        return None;
    }
    linux.uid_mappings.iter().find_map(|line| {
        let offset = user.checked_sub(line.container_id)?;
        (offset < line.size).then(|| line.host_id.checked_add(offset))?
    })
}

/// Says how willingly the kernel kills the process for lack of memory, proc_pid_oom_score_adj(5).
/// Lowering needs a privilege that no user namespace gives.
pub(super) fn set_oom_score(pid: i32, score: i32, warn: &mut dyn FnMut(String)) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, score.to_string()) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            if found.trim() == score.to_string() {
                return Ok(());
            }
            warn(format!(
                "oomScoreAdj {score} left out: lowering is not permitted"
            ));
            Ok(())
        }
        other => other.op_path("set oom score", path),
    }
}
