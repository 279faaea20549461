//! RUN: a command in a sandbox over a staged tree, and the layer that it leaves.
//!
//! Responsible for what the sandbox is given: the tree, the user, the environment, the files that
//! exist during the step only. Must not know how the sandbox isolates. Invariant: `/etc/resolv.conf`
//! and `/etc/hosts` are in the layer exactly when the step changed them.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use runtime::identity::Owner;
use runtime::rootfs::files::ProvidedFile;
use runtime::rootfs::skeleton;
use runtime::sandbox::{self, Confinement, Network, Outcome, Plan};

use super::mounts::{self, StepMount};
use super::tree::{Staged, Tree};
use super::{Descriptors, Exited, Reply, Scene, workdir};
use crate::build::mounts::secrets;
use crate::build::{emulation, users};
use crate::error::{Error, Result, ResultExt};
use crate::image::platform::Platform;

/// What to run, as whom and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// The argument vector.
    pub argv: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory, absolute; made when it is missing.
    pub cwd: String,
    /// USER, verbatim; empty for root.
    pub user: String,
    /// Whether the host's network is shared; otherwise there is loopback only.
    pub host_network: bool,
    /// Host name inside.
    pub hostname: String,
    /// What it may do and use up.
    pub confinement: Confinement,
    /// What the programs are for.
    pub platform: Platform,
    /// Further supplementary groups.
    pub groups: Vec<u32>,
}

/// A file that exists during the step only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileMount {
    /// Where the step sees it.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Make the directory that is to be below all snapshots of a RUN step: mount points that an image
/// may lack, so that mounting leaves no trace in the layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkeletonTask {
    /// The staging directory, with `fs` in it.
    pub staging: PathBuf,
}

/// Run a command and take the layer. Descriptors: the layer's file, where the tree is announced if
/// that is wanted, the secrets if there are any, the locks, stdout, stderr.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunTask {
    /// The snapshots below, the skeleton being the last, and the staging directory.
    pub tree: Staged,
    /// What to run.
    pub command: Command,
    /// Files that exist during the step only.
    pub files: Vec<FileMount>,
    /// What else is mounted during the step, in order.
    pub mounts: Vec<StepMount>,
    /// Whether a byte is to be written when the next step can stand on the tree, before the layer is read.
    pub announce: bool,
    /// Whether secrets come with the request.
    pub secrets: bool,
    /// How many locks come with the request.
    pub locks: usize,
    /// Variables and the secret that each holds, by number.
    pub secret_env: Vec<(String, usize)>,
}

/// Run a command and throw its changes away. Descriptors: stdin, stdout, stderr.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShellTask {
    /// The snapshots below, the skeleton being the last, and the staging directory.
    pub tree: Staged,
    /// What to run.
    pub command: Command,
    /// Files that exist during the run only.
    pub files: Vec<FileMount>,
    /// Whether stdin is a terminal that the command shall control.
    pub terminal: bool,
}

impl Command {
    /// Puts a secret into the environment.
    fn set_secret(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let wrong = |what| Error::new(format!("the secret for variable `{name}` {what}"));
        let value = std::str::from_utf8(value).map_err(|_| wrong("is not valid UTF-8"))?;
        if value.contains('\0') {
            return Err(wrong("has a NUL byte"));
        }
        let start = format!("{name}=");
        self.env.retain(|entry| !entry.starts_with(&start));
        self.env.push(start + value);
        Ok(())
    }
}

struct Stdio {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
}

pub(super) fn run(scene: Scene, task: RunTask, fds: &mut Descriptors) -> Result<Reply> {
    let layer = fds.take()?;
    let announce = task.announce.then(|| fds.take()).transpose()?;
    let secrets = if task.secrets {
        secrets::unpack(fds.take()?)?
    } else {
        Vec::new()
    };
    let mut command = task.command;
    for (name, number) in &task.secret_env {
        let value = mounts::value(&secrets, *number)?;
        command.set_secret(name, value)?;
    }
    // Held for as long as this process lives, whatever becomes of the one that asked.
    let _locks = (0..task.locks)
        .map(|_| fds.take())
        .collect::<Result<Vec<_>>>()?;
    let stdio = Stdio {
        stdin: None,
        stdout: fds.take()?,
        stderr: fds.take()?,
        terminal: false,
    };
    let mut tree = task.tree.open(scene)?;
    let mut opened = mounts::open(scene, &tree, &task.mounts, &secrets)?;
    tree.devices |= opened.devices;
    let mounts = std::mem::take(&mut opened.mounts);
    let mut ended = execute(scene, &tree, command, &task.files, mounts, stdio)?;
    opened.keep_owners(&ended.specials)?;
    drop(opened);
    let devices = tree.devices || ended.devices;
    let code = ended.exit.code();
    let mut notes = notes_of(&mut ended);
    if code != 0 {
        return Ok(Reply::Exited(Exited {
            code,
            notes,
            memory_exceeded: ended.memory_exceeded,
        }));
    }
    if ended.memory_exceeded {
        notes.push(
            "processes of the step were killed: it exceeded the memory limit (--memory)".to_owned(),
        );
    }
    for (given, now) in task.files.iter().zip(&ended.files) {
        if given.content != *now {
            keep(scene, &tree, &given.path, now).map_err(|e| {
                Error::new("keep what the step wrote to")
                    .path(&given.path)
                    .source(e)
            })?;
        }
    }
    tree.ownership.put_specials(ended.specials);
    tree.forget(ended.touched);
    let mut ended = tree.end()?;
    if let Some(announce) = announce {
        ended.announce(devices, announce)?;
    }
    let mut made = ended.archive(scene, layer)?;
    made.notes.extend(notes);
    Ok(Reply::Layer(Some(made)))
}

