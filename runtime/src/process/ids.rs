//! The id maps of a container's new user namespace.
//!
//! Responsible for writing them, from outside, in the way that the caller may. Must not choose ids.
//! Invariant: setgroups(2) is given up only where the kernel would not accept the map of groups
//! otherwise (user_namespaces(7), "Defining user and group ID mappings").

use std::path::Path;

use rustix::process::Pid;

use crate::error::{Error, Result};
use crate::identity::{Extent, detect, enter, render};
use crate::spec::IdMapping;

/// Maps the ids of a process's new user namespace.
pub(crate) fn map(pid: Pid, users: &[IdMapping], groups: &[IdMapping]) -> Result<()> {
    let (users, groups) = (extents(users), extents(groups));
    let dir = Path::new("/proc").join(pid.to_string());
    // Both programs take milliseconds, so they run side by side.
    let by_program = match write(&dir, "uid_map", &users) {
        Err(error) if refused(&error) => Some(start("newuidmap", pid, &users, error)?),
        other => other.map(|()| None)?,
    };
    match write(&dir, "gid_map", &groups) {
        Err(error) if refused(&error) => {
            let own = rustix::process::getegid().as_raw();
            if matches!(*groups, [Extent { outside, count: 1, .. }] if outside == own) {
                enter::write_map(&dir.join("setgroups"), "deny")?;
                write(&dir, "gid_map", &groups)?;
            } else {
                start("newgidmap", pid, &groups, error)?.finish()?;
            }
        }
        other => other?,
    }
    by_program.map_or(Ok(()), Running::finish)
}

fn extents(map: &[IdMapping]) -> Vec<Extent> {
    let extents = map.iter().map(|line| Extent {
        inside: line.container_id,
        outside: line.host_id,
        count: line.size,
    });
    extents.collect()
}

fn write(dir: &Path, file: &str, map: &[Extent]) -> Result<()> {
    enter::write_map(&dir.join(file), &render(map))
}

fn refused(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EPERM | libc::EACCES))
}

/// A set-user-id program at work.
struct Running(std::path::PathBuf, std::process::Child);

fn start(name: &str, pid: Pid, map: &[Extent], refusal: Error) -> Result<Running> {
    let Some(program) = detect::find_program(name, &[]) else {
        return Err(refusal.hint(format!(
            "{name} is missing, which maps subordinate ids (Debian: package uidmap)"
        )));
    };
    let child = enter::start_program(&program, pid, map)?;
    Ok(Running(program, child))
}

impl Running {
    fn finish(self) -> Result<()> {
        enter::finish_program(&self.0, self.1)
    }
}
