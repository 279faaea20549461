//! Ending a container: the removal of all that it was.
//!
//! Responsible for what is left when its processes are gone. Must not remove a container that
//! runs, unless forced. Invariant: the directory goes last but for the hooks, so that an
//! interrupted removal can be repeated.

use std::time::{Duration, Instant};

use super::Container;
use super::control::own_pids;
use super::hooks::describe;
use crate::cgroup::{self, Driver, Group, Request};
use crate::error::{Error, Result};
use crate::spec::Spec;
use crate::state::{Dir, Id, Root, Status};

/// How long a killed process may take to end, as runc 1.1 waits.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_micros(100);

impl Container<'_> {
    /// Removes the container. One whose program was not started yet is killed, one that runs only
    /// when forced.
    ///
    /// # Errors
    /// The container runs, or something of it can't be removed.
    pub fn delete(self, force: bool, warn: &mut dyn FnMut(String)) -> Result<()> {
        let lock = match self.dir.lock() {
            // Deleted meanwhile, or broken.
            Err(error) if error.errno() == Some(libc::ENOENT) && force => None,
            other => Some(other?),
        };
        let status = self.status()?;
        match status {
            Status::Stopped => {}
            Status::Created => self.end()?,
            _ if force => self.end()?,
            _ => {
                let (id, status) = (&self.record.id, status.as_str());
                let text = format!("cannot delete container {id} that is not stopped: {status}");
                return Err(Error::new(text).hint("`--force` kills it first"));
            }
        }
        // A broken copy must not keep the rest from being removed.
        let spec = self.spec().unwrap_or_default();
        if !own_pids(&spec) {
            self.record.cgroup.kill_all(libc::SIGKILL)?;
        }
        match self.record.cgroup.remove() {
            // Its own processes are gone; others that were put there must not keep a container
            // from being deleted by force.
            Err(error) if force => warn(describe(&error)),
            other => other?,
        }
        if let Some(group) = self.abandoned_group(&spec) {
            group.remove()?;
        }
        self.root.remove(&self.record.id, &self.dir)?;
        drop(lock);
        self.run_last_hooks(&spec, warn);
        Ok(())
    }

    /// Finds the group of a container whose maker was killed after making it and before recording
    /// it: what is asked for again is found again. With systemd there is none before a process.
    fn abandoned_group(&self, spec: &Spec) -> Option<Group> {
        let path = spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
        if self.record.ready || !self.record.cgroup.is_none() || path.contains(':') {
            return None;
        }
        // One that can't be made, or is in use, is not this container's.
        find_group(self.record.id.as_str(), spec).ok()
    }

    /// Kills the first process and waits for its end.
    fn end(&self) -> Result<()> {
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        while self.signal(libc::SIGKILL)? {
            if pause == FIRST_PAUSE && self.record.cgroup.is_frozen().unwrap_or(false) {
                // A killed process of a version 1 freezer ends only when it is thawed.
                self.record.cgroup.thaw()?;
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::new("container init still running")
                    .cause("it was killed and does not end".to_owned()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Removes a container whose making failed; that error is the one to report.
    pub(super) fn discard(self, spec: &Spec, warn: &mut dyn FnMut(String)) {
        // What was to be made may have left processes behind: hooks, and what they started.
        let ended = self.record.cgroup.kill_all(libc::SIGKILL);
        if let Err(error) = ended.and_then(|()| self.record.cgroup.remove()) {
            warn(describe(&error));
        }
        if let Err(error) = self.root.remove(&self.record.id, &self.dir) {
            warn(describe(&error));
        }
        self.run_last_hooks(spec, warn);
    }
}

/// Removes what is left of a container whose record can't be read.
///
/// # Errors
/// Its control group has processes: they would be out of every verb's reach.
pub fn remove_unread(root: &Root, id: &Id, dir: &Dir) -> Result<()> {
    let spec = dir.config().and_then(|config| Spec::parse(&config));
    let spec = spec.unwrap_or_default();
    let path = spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
    if !path.contains(':') {
        find_group(id.as_str(), &spec)?.remove()?;
    }
    root.remove(id, dir)
}

/// Finds the group that a container was made in or would be, which must be empty.
fn find_group(id: &str, spec: &Spec) -> Result<Group> {
    let request = Request {
        id,
        path: spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path),
        resources: None,
        driver: Driver::Cgroupfs,
        rootless: true,
        annotations: &spec.annotations,
        owner: None,
        bus: None,
    };
    cgroup::create(&request).map(|(group, _)| group)
}
