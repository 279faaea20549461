//! Freezing a group.
//!
//! Responsible for both versions' freezers and for waiting until they have done their work. Must
//! not know who asks. Invariant: when [`Group::freeze`] returns, no process of the group runs.
//!
//! Sources: cgroup-v2.rst "cgroup.freeze" (Linux 5.2), cgroup-v1/freezer-subsystem.rst.

use std::thread::sleep;
use std::time::Duration;

use super::Group;
use super::files::Directory;
use crate::error::{Error, Result, ResultExt};

/// How often, a millisecond apart at first, the state is looked at.
const TRIES: u32 = 500;

enum Freezer {
    Unified(Directory),
    Legacy(Directory),
}

impl Group {
    /// Stops all processes of the group.
    ///
    /// # Errors
    /// There is no freezer, or the processes don't stop; they then run on.
    pub fn freeze(&self) -> Result<()> {
        let freezer = self.freezer()?;
        freezer.write(true)?;
        for attempt in 0..TRIES {
            if freezer.is_frozen()? {
                return Ok(());
            }
            // A version 1 freezer can get stuck when processes come and go; asking again, and
            // letting them go on a little now and then, gets it moving (runc does the same).
            if let Freezer::Legacy(_) = freezer {
                if attempt % 50 == 49 {
                    freezer.write(false)?;
                    sleep(Duration::from_micros(100));
                }
                freezer.write(true)?;
            }
            sleep(Duration::from_micros(if attempt < 20 { 100 } else { 4000 }));
        }
        // What is half frozen would be no use to anyone.
        freezer.write(false)?;
        Err(Error::new("freeze control group")
            .path(freezer.directory().path())
            .cause("its processes do not stop".to_owned()))
    }

    /// Lets all processes of the group go on.
    ///
    /// # Errors
    /// There is no freezer.
    pub fn thaw(&self) -> Result<()> {
        self.freezer()?.write(false)
    }

    /// Says whether the group is frozen, or about to be.
    ///
    /// # Errors
    /// The state can't be read. A container without a freezer is not frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        let Ok(freezer) = self.freezer() else {
            return Ok(false);
        };
        let (directory, file) = match &freezer {
            Freezer::Unified(directory) => (directory, "cgroup.freeze"),
            Freezer::Legacy(directory) => (directory, "freezer.state"),
        };
        let state = directory.read(file).op_path("read", directory.file(file))?;
        Ok(matches!(state.trim(), "1" | "FROZEN" | "FREEZING"))
    }

    fn freezer(&self) -> Result<Freezer> {
        if let Some(place) = self.legacy_place("freezer") {
            return Ok(Freezer::Legacy(place.open()?));
        }
        if let Some(place) = &self.unified {
            let directory = place.open()?;
            if directory.has("cgroup.freeze") {
                return Ok(Freezer::Unified(directory));
            }
        }
        Err(Error::new("freeze container")
            .cause("it has no control group with a freezer".to_owned()))
    }
}

impl Freezer {
    fn directory(&self) -> &Directory {
        match self {
            Self::Unified(directory) | Self::Legacy(directory) => directory,
        }
    }

    fn write(&self, frozen: bool) -> Result<()> {
        let (directory, file, value) = match (self, frozen) {
            (Self::Unified(d), true) => (d, "cgroup.freeze", "1"),
            (Self::Unified(d), false) => (d, "cgroup.freeze", "0"),
            (Self::Legacy(d), true) => (d, "freezer.state", "FROZEN"),
            (Self::Legacy(d), false) => (d, "freezer.state", "THAWED"),
        };
        directory
            .write(file, value)
            .op_path("write", directory.file(file))
    }

    /// Says whether every process has stopped.
    fn is_frozen(&self) -> Result<bool> {
        match self {
            Self::Unified(d) => {
                let file = "cgroup.events";
                let events = d.read(file).op_path("read", d.file(file))?;
                Ok(events.lines().any(|l| l == "frozen 1"))
            }
            Self::Legacy(d) => {
                let file = "freezer.state";
                let state = d.read(file).op_path("read", d.file(file))?;
                Ok(state.trim() == "FROZEN")
            }
        }
    }
}
