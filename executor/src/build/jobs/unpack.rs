//! Applies one layer's archive: the snapshot of a base layer.
//!
//! Invariant: the archive's digest is computed over all of it, and the main process commits the
//! snapshot only when it is the one that the image config promises.

use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Scene;
use super::tree::Staged;
use crate::error::{Result, ResultExt};
use crate::image::digest::{Digest, HashingReader};
use crate::layer::compress;
use crate::layer::tar_apply::{self, ApplyOptions};

/// Unpack a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// The layer's archive in the store, compressed or not.
    pub blob: PathBuf,
    /// The most bytes that it may unpack to.
    pub max_bytes: u64,
}

/// A layer was unpacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackReply {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// What could not be kept, for people.
    pub notes: Vec<String>,
}

pub(super) fn unpack(scene: Scene, task: &UnpackTask) -> Result<UnpackReply> {
    let tree = task.tree.open(scene)?;
    let file = File::open(&task.blob).op_path("open layer", &task.blob)?;
    let (_, archive) = compress::sniff(file).op_path("read layer", &task.blob)?;
    let mut reader = HashingReader::new(archive);
    let mut options = ApplyOptions::layer(&tree.ownership);
    options.limits.bytes = task.max_bytes;
    let applied = tar_apply::apply(&mut reader, &tree.merged, &options)?;
    let (_, diff_id, size) = reader.finish();
    tree.finish(applied.stand_ins)?;
    Ok(UnpackReply {
        diff_id,
        bytes: size,
        notes: applied.notes(),
    })
}
