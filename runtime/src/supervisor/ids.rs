//! Ids of users and groups: the get*id and set*id families, groups, umask.
//!
//! Responsible for the way between a caller's registers or memory and its credentials, and for the
//! limit that carries their number. Must not know the rules; [`super::credentials`] does.
//! Invariant: the kernel's ids of a process never change, so that it keeps its one real id.
//!
//! Credentials are a process', not a thread's as in the kernel: the C library, which makes every
//! thread repeat such a call, sees no difference as long as repeating it changes nothing.

use rustix::io::Errno;

use super::State;
use super::call::{Answer, Call, DONE, Outcome, Stop};
use super::credentials::Credentials;

/// The limit that is spoken for; the filter forwards this one only.
pub(super) const LIMITS: &[u64] = &[libc::RLIMIT_RTTIME as u64];

/// `struct rlimit64` of a limit that limits nothing.
const UNLIMITED: [u8; 16] = [0xff; 16];

/// getuid(2).
pub(super) fn getuid(state: &mut State, call: &Call<'_>) -> Outcome {
    number(state.caller(call)?.credentials.ruid)
}

/// geteuid(2).
pub(super) fn geteuid(state: &mut State, call: &Call<'_>) -> Outcome {
    number(state.caller(call)?.credentials.euid)
}

/// getgid(2).
pub(super) fn getgid(state: &mut State, call: &Call<'_>) -> Outcome {
    number(state.caller(call)?.credentials.rgid)
}

/// getegid(2).
pub(super) fn getegid(state: &mut State, call: &Call<'_>) -> Outcome {
    number(state.caller(call)?.credentials.egid)
}

/// getresuid(2): three pointers.
pub(super) fn getresuid(state: &mut State, call: &Call<'_>) -> Outcome {
    let c = state.caller(call)?.credentials;
    put_three(call, [c.ruid, c.euid, c.suid])
}

/// getresgid(2): three pointers.
pub(super) fn getresgid(state: &mut State, call: &Call<'_>) -> Outcome {
    let c = state.caller(call)?.credentials;
    put_three(call, [c.rgid, c.egid, c.sgid])
}

/// getgroups(2): size, list.
pub(super) fn getgroups(state: &mut State, call: &Call<'_>) -> Outcome {
    let credentials = state.caller(call)?.credentials;
    let room = usize::try_from(call.int(0)).map_err(|_| Errno::INVAL)?;
    if room > 0 {
        if credentials.groups.len() > room {
            return Err(Errno::INVAL.into());
        }
        call.write(call.word(1), &bytes(&credentials.groups))?;
    }
    number(u32::try_from(credentials.groups.len()).map_err(|_| Errno::INVAL)?)
}

/// setuid(2).
pub(super) fn setuid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change(call, |c| c.setuid(call.unsigned(0)))
}

/// setreuid(2): real, effective.
pub(super) fn setreuid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change(call, |c| c.setreuid(call.unsigned(0), call.unsigned(1)))
}

/// setresuid(2): real, effective, saved.
pub(super) fn setresuid(state: &mut State, call: &Call<'_>) -> Outcome {
    let [real, effective, saved] = [0, 1, 2].map(|index| call.unsigned(index));
    state.change(call, |c| c.setresuid(real, effective, saved))
}

/// setgid(2).
pub(super) fn setgid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change(call, |c| c.setgid(call.unsigned(0)))
}

/// setregid(2): real, effective.
pub(super) fn setregid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change(call, |c| c.setregid(call.unsigned(0), call.unsigned(1)))
}

/// setresgid(2): real, effective, saved.
pub(super) fn setresgid(state: &mut State, call: &Call<'_>) -> Outcome {
    let [real, effective, saved] = [0, 1, 2].map(|index| call.unsigned(index));
    state.change(call, |c| c.setresgid(real, effective, saved))
}

/// setgroups(2): size, list.
pub(super) fn setgroups(state: &mut State, call: &Call<'_>) -> Outcome {
    let count = usize::try_from(call.unsigned(0)).map_err(|_| Errno::INVAL)?;
    state.caller(call)?.credentials.may_set_groups(count)?;
    let mut list = vec![0; count * size_of::<u32>()];
    if count > 0 {
        call.read(call.word(1), &mut list)?;
    }
    let groups: Vec<u32> = list
        .as_chunks()
        .0
        .iter()
        .map(|&group| u32::from_ne_bytes(group))
        .collect();
    state.change(call, |c| c.setgroups(&groups))
}

