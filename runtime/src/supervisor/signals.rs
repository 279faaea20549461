//! Signals: kill(2) and its relatives.
//!
//! Responsible for who may signal one process of the container. Must not send anything: the kernel
//! does, to whom it would anyway. Invariant: only ever takes permission away.

use rustix::io::Errno;

use super::State;
use super::call::{Answer, Call, Outcome};
use super::processes::session;

/// kill(2): process, signal. Groups of processes are left to the kernel.
pub(super) fn kill(state: &mut State, call: &Call<'_>) -> Outcome {
    judge(state, call, call.int(0), call.int(1))
}

/// tkill(2): thread, signal; rt_sigqueueinfo(2): process, signal, information.
pub(super) fn tkill(state: &mut State, call: &Call<'_>) -> Outcome {
    judge(state, call, call.int(0), call.int(1))
}

/// tgkill(2): process, thread, signal; rt_tgsigqueueinfo(2): the same and information.
pub(super) fn tgkill(state: &mut State, call: &Call<'_>) -> Outcome {
    judge(state, call, call.int(1), call.int(2))
}

fn judge(state: &State, call: &Call<'_>, target: i32, signal: i32) -> Outcome {
    let caller = state.caller(call)?;
    if target <= 0 || caller.credentials.may(rustix::thread::CapabilitySet::KILL) {
        return Ok(Answer::Continue);
    }
    let Some(other) = state.credentials_of(target) else {
        return Ok(Answer::Continue);
    };
    if caller.credentials.may_signal(&other) {
        return Ok(Answer::Continue);
    }
    let numbers = call.numbers();
    let own = numbers.and_then(|(process, _)| i32::try_from(process).ok());
    // A process may always signal itself, and continue any of its session.
    if own == Some(target)
        || signal == libc::SIGCONT && own.is_some_and(|own| session(own) == session(target))
    {
        return Ok(Answer::Continue);
    }
    Err(Errno::PERM.into())
}
