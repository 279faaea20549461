//! What copies and mounts take of other trees, as digests of it.
//!
//! Responsible for reading trees of the store for the sake of keys. Must not change anything.
//! Invariant: what has the same digest is the same to a step, but for times.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Scene;
use super::tree::open_readonly;
use crate::context::digest::{NoDigests, SelectRequest, select};
use crate::context::ignore::Matcher;
use crate::context::walk::Pick;
use crate::dockerfile::mode::FileMode;
use crate::error::Result;
use crate::image::digest::Digest;

/// Read what is taken of trees. No descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContentTask {
    /// What is taken, in order.
    pub parts: Vec<ContentPart>,
}

/// What is taken of one tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContentPart {
    /// The tree's snapshots, topmost first.
    pub lowers: Vec<PathBuf>,
    /// What is taken.
    pub pick: Pick,
    /// The permissions that it gets.
    pub chmod: Option<FileMode>,
    /// Whether a directory is taken with its own owner and permissions.
    pub whole: bool,
}

/// Returns one digest for each part; `None` for one that can't be read, which is for the step to say.
pub(super) fn content(scene: Scene, task: &ContentTask) -> Vec<Option<Digest>> {
    let read = |part: &ContentPart| -> Result<Digest> {
        let (root, owners) = open_readonly(scene, &part.lowers)?;
        let request = SelectRequest {
            pick: &part.pick,
            chmod: part.chmod.as_ref(),
            owners: Some(&owners),
            whole: part.whole,
        };
        Ok(select(&root, &Matcher::none(), &request, &NoDigests)?.digest)
    };
    task.parts.iter().map(|part| read(part).ok()).collect()
}
