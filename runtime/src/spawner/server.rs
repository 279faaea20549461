//! The loop of the spawner process, and the frame around a job's handler.
//!
//! Responsible for entering the identity, forking jobs, passing signals on, killing cancelled
//! jobs and reaping. Must not do a job's work. Invariant: every accepted job's socket gets exactly
//! one final message, unless its owner went away first.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use serde::{Deserialize, Serialize};

use super::protocol::{self, Kind, Message};
use super::{Handler, Request};
use crate::error::{Error, Result, ResultExt};
use crate::identity::{EnterPlan, enter};
use crate::{signals, sys};

/// How a job process ended without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    Exited(i32),
    Killed(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "job exited with status {code} without a reply"),
            Self::Killed(signal) => write!(f, "job was killed by signal {signal}"),
        }
    }
}

/// A forked job.
struct Running {
    pidfd: OwnedFd,
    // The job's end: shows when the owner has closed the other one.
    socket: OwnedFd,
    cancelled: bool,
}

/// Whether the identity was entered.
enum State {
    Outside(Option<EnterPlan>),
    Inside(EnterPlan),
    Refused(Error),
}

/// Serves jobs until the main process goes away. Never returns.
pub(super) fn serve(control: OwnedFd, main: Pid, handler: Handler) -> ! {
    let prepared = prepare(&control, main);
    if prepared.is_err() {
        sys::exit(1);
    }
    let mut state = State::Outside(None);
    let mut jobs: Vec<Running> = Vec::new();
    loop {
        let Ok(ready) = wait(&control, &jobs) else {
            sys::exit(1);
        };
        for (job, (gone, signalled)) in jobs.iter_mut().zip(&ready.sockets) {
            attend(job, *gone, *signalled);
        }
        let mut index = 0;
        jobs.retain(|job| {
            let ended = ready.ended[index];
            index += 1;
            !(ended && reap(job))
        });
        if ready.control {
            match protocol::receive(control.as_fd()) {
                Ok(Some(message)) => accept(&mut state, &mut jobs, &control, message, handler),
                // Dying ends the jobs: each has asked for SIGKILL when its parent goes.
                Ok(None) | Err(_) => sys::exit(0),
            }
        }
    }
}

fn prepare(control: &OwnedFd, main: Pid) -> Result<()> {
    die_with_parent(Some(main))?;
    // Out of the terminal's process group: Ctrl-C is for the main process to act on.
    rustix::process::setsid().op("start session")?;
    signals::ignore_ending()?;
    let keep = std::os::fd::AsRawFd::as_raw_fd(control).cast_unsigned();
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, u32::MAX)] {
        // SAFETY: nothing here uses what the main process had open; this side of the fork never
        // runs its destructors.
        #[expect(unsafe_code, reason = "part of the clone site")]
        unsafe { sys::close_fds(first, last) }.op("close descriptors")?;
    }
    Ok(())
}

/// Asks for SIGKILL when the parent dies, and dies now when it already has.
fn die_with_parent(parent: Option<Pid>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .op("set parent death signal")?;
    if rustix::process::getppid() != parent {
        sys::exit(1);
    }
    Ok(())
}

struct Ready {
    control: bool,
    /// Per job: the owner went away; the owner sent something.
    sockets: Vec<(bool, bool)>,
    /// Per job: the process has ended.
    ended: Vec<bool>,
}

fn wait(control: &OwnedFd, jobs: &[Running]) -> Result<Ready> {
    let mut fds = vec![PollFd::new(control, PollFlags::IN)];
    for job in jobs {
        fds.push(PollFd::new(&job.pidfd, PollFlags::IN));
        if !job.cancelled {
            fds.push(PollFd::new(&job.socket, PollFlags::IN | PollFlags::RDHUP));
        }
    }
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)).op("wait for jobs")?;
    let mut events = fds.iter().map(PollFd::revents);
    let mut next = || events.next().unwrap_or(PollFlags::empty());
    let mut ready = Ready {
        control: !next().is_empty(),
        sockets: Vec::with_capacity(jobs.len()),
        ended: Vec::with_capacity(jobs.len()),
    };
    for job in jobs {
        ready.ended.push(next().contains(PollFlags::IN));
        let socket = if job.cancelled {
            PollFlags::empty()
        } else {
            next()
        };
        ready.sockets.push((
            socket.intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR),
            socket.contains(PollFlags::IN),
        ));
    }
    Ok(ready)
}

