//! What is attested about the files of an image.
//!
//! Responsible for having a job look at them. Must not know what becomes of it.

use std::io::{BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;

pub use super::jobs::Wanted;
use super::jobs::{ScanTask, Task};
use super::state::State;
use super::trees::Trees;
use super::worker::Worker;
use crate::attest::files::Scan;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::store::lock::Session;

/// Looks at the files of a finished image.
///
/// # Errors
/// Those of unpacking, and of the job.
pub fn scan(
    state: &State,
    session: &Session,
    worker: &Worker,
    trees: &Trees<'_>,
    wanted: Wanted,
) -> Result<Scan> {
    if state.layers.is_empty() {
        return Ok(Scan::default());
    }
    let mut file = tempfile::tempfile_in(session.scratch().dir()).op("create a file")?;
    let task = Task::Scan(ScanTask {
        lowers: trees.lowers(&state.layers, "the result")?,
        wanted,
    });
    worker.submit(&task, &[file.as_fd()])?;
    file.seek(SeekFrom::Start(0)).op("read what was found")?;
    serde_json::from_reader(BufReader::new(file)).map_err(|e| {
        Error::new("read what was found")
            .kind(Kind::Internal)
            .source(e)
    })
}
