//! What else a container sees while it runs: trees, files in memory, file systems in memory.
//!
//! Responsible for attaching them in the order in which they are listed, each at a place inside the
//! container. Must not know why they are wanted. Invariant: targets and sources are resolved inside
//! their roots, whatever links say there; a place that was missing is made, and goes again.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::files::Created;
use super::{devices, mount};
use crate::error::{Error, Result, ResultExt};
use crate::identity::{IdMap, Identity, Owner, Ownership};
use crate::path::Root;

/// Something that is mounted while a container runs.
#[derive(Debug)]
pub struct StepMount {
    /// Where the container sees it: absolute, resolved inside the container, links followed.
    pub target: PathBuf,
    /// What it is.
    pub content: Content,
    /// Whether the container can't write to it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum Content {
    /// A place in the tree of a detached mount.
    Tree {
        /// The mount.
        mount: OwnedFd,
        /// The place, resolved inside the mount, links followed; `/` for all of it.
        source: PathBuf,
    },
    /// An empty file system in memory.
    Memory {
        /// The most bytes that it holds; half of the machine's memory without it.
        size: Option<u64>,
    },
    /// A file in memory.
    File {
        /// What is in it.
        content: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// Who owns it in the container.
        owner: Owner,
        /// Whether it can't be executed, either.
        inert: bool,
    },
}

/// Copies the mount at a directory, from there downwards, or at a file.
///
/// # Errors
/// Those of open_tree(2).
pub fn copy(place: impl AsFd) -> Result<OwnedFd> {
    mount::copy_at(place.as_fd(), false).op("copy mount")
}

/// Attaches each mount. Afterwards the host's `/proc` is hidden in this mount namespace.
pub(crate) fn attach(
    root: &Root,
    identity: Identity,
    ids: IdMap,
    mounts: Vec<StepMount>,
    created: &mut Created,
) -> Result<()> {
    for wanted in mounts {
        let target = wanted.target;
        let mut attributes = MountAttrFlags::empty();
        if wanted.read_only {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let tree = match wanted.content {
            Content::Tree { mount, source } => {
                attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
                part_of(mount, &source)?
            }
            Content::Memory { size } => {
                attributes |= mount::INERT - MountAttrFlags::MOUNT_ATTR_NOEXEC;
                memory(ids, size)?
            }
            Content::File {
                content,
                mode,
                owner,
                inert,
            } => {
                attributes |= mount::INERT;
                if !inert {
                    attributes -= MountAttrFlags::MOUNT_ATTR_NOEXEC;
                }
                let ownership = Ownership::new(identity, ids);
                file(ids, &ownership, &content, mode, owner)?
            }
        };
        mount::restrict(tree.as_fd(), false, attributes).op_path("restrict mount on", &target)?;
        let stat = fstat(&tree).op_path("mount on", &target)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let point = created.open_or_create(root, ids, &target, is_dir)?;
        mount::attach(tree, point).map_err(|errno| {
            let error = Error::new("mount on").path(&target).cause(errno);
            match (errno, is_dir) {
                (Errno::NOTDIR, true) => error.hint("a directory can't be mounted on a file"),
                (Errno::NOTDIR, false) => error.hint("a file can't be mounted on a directory"),
                _ => error,
            }
        })?;
    }
    Ok(())
}

/// A place of the host that is not needed any more, where mounts can be attached for a moment: it goes
/// with the host's root. Before Linux 6.15 only what is attached somewhere can be copied.
const PLACE: &str = "/proc";

/// Copies the mount at a place of a detached one.
fn part_of(whole: OwnedFd, source: &Path) -> Result<OwnedFd> {
    if source == Path::new("/") {
        return Ok(whole);
    }
    mount::attach_at(&whole, Path::new(PLACE)).op("attach source of mount")?;
    let root = Root::new(whole);
    let part = root
        .open(source, OFlags::PATH, Mode::empty())
        .map_err(|errno| {
            let error = Error::new("open source of mount").path(source);
            error.cause(errno)
        })?;
    mount::copy_at(part.as_fd(), false).op_path("open source of mount", source)
}

fn memory(ids: IdMap, size: Option<u64>) -> Result<OwnedFd> {
    let size = size.map_or_else(|| "50%".to_owned(), |bytes| bytes.to_string());
    devices::tmpfs(ids, "1777", &size, MountAttrFlags::empty())
}

fn file(
    ids: IdMap,
    ownership: &Ownership,
    content: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<OwnedFd> {
    // A page more than there is, since nothing else goes there.
    let room = (content.len() + 8192).to_string();
    let memory = devices::tmpfs(ids, "0700", &room, MountAttrFlags::empty())?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = openat(&memory, "file", flags, Mode::from_raw_mode(0o600)).op("create file")?;
    let mut fd = File::from(fd);
    fd.write_all(content).op("write file")?;
    ownership
        .set(&fd, owner)
        .map_err(|e| Error::new("set owner of file").cause(e.to_string()))?;
    fchmod(&fd, Mode::from_raw_mode(mode)).op("set mode of file")?;
    mount::attach_at(&memory, Path::new(PLACE)).op("attach file")?;
    mount::copy_at(fd.as_fd(), false).op("attach file")
}
