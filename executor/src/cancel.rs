//! One flag that ends a build early, and what has to be told when it is raised.
//!
//! Responsible for telling every part of a build that the user (or the failure of another part)
//! wants it to stop. Must not know about signals' delivery: the edge raises the flag. Invariant:
//! a hook registered after the flag was raised runs at once, so none is missed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Kind, Result};

/// Why a build should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This signal number arrived.
    Signal(i32),
    /// Another part of the build failed.
    Failure,
}

type Hook = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    cause: Option<Cause>,
    next: u64,
    hooks: BTreeMap<u64, Hook>,
}

/// The flag; clones share it.
#[derive(Clone, Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
}

/// Keeps a hook registered; dropped, the hook is forgotten.
pub struct Registration {
    state: Arc<Mutex<State>>,
    id: u64,
}

impl Cancel {
    /// Makes a flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and runs the hooks; only the first cause counts.
    pub fn raise(&self, cause: Cause) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cause.is_none() {
            state.cause = Some(cause);
        }
        for hook in state.hooks.values() {
            hook();
        }
    }

    /// Returns why the flag was raised, if it was.
    pub fn cause(&self) -> Option<Cause> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cause
    }

    /// Returns an error when the flag is raised.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] for a signal, [`Kind::Cancelled`] for another part's failure.
    pub fn check(&self) -> Result<()> {
        match self.cause() {
            None => Ok(()),
            Some(Cause::Signal(signal)) => {
                Err(Error::new("interrupted").kind(Kind::Interrupted(signal)))
            }
            Some(Cause::Failure) => {
                Err(Error::new("cancelled because another step failed").kind(Kind::Cancelled))
            }
        }
    }

    /// Returns the interruption in place of an error that came after it, and may only be its
    /// consequence.
    #[must_use]
    pub fn settle(&self, error: Error) -> Error {
        match (self.cause(), self.check()) {
            (Some(Cause::Signal(_)), Err(interrupted)) => interrupted,
            _ => error,
        }
    }

    /// Takes a failure back, so that the work can be tried in another way; a signal stays.
    pub fn forgive(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cause == Some(Cause::Failure) {
            state.cause = None;
        }
    }

    /// Registers a hook that runs when the flag is raised; at once, if it is raised already.
    /// Hooks run under a lock and must not block or use this flag.
    #[must_use]
    pub fn on_raise(&self, hook: impl Fn() + Send + 'static) -> Registration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cause.is_some() {
            hook();
        }
        let id = state.next;
        state.next += 1;
        state.hooks.insert(id, Box::new(hook));
        Registration {
            state: Arc::clone(&self.state),
            id,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(state.hooks.remove(&self.id));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn hooks_run_once_raised_and_late_ones_at_once() {
        let cancel = Cancel::new();
        let count = Arc::new(AtomicU32::new(0));
        let add = |count: &Arc<AtomicU32>| {
            let count = Arc::clone(count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        let kept = cancel.on_raise(add(&count));
        drop(cancel.on_raise(add(&count)));
        assert!(cancel.check().is_ok());
        cancel.raise(Cause::Signal(2));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let late = cancel.on_raise(add(&count));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let error = cancel.check().expect_err("raised");
        assert_eq!(error.get_kind(), Kind::Interrupted(2));
        drop((kept, late));
    }

    #[test]
    fn an_error_after_an_interruption_is_its_consequence() {
        let cancel = Cancel::new();
        let settled = |cancel: &Cancel| cancel.settle(Error::new("read")).get_kind();
        assert_eq!(settled(&cancel), Kind::Build);
        cancel.raise(Cause::Signal(15));
        assert_eq!(settled(&cancel), Kind::Interrupted(15));
        let failed = Cancel::new();
        failed.raise(Cause::Failure);
        assert_eq!(settled(&failed), Kind::Build);
    }

    #[test]
    fn a_failure_can_be_forgiven_and_a_signal_can_not() {
        let cancel = Cancel::new();
        cancel.raise(Cause::Failure);
        cancel.forgive();
        assert!(cancel.check().is_ok());
        cancel.raise(Cause::Signal(2));
        cancel.forgive();
        assert_eq!(cancel.cause(), Some(Cause::Signal(2)));
    }

    #[test]
    fn the_first_cause_counts() {
        let cancel = Cancel::new();
        cancel.raise(Cause::Failure);
        cancel.raise(Cause::Signal(15));
        assert_eq!(cancel.cause(), Some(Cause::Failure));
    }
}
