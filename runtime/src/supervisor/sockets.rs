//! Sockets in the file system, unix(7).
//!
//! Responsible for who may bind and connect there, and for whose a bound socket is. Must not touch
//! the sockets themselves. Invariant: the owner is recorded before the binding thread can ask for
//! it; the kernel makes the socket, since only it can bind one under the name that was given.

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::Pid;

use super::State;
use super::call::{Answer, Call, Outcome, Stop};
use super::credentials::Access;
use super::paths::Place;
use crate::identity::Owner;

/// `sun_path` and the family before it.
const ADDRESS_MAX: usize = 110;

/// How many bindings may be under way.
const MAX_BOUND: usize = 64;

/// A socket that is being bound.
#[derive(Debug)]
pub(super) struct Bound {
    tid: Pid,
    place: Place,
    owner: Owner,
}

/// bind(2): descriptor, address, length.
pub(super) fn bind(state: &mut State, call: &Call<'_>) -> Outcome {
    let Some(path) = unix_path(call)? else {
        return Ok(Answer::Continue);
    };
    let caller = state.caller(call)?;
    let place = state.place(call, &caller, libc::AT_FDCWD, &path)?;
    let is_refused = place.has_slash() || state.is_closed(&place);
    if is_refused || state.is_roots(&caller, &place) || place.open()?.is_some() {
        return Ok(Answer::Continue);
    }
    state.may_make(&caller, &place)?;
    let owner = state.node(&caller, &place, 0o777, false).owner;
    if owner != Owner::ROOT && state.bound.len() < MAX_BOUND {
        let tid = call.tid;
        state.bound.push(Bound { tid, place, owner });
    }
    Ok(Answer::Continue)
}

/// connect(2): descriptor, address, length.
pub(super) fn connect(state: &mut State, call: &Call<'_>) -> Outcome {
    let Some(path) = unix_path(call)? else {
        return Ok(Answer::Continue);
    };
    let caller = state.caller(call)?;
    if caller.credentials.is_plain_root() {
        return Ok(Answer::Continue);
    }
    let inode = state.inode(call, &caller, libc::AT_FDCWD, &path, true)?;
    state.judge(&caller, &inode, Access::WRITE)
}

impl State {
    /// Records the owners of sockets that are bound by now. A binding thread's next call, and the
    /// end of everything, are when its socket must be there, or never will be.
    pub(super) fn settle(&mut self, call: Option<&Call<'_>>) {
        let bound = std::mem::take(&mut self.bound);
        for one in bound {
            match self.record_bound(&one) {
                Ok(true) => {}
                Ok(false) | Err(Stop::Kernel | Stop::Errno(_)) => {
                    if call.is_some_and(|call| call.tid != one.tid) {
                        self.bound.push(one);
                    }
                }
                Err(Stop::Broken(what)) => drop(self.broken.get_or_insert(what)),
            }
        }
    }

    fn record_bound(&mut self, bound: &Bound) -> Result<bool, Stop> {
        let Some(made) = bound.place.open()? else {
            return Ok(false);
        };
        if self.facts(&made)?.kind() == FileType::Socket {
            self.record_new(&made, bound.owner)?;
        }
        Ok(true)
    }
}

/// Reads the path of an address, if it is one of a socket in the file system.
fn unix_path(call: &Call<'_>) -> Result<Option<Vec<u8>>, Stop> {
    let length = usize::try_from(call.unsigned(2)).unwrap_or(0);
    if length <= 2 || length > ADDRESS_MAX {
        return Ok(None);
    }
    let mut address = vec![0; length];
    match call.read(call.word(1), &mut address) {
        Err(Stop::Errno(Errno::FAULT)) => return Ok(None),
        other => other?,
    }
    let family = u16::from_ne_bytes([address[0], address[1]]);
    let path = &address[2..];
    // An abstract name begins with a NUL.
    if i32::from(family) != libc::AF_UNIX || path.first() == Some(&0) {
        return Ok(None);
    }
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    Ok(Some(path[..end].to_vec()))
}
