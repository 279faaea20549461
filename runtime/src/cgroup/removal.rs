//! Removing a group.
//!
//! Responsible for the group and those below it, in every hierarchy. Must not kill anything.
//! Invariant: a group that is gone already is no error, and only groups are removed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::{Errno, Result as IoResult};

use super::files::Directory;
use super::{Group, Place};
use crate::error::{Result, ResultExt};

/// How long processes may take to go that were killed, in all hierarchies together: what one may
/// need that is stuck in a slow device.
const PATIENCE: Duration = Duration::from_secs(2);

impl Group {
    /// Removes the group in every hierarchy, with the groups below it. Its processes must have
    /// been killed; the kernel needs a moment to let go of them.
    ///
    /// # Errors
    /// A process is left in it. What can be removed is removed all the same.
    pub fn remove(&self) -> Result<()> {
        // When its manager doesn't answer, the unit ends with its group all the same.
        if let Some(scope) = &self.scope {
            drop(super::systemd::stop(scope));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut result = Ok(());
        for place in self.unified.iter().chain(&self.legacy) {
            let removed = remove_place(place, deadline);
            result = result.and(removed);
        }
        result
    }
}

fn remove_place(place: &Place, deadline: Instant) -> Result<()> {
    let shown = super::files::below(&place.mount, &place.path);
    let (Some(parent), Some(name)) = (
        place.path.parent(),
        place.path.file_name().and_then(|n| n.to_str()),
    ) else {
        return Ok(());
    };
    let parent = match Directory::open(&place.mount, parent) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e).op_path("open control group", shown),
    };
    remove_until(&parent, name, deadline).op_path("remove control group", shown)
}

/// Removes the group below of this name, waiting a little for processes that are about to go.
pub(super) fn remove_below(parent: &Directory, name: &str) -> IoResult<()> {
    remove_until(parent, name, Instant::now() + PATIENCE)
}

fn remove_until(parent: &Directory, name: &str, deadline: Instant) -> IoResult<()> {
    // Almost always the last process has gone by now or goes within a millisecond.
    let mut pause = Duration::from_micros(200);
    loop {
        match remove_tree(parent, name) {
            Err(Errno::BUSY) if Instant::now() < deadline => sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
}

/// Removes the group below of this name and those below it, if none has processes.
pub(super) fn remove_tree(parent: &Directory, name: &str) -> IoResult<()> {
    match parent.remove_child(name) {
        Err(Errno::NOENT) => return Ok(()),
        // Busy with processes or with groups below, the kernel doesn't say which; a directory that
        // stands in for cgroupfs says the latter in its own way.
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        other => return other,
    }
    match parent.child(name) {
        Ok(directory) => {
            for child in directory.children()? {
                remove_tree(&directory, &child)?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    }
    match parent.remove_child(name) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
