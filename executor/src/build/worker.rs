//! Sends jobs into the build's user namespace and waits for them.
//!
//! Responsible for a job's life as the main process sees it: its descriptors, its output on the
//! way to the progress display, its end when the build is cancelled. Must not know what the jobs
//! do. Invariant: when a call returns, the job's process is gone.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};

use runtime::identity::{EnterPlan, Identity};
use runtime::spawner::{PANICKED, Spawner};

use super::jobs::{self, Reply, Task};
use super::mounts::mask::Mask;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::event::{Stream, Vertex};

/// The way to the jobs; usable from any thread.
#[derive(Debug)]
pub struct Worker {
    spawner: Spawner,
    identity: Identity,
    cancel: Cancel,
}

impl Worker {
    /// Takes the spawner that was started before the first thread, and tells it which identity
    /// its jobs have.
    pub fn new(spawner: Spawner, plan: &EnterPlan, cancel: Cancel) -> Result<Self> {
        spawner.configure(plan).op("configure sandbox")?;
        Ok(Self {
            spawner,
            identity: plan.identity,
            cancel,
        })
    }

    /// Returns the identity of the jobs.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the flag that ends the jobs.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Runs a job and returns its reply.
    ///
    /// # Errors
    /// The job's own error; the cancellation, when that ended it; what kept the job from starting,
    /// or killed it; [`Kind::Internal`] when that was our own doing.
    pub fn submit(&self, task: &Task, fds: &[BorrowedFd<'_>]) -> Result<Reply> {
        self.submit_until(&self.cancel, task, fds)
    }

    fn submit_until(&self, cancel: &Cancel, task: &Task, fds: &[BorrowedFd<'_>]) -> Result<Reply> {
        cancel.check()?;
        let body = serde_json::to_vec(task).expect("tasks have string keys only");
        let job = self.spawner.submit(&body, fds).op("start job")?;
        let canceller = job.canceller();
        let registration = cancel.on_raise(move || canceller.cancel());
        let reply = job.wait();
        drop(registration);
        match reply {
            Ok(bytes) => jobs::parse_reply(&bytes),
            Err(e) => {
                cancel.check()?;
                Err(job_error(e))
            }
        }
    }

    /// Runs a job that cleans up: also after the flag was raised, and to its end.
    pub fn submit_always(&self, task: &Task) -> Result<Reply> {
        let body = serde_json::to_vec(task).expect("tasks have string keys only");
        let job = self.spawner.submit(&body, &[]).op("start job")?;
        jobs::parse_reply(&job.wait().map_err(job_error)?)
    }

    /// Runs a job that ends when `cancel` is raised. Its last two descriptors are its stdout and stderr,
    /// which go to `vertex` without what `mask` hides.
    pub fn submit_logged(
        &self,
        cancel: &Cancel,
        task: &Task,
        fds: &[BorrowedFd<'_>],
        mask: &Mask,
        vertex: &Vertex,
    ) -> Result<Reply> {
        let (out, out_end) = std::io::pipe().op("create pipe")?;
        let (err, err_end) = std::io::pipe().op("create pipe")?;
        std::thread::scope(|scope| {
            let pump = scope.spawn(|| pump(out, err, mask, vertex));
            let mut all = fds.to_vec();
            all.push(out_end.as_fd());
            all.push(err_end.as_fd());
            let reply = self.submit_until(cancel, task, &all);
            drop((out_end, err_end));
            pump.join()
                .map_err(|_| Error::new("the log reader panicked").kind(Kind::Internal))?;
            reply
        })
    }
}

fn job_error(error: runtime::Error) -> Error {
    let kind = if error.to_string() == PANICKED {
        Kind::Internal
    } else {
        Kind::Build
    };
    Error::new("start sandbox").kind(kind).source(error)
}

fn show(vertex: &Vertex, stream: Stream, bytes: &[u8]) {
    if !bytes.is_empty() {
        vertex.log(stream, bytes);
    }
}

/// Passes on what a step prints until both ends are closed.
fn pump(out: PipeReader, err: PipeReader, mask: &Mask, vertex: &Vertex) {
    let mut open = [
        Some((out, mask.stream(), Stream::Stdout)),
        Some((err, mask.stream(), Stream::Stderr)),
    ];
    let mut buffer = vec![0; 1 << 16];
    while open.iter().any(Option::is_some) {
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd<'_>> = open
                .iter()
                .flatten()
                .map(|(pipe, ..)| PollFd::new(pipe, PollFlags::IN))
                .collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            polled.iter().map(|p| !p.revents().is_empty()).collect()
        };
        let mut ready = ready.into_iter();
        for slot in &mut open {
            let Some((pipe, masked, stream)) = slot else {
                continue;
            };
            if !ready.next().unwrap_or(false) {
                continue;
            }
            match pipe.read(&mut buffer) {
                Ok(n) if n > 0 => show(vertex, *stream, &masked.push(&buffer[..n])),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    if let Some((_, masked, stream)) = slot.take() {
                        show(vertex, stream, &masked.finish());
                    }
                }
            }
        }
    }
}
