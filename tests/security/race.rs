//! Somebody who exchanges two files all the time.
//!
//! Responsible for doing so until it is told to stop. Must not know why.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Calls `body` while two names are exchanged as fast as possible.
pub(crate) fn while_exchanged<T>(one: &Path, other: &Path, body: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rounds = 0_u32;
            // An even number, after which both are where they were.
            while !stop.load(Ordering::Relaxed) || rounds % 2 == 1 {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange");
                rounds = rounds.wrapping_add(1);
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
