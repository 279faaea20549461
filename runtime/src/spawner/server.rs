//! The loop of the spawner process, and the frame around a job's handler.
//!
//! Responsible for entering the identity, forking jobs, passing signals on, killing cancelled
//! jobs and reaping. Must not do a job's work. Invariant: every accepted job's socket gets exactly
//! one final message, unless its owner went away first.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use super::protocol::{self, Kind, Message};
use super::{Handler, Request};
use crate::error::{Error, Result, ResultExt};
use crate::identity::{EnterPlan, Identity, enter};
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
    pid: Pid,
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
    let mut state = State::Outside(None);
    let mut jobs: Vec<Running> = Vec::new();
    let Ok(children) = prepared else {
        sys::exit(1);
    };
    loop {
        let Ok(ready) = wait(&control, &children, &jobs) else {
            sys::exit(1);
        };
        for (job, (gone, signalled)) in jobs.iter_mut().zip(&ready.sockets) {
            attend(job, *gone, *signalled);
        }
        if ready.children {
            reap(&children, &mut jobs);
        }
        if ready.control {
            match protocol::receive(control.as_fd()) {
                Ok(Some(message)) => accept(&mut state, &mut jobs, &control, message, handler),
                Ok(None) => finish(&jobs),
                // That job's socket is closed with the message, which its owner sees.
                Err(_) => {}
            }
        }
    }
}

/// Makes this process fit to serve; returns the descriptor that shows ended children.
fn prepare(control: &OwnedFd, main: Pid) -> Result<SignalFd> {
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
    // What a killed job leaves behind comes here, so that this process knows when it is gone.
    rustix::process::set_child_subreaper(Some(main)).op("become subreaper")?;
    let set: SigSet = [NixSignal::SIGCHLD].into_iter().collect();
    set.thread_block().op("block signals")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).op("open signal descriptor")
}

/// Ends all jobs and this process, in that order.
fn finish(jobs: &[Running]) -> ! {
    for job in jobs {
        // A job that has just ended is as dead as wished.
        let _: rustix::io::Result<()> = sys::pidfd_signal(job.pidfd.as_fd(), libc::SIGKILL);
    }
    // Until there are no children: jobs, and the inits of their sandboxes.
    while let Ok(_) | Err(Errno::INTR) = rustix::process::wait(WaitOptions::empty()) {}
    sys::exit(0)
}

/// Reaps ended children. The owner of a job is told, who only reads this when there was no reply;
/// others are the inits of sandboxes whose job was killed.
fn reap(children: &SignalFd, jobs: &mut Vec<Running>) {
    while let Ok(Some(_)) = children.read_signal() {}
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let Some(index) = jobs.iter().position(|job| job.pid == pid) else {
            continue;
        };
        let job = jobs.swap_remove(index);
        if let Ok(body) = serde_json::to_vec(&end_of(status)) {
            // The owner may be gone; then nobody wants to know.
            drop(protocol::send(job.socket.as_fd(), Kind::Ended, &body, &[]));
        }
    }
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
    children: bool,
    /// Per job: the owner went away; the owner sent something.
    sockets: Vec<(bool, bool)>,
}

fn wait(control: &OwnedFd, children: &SignalFd, jobs: &[Running]) -> Result<Ready> {
    let mut fds = vec![
        PollFd::new(control, PollFlags::IN),
        PollFd::new(children, PollFlags::IN),
    ];
    for job in jobs {
        // A socket whose owner is gone would wake us for ever; it is not asked again.
        let events = if job.cancelled {
            PollFlags::empty()
        } else {
            PollFlags::IN | PollFlags::RDHUP
        };
        let fd = if job.cancelled {
            children.as_fd()
        } else {
            job.socket.as_fd()
        };
        fds.push(PollFd::from_borrowed_fd(fd, events));
    }
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)).op("wait for jobs")?;
    let (own, sockets) = fds.split_at(2);
    Ok(Ready {
        control: !own[0].revents().is_empty(),
        children: !own[1].revents().is_empty(),
        sockets: sockets
            .iter()
            .map(|fd| {
                let events = fd.revents();
                let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
                (events.intersects(gone), events.contains(PollFlags::IN))
            })
            .collect(),
    })
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

fn end_of(status: WaitStatus) -> End {
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
                Ok(plan) if matches!(state, State::Inside(inside) if *inside == plan) => return,
                Ok::<EnterPlan, _>(_) => {
                    State::Refused(Error::new("another identity is already entered"))
                }
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
                Ok((pid, pidfd)) => jobs.push(Running {
                    pid,
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
            .and_then(|plan| enter::enter(&plan).map(|()| plan))
            // A change of credentials may have cleared it.
            .and_then(|plan| die_with_parent(rustix::process::getppid()).map(|()| plan));
        // Compiled once here, inherited by every job.
        let entered = entered.and_then(|plan| {
            if plan.identity == Identity::Emulated {
                crate::supervisor::filter().map(|_| plan)
            } else {
                crate::seccomp::default_filter().map(|_| plan)
            }
        });
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
) -> Result<(Pid, OwnedFd)> {
    let plan = ensure_inside(state)?;
    let spawner = rustix::process::getpid();
    // SAFETY: the spawner never starts a thread, and the child ends by `exit`.
    #[expect(unsafe_code, reason = "a clone site")]
    let fork = unsafe { sys::fork_whole() }.op("fork job")?;
    match fork {
        sys::Fork::Parent(pid, pidfd) => Ok((pid, pidfd)),
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
            let ready = ready.and_then(|()| closed.op("close control socket"));
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
        Error::new(crate::spawner::PANICKED).cause(message.unwrap_or_default())
    })
}

fn fail(socket: &OwnedFd, error: &Error) {
    if let Ok(body) = serde_json::to_vec(error) {
        // The owner may be gone; then nobody wants to know.
        drop(protocol::send(socket.as_fd(), Kind::Failed, &body, &[]));
    }
}
