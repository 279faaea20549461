//! A process's way into a control group.
//!
//! Responsible for choosing the quickest way that there is. Must not make groups. Invariant: a
//! process is in its group before it is told to go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;

use crate::cgroup::Group;
use crate::error::Result;

/// How a process comes into a group.
#[derive(Debug)]
pub(super) struct Entrance<'a> {
    group: &'a Group,
    /// It is cloned into this one.
    directory: Option<OwnedFd>,
    /// It writes itself into these; otherwise it has to be moved.
    files: Option<Vec<OwnedFd>>,
}

impl<'a> Entrance<'a> {
    /// Opens what there is.
    pub(super) fn open(group: &'a Group) -> Result<Self> {
        let directory = group.open_for_clone();
        let only_legacy = group.is_in_legacy() && !group.paths().contains_key("");
        let at_once = directory.is_some() || (only_legacy && group.exists());
        Ok(Self {
            group,
            directory,
            files: at_once.then(|| group.open_legacy()).transpose()?,
        })
    }

    /// For clone(2).
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// For the process itself.
    pub(super) fn files(&self) -> &[OwnedFd] {
        self.files.as_deref().unwrap_or_default()
    }

    /// For its parent, before it is told to go on.
    pub(super) fn move_in(&self, pid: Pid, warn: &mut dyn FnMut(String)) -> Result<()> {
        if self.files.is_none() {
            self.group.add(pid.as_raw_pid())?.into_iter().for_each(warn);
        }
        Ok(())
    }
}
