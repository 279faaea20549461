//! Starting a container that was created.
//!
//! Responsible for the conversation over the two pipes and for the hooks after it. Must not know
//! how the process waits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::Container;
use super::hooks::describe;
use super::notify::Notify;
use crate::error::{Error, Result, ResultExt};
use crate::process::protocol::failure;
use crate::state::{Fifo, Status};

impl Container<'_> {
    /// Executes the container's program. If a service manager waits for it, at `notify_socket`,
    /// and the container was made for that, returns when the program is ready or has ended.
    ///
    /// # Errors
    /// The container does not wait for this, the program can't be executed, or a hook fails.
    pub fn start(&self, notify_socket: Option<&Path>, warn: &mut dyn FnMut(String)) -> Result<()> {
        let lock = self.dir.lock()?;
        let status = self.status()?;
        if status != Status::Created {
            let status = status.as_str();
            return Err(Error::new(match status {
                "running" => "cannot start an already running container".to_owned(),
                _ => format!("cannot start a container that is {status}"),
            }));
        }
        let mut start: File = self.dir.open_fifo(Fifo::Start, OFlags::WRONLY)?.into();
        let started = self
            .dir
            .open_fifo(Fifo::Started, OFlags::RDONLY | OFlags::NONBLOCK)?;
        rustix::fs::fcntl_setfl(&started, OFlags::empty()).op("wait for pipe")?;
        let notify = notify_socket.map(|manager| Notify::listen(&self.dir, manager));
        let notify = notify.transpose()?.flatten();
        let init = self.open_init()?;
        self.dir.begin_start()?;
        start.write_all(&[1]).op("start container")?;
        drop(start);
        let mut report = Vec::new();
        File::from(started)
            .read_to_end(&mut report)
            .op("wait for program")?;
        if !report.is_empty() {
            return Err(failure(&report));
        }
        let spec = self.spec()?;
        self.after_start(&spec)?;
        // The container can be used, and deleted, before it is ready.
        drop(lock);
        if let (Some(notify), Some((pid, pidfd))) = (notify, init)
            && let Err(error) = notify.wait(pidfd.as_fd(), pid.as_raw_pid())
        {
            warn(describe(&error));
        }
        Ok(())
    }

    /// Runs the hooks of a container that has just been started; one that fails stops it
    /// (runtime.md, "Lifecycle", step 9).
    pub(super) fn after_start(&self, spec: &crate::spec::Spec) -> Result<()> {
        let Some(hooks) = &spec.hooks else {
            return Ok(());
        };
        self.run_hooks("poststart", &hooks.poststart, Status::Running)
            .inspect_err(|_| {
                // The hook's error is the one to report.
                drop(self.signal(libc::SIGKILL));
            })
    }
}
