//! COPY and ADD: files into a staged tree, and the layer that this makes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use runtime::path::Root;

use super::tree::{self, LayerReply, Staged};
use super::{Descriptors, Scene};
use crate::build::copy::{self, CopyRequest};
use crate::build::users;
use crate::error::Result;

/// Copy files and take the layer. Descriptors: the layer's file, then the source directory when
/// `source` is [`Source::Directory`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// Where the files are.
    pub source: Source,
    /// `--chown=`, verbatim; resolved in the destination tree.
    pub chown: Option<String>,
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

pub(super) fn copy(scene: Scene, task: CopyTask, fds: &mut Descriptors) -> Result<LayerReply> {
    let out = fds.take()?;
    let source = match &task.source {
        Source::Directory => Root::new(fds.take()?),
        Source::Snapshots(lowers) => tree::open_readonly(lowers)?,
    };
    let tree = task.tree.open(scene, &[])?;
    let mut request = task.request;
    if let Some(spec) = &task.chown {
        request.owner = Some(users::resolve_owner(&tree.merged, spec)?);
    }
    copy::copy(&source, &tree.merged, &request, scene.ids)?;
    tree.write_layer(scene, out)
}
