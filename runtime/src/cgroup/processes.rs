//! The processes of a group.
//!
//! Responsible for adding, listing and signalling them. Must not know limits. Invariant: a signal
//! goes to processes of the group only, as far as the kernel lets one say so.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::files::Directory;
use super::{Group, Place, systemd};
use crate::error::{Error, Result, ResultExt};
use crate::sys;

/// The file that lists and takes processes.
const PROCS: &str = "cgroup.procs";

/// The file of version 1 that takes threads.
const TASKS: &str = "tasks";

impl Group {
    /// Moves a process into the group, in every hierarchy.
    ///
    /// The first move after a while takes the kernel milliseconds (a grace period), which may pass
    /// while the process works on something else.
    ///
    /// With systemd the first process starts the unit, and the limits are set then: what can't be
    /// enforced is said here.
    ///
    /// # Errors
    /// Those of writing `cgroup.procs`; with systemd also those of [`super::create`].
    pub fn add(&self, pid: i32) -> Result<Vec<String>> {
        if let (Some(scope), Some(pending)) = (&self.scope, &self.pending)
            && !self.exists()
        {
            return systemd::start(self, scope, pending, pid);
        }
        if let Some(place) = &self.unified {
            match (add_to(place, pid), &self.scope) {
                (Err(e), Some(scope)) if matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) => {
                    systemd::attach(scope, pid)?;
                }
                (added, _) => added?,
            }
        }
        self.add_to_legacy(pid).map(|()| Vec::new())
    }

    /// Moves a process that was cloned into the version 2 group into the others too.
    ///
    /// # Errors
    /// As [`Group::add`].
    pub fn add_to_legacy(&self, pid: i32) -> Result<()> {
        self.legacy.iter().try_for_each(|p| add_to(p, pid))
    }

    /// Opens what a process of one thread gives to [`enter_legacy`], which spares it the kernel's
    /// grace period of [`Group::add`]: a thread that moves itself takes no lock against exits and
    /// executions (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`, Linux 5.5).
    ///
    /// # Errors
    /// Those of opening `tasks`.
    pub fn open_legacy(&self) -> Result<Vec<OwnedFd>> {
        let open = |place: &Place| {
            let directory = place.open()?;
            directory
                .open_file(TASKS, OFlags::WRONLY)
                .op_path("open control group", directory.file(TASKS))
        };
        self.legacy.iter().map(open).collect()
    }

    /// Lists the processes of the group and of those below it. A group that is gone has none.
    ///
    /// # Errors
    /// Those of reading `cgroup.procs`.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(place) = self.tracking() else {
            return Ok(Vec::new());
        };
        let mut pids = BTreeSet::new();
        if let Some(directory) = place.open_existing()? {
            collect(&directory, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Sends a signal to every process of the group. Says nothing when there are none.
    ///
    /// # Errors
    /// A process may not be signalled, or `SIGKILL` does not empty the group.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.kill_at_once()? {
            return Ok(());
        }
        // Frozen processes don't fork away from the list. Not every host has a freezer.
        let frozen = self.is_frozen().unwrap_or(false);
        let froze = !frozen && self.freeze().is_ok();
        let sent = self.signal_each(signal);
        // A killed process of a version 1 freezer ends only when it is thawed.
        if froze || (frozen && signal == libc::SIGKILL) {
            self.thaw()?;
        }
        sent?;
        if signal != libc::SIGKILL {
            return Ok(());
        }
        // Without a freezer some may have been missed.
        for _ in 0..100 {
            if !self.signal_each(signal)? {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err(Error::new("kill all processes of the control group")
            .cause("some do not end".to_owned()))
    }

    /// Kills with one write, Linux 5.14. Says whether that was possible.
    fn kill_at_once(&self) -> Result<bool> {
        let Some(place) = &self.unified else {
            return Ok(false);
        };
        let Some(directory) = place.open_existing()? else {
            return Ok(true);
        };
        match directory.write("cgroup.kill", "1") {
            Ok(()) => {
                // A freezer of version 1 would keep the dying where they are.
                if self.legacy_place("freezer").is_some() && self.is_frozen().unwrap_or(false) {
                    self.thaw()?;
                }
                Ok(true)
            }
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(e).op_path("write", directory.file("cgroup.kill")),
        }
    }

    /// Signals each process; says whether there was one that has not ended.
    fn signal_each(&self, signal: i32) -> Result<bool> {
        let mut any = false;
        for pid in self.pids()? {
            let Some(pid) = Pid::from_raw(pid) else {
                continue;
            };
            let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => fd,
                Err(Errno::SRCH) => continue,
                Err(e) => return Err(e).op("open process of the control group"),
            };
            // The number may have been given to another process before it was opened.
            if !self.pids()?.contains(&pid.as_raw_nonzero().get()) {
                continue;
            }
            match sys::pidfd_signal(std::os::fd::AsFd::as_fd(&fd), signal) {
                Ok(()) => any = true,
                Err(Errno::SRCH) => {}
                Err(e) => return Err(e).op("signal process of the control group"),
            }
        }
        Ok(any)
    }

    /// The hierarchy whose list of processes counts.
    fn tracking(&self) -> Option<&Place> {
        self.unified.as_ref().or_else(|| {
            self.legacy_place("name=systemd")
                .or_else(|| self.legacy_place("pids"))
                .or_else(|| self.legacy.first())
        })
    }
}

