//! The life of an OCI container: create, start, kill, delete, and what happens in between.
//!
//! Responsible for the verbs of the runtime specification (runtime.md, "Operations"), over
//! everything else in this crate. Must not know command lines, nor print. Invariant: a verb that
//! returns an error has left the container as it was, or none behind.

mod console;
mod control;
mod create;
mod delete;
mod entrance;
mod exec;
mod foreground;
mod hooks;
mod notify;
mod options;
mod run;
mod start;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{Error, Result, ResultExt};
use crate::process::protocol::Message;
use crate::seccomp;
use crate::spec::{Linux, Spec};
use crate::state::{self, Dir, Id, Record, Root, Status};
use crate::{sys, tty};

pub use crate::process::seal::seal;
pub use crate::process::task::Inherited;
pub use create::create;
pub use delete::remove_unread;
pub use exec::ExecOptions;
pub use foreground::Exit;
pub use options::CreateOptions;
pub use run::{Mode, run};

/// A container that exists.
#[derive(Debug)]
pub struct Container<'a> {
    root: &'a Root,
    dir: Dir,
    record: Record,
}

impl<'a> Container<'a> {
    /// Finds a container.
    ///
    /// # Errors
    /// There is none of that name, or its record can't be read.
    pub fn load(root: &'a Root, id: &Id) -> Result<Self> {
        let dir = root.get(id)?;
        let record = match dir.record() {
            // Deleted between the two calls.
            Err(error) if error.errno() == Some(libc::ENOENT) => return Err(Root::unknown(id)),
            other => other?,
        };
        Ok(Self { root, dir, record })
    }

    /// What is recorded about it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Says what state it is in.
    ///
    /// # Errors
    /// `/proc`, the container's directory or its control group can't be read.
    pub fn status(&self) -> Result<Status> {
        self.record.status(&self.dir)
    }

    /// The configuration that it was made with.
    ///
    /// # Errors
    /// The copy is missing or unreadable.
    pub fn spec(&self) -> Result<Spec> {
        Spec::parse(&self.dir.config()?)
    }

    /// The state document for hooks.
    fn document(&self, status: Status) -> Result<Vec<u8>> {
        encode(&state::document(&self.record, status))
    }

    /// Sends the listener of a process's filter to the agent that the configuration names.
    fn pass_listener(
        &self,
        linux: &Linux,
        status: Status,
        pid: Pid,
        message: &Message,
    ) -> Result<()> {
        let (Some(filter), Some(listener)) = (&linux.seccomp, &message.fd) else {
            return Err(Error::new("receive seccomp listener: there was none"));
        };
        let document = state::document(&self.record, status);
        let state = seccomp::container_process_state(
            state::OCI_VERSION,
            pid.as_raw_pid(),
            &filter.listener_metadata,
            &document,
        )?;
        seccomp::send_listener(Path::new(&filter.listener_path), &state, listener.as_fd())
    }

    /// Opens the first process. `None` when it has ended.
    fn open_init(&self) -> Result<Option<(Pid, OwnedFd)>> {
        let Some(init) = &self.record.init else {
            return Ok(None);
        };
        let Some(pid) = Pid::from_raw(init.pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno).op("open process descriptor"),
        };
        // The number may have been another process's by then; the descriptor stays this one's.
        Ok(init.is_alive()?.then_some((pid, pidfd)))
    }

    /// Sends a signal to the first process. `Ok(false)` when it has ended.
    fn signal(&self, signal: i32) -> Result<bool> {
        let Some((_, pidfd)) = self.open_init()? else {
            return Ok(false);
        };
        match sys::pidfd_signal(pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno).op("send signal"),
        }
    }
}

fn encode(document: &state::Document<'_>) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::new("write state").cause(e.to_string()))
}

/// Sends a descriptor of a process over the caller's socket, in the form of a terminal (as runc
/// 1.3 does).
fn send_pidfd(path: &Path, pidfd: BorrowedFd<'_>) -> Result<()> {
    tty::send(tty::connect(path)?.as_fd(), "pidfd", pidfd)
}

/// Writes a process number as callers of runc read it, with no line end, whole or not at all.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    const OP: &str = "write pid file";
    let name = path.file_name().ok_or_else(|| {
        Error::new(OP)
            .path(path)
            .cause("it is no file name".to_owned())
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = path.with_file_name(hidden);
    std::fs::write(&new, pid.to_string()).op_path(OP, &new)?;
    std::fs::rename(&new, path).op_path(OP, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files_hold_digits_only() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pid");
        write_pid_file(&path, 17).expect("write");
        assert_eq!(std::fs::read(&path).expect("read"), b"17");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
        assert!(write_pid_file(Path::new("/"), 1).is_err());
    }
}
