//! COPY and ADD: files into a staged tree, and the layer that this makes.
//!
//! Others who need files of the caller's as a tree (a mount of the context, for example) take a part
//! of their own: `Source::Directory` with the context's root as descriptor, a request for `.` with its
//! ignore file, and `link` for a tree that knows nothing of what is below.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use runtime::path::Root;

use super::tree::{self, LayerReply, Staged, Tree};
use super::{Descriptors, Scene};
use crate::build::add;
use crate::build::copy::{self, CopyRequest, Origin};
use crate::error::Result;
use crate::image::digest::Digest;

/// Copy files and take the layer. Descriptors: the layer's file, then the directory of each part
/// that has one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// What to copy, in order.
    pub parts: Vec<CopyPart>,
    /// `--link`: the layer does not depend on what is below.
    pub link: bool,
}

/// Files to copy from one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyPart {
    /// Where the files are.
    pub source: Source,
    /// What to copy, and how.
    pub request: CopyRequest,
    /// Whether archives are unpacked.
    pub unpack: bool,
}

/// Where files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// Under a directory of the caller's, given by descriptor.
    Directory,
    /// In another stage's or image's snapshots, topmost first.
    Snapshots(Vec<PathBuf>),
}

/// Files were copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyReply {
    /// The layer.
    pub layer: LayerReply,
    /// Identity of the files that were read, for each part, to compare with the selection's.
    pub stamps: Vec<Digest>,
    /// What could not be kept, for people.
    pub notes: Vec<String>,
}

pub(super) fn copy(scene: Scene, task: &CopyTask, fds: &mut Descriptors) -> Result<CopyReply> {
    let out = fds.take()?;
    let tree = if task.link {
        task.tree.open_apart(scene)?
    } else {
        task.tree.open(scene)?
    };
    let copied = copy_parts(scene, &tree, &task.parts, fds)?;
    Ok(CopyReply {
        layer: tree.write_layer(scene, out)?,
        stamps: copied.stamps,
        notes: copied.notes,
    })
}

/// What copying has shown.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) stamps: Vec<Digest>,
    pub(super) notes: Vec<String>,
    pub(super) bytes: u64,
}

/// Copies each part into a tree.
pub(super) fn copy_parts(
    scene: Scene,
    tree: &Tree,
    parts: &[CopyPart],
    fds: &mut Descriptors,
) -> Result<Copied> {
    let mut copied = Copied::default();
    let mut is_file = false;
    for part in parts {
        let (root, owners) = match &part.source {
            Source::Directory => (Root::new(fds.take()?), None),
            Source::Snapshots(lowers) => {
                let (root, owners) = tree::open_readonly(scene, lowers)?;
                (root, Some(owners))
            }
        };
        let source = Origin {
            root: &root,
            owners: owners.as_ref(),
        };
        let work = if part.unpack { add::add } else { copy::copy };
        let stats = work(source, &tree.merged, &part.request, &tree.ownership)?;
        if is_file && stats.is_file {
            return Err(copy::several_to_one(&part.request.dest));
        }
        is_file |= stats.is_file;
        copied.stamps.push(stats.stamp);
        copied.notes.extend(stats.warnings);
        copied.bytes += stats.bytes;
    }
    Ok(copied)
}