/// setfsuid(2).
pub(super) fn setfsuid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change_fs(call, |c| c.setfsuid(call.unsigned(0)))
}

/// setfsgid(2).
pub(super) fn setfsgid(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change_fs(call, |c| c.setfsgid(call.unsigned(0)))
}

/// umask(2): noted for files that are made here, and the kernel's for all others.
pub(super) fn umask(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change(call, |c| {
        c.set_umask(call.unsigned(0));
        Ok(())
    })?;
    Ok(Answer::Continue)
}

/// prlimit(2): process, resource, new limit, old limit.
pub(super) fn prlimit64(state: &mut State, call: &Call<'_>) -> Outcome {
    if call.unsigned(1) != libc::RLIMIT_RTTIME {
        return Ok(Answer::Continue);
    }
    let process = call.int(0);
    if process != 0 {
        let caller = state.caller(call)?;
        let Some(other) = state.credentials_of(process) else {
            return Err(Errno::SRCH.into());
        };
        if !caller.credentials.may_limit(&other) {
            return Err(Errno::PERM.into());
        }
    }
    limit(call, call.word(2), call.word(3))
}

/// getrlimit(2): resource, limit.
pub(super) fn getrlimit(_state: &mut State, call: &Call<'_>) -> Outcome {
    match call.unsigned(0) {
        libc::RLIMIT_RTTIME => {
            call.write(call.word(1), &UNLIMITED)?;
            DONE
        }
        _ => Ok(Answer::Continue),
    }
}

/// setrlimit(2): resource, limit.
pub(super) fn setrlimit(_state: &mut State, call: &Call<'_>) -> Outcome {
    match call.unsigned(0) {
        libc::RLIMIT_RTTIME => {
            let mut new = [0; 16];
            call.read(call.word(1), &mut new)?;
            may_set_limit(new)?;
            DONE
        }
        _ => Ok(Answer::Continue),
    }
}

fn limit(call: &Call<'_>, new: u64, old: u64) -> Outcome {
    if new != 0 {
        let mut limit = [0; 16];
        call.read(new, &mut limit)?;
        may_set_limit(limit)?;
    }
    if old != 0 {
        call.write(old, &UNLIMITED)?;
    }
    DONE
}

/// The limit is what it seems to be; any other one can't be had.
fn may_set_limit(new: [u8; 16]) -> Result<(), Stop> {
    match new == UNLIMITED {
        true => Ok(()),
        false => Err(Errno::PERM.into()),
    }
}

fn number(id: u32) -> Outcome {
    Ok(Answer::Value(id.into()))
}

fn put_three(call: &Call<'_>, ids: [u32; 3]) -> Outcome {
    for (index, id) in ids.into_iter().enumerate() {
        call.write(call.word(index), &id.to_ne_bytes())?;
    }
    DONE
}

/// Views ids as the kernel writes them.
pub(super) fn bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_ne_bytes()).collect()
}

impl State {
    /// Changes the caller's credentials.
    pub(super) fn change(
        &mut self,
        call: &Call<'_>,
        change: impl FnOnce(&mut Credentials) -> rustix::io::Result<()>,
    ) -> Outcome {
        if self.preparing {
            return Ok(Answer::Continue);
        }
        let old = self.caller(call)?.credentials;
        let mut new = (*old).clone();
        change(&mut new)?;
        if new.is_other_than(&old) {
            new.dumpable = self.protected.dumpable;
        }
        if new != *old {
            self.assume(call, new)?;
        }
        DONE
    }

    /// Changes one of the file system ids, by calls that tell of no error.
    fn change_fs(
        &mut self,
        call: &Call<'_>,
        change: impl FnOnce(&mut Credentials) -> u32,
    ) -> Outcome {
        let mut before = 0;
        let changed = self.change(call, |c| {
            before = change(c);
            Ok(())
        });
        match changed {
            Ok(_) | Err(Stop::Errno(Errno::AGAIN)) => number(before),
            Err(stop) => Err(stop),
        }
    }
}
