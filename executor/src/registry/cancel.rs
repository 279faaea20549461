//! Cancellation that plain threads, signal handlers' threads and the async island share.
//!
//! Responsible for one flag that is set once and never cleared. Must not know what is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::error::{Error, Kind};

/// How long a cancelled transfer may go on before it notices.
const POLL: Duration = Duration::from_millis(50);

/// A shared flag that says which signal ended the work; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicI32>);

impl Cancel {
    /// Asks all holders to stop, because of this signal number (2 or 15). The first call counts.
    pub fn cancel(&self, signal: i32) {
        let _ = self
            .0
            .compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns the signal number, once cancelled.
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Waits until cancelled, and returns the error to end with.
    pub(crate) async fn cancelled(&self) -> Error {
        loop {
            if let Some(signal) = self.signal() {
                return Error::new("interrupted").kind(Kind::Interrupted(signal));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
