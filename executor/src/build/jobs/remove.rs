//! Removes and measures trees whose owners only exist inside the build's user namespace.
//!
//! Invariant: nothing outside the named trees is touched, whatever links they hold: the walk is
//! by descriptor and never follows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::measure::{self, Size};
use crate::store::removal;

/// Remove these trees of the store; one that is not there is no error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveTask {
    /// The trees.
    pub paths: Vec<PathBuf>,
}

/// Measure these trees of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeasureTask {
    /// The trees.
    pub paths: Vec<PathBuf>,
}

pub(super) fn measure(task: &MeasureTask) -> Vec<Size> {
    task.paths.iter().map(|path| measure::tree(path)).collect()
}

pub(super) fn remove(task: &RemoveTask) -> Result<()> {
    match removal::remove(&task.paths).into_iter().next() {
        Some((path, error)) => Err(Error::new("remove").path(path).source(error)),
        None => Ok(()),
    }
}
