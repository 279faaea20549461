//! The writable tree of a step: an overlay over the snapshots below, and the layer it becomes.
//!
//! Responsible for staging directories and for turning an upper directory into a layer's archive.
//! Invariant: the layer is read from the upper directory after the overlay is gone, so it is what
//! the next step will see.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use runtime::identity::Identity;
use runtime::path::Root;
use runtime::rootfs::overlay;

use super::Scene;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{Digest, HashingWriter};
use crate::layer::diff::{self, DiffOptions};
use crate::store::steady::Steady;

/// Where a step works: the snapshots below, topmost first, and a staging directory of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Staged {
    /// Snapshot directories, topmost first; empty for a stage from `scratch`.
    pub lowers: Vec<PathBuf>,
    /// The staging directory, with `fs` in it.
    pub staging: PathBuf,
    /// The latest time that a file of the layer may have, in seconds since the epoch.
    pub latest: Option<i64>,
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
    upper: PathBuf,
    latest: Option<i64>,
}

impl Staged {
    /// Prepares the staging directory and mounts the step's view.
    pub(super) fn open(&self, scene: Scene) -> Result<Tree> {
        let upper = self.staging.join("fs");
        prepare_root(scene, &upper, self.lowers.first().map(PathBuf::as_path))?;
        let merged = if self.lowers.is_empty() {
            Root::open_host(&upper).op_path("open", &upper)?
        } else {
            let work = self.staging.join("work");
            std::fs::create_dir(&work).op_path("create", &work)?;
            let mount = overlay::mount(&self.lowers, Some((&upper, &work))).op("mount overlay")?;
            Root::new(mount)
        };
        Ok(Tree {
            merged,
            upper,
            latest: self.latest,
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

    /// Ends the view and writes the layer's archive to `out`.
    pub(super) fn write_layer(self, scene: Scene, out: OwnedFd) -> Result<LayerReply> {
        drop(self.merged);
        let upper = Root::open_host(&self.upper).op_path("open", &self.upper)?;
        let mut out = HashingWriter::new(Steady::new(File::from(out)));
        let options = DiffOptions {
            ids: scene.ids,
            latest: self.latest,
        };
        let stats = diff::write_diff(&upper, options, &mut out)?;
        out.flush().op("write layer")?;
        let (_, digest, size) = out.finish();
        Ok(LayerReply {
            digest,
            size,
            bytes: stats.bytes,
            notes: stats.notes(),
        })
    }
}

/// Prepares the root directory of a new snapshot. The upper's root is what the merged root looks
/// like, so it takes the attributes of the one below.
pub(super) fn prepare_root(scene: Scene, dir: &Path, below: Option<&Path>) -> Result<()> {
    let fd = rustix::fs::open(
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .op_path("open", dir)?;
    let (uid, gid, mode) = match below {
        Some(below) => {
            let stat = rustix::fs::stat(below).op_path("read status of", below)?;
            (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
        }
        None => (scene.ids.first, scene.ids.first, 0o755),
    };
    rustix::fs::chownat(
        &fd,
        "",
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::EMPTY_PATH,
    )
    .op_path("set owner of", dir)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).op_path("set mode of", dir)
}

/// Mounts a stack of snapshots for reading.
pub(super) fn open_readonly(lowers: &[PathBuf]) -> Result<Root> {
    if lowers.is_empty() {
        return Err(Error::new("the image has no files").hint("it is made from `scratch`"));
    }
    overlay::mount(lowers, None)
        .map(Root::new)
        .op("mount overlay")
}

/// Tells whether ids other than the caller's exist.
pub(super) fn has_ids(identity: Identity) -> bool {
    !matches!(identity, Identity::Single)
}

/// The error for an owner that this identity cannot give a file.
pub(super) fn no_such_id(scene: Scene, path: &str, uid: u32, gid: u32) -> Error {
    let error = Error::new(format!(
        "`{path}` needs owner {uid}:{gid}, but this build has only {} id{}",
        scene.ids.count,
        if scene.ids.count == 1 { "" } else { "s" }
    ));
    if has_ids(scene.identity) {
        error
    } else {
        error.hint("give the user a range in /etc/subuid and /etc/subgid; see `sandcrab doctor`")
    }
}
