//! The writable tree of a step: an overlay over the snapshots below, and the layer it becomes.
//!
//! Responsible for staging directories, for the view and for its end. Must not write archives.
//! Invariant: the layer is read from the upper directory after the overlay is gone, so it is what
//! the next step will see.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use runtime::identity::{Owner, Owners, Ownership};
use runtime::path::Root;
use runtime::rootfs::overlay;

use super::Scene;
use super::archive::Ended;
use super::specials::{self, Stack};
use super::untouched;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;

/// Where a step works: the snapshots below, topmost first, and a staging directory of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Staged {
    /// Snapshot directories, topmost first; empty for a stage from `scratch`.
    pub lowers: Vec<PathBuf>,
    /// The staging directory, with `fs` in it.
    pub staging: PathBuf,
    /// The latest time that a file of the layer may have, in seconds since the epoch.
    pub latest: Option<i64>,
    /// Whether the layer is without attributes `user.*`.
    pub without_user: bool,
}

/// The layer that a job wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerReply {
    /// Digest of the uncompressed archive.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Size of the files in it, in bytes.
    pub bytes: u64,
    /// What could not be kept, for people.
    pub notes: Vec<String>,
}

/// A staged tree that is being written.
#[derive(Debug)]
pub(super) struct Tree {
    /// The step's view.
    pub(super) merged: Root,
    /// Who owns what in it.
    pub(super) ownership: Ownership,
    /// Whether files below stand for devices.
    pub(super) devices: bool,
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    staging: PathBuf,
    latest: Option<i64>,
    without_user: bool,
    /// Directories that may have been copied up for nothing.
    touched: Vec<PathBuf>,
}

impl Staged {
    /// Prepares the staging directory and mounts the step's view.
    pub(super) fn open(&self, scene: Scene) -> Result<Tree> {
        self.open_on(scene, &self.lowers)
    }

    /// Prepares the staging directory for a layer that knows nothing of what is below it. Only the
    /// root directory is as there, since the topmost snapshot's is that of the whole tree.
    pub(super) fn open_apart(&self, scene: Scene) -> Result<Tree> {
        self.open_on(scene, &[])
    }

    fn open_on(&self, scene: Scene, lowers: &[PathBuf]) -> Result<Tree> {
        let upper = self.staging.join("fs");
        prepare_root(scene, &upper, self.lowers.first().map(PathBuf::as_path))?;
        let merged = if lowers.is_empty() {
            Root::open_host(&upper).op_path("open", &upper)?
        } else {
            let work = self.staging.join("work");
            std::fs::create_dir(&work).op_path("create", &work)?;
            let mount = overlay::mount(lowers, Some((&upper, &work))).op("mount overlay")?;
            Root::new(mount)
        };
        let ownership = scene.ownership();
        let (ownership, devices) = if ownership.is_emulated() {
            let stack = Stack::read(lowers)?;
            let below = specials::by_inode(&stack.visible(&merged)?)?;
            (ownership.over(below), stack.has_devices())
        } else {
            (ownership, false)
        };
        Ok(Tree {
            merged,
            ownership,
            devices,
            lowers: self.lowers.clone(),
            upper,
            staging: self.staging.clone(),
            latest: self.latest,
            without_user: self.without_user,
            touched: Vec::new(),
        })
    }
}

impl Tree {
    /// Returns another handle of the step's view.
    pub(super) fn handle(&self) -> Result<OwnedFd> {
        self.merged
            .as_fd()
            .try_clone_to_owned()
            .op("duplicate descriptor")
    }

    /// Says in which directories something was made and removed again. They are no part of the layer,
    /// unless something else has changed there.
    pub(super) fn forget(&mut self, touched: Vec<PathBuf>) {
        self.touched = touched;
    }

    /// Ends the view and writes the layer's archive to `out`.
    pub(super) fn write_layer(self, scene: Scene, out: OwnedFd) -> Result<LayerReply> {
        self.end()?.archive(scene, out)
    }

    /// Ends the view: the upper directory is as the next step will see it.
    pub(super) fn end(self) -> Result<Ended> {
        let upper = Root::open_host(&self.upper).op_path("open", &self.upper)?;
        let owners = self.owners(&upper)?;
        drop(self.merged);
        untouched::remove(&upper, &self.lowers, &self.touched)?;
        Ok(Ended {
            upper,
            staging: self.staging,
            owners,
            latest: self.latest,
            without_user: self.without_user,
            announced: false,
        })
    }

    /// Ends the view of a layer that is in the store already.
    pub(super) fn finish(self, stand_ins: u64) -> Result<()> {
        let upper = Root::open_host(&self.upper).op_path("open", &self.upper)?;
        let mut owners = self.owners(&upper)?;
        if stand_ins > 0 {
            owners.note_devices();
        }
        specials::write(&self.staging, &owners)
    }

    /// Returns the owners of links and the like in the upper directory, while the view is there.
    fn owners(&self, upper: &Root) -> Result<Owners> {
        if self.ownership.has_changed_specials() {
            specials::collect(upper, &self.merged, &self.ownership.take_specials())
        } else {
            Ok(Owners::new())
        }
    }
}

/// Prepares the root directory of a new snapshot. The upper's root is what the merged root looks
/// like, so it takes the attributes of the one below.
pub(super) fn prepare_root(scene: Scene, dir: &Path, below: Option<&Path>) -> Result<()> {
    let open = |dir: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(dir, flags, Mode::empty()).op_path("open", dir)
    };
    let ownership = scene.ownership();
    let fd = open(dir)?;
    let (owner, mode) = match below {
        Some(below) => {
            let below_fd = open(below)?;
            let stat = rustix::fs::fstat(&below_fd).op_path("read status of", below)?;
            let record = ownership
                .record(&below_fd, &stat)
                .op_path("read the owner of", below)?;
            (record.owner, stat.st_mode & 0o7777)
        }
        None => (Owner::ROOT, 0o755),
    };
    ownership.set(&fd, owner).op_path("set owner of", dir)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).op_path("set mode of", dir)
}

/// Mounts a stack of snapshots for reading; returns who owns what in it, too.
pub(super) fn open_readonly(scene: Scene, lowers: &[PathBuf]) -> Result<(Root, Ownership)> {
    if lowers.is_empty() {
        return Err(Error::new("the image has no files").hint("it is made from `scratch`"));
    }
    let root = overlay::mount(lowers, None)
        .map(Root::new)
        .op("mount overlay")?;
    let mut ownership = scene.ownership();
    if ownership.is_emulated() {
        let visible = Stack::read(lowers)?.visible(&root)?;
        ownership = ownership.knowing(specials::by_path(visible));
    }
    Ok((root, ownership))
}

/// The error for an owner that this identity cannot give a file.
pub(super) fn no_such_id(scene: Scene, path: &str, owner: Owner) -> Error {
    let count = scene.ids.count;
    Error::new(format!(
        "`{path}` needs owner {owner}, but this build has only {count} id{}",
        if count == 1 { "" } else { "s" }
    ))
    .hint("`--isolation=emulated` has every id")
}
