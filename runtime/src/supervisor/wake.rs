//! How callers are woken.
//!
//! A synchronous wake-up lets the caller run at once on the supervisor's processor
//! (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6): 2 µs instead of 50. But several callers that
//! compute between their calls are thereby kept on that one processor. Responsible for choosing.
//! Must not answer calls. Invariant: where the kernel does not know the flag, nothing is tried
//! again.
//!
//! Measured on two processors: with 25 µs of computing between the calls of two callers, a call takes
//! 27 µs with the flag and 54 without; with 500 µs, 485 and 265. So it is switched off when two or
//! more callers are at work and calls come far apart.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::sys::notify;

/// How many calls are looked at before deciding again.
const WINDOW: u32 = 128;

/// A caller is at work when it made this many of them.
const SHARE: u32 = WINDOW / 8;

/// Calls that are further apart than this leave time to compute.
const APART: Duration = Duration::from_micros(100);

/// How many callers are told apart in a window.
const CALLERS: usize = 8;

#[derive(Debug)]
pub(super) struct Wake {
    known: bool,
    synchronous: bool,
    calls: u32,
    since: Instant,
    callers: [(i32, u32); CALLERS],
}

impl Wake {
    /// Starts with synchronous wake-ups where the kernel has them.
    pub(super) fn new(listener: BorrowedFd<'_>) -> Self {
        let known = notify::set_synchronous(listener, true).is_ok();
        Self {
            known,
            synchronous: known,
            calls: 0,
            since: Instant::now(),
            callers: [(0, 0); CALLERS],
        }
    }

    /// Takes note of a call, and decides anew now and then.
    pub(super) fn note(&mut self, listener: BorrowedFd<'_>, tid: Pid) {
        if !self.known {
            return;
        }
        let tid = tid.as_raw_pid();
        let place = self.callers.iter_mut().find(|(t, _)| *t == tid || *t == 0);
        if let Some((owner, count)) = place {
            *owner = tid;
            *count += 1;
        }
        self.calls += 1;
        if self.calls < WINDOW {
            return;
        }
        let counts = self.callers.map(|(_, count)| count);
        let wanted = wants_synchronous(counts, self.since.elapsed());
        if wanted != self.synchronous && notify::set_synchronous(listener, wanted).is_ok() {
            self.synchronous = wanted;
        }
        self.calls = 0;
        self.since = Instant::now();
        self.callers = [(0, 0); CALLERS];
    }
}

/// Whether callers are better woken on the supervisor's processor, after a window in which they made
/// so many calls and that took so long.
fn wants_synchronous(counts: [u32; CALLERS], window: Duration) -> bool {
    let busy = counts.iter().filter(|count| **count >= SHARE).count();
    busy < 2 || window < APART * WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_several_that_compute_are_woken_elsewhere() {
        let counts = |busy: &[u32]| {
            let mut counts = [0; CALLERS];
            counts[..busy.len()].copy_from_slice(busy);
            counts
        };
        let (dense, sparse) = (APART * WINDOW / 2, APART * WINDOW * 5);
        for (busy, window, wanted) in [
            (&[128][..], dense, true),
            (&[128], sparse, true),
            (&[64, 64], dense, true),
            (&[64, 64], sparse, false),
            (&[112, 16], sparse, false),
            // One that calls now and then leaves the other what it has.
            (&[113, 15], sparse, true),
            (&[16; 8], sparse, false),
        ] {
            assert_eq!(
                wants_synchronous(counts(busy), window),
                wanted,
                "{busy:?} {window:?}"
            );
        }
    }
}
