//! How callers are woken.
//!
//! A synchronous wake-up lets the caller run at once on the supervisor's processor
//! (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6): 2 µs instead of 50. But several callers that
//! compute between their calls are thereby kept on that one processor. Responsible for choosing.
//! Must not answer calls. Invariant: where the kernel does not know the flag, nothing is tried
//! again.
//!
//! Measured on two processors: with 25 µs of computing between the calls of two callers, a call takes
//! 27 µs with the flag and 54 without; with 500 µs, 485 and 265. So it is switched off when callers
//! alternate and calls come far apart. Callers that follow each other, as the processes of a shell script
//! do, don't compute at the same time, however many there are: without the flag they take half as long again, or
//! twice as long.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::sys::notify;

/// How many calls are looked at before deciding again.
const WINDOW: u32 = 128;

/// Callers alternate when the caller is another than the one before so many times in a window; of two
/// that are equally at work it is half of the times.
const ALTERNATE: u32 = WINDOW / 4;

/// Calls that are further apart than this leave time to compute, while callers wait for each other.
const APART: Duration = Duration::from_micros(200);

/// The same while they don't: two then call twice as often.
const STILL_APART: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(super) struct Wake {
    known: bool,
    synchronous: bool,
    last: Option<Pid>,
    calls: u32,
    alternations: u32,
    since: Instant,
}

impl Wake {
    /// Starts with synchronous wake-ups where the kernel has them.
    pub(super) fn new(listener: BorrowedFd<'_>) -> Self {
        let known = notify::set_synchronous(listener, true).is_ok();
        Self {
            known,
            synchronous: known,
            last: None,
            calls: 0,
            alternations: 0,
            since: Instant::now(),
        }
    }

    /// Takes note of a call, and decides anew now and then.
    pub(super) fn note(&mut self, listener: BorrowedFd<'_>, tid: Pid) {
        if !self.known {
            return;
        }
        self.alternations += u32::from(self.last.replace(tid) != Some(tid));
        self.calls += 1;
        if self.calls < WINDOW {
            return;
        }
        let window = self.since.elapsed();
        let wanted = wants_synchronous(self.synchronous, self.alternations, window);
        if wanted != self.synchronous && notify::set_synchronous(listener, wanted).is_ok() {
            self.synchronous = wanted;
        }
        (self.calls, self.alternations) = (0, 0);
        self.since = Instant::now();
    }
}

/// Whether callers are better woken on the supervisor's processor, as they are `now` or not, after a
/// window that took so long and in which they alternated so many times.
fn wants_synchronous(now: bool, alternations: u32, window: Duration) -> bool {
    let apart = if now { APART } else { STILL_APART };
    alternations < ALTERNATE || window < apart * WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_several_that_compute_are_woken_elsewhere() {
        let dense = STILL_APART * WINDOW / 2;
        let between = (STILL_APART + APART) * WINDOW / 2;
        let sparse = APART * WINDOW * 2;
        for (now, alternations, window, wanted) in [
            // One, and several behind each other.
            (true, 1, sparse, true),
            (true, WINDOW / 8, sparse, true),
            (false, WINDOW / 8, sparse, true),
            // Two that do nothing but call.
            (true, WINDOW / 2, dense, true),
            (false, WINDOW / 2, dense, true),
            // Two, or more, that compute.
            (true, WINDOW / 2, sparse, false),
            (false, WINDOW / 2, sparse, false),
            (true, WINDOW, sparse, false),
            // It does not change its mind where the difference is small.
            (true, WINDOW / 2, between, true),
            (false, WINDOW / 2, between, false),
        ] {
            assert_eq!(
                wants_synchronous(now, alternations, window),
                wanted,
                "{now} {alternations} {window:?}"
            );
        }
    }
}
