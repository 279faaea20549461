//! The process of a container, as far as its root needs one.
//!
//! Responsible for namespaces and id maps. Must not judge what a case says.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use runtime::rootfs::{Layout, Settings};
use runtime::spec::Spec;
use runtime::tty::Terminal;
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::{Caller, cases};

/// The first id of the host that [`Caller::Mapped`] has.
pub(crate) const FIRST_MAPPED: u32 = 100_000;

/// Lays out the root of a case and runs its script in it.
pub(crate) fn run(caller: Caller, case: &str, dir: &Path) -> ExitCode {
    let case = cases::ALL.iter().find(|c| c.name == case).expect("a case");
    let config = (case.config)(caller, dir).to_string();
    let spec = Spec::parse(config.as_bytes()).expect("parse");
    if case.hidden_proc {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("make private");
        let flags = MountFlags::RDONLY;
        rustix::mount::mount("mask", "/proc/fs", "tmpfs", flags, None).expect("mount");
    }
    let settings = Settings {
        no_pivot: case.no_pivot,
    };
    let mut layout = match Layout::new(&spec, dir, settings) {
        Ok(layout) => layout,
        Err(e) => return refused(&e),
    };
    if let Err(e) = layout.open_sources() {
        return refused(&e);
    }
    let (mut ours, mut theirs) = UnixStream::pair().expect("socket pair");
    // SAFETY: this program has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => {
            drop(theirs);
            let mut byte = [0];
            if ours.read(&mut byte).expect("read") == 1 {
                if caller.has_users() {
                    write_maps(caller, child);
                }
                ours.write_all(&[1]).expect("write");
            }
            wait(child)
        }
        ForkResult::Child => {
            drop(ours);
            become_container(caller, &spec, layout, &mut theirs, case.script)
        }
    }
}

fn become_container(
    caller: Caller,
    spec: &Spec,
    mut layout: Layout,
    parent: &mut UnixStream,
    script: &str,
) -> ExitCode {
    let mut flags = CloneFlags::empty();
    for namespace in &spec.linux.as_ref().expect("linux").namespaces {
        flags |= match namespace.kind.as_str() {
            "mount" => CloneFlags::CLONE_NEWNS,
            "pid" => CloneFlags::CLONE_NEWPID,
            "ipc" => CloneFlags::CLONE_NEWIPC,
            "network" => CloneFlags::CLONE_NEWNET,
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            "user" => CloneFlags::CLONE_NEWUSER,
            other => panic!("no namespace {other}"),
        };
    }
    unshare(flags).expect("unshare");
    parent.write_all(&[1]).expect("write");
    parent.read_exact(&mut [0]).expect("read");
    if let Err(e) = layout.open_sources() {
        return refused(&e);
    }
    if caller.has_users() {
        let root = nix::unistd::Uid::from_raw(0);
        nix::unistd::setresuid(root, root, root).expect("setresuid");
        let root = nix::unistd::Gid::from_raw(0);
        nix::unistd::setresgid(root, root, root).expect("setresgid");
    }
    // SAFETY: this program has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => wait(child),
        ForkResult::Child => match enter(layout) {
            Ok(()) => {
                let e = Command::new("/bin/busybox")
                    .args(["sh", "-c", script])
                    .env_clear()
                    .env("PATH", "/bin")
                    .exec();
                panic!("exec: {e}");
            }
            Err(e) => refused(&e),
        },
    }
}

fn enter(layout: Layout) -> runtime::Result<()> {
    let built = layout.build()?;
    for warning in built.warnings() {
        println!("warning: {warning}");
    }
    if built.root().stat("/dev/pts/ptmx", false).is_ok() {
        Terminal::open(built.root())?.bind_console(built.root())?;
    }
    built.enter()?;
    built.protect()
}

fn refused(error: &runtime::Error) -> ExitCode {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    println!("refused: {error}: {}", cause.unwrap_or_default());
    for hint in error.hints() {
        println!("hint: {hint}");
    }
    ExitCode::FAILURE
}

fn wait(child: Pid) -> ExitCode {
    match waitpid(child, None).expect("wait") {
        WaitStatus::Exited(_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn write_maps(caller: Caller, child: Pid) {
    let uid = rustix::process::getuid().as_raw().to_string();
    let dir = Path::new("/proc").join(child.to_string());
    let write = |file: &str, text: &str| std::fs::write(dir.join(file), text).expect("write map");
    match caller {
        Caller::Mapped => {
            let line = format!("0 {FIRST_MAPPED} 65536\n");
            write("uid_map", &line);
            write("gid_map", &line);
        }
        Caller::Single => {
            write("setgroups", "deny");
            let line = format!("0 {uid} 1\n");
            write("uid_map", &line);
            write("gid_map", &line);
        }
        _ => {
            for (program, file) in [("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")] {
                let text = std::fs::read_to_string(file).expect("read");
                let line = text
                    .lines()
                    .find(|l| l.starts_with("sandcrab-subids:"))
                    .expect("a range");
                let mut fields = line.split(':').skip(1);
                let first = fields.next().expect("first");
                let count = fields.next().expect("count");
                let status = Command::new(program)
                    .arg(child.to_string())
                    .args(lines(caller, &uid, first, count))
                    .status();
                assert!(status.expect(program).success());
            }
        }
    }
}

/// With [`Caller::Foreign`] the container's root is not the caller.
fn lines<'a>(caller: Caller, uid: &'a str, first: &'a str, count: &'a str) -> Vec<&'a str> {
    if caller == Caller::Foreign {
        vec!["0", first, count]
    } else {
        vec!["0", uid, "1", "1", first, count]
    }
}
