//! What is mounted during a RUN step, on the job's side.
//!
//! Responsible for the request's form and for turning it into what the sandbox mounts. Must not
//! decide what a step sees.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime::identity::{Owner, Specials};
use runtime::path::Root;
use runtime::rootfs::overlay;
use runtime::rootfs::step_mounts::{self, Content, StepMount as Wanted};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::Scene;
use super::specials::{self, Stack};
use super::tree::{Tree, prepare_root};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::plan::step::Permissions;

/// Something that is mounted during a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepMount {
    /// Where the step sees it, absolute.
    pub target: String,
    /// What it is.
    pub content: MountContent,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountContent {
    /// A program that can only be read and executed.
    Script(String),
    /// An empty file system in memory, with the most bytes that it holds.
    Tmpfs(Option<u64>),
    /// A file in memory with one of the secrets.
    Secret {
        /// Its number among those that came with the request.
        number: usize,
        /// The file's.
        permissions: Permissions,
    },
    /// A place in a stack of snapshots.
    Tree {
        /// Snapshot directories, topmost first.
        lowers: Vec<PathBuf>,
        /// The place, absolute.
        source: String,
        /// Where what is written goes, a directory that is not there yet; without it nothing can be.
        scratch: Option<PathBuf>,
    },
    /// A cache mount.
    Cache {
        /// Its tree.
        fs: PathBuf,
        /// Whether it can't be written to.
        read_only: bool,
    },
    /// A socket, on which the main process listens.
    Socket {
        /// Its directory, in which it is alone.
        dir: PathBuf,
        /// Its name there.
        name: String,
        /// The socket's; its mode is set already.
        permissions: Permissions,
    },
}

/// Mounts that are ready, and who owns what in them that can't carry a record.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// In order.
    pub(super) mounts: Vec<Wanted>,
    /// Whether files in them stand for devices.
    pub(super) devices: bool,
    /// Trees that outlive the step.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    root: Root,
    fs: PathBuf,
    had_owners: bool,
}

impl Opened {
    /// Writes the owners of what can't carry a record in trees that outlive the step beside them.
    pub(super) fn keep_owners(&self, table: &Specials) -> Result<()> {
        for kept in &self.kept {
            let device = rustix::fs::fstat(&kept.root)
                .op("read status of mount")?
                .st_dev;
            if kept.had_owners || table.iter().any(|(inode, _)| inode.dev == device) {
                let owners = specials::collect(&kept.root, &kept.root, table)?;
                specials::replace(&kept.fs, &owners)?;
            }
        }
        Ok(())
    }
}

/// Makes what the sandbox mounts.
pub(super) fn open(
    scene: Scene,
    tree: &Tree,
    mounts: &[StepMount],
    secrets: &[Vec<u8>],
) -> Result<Opened> {
    let mut opened = Opened::default();
    for mount in mounts {
        let (content, read_only) = match &mount.content {
            MountContent::Script(text) => (
                Content::File {
                    content: text.clone().into_bytes(),
                    mode: 0o755,
                    owner: Owner::ROOT,
                    inert: false,
                },
                true,
            ),
            MountContent::Tree {
                lowers,
                source,
                scratch,
            } => {
                let mount = stack(scene, lowers, scratch.as_deref())?;
                learn(tree, lowers, &mount, &mut opened.devices)?;
                let source = source.clone().into();
                (Content::Tree { mount, source }, scratch.is_none())
            }
            MountContent::Cache { fs, read_only } => {
                let root = Root::open_host(fs).op_path("open", fs)?;
                let mount = step_mounts::copy(&root).op("mount cache")?;
                let lowers = std::slice::from_ref(fs);
                let had_owners = learn(tree, lowers, &mount, &mut opened.devices)?;
                if tree.ownership.is_emulated() && !read_only {
                    opened.kept.push(Kept {
                        root,
                        fs: fs.clone(),
                        had_owners,
                    });
                }
                let source = "/".into();
                (Content::Tree { mount, source }, *read_only)
            }
            MountContent::Socket {
                dir,
                name,
                permissions,
            } => {
                let mount = socket(tree, dir, name, owner(*permissions))?;
                let source = "/".into();
                // It can be connected to, but neither be given to others nor renamed.
                (Content::Tree { mount, source }, true)
            }
            MountContent::Tmpfs(size) => (Content::Memory { size: *size }, false),
            MountContent::Secret {
                number,
                permissions,
            } => (
                Content::File {
                    content: value(secrets, *number)?.to_vec(),
                    mode: permissions.mode,
                    owner: owner(*permissions),
                    inert: true,
                },
                true,
            ),
        };
        opened.mounts.push(Wanted {
            target: mount.target.clone().into(),
            content,
            read_only,
        });
    }
    Ok(opened)
}

/// Gives a socket to its owner, and copies the mount at it.
fn socket(tree: &Tree, dir: &Path, name: &str, owner: Owner) -> Result<OwnedFd> {
    let root = Root::open_host(dir).op_path("open", dir)?;
    let set = tree.ownership.set_special(&root, OsStr::new(name), owner);
    set.map_err(|e| Error::new("set the owner of a socket for the step").source(e))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = root.open(Path::new(name), flags, Mode::empty());
    let socket = socket.op_path("open socket in", dir)?;
    step_mounts::copy(&socket).op("mount socket")
}

/// Mounts snapshots.
fn stack(scene: Scene, lowers: &[PathBuf], scratch: Option<&Path>) -> Result<OwnedFd> {
    if lowers.is_empty() {
        return Err(Error::new(
            "nothing to mount: the source of the mount has no files",
        ));
    }
    let Some(scratch) = scratch else {
        return overlay::mount(lowers, None).op("mount overlay");
    };
    let (upper, work) = (scratch.join("fs"), scratch.join("work"));
    for dir in [scratch, &upper, &work] {
        std::fs::create_dir(dir).op_path("create", dir)?;
    }
    prepare_root(scene, &upper, lowers.first().map(PathBuf::as_path))?;
    overlay::mount(lowers, Some((&upper, &work))).op("mount overlay")
}

/// Adds to the step's table who owns what in another tree; returns whether anything is said of it.
fn learn(tree: &Tree, lowers: &[PathBuf], view: &OwnedFd, devices: &mut bool) -> Result<bool> {
    if !tree.ownership.is_emulated() {
        return Ok(false);
    }
    let stack = Stack::read(lowers)?;
    *devices |= stack.has_devices();
    let view = Root::new(view.try_clone().op("duplicate descriptor")?);
    let visible = stack.visible(&view)?;
    tree.ownership
        .learn(specials::by_inode(&visible)?)
        .op("keep owners")?;
    Ok(!visible.is_empty())
}

/// Returns a secret by its number.
pub(super) fn value(secrets: &[Vec<u8>], number: usize) -> Result<&[u8]> {
    let found = secrets.get(number).map(Vec::as_slice);
    found.ok_or_else(|| Error::new("a secret did not come with its job").kind(Kind::Internal))
}

pub(super) fn owner(permissions: Permissions) -> Owner {
    Owner {
        uid: permissions.uid,
        gid: permissions.gid,
    }
}