pub(super) fn add_to(place: &Place, pid: i32) -> Result<()> {
    let directory = place.open()?;
    directory
        .write(PROCS, &pid.to_string())
        .op_path("add process to control group", directory.path())
}

/// Moves the calling process, which has one thread, into the groups whose files were opened.
pub(crate) fn enter_legacy(files: &[OwnedFd]) -> rustix::io::Result<()> {
    files
        .iter()
        .try_for_each(|file| rustix::io::write(file, b"0").map(drop))
}

fn collect(directory: &Directory, pids: &mut BTreeSet<i32>) -> Result<()> {
    match directory.read(PROCS) {
        // 0 stands for a process that this pid namespace doesn't see.
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|l| l.trim().parse::<i32>().ok())
                .filter(|p| *p > 0),
        ),
        // The group is being removed, or is threaded and so has no list of its own.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e).op_path("read", directory.file(PROCS)),
    }
    for name in directory.children().unwrap_or_default() {
        match directory.child(&name) {
            Ok(child) => collect(&child, pids)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e).op_path("open control group", directory.file(&name)),
        }
    }
    Ok(())
}

/// Returns where the first process of a version 2 group is, when the group itself has been given
/// controllers for those below it.
pub(super) fn divided(place: &Place) -> Result<Option<PathBuf>> {
    let directory = place.open()?;
    let control = directory.read("cgroup.subtree_control").unwrap_or_default();
    if control.trim().is_empty() {
        return Ok(None);
    }
    let mut found = None;
    first_process(&directory, &place.path, &mut found)?;
    Ok(found.map(|(_, path)| path))
}

/// Finds the group of the process with the lowest number.
fn first_process(
    directory: &Directory,
    path: &Path,
    found: &mut Option<(i32, PathBuf)>,
) -> Result<()> {
    let text = directory.read(PROCS).unwrap_or_default();
    let pids = text.lines().filter_map(|l| l.trim().parse::<i32>().ok());
    if let Some(pid) = pids.min()
        && found.as_ref().is_none_or(|(other, _)| pid < *other)
    {
        *found = Some((pid, path.to_path_buf()));
    }
    for name in directory.children().unwrap_or_default() {
        match directory.child(&name) {
            Ok(child) => first_process(&child, &path.join(&name), found)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e).op_path("open control group", directory.file(&name)),
        }
    }
    Ok(())
}

/// Refuses a group that was there before and is in use: its processes would get this container's
/// limits, and be killed with it.
pub(super) fn check_unused(group: &Group) -> Result<()> {
    for place in group.unified.iter().chain(&group.legacy) {
        let Some(directory) = place.open_existing()? else {
            continue;
        };
        let mut pids = BTreeSet::new();
        collect(&directory, &mut pids)?;
        if !pids.is_empty() {
            return Err(Error::new(format!(
                "container's cgroup is not empty: {} process(es) found in",
                pids.len()
            ))
            .path(directory.path())
            .hint("choose another linux.cgroupsPath, or leave it out"));
        }
        let frozen = directory.read("cgroup.freeze").unwrap_or_default();
        if frozen.trim() == "1" {
            return Err(Error::new("container's cgroup unexpectedly frozen").path(directory.path()));
        }
    }
    Ok(())
}
