//! Outputs that are trees: the flattened file system as an archive or as the caller's files.

use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tree;
use super::{Descriptors, Scene};
use crate::error::Result;
use crate::layer::tar_write::Place;
use crate::output;
use crate::output::local::LocalOptions;

/// Write the tree as an archive. Descriptor: where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportTarTask {
    /// Snapshot directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The archive's directory that the tree goes into; empty for its root.
    pub below: String,
    /// The latest time of a file, in seconds since the epoch.
    pub latest: Option<i64>,
    /// Whether the archive ends here.
    pub last: bool,
}

/// Write the tree as files of the caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportLocalTask {
    /// Snapshot directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// An existing directory of the caller's.
    pub dest: PathBuf,
    /// Whether what the directory has besides the tree is removed.
    pub delete: bool,
    /// The latest time of a file, in seconds since the epoch.
    pub latest: Option<i64>,
}

pub(super) fn tar(
    scene: Scene,
    task: &ExportTarTask,
    fds: &mut Descriptors,
) -> Result<Vec<String>> {
    let out = File::from(fds.take()?);
    let (root, ownership) = tree::open_readonly(scene, &task.lowers)?;
    let place = Place {
        below: task.below.clone().into_bytes(),
        latest: task.latest,
    };
    output::tar::export_tar(&root, &ownership, place, task.last, out)
}

pub(super) fn local(scene: Scene, task: &ExportLocalTask) -> Result<Vec<String>> {
    let (root, ownership) = tree::open_readonly(scene, &task.lowers)?;
    let options = LocalOptions {
        delete: task.delete,
        latest: task.latest,
    };
    output::local::export_local(&root, &ownership, &task.dest, options)
}
