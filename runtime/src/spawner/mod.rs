//! The spawner: a single-threaded process that runs jobs inside the executor's user namespace.
//!
//! Responsible for starting it, submitting jobs and waiting for them. Must not know what jobs do:
//! that is the handler's. Invariant: a job lives no longer than its [`Job`], the spawner and the
//! main process; each is killed when the one before it goes.
//!
//! The spawner is forked before the main process starts a thread or reads a credential, so jobs
//! inherit neither. It enters namespaces with the first job only.

mod protocol;
mod server;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{WaitId, WaitIdOptions};

use crate::error::{Error, Result, ResultExt};
use crate::identity::{EnterPlan, IdMap, Identity};
use crate::sys;
use protocol::Kind;

/// What a job runs: called once, in the job's own process. Its bytes are the reply.
///
/// It may start threads. A panic becomes an error at [`Job::wait`].
pub type Handler = fn(Request) -> Vec<u8>;

/// The text of the error for a handler that panicked, as opposed to one that was killed.
pub const PANICKED: &str = "job panicked";

/// What a job is given.
#[derive(Debug)]
pub struct Request {
    /// The bytes that were submitted.
    pub body: Vec<u8>,
    /// The descriptors that were submitted, in order.
    pub fds: Vec<OwnedFd>,
    /// The ids of containers under this identity.
    pub ids: IdMap,
    /// The identity that the job runs with.
    pub identity: Identity,
}

/// A handle on the spawner process. Dropping it kills all jobs with what they started, and waits
/// until they are gone.
#[derive(Debug)]
pub struct Spawner {
    control: OwnedFd,
    pidfd: OwnedFd,
}

/// A running job. Dropping it kills the job with everything that it started.
#[derive(Debug)]
pub struct Job {
    socket: Arc<OwnedFd>,
}

/// Ends or signals a job from another thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    socket: Arc<OwnedFd>,
}

impl Spawner {
    /// Forks the spawner. Call it on the main thread: the spawner dies with the thread that forked
    /// it.
    ///
    /// # Errors
    /// When this process already has a second thread, or fork(2) is refused.
    pub fn start(handler: Handler) -> Result<Self> {
        let threads =
            std::fs::read_dir("/proc/self/task").op_path("list threads", "/proc/self/task")?;
        if threads.count() != 1 {
            return Err(Error::new("start spawner: the process already has threads"));
        }
        let (ours, theirs) = protocol::pair()?;
        let main = rustix::process::getpid();
        // SAFETY: there is one thread, as was just checked, and `serve` never returns.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork_whole() }.op("fork spawner")?;
        match fork {
            sys::Fork::Child => {
                drop(ours);
                server::serve(theirs, main, handler)
            }
            sys::Fork::Parent(_, pidfd) => Ok(Self {
                control: ours,
                pidfd,
            }),
        }
    }

    /// Sets the identity that jobs run with. Nothing is entered before the first job.
    pub fn configure(&self, plan: &EnterPlan) -> Result<()> {
        let body = serde_json::to_vec(plan).map_err(|e| internal(&e))?;
        protocol::send(self.control.as_fd(), Kind::Configure, &body, &[])
    }

    /// Starts a job. It receives duplicates of `fds`, at most 251.
    pub fn submit(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Job> {
        if fds.len() > protocol::MAX_JOB_FDS {
            return Err(Error::new("too many descriptors for one job"));
        }
        let (ours, theirs) = protocol::pair()?;
        let mut all = vec![theirs.as_fd()];
        all.extend_from_slice(fds);
        protocol::send(self.control.as_fd(), Kind::Submit, body, &all)
            .map_err(|e| e.hint("the spawner process is gone"))?;
        Ok(Job {
            socket: Arc::new(ours),
        })
    }

    /// Returns a pidfd of the spawner process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // The spawner sees the end, kills its jobs and follows; then nothing is left.
        let _: rustix::io::Result<()> =
            rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

impl Job {
    /// Waits for the reply.
    ///
    /// # Errors
    /// The namespaces could not be entered; the handler panicked; the job was killed, with its
    /// signal or status; the spawner is gone.
    pub fn wait(self) -> Result<Vec<u8>> {
        let Some(message) = protocol::receive(self.socket.as_fd())? else {
            return Err(
                Error::new("job ended: the spawner is gone, or could not take the job")
                    .hint("raise the limit on open files (`ulimit -n`)"),
            );
        };
        match message.kind {
            Kind::Reply => Ok(message.body),
            Kind::Failed => {
                let error: Error =
                    serde_json::from_slice(&message.body).map_err(|e| internal(&e))?;
                Err(error)
            }
            Kind::Ended => {
                let end: server::End =
                    serde_json::from_slice(&message.body).map_err(|e| internal(&e))?;
                Err(Error::new(end.to_string()))
            }
            other => Err(Error::new(format!(
                "unexpected message {other:?} from a job"
            ))),
        }
    }

    /// Returns a handle that ends this job from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            socket: Arc::clone(&self.socket),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Cancellers share the socket, so closing our half must be explicit.
        self.canceller().cancel();
    }
}

impl Canceller {
    /// Kills the job with everything that it started. [`Job::wait`] then says so.
    pub fn cancel(&self) {
        // Not connected any more means that the job is over.
        let _: rustix::io::Result<()> =
            rustix::net::shutdown(self.socket.as_fd(), rustix::net::Shutdown::Write);
    }

    /// Sends a signal to the job, which forwards it to its sandbox when it runs one.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let body = signal.to_ne_bytes();
        protocol::send(self.socket.as_fd(), Kind::Signal, &body, &[])
    }
}

fn internal(error: &serde_json::Error) -> Error {
    Error::new("encode message").cause(error.to_string())
}