pub(super) fn shell(scene: Scene, task: ShellTask, fds: &mut Descriptors) -> Result<Exited> {
    let stdio = Stdio {
        stdin: Some(fds.take()?),
        stdout: fds.take()?,
        stderr: fds.take()?,
        terminal: task.terminal,
    };
    let tree = task.tree.open(scene)?;
    let ended = execute(scene, &tree, task.command, &task.files, Vec::new(), stdio)?;
    Ok(Exited {
        code: ended.exit.code(),
        notes: ended.notes,
        memory_exceeded: ended.memory_exceeded,
    })
}

pub(super) fn skeleton(scene: Scene, task: &SkeletonTask) -> Result<()> {
    skeleton::create(&task.staging.join("fs"), scene.ids).op("make mount points")
}

fn execute(
    scene: Scene,
    tree: &Tree,
    command: Command,
    files: &[FileMount],
    mounts: Vec<runtime::rootfs::step_mounts::StepMount>,
    stdio: Stdio,
) -> Result<Outcome> {
    let who = users::resolve(&tree.merged, &command.user)?;
    workdir::make(scene, tree, &command.cwd, "")?;
    // The primary group is a supplementary one too, as in docker since CVE-2022-36109: else a
    // program could shed a group that a file denies.
    let mut groups = vec![who.gid];
    groups.extend(who.groups.iter().filter(|g| **g != who.gid));
    groups.extend(command.groups);
    let mut env = command.env;
    // As runc does: HOME comes from the image's passwd unless the environment names one.
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", who.home.as_deref().unwrap_or("/")));
    }
    let emulator = emulation::emulator(&command.platform, scene.identity)?;
    sandbox::run(Plan {
        rootfs: tree.handle()?,
        argv: c_strings(command.argv)?,
        env: c_strings(env)?,
        cwd: c_string(command.cwd)?,
        uid: who.uid,
        gid: who.gid,
        groups,
        hostname: command.hostname,
        network: if command.host_network {
            Network::Host
        } else {
            Network::None
        },
        ids: scene.ids,
        identity: scene.identity,
        files: files
            .iter()
            .map(|f| ProvidedFile {
                path: f.path.clone().into(),
                content: f.content.clone(),
            })
            .collect(),
        mounts,
        stdin: stdio.stdin,
        stdout: Some(stdio.stdout),
        stderr: Some(stdio.stderr),
        specials: tree.ownership.take_specials(),
        devices: tree.devices,
        terminal: stdio.terminal,
        confinement: command.confinement,
        emulator,
    })
    .map_err(|error| {
        let hints = error.hints().to_vec();
        let error = Error::new("run sandbox").source(error);
        hints.into_iter().fold(error, Error::hint)
    })
}

/// Options that a control group enforces, and their names in the runtime.
const GROUP_LIMITS: [(&str, &str); 7] = [
    ("--memory", "memory.limit"),
    ("--memory-swap", "memory.swap"),
    ("--cpu-shares", "cpu.shares"),
    ("--cpu-period", "cpu.period"),
    ("--cpu-quota", "cpu.quota"),
    ("--cpuset-cpus", "cpu.cpus"),
    ("--cpuset-mems", "cpu.mems"),
];

/// Returns what people should know. What doesn't hold is named by its option.
fn notes_of(ended: &mut Outcome) -> Vec<String> {
    let mut notes = std::mem::take(&mut ended.notes);
    let reasons = ended.unenforced.join("; ");
    if !reasons.is_empty() {
        let flags: Vec<&str> = (GROUP_LIMITS.iter())
            .filter(|(_, name)| reasons.contains(name))
            .map(|(flag, _)| *flag)
            .collect();
        let flags = match &flags[..] {
            [] => "--cgroup-parent".to_owned(),
            flags => flags.join(", "),
        };
        // The names are said already.
        let why = reasons.split_once("): ").map_or(&*reasons, |(_, why)| why);
        notes.push(format!("{flags} not enforced: {why}"));
    }
    notes
}

fn c_string(text: String) -> Result<CString> {
    CString::new(text).op("a NUL byte in the command, its environment or its directory")
}

fn c_strings(texts: Vec<String>) -> Result<Vec<CString>> {
    texts.into_iter().map(c_string).collect()
}

/// Puts what a step wrote to a provided file into its tree, in place of what was hidden there.
fn keep(scene: Scene, tree: &Tree, path: &str, content: &[u8]) -> std::io::Result<()> {
    let entry = tree.merged.entry(path)?.ok_or(Errno::ISDIR)?;
    match rustix::fs::statat(&entry.dir, &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        Err(Errno::NOENT) => {}
        // The step saw a file where the image may have a dangling link.
        Ok(_) => rustix::fs::unlinkat(&entry.dir, &entry.name, AtFlags::empty())?,
        Err(e) => return Err(e.into()),
    }
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let mut file = File::from(rustix::fs::openat(&entry.dir, &entry.name, flags, mode)?);
    let stat = rustix::fs::fstat(&file)?;
    if scene.ids.to_container(stat.st_uid).is_none() {
        tree.ownership.set(&file, Owner::ROOT)?;
    }
    file.write_all(content)
}
