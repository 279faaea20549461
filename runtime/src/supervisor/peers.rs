//! Who is at the other end of a socket, unix(7).
//!
//! Responsible for the options `SO_PEERCRED` and `SO_PEERGROUPS`. Must not touch the sockets
//! otherwise. Invariant: the caller's own socket is asked, whatever its number means by then.
//!
//! The kernel remembers for each socket who connected or listened; here it is remembered for each
//! process what it was when it last did which of these, also when it is gone by the time of the
//! question.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, getpeername, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::call::{Answer, Call, DONE, Outcome, Stop};
use super::credentials::Credentials;
use super::{State, ids, sockets};

/// The options that are answered; the filter forwards these only.
pub(super) const OPTIONS: &[u64] = &[libc::SO_PEERCRED as u64, libc::SO_PEERGROUPS as u64];

/// How many processes are remembered.
const MAX_PEERS: usize = 8192;

/// One end of a socket.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The process' number in the container.
    number: u32,
    credentials: Arc<Credentials>,
}

/// What a process did to become somebody's peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum By {
    Connecting,
    Listening,
    Pairing,
}

/// Who was what when it last connected, listened or made a pair, by its number outside of the
/// container.
pub(super) type Peers = HashMap<(Pid, By), Peer>;

/// connect(2): descriptor, address, length.
pub(super) fn connect(state: &mut State, call: &Call<'_>) -> Outcome {
    let mut family = [0; 2];
    if call.unsigned(2) >= 2 && call.read(call.word(1), &mut family).is_ok() {
        let family = i32::from(u16::from_ne_bytes(family));
        if family == libc::AF_UNIX {
            state.remember(call, By::Connecting)?;
        }
    }
    sockets::connect(state, call)
}

/// listen(2): descriptor, backlog.
pub(super) fn listen(state: &mut State, call: &Call<'_>) -> Outcome {
    state.remember(call, By::Listening)?;
    Ok(Answer::Continue)
}

/// socketpair(2): family, type, protocol, descriptors.
pub(super) fn socketpair(state: &mut State, call: &Call<'_>) -> Outcome {
    if call.int(0) == libc::AF_UNIX {
        state.remember(call, By::Pairing)?;
    }
    Ok(Answer::Continue)
}

impl State {
    fn remember(&mut self, call: &Call<'_>, by: By) -> Result<(), Stop> {
        let (process, number) = numbers(call.tid).ok_or(Stop::Kernel)?;
        if self.peers.len() >= MAX_PEERS {
            let is_there =
                |process: &Pid| rustix::fs::stat(process.as_raw_pid().to_string()).is_ok();
            self.peers.retain(|(process, _), _| is_there(process));
        }
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(&(process, by)) {
            let credentials = self.caller(call)?.credentials;
            let peer = Peer {
                number,
                credentials,
            };
            self.peers.insert((process, by), peer);
        }
        Ok(())
    }

    fn peer(&self, process: Pid, by: By) -> Option<Peer> {
        let remembered = self.peers.get(&(process, by)).cloned();
        remembered.or_else(|| {
            let (_, number) = numbers(process)?;
            let credentials = self.credentials_outside(process)?;
            Some(Peer {
                number,
                credentials,
            })
        })
    }
}

/// getsockopt(2): socket, level, option, value, length.
pub(super) fn getsockopt_peer(state: &mut State, call: &Call<'_>) -> Outcome {
    let wants_groups = match (call.int(1), call.int(2)) {
        (libc::SOL_SOCKET, libc::SO_PEERCRED) => false,
        (libc::SOL_SOCKET, libc::SO_PEERGROUPS) => true,
        _ => return Ok(Answer::Continue),
    };
    let socket = own_socket(call)?;
    let peer = getsockopt(&socket, PeerCredentials).map_err(|_| Stop::Kernel)?;
    // No peer, or none that this supervisor answers.
    let peer = Pid::from_raw(peer.pid()).ok_or(Stop::Kernel)?;
    let peer = state
        .peer(peer, role_of_peer(&socket))
        .ok_or(Stop::Kernel)?;
    let credentials = &peer.credentials;

    let mut length = [0; 4];
    call.read(call.word(4), &mut length)?;
    let length = usize::try_from(i32::from_ne_bytes(length)).map_err(|_| Errno::INVAL)?;
    let value = if wants_groups {
        let groups = ids::bytes(&credentials.groups);
        if length < groups.len() {
            put_length(call, groups.len())?;
            return Err(Errno::RANGE.into());
        }
        groups
    } else {
        ids::bytes(&[peer.number, credentials.euid, credentials.egid])
    };
    let value = &value[..value.len().min(length)];
    call.write(call.word(3), value)?;
    put_length(call, value.len())?;
    DONE
}

/// Tells from a socket what its peer did: who connects has no name as a rule, and what was accepted
/// has its listener's.
fn role_of_peer(socket: &OwnedFd) -> By {
    // The family alone.
    const UNNAMED: usize = 2;
    let is_named = |address: &SocketAddrAny| usize::try_from(address.addr_len()) != Ok(UNNAMED);
    match getpeername(socket) {
        // Who listens is its own peer.
        Err(Errno::NOTCONN) => By::Listening,
        Ok(Some(peer)) if is_named(&peer) => By::Listening,
        _ if getsockname(socket).is_ok_and(|own| is_named(&own)) => By::Connecting,
        _ => By::Pairing,
    }
}

fn put_length(call: &Call<'_>, length: usize) -> Result<(), Stop> {
    let length = u32::try_from(length).map_err(|_| Errno::INVAL)?;
    call.write(call.word(4), &length.to_ne_bytes())
}

/// Takes a copy of the caller's socket.
fn own_socket(call: &Call<'_>) -> Result<OwnedFd, Stop> {
    let number = call.int(0);
    if number < 0 {
        return Err(Stop::Kernel);
    }
    // A handle of a thread needs Linux 6.9; that of its process has the same descriptors.
    let (process, _) = numbers(call.tid).ok_or(Stop::Kernel)?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(|_| Stop::Kernel)?;
    call.still_waits()?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).map_err(|_| Stop::Kernel)
}

/// Returns the number of a thread's process outside of the container, and inside.
fn numbers(thread: Pid) -> Option<(Pid, u32)> {
    let text = std::fs::read_to_string(format!("{}/status", thread.as_raw_pid())).ok()?;
    let last = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next_back()
    };
    let outside = Pid::from_raw(last("Tgid:")?.parse().ok()?)?;
    Some((outside, last("NStgid:")?.parse().ok()?))
}
