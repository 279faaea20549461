//! Groups whose makers were killed before they could remove them.
//!
//! Responsible for telling these from groups in use: who makes a group that is to go with it holds a
//! lock on its directory, which the kernel takes off at the end of the process, whatever that is. Must
//! not kill anything. Invariant: a group is removed only by who has that lock.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files::Directory;
use super::{Group, removal};
use crate::error::{Result, ResultExt};

/// Keeps a group from being taken for abandoned, as long as this or a copy of it is open.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "kept open")] Vec<OwnedFd>);

impl Group {
    /// Holds the group. `None` when somebody has just removed it, who took it for abandoned.
    ///
    /// # Errors
    /// It can't be opened or locked.
    pub fn hold(&self) -> Result<Option<Hold>> {
        let mut locks = Vec::new();
        for place in self.unified.iter().chain(&self.legacy) {
            let Some(directory) = place.open_existing()? else {
                return Ok(None);
            };
            let path = directory.path().to_owned();
            let fd = directory.into_fd();
            rustix::io::retry_on_intr(|| flock(&fd, FlockOperation::LockExclusive))
                .op_path("lock control group", path)?;
            if place.open_existing()?.is_none() {
                return Ok(None);
            }
            locks.push(fd);
        }
        Ok(Some(Hold(locks)))
    }

    /// Removes the groups beside this one whose name begins like this and which nobody holds. One
    /// whose processes have not gone yet stays for the next time.
    pub fn remove_abandoned_beside(&self, prefix: &str) {
        for place in self.unified.iter().chain(&self.legacy) {
            let Some(parent) = place.path.parent() else {
                continue;
            };
            let Ok(parent) = Directory::open(&place.mount, parent) else {
                continue;
            };
            let own = place.path.file_name().and_then(|name| name.to_str());
            for name in parent.children().unwrap_or_default() {
                if name.starts_with(prefix) && Some(&*name) != own {
                    // It is nobody's, so nobody is to hear that it stays.
                    let _ = remove_abandoned(&parent, &name);
                }
            }
        }
    }
}

fn remove_abandoned(parent: &Directory, name: &str) -> rustix::io::Result<()> {
    let fd = parent.child(name)?.into_fd();
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => removal::remove_tree(parent, name),
        Err(Errno::WOULDBLOCK) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::cgroup::Place;

    fn group(root: &Path, name: &str) -> Group {
        std::fs::create_dir(root.join(name)).expect("mkdir");
        Group {
            unified: Some(Place {
                mount: root.to_owned(),
                path: PathBuf::from("/").join(name),
                controllers: Vec::new(),
            }),
            ..Group::default()
        }
    }

    #[test]
    fn only_what_nobody_holds_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let held = group(root, "step-1");
        let hold = held.hold().expect("lock").expect("there");
        group(root, "step-2");
        std::fs::create_dir(root.join("step-2/below")).expect("mkdir");
        group(root, "other-3");
        let own = group(root, "step-4");
        own.remove_abandoned_beside("step-");
        let left = |name: &str| root.join(name).exists();
        assert!(left("step-1") && left("other-3") && left("step-4"));
        assert!(!left("step-2"));
        drop(hold);
        // A child that a test beside this one has just forked has a copy of the lock until it ends.
        for _ in 0..1_000 {
            own.remove_abandoned_beside("step-");
            if !left("step-1") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!left("step-1"));
        assert!(held.hold().expect("nothing to lock").is_none());
    }
}
