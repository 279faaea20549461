//! The flattened root file system as one tar.
//!
//! Responsible for the archive of `type=tar`. Runs in a job, where the tree's owners are real.
//! Must not know of layers: the tree is the merged view.

use std::io::Write;

use runtime::identity::Ownership;
use runtime::path::Root;

use crate::error::Result;
use crate::layer::diff::{DiffOptions, write_diff};

/// Writes the whole tree with owners as in the container. Returns what a tar could not hold, one
/// line each.
///
/// # Errors
/// When a file cannot be read or named; those of `out`.
pub fn export_tar(root: &Root, ownership: &Ownership, out: impl Write) -> Result<Vec<String>> {
    // A tree is a layer over nothing: in a merged view no deletions are left to see.
    let options = DiffOptions {
        ownership,
        latest: None,
    };
    Ok(write_diff(root, options, out)?.notes())
}
