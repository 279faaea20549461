//! What is done to a container as a whole: signals, freezing, limits.
//!
//! Responsible for which state allows it and for whom it reaches. Must not end a container itself.

use super::Container;
use crate::error::{Error, Result};
use crate::namespaces::Kind;
use crate::spec::{Resources, Spec};
use crate::state::Status;

impl Container<'_> {
    /// Sends a signal to the first process; with `all`, to every process of the control group.
    ///
    /// `SIGKILL` reaches all in any case: the kernel ends a pid namespace with its first process,
    /// and where the container has none of its own the group is signalled.
    ///
    /// # Errors
    /// The container is stopped, or the kernel refuses.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let status = self.status()?;
        if all && !self.record.cgroup.is_none() {
            return self.record.cgroup.kill_all(signal);
        }
        // Read before the signal: a `run` that waits deletes the container as soon as it has ended.
        let others =
            signal == libc::SIGKILL && status != Status::Stopped && !own_pids(&self.spec()?);
        if status == Status::Stopped || !self.signal(signal)? {
            return Err(Error::new("container not running"));
        }
        if signal != libc::SIGKILL {
            return Ok(());
        }
        if others {
            self.record.cgroup.kill_all(signal)?;
        }
        if status == Status::Paused {
            // A killed process of a version 1 freezer ends only when it is thawed.
            self.record.cgroup.thaw()?;
        }
        Ok(())
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// The container does not run, or has no control group that can be frozen.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Created | Status::Running => self.record.cgroup.freeze(),
            Status::Paused => Err(Error::new("container is paused already")),
            _ => Err(Error::new("container not running")),
        }
    }

    /// Thaws all processes.
    ///
    /// # Errors
    /// The container is not frozen.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Paused => self.record.cgroup.thaw(),
            _ => Err(Error::new("container not paused")),
        }
    }

    /// Changes limits; what is not set is left alone.
    ///
    /// # Errors
    /// The container is stopped, or a limit can't be enforced.
    pub fn update(&self, resources: &Resources, warn: &mut dyn FnMut(String)) -> Result<()> {
        let _lock = self.dir.lock()?;
        if self.status()? == Status::Stopped {
            return Err(Error::new("container not running"));
        }
        let warnings = self.record.cgroup.update(resources)?;
        warnings.into_iter().for_each(warn);
        Ok(())
    }
}

/// Whether a container's processes end with its first one.
pub(super) fn own_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux.as_ref().map(|linux| &linux.namespaces);
    namespaces.into_iter().flatten().any(|namespace| {
        namespace.kind == Kind::Pid.name() && namespace.path.as_deref().is_none_or(str::is_empty)
    })
}
