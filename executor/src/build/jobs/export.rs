//! Outputs that are trees: the flattened file system as an archive or as the caller's files.

use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tree;
use super::{Descriptors, Scene};
use crate::error::Result;
use crate::output;

/// Write the tree as an archive. Descriptor: where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportTarTask {
    /// Snapshot directories, topmost first.
    pub lowers: Vec<PathBuf>,
}

/// Write the tree as files of the caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportLocalTask {
    /// Snapshot directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// An existing directory of the caller's.
    pub dest: PathBuf,
}

pub(super) fn tar(
    scene: Scene,
    task: &ExportTarTask,
    fds: &mut Descriptors,
) -> Result<Vec<String>> {
    let out = File::from(fds.take()?);
    let (root, ownership) = tree::open_readonly(scene, &task.lowers)?;
    output::tar::export_tar(&root, &ownership, out)
}

pub(super) fn local(scene: Scene, task: &ExportLocalTask) -> Result<Vec<String>> {
    let (root, ownership) = tree::open_readonly(scene, &task.lowers)?;
    output::local::export_local(&root, &ownership, &task.dest)
}
