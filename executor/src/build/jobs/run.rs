//! RUN: a command in a sandbox over a staged tree, and the layer that it leaves.
//!
//! Responsible for what the sandbox is given: the tree, the user, the environment, the files that
//! exist during the step only. Must not know how the sandbox isolates. Invariant: `/etc/resolv.conf`
//! and `/etc/hosts` are in the layer exactly when the step changed them.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use runtime::rootfs::skeleton;
use runtime::sandbox::{self, Network, Plan};

use super::tree::{Staged, Tree};
use super::{Descriptors, Reply, Scene, workdir};
use crate::build::users;
use crate::error::{Error, Result, ResultExt};

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
}

/// A file that exists during the step only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileMount {
    /// Where the step sees it.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Run a command and take the layer. Descriptors: the layer's file, stdout, stderr.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// A directory of the session for what only exists during the step, made when missing.
    pub scratch: PathBuf,
    /// What to run.
    pub command: Command,
    /// Files that exist during the step only.
    pub files: Vec<FileMount>,
}

/// Run a command and throw its changes away. Descriptors: stdin, stdout, stderr.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShellTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// A directory of the session for what only exists during the step, made when missing.
    pub scratch: PathBuf,
    /// What to run.
    pub command: Command,
    /// Files that exist during the run only.
    pub files: Vec<FileMount>,
    /// Whether stdin is a terminal that the command shall control.
    pub terminal: bool,
}

struct Stdio {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
}

pub(super) fn run(scene: Scene, task: RunTask, fds: &mut Descriptors) -> Result<Reply> {
    let layer = fds.take()?;
    let stdio = Stdio {
        stdin: None,
        stdout: fds.take()?,
        stderr: fds.take()?,
        terminal: false,
    };
    let tree = open(scene, &task.tree, &task.scratch)?;
    let files = provide(scene, &task.scratch, &task.files)?;
    let code = execute(scene, &tree, task.command, &files, stdio)?;
    if code != 0 {
        return Ok(Reply::Exited(code));
    }
    for file in &files {
        file.keep_if_changed(scene, &tree)?;
    }
    tree.write_layer(scene, layer)
        .map(|layer| Reply::Layer(Some(layer)))
}

pub(super) fn shell(scene: Scene, task: ShellTask, fds: &mut Descriptors) -> Result<i32> {
    let stdio = Stdio {
        stdin: Some(fds.take()?),
        stdout: fds.take()?,
        stderr: fds.take()?,
        terminal: task.terminal,
    };
    let tree = open(scene, &task.tree, &task.scratch)?;
    let files = provide(scene, &task.scratch, &task.files)?;
    execute(scene, &tree, task.command, &files, stdio)
}

/// Opens the tree with the mount points that every sandbox needs at its very bottom, so that
/// mounting leaves no trace in the layer.
fn open(scene: Scene, tree: &Staged, scratch: &Path) -> Result<Tree> {
    let bottom = scratch.join("skeleton");
    skeleton::create(&bottom, scene.ids).op("make mount points")?;
    tree.open(scene, &[bottom])
}

fn execute(
    scene: Scene,
    tree: &Tree,
    command: Command,
    files: &[Provided],
    stdio: Stdio,
) -> Result<i32> {
    let who = users::resolve(&tree.merged, &command.user)?;
    workdir::make(scene, &tree.merged, &command.cwd, "")?;
    // The primary group is a supplementary one too, as in docker since CVE-2022-36109: else a
    // program could shed a group that a file denies.
    let mut groups = vec![who.gid];
    groups.extend(who.groups.iter().filter(|g| **g != who.gid));
    let mut env = command.env;
    // As runc does: HOME comes from the image's passwd unless the environment names one.
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", who.home.as_deref().unwrap_or("/")));
    }
    let exit = sandbox::run(Plan {
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
            .map(|f| (f.path.clone().into(), f.host.clone()))
            .collect(),
        stdin: stdio.stdin,
        stdout: Some(stdio.stdout),
        stderr: Some(stdio.stderr),
        terminal: stdio.terminal,
    })
    .op("run sandbox")?;
    Ok(exit.code())
}

fn c_string(text: String) -> Result<CString> {
    CString::new(text).op("a NUL byte in the command, its environment or its directory")
}

fn c_strings(texts: Vec<String>) -> Result<Vec<CString>> {
    texts.into_iter().map(c_string).collect()
}

/// A step's own copy of a provided file.
struct Provided {
    path: String,
    host: PathBuf,
    content: Vec<u8>,
}

/// Writes the step's own copies of the provided files, owned by the container's root.
fn provide(scene: Scene, scratch: &Path, files: &[FileMount]) -> Result<Vec<Provided>> {
    let mut provided = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let host = scratch.join(format!("file-{index}"));
        std::fs::write(&host, &file.content).op_path("write", &host)?;
        let id = scene.ids.first;
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::fs::chown(&host, Some(uid), Some(gid)).op_path("set owner of", &host)?;
        rustix::fs::chmod(&host, Mode::from_raw_mode(0o644)).op_path("set mode of", &host)?;
        provided.push(Provided {
            path: file.path.clone(),
            host,
            content: file.content.clone(),
        });
    }
    Ok(provided)
}

impl Provided {
    fn keep_if_changed(&self, scene: Scene, tree: &Tree) -> Result<()> {
        let now = std::fs::read(&self.host).op_path("read", &self.host)?;
        if now == self.content {
            return Ok(());
        }
        let write = || -> rustix::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            let fd = tree
                .merged
                .open(&self.path, flags, Mode::from_raw_mode(0o644))?;
            let stat = rustix::fs::fstat(&fd)?;
            if stat.st_uid != scene.ids.first && scene.ids.to_container(stat.st_uid).is_none() {
                let id = scene.ids.first;
                let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
                rustix::fs::chownat(&fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
            }
            let mut rest = &now[..];
            while !rest.is_empty() {
                let n = rustix::io::write(&fd, rest)?;
                rest = &rest[n..];
            }
            Ok(())
        };
        write().map_err(|e| {
            Error::new("keep what the step wrote to")
                .path(&self.path)
                .source(e)
        })
    }
}
