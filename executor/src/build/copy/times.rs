//! Times of the directories that a copy makes, or puts entries into.
//!
//! Responsible for keeping the clock out of a layer: what a copy makes gets the time of what it
//! was made for, and what stood already keeps its own. Must not look at sources. Invariant:
//! what was noted first holds, however often a directory is met again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::error::{Result, ResultExt};

/// Directories of the destination and the times they are to have in the end.
#[derive(Debug, Default)]
pub(super) struct DirTimes {
    /// By path without symbolic links; `None` until it is known for what a directory is made.
    times: BTreeMap<PathBuf, Option<Timestamps>>,
}

impl DirTimes {
    /// Notes `path`, a directory that is about to be made or changed, and its missing parents
    /// with the one that exists.
    pub(super) fn note(&mut self, root: &Root, path: &Path) -> Result<()> {
        for dir in path.ancestors() {
            if self.times.contains_key(dir) {
                break;
            }
            match root.stat(dir, false) {
                Ok(stat) => {
                    self.times.insert(dir.to_owned(), Some(modification(&stat)));
                    break;
                }
                Err(Errno::NOENT) => {
                    self.times.insert(dir.to_owned(), None);
                }
                Err(e) => return Err(e).op_path("stat", dir),
            }
        }
        Ok(())
    }

    /// Says what the directories noted and not there before are made for.
    pub(super) fn made_for(&mut self, source: &Stat) {
        for time in self.times.values_mut() {
            time.get_or_insert_with(|| modification(source));
        }
    }

    /// Sets the times.
    pub(super) fn apply(self, root: &Root) -> Result<()> {
        for (path, time) in self.times {
            let Some(time) = time else { continue };
            match root.open_dir(&path) {
                Ok(dir) => rustix::fs::utimensat(dir, "", &time, AtFlags::EMPTY_PATH)
                    .op_path("set the time of", &path)?,
                // Noted, and then not needed: an archive may have put something else there.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(e).op_path("open directory", &path),
            }
        }
        Ok(())
    }
}

/// Makes the times that give a copy its original's modification time.
pub(super) fn modification(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.cast_signed(),
        },
    }
}
