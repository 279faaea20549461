//! COPY and ADD: files into a staged tree, and the layer that this makes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use runtime::path::Root;

use super::tree::{self, LayerReply, Staged};
use super::{Descriptors, Scene};
use crate::build::copy::{self, CopyRequest};
use crate::error::Result;
use crate::image::digest::Digest;

/// Copy files and take the layer. Descriptors: the layer's file, then the source directory when
/// `source` is [`Source::Directory`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// Where the files are.
    pub source: Source,
    /// What to copy, and how.
    pub request: CopyRequest,
}

/// Where COPY's files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// A directory of the caller's, given by descriptor.
    Directory,
    /// Another stage's or image's snapshots, topmost first.
    Snapshots(Vec<PathBuf>),
}

/// Files were copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyReply {
    /// The layer.
    pub layer: LayerReply,
    /// Identity of the files that were read, to compare with the selection's.
    pub stamp: Digest,
    /// What could not be kept, for people.
    pub notes: Vec<String>,
}

pub(super) fn copy(scene: Scene, task: CopyTask, fds: &mut Descriptors) -> Result<CopyReply> {
    let out = fds.take()?;
    let source = match &task.source {
        Source::Directory => Root::new(fds.take()?),
        Source::Snapshots(lowers) => tree::open_readonly(lowers)?,
    };
    let tree = task.tree.open(scene, &[])?;
    let ids = scene.ids;
    let stats = copy::copy(&source, &tree.merged, &task.request, ids, scene.identity)?;
    drop(source);
    Ok(CopyReply {
        layer: tree.write_layer(scene, out)?,
        stamp: stats.stamp,
        notes: stats.warnings,
    })
}