/// Acts on what a job's owner did: a signal is passed on, a closed socket cancels.
fn attend(job: &mut Running, gone: bool, signalled: bool) {
    if signalled {
        match protocol::receive(job.socket.as_fd()) {
            Ok(Some(message)) if message.kind == Kind::Signal => {
                if let Ok(bytes) = message.body.try_into() {
                    // A job that has just ended needs no signal.
                    let _: rustix::io::Result<()> =
                        sys::pidfd_signal(job.pidfd.as_fd(), i32::from_ne_bytes(bytes));
                }
                return;
            }
            _ => {}
        }
    }
    if gone || signalled {
        job.cancelled = true;
        // A job that has just ended is as dead as wished.
        let _: rustix::io::Result<()> = sys::pidfd_signal(job.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Reaps an ended job and tells its owner, who only reads this when there was no reply.
fn reap(job: &Running) -> bool {
    let id = WaitId::PidFd(job.pidfd.as_fd());
    match rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => {
            let end = end_of(&status);
            if let Ok(body) = serde_json::to_vec(&end) {
                // The owner may be gone; then nobody wants to know.
                drop(protocol::send(job.socket.as_fd(), Kind::Ended, &body, &[]));
            }
            true
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

fn end_of(status: &WaitIdStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::Exited(-1),
    }
}

fn accept(
    state: &mut State,
    jobs: &mut Vec<Running>,
    control: &OwnedFd,
    message: Message,
    handler: Handler,
) {
    match message.kind {
        Kind::Configure => {
            *state = match serde_json::from_slice(&message.body) {
                Ok(plan) if matches!(state, State::Outside(_)) => State::Outside(Some(plan)),
                Ok(_) => State::Refused(Error::new("the identity is already entered")),
                Err(e) => State::Refused(Error::new("read identity").cause(e.to_string())),
            };
        }
        Kind::Submit => {
            let mut fds = message.fds;
            if fds.is_empty() {
                return;
            }
            let socket = fds.remove(0);
            match start_job(state, jobs, control, &socket, message.body, fds, handler) {
                Ok(pidfd) => jobs.push(Running {
                    pidfd,
                    socket,
                    cancelled: false,
                }),
                Err(error) => fail(&socket, &error),
            }
        }
        Kind::Signal | Kind::Reply | Kind::Failed | Kind::Ended => {}
    }
}

/// Enters the identity if that is still to be done.
fn ensure_inside(state: &mut State) -> Result<EnterPlan> {
    if let State::Outside(plan) = state {
        let entered = plan
            .take()
            .ok_or_else(|| Error::new("a job was submitted before an identity was configured"))
            .and_then(|plan| enter::enter(&plan).map(|()| plan));
        // Compiled once here, inherited by every job.
        let entered = entered.and_then(|plan| crate::seccomp::default_program().map(|_| plan));
        *state = match entered {
            Ok(plan) => State::Inside(plan),
            Err(error) => State::Refused(error),
        };
    }
    match state {
        State::Inside(plan) => Ok(plan.clone()),
        State::Refused(error) => Err(error.clone()),
        State::Outside(_) => Err(Error::new("no identity")),
    }
}

fn start_job(
    state: &mut State,
    jobs: &mut Vec<Running>,
    control: &OwnedFd,
    socket: &OwnedFd,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
    handler: Handler,
) -> Result<OwnedFd> {
    let plan = ensure_inside(state)?;
    let spawner = rustix::process::getpid();
    // SAFETY: the spawner never starts a thread, and the child ends by `exit`.
    #[expect(unsafe_code, reason = "a clone site")]
    let fork = unsafe { sys::fork_whole() }.op("fork job")?;
    match fork {
        sys::Fork::Parent(_, pidfd) => Ok(pidfd),
        sys::Fork::Child => {
            jobs.clear();
            let request = Request {
                body,
                fds,
                ids: plan.ids,
                identity: plan.identity,
            };
            let mut ready = die_with_parent(Some(spawner));
            if ready.is_ok() {
                ready = signals::hold();
            }
            // SAFETY: only this side of the fork forgets the control socket; the value is never
            // touched again, since the job ends by `exit`.
            #[expect(unsafe_code, reason = "part of the clone site")]
            let closed = unsafe { sys::close_fd(control) };
            let ready = ready.and(closed.op("close control socket"));
            match ready.and_then(|()| guarded(handler, request)) {
                Ok(reply) => {
                    let sent = protocol::send(socket.as_fd(), Kind::Reply, &reply, &[]);
                    sys::exit(i32::from(sent.is_err()));
                }
                Err(error) => {
                    fail(socket, &error);
                    sys::exit(0);
                }
            }
        }
    }
}

/// Runs the handler; a panic becomes an error with its message and place.
fn guarded(handler: Handler, request: Request) -> Result<Vec<u8>> {
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut message) = PANIC.lock() {
            message.get_or_insert_with(|| info.to_string());
        }
    }));
    catch_unwind(AssertUnwindSafe(|| handler(request))).map_err(|_| {
        let message = PANIC.lock().ok().and_then(|mut m| m.take());
        Error::new("job panicked").cause(message.unwrap_or_default())
    })
}

fn fail(socket: &OwnedFd, error: &Error) {
    if let Ok(body) = serde_json::to_vec(error) {
        // The owner may be gone; then nobody wants to know.
        drop(protocol::send(socket.as_fd(), Kind::Failed, &body, &[]));
    }
}
