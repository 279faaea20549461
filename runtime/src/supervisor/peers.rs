//! Who is at the other end of a socket, unix(7).
//!
//! Responsible for the options `SO_PEERCRED` and `SO_PEERGROUPS`. Must not touch the sockets
//! otherwise. Invariant: the caller's own socket is asked, whatever its number means by then.
//!
//! The kernel remembers the peer's credentials of the time when it connected; emulated ones are
//! those that it has when it is asked about.

use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::State;
use super::call::{Answer, Call, DONE, Outcome, Stop};
use super::ids;

/// The options that are answered; the filter forwards these only.
pub(super) const OPTIONS: &[u64] = &[libc::SO_PEERCRED as u64, libc::SO_PEERGROUPS as u64];

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
    let credentials = state.credentials_outside(peer).ok_or(Stop::Kernel)?;

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
        let number = number_inside(peer).ok_or(Stop::Kernel)?;
        ids::bytes(&[number, credentials.euid, credentials.egid])
    };
    let value = &value[..value.len().min(length)];
    call.write(call.word(3), value)?;
    put_length(call, value.len())?;
    DONE
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
    let process = status_number(call.tid, "Tgid:").and_then(Pid::from_raw);
    let process = process.ok_or(Stop::Kernel)?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(|_| Stop::Kernel)?;
    call.still_waits()?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).map_err(|_| Stop::Kernel)
}

/// Returns the number that a process has in the container.
fn number_inside(process: Pid) -> Option<u32> {
    status_number(process, "NStgid:")?.try_into().ok()
}

/// Reads the last number of a line of a process' status.
fn status_number(process: Pid, line: &str) -> Option<i32> {
    let text = std::fs::read_to_string(format!("{}/status", process.as_raw_pid())).ok()?;
    let line = text.lines().find_map(|text| text.strip_prefix(line))?;
    line.split_whitespace().next_back()?.parse().ok()
}
