//! Equal steps run once: in one build, whatever its stages and platforms, and in all builds of one
//! store that run at the same time.
//!
//! Responsible for whose turn a step is, and for what the steps of this build have made. Must not run
//! steps or know what keys are made of. Invariants: a step that waits here holds nothing that another
//! may need; a turn ends with the process that has it, so that after a failure or a kill the next one
//! runs the step itself; each stage has one turn at a time, so that no two wait for each other.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::steps::CacheRecord;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::store::claims::Claim;
use crate::store::lock::Session;

/// How long to wait before looking again whether another process has ended, or this build.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose turn each step is; usable from any thread.
#[derive(Debug, Default)]
pub struct Once {
    board: Mutex<Board>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Board {
    /// Keys of the steps that run now.
    running: HashSet<Digest>,
    /// What steps of this build have made.
    made: HashMap<Digest, CacheRecord>,
}

/// The right to run a step.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    once: &'a Once,
    key: Digest,
    claim: Option<Claim>,
}

impl Once {
    /// Waits until no other stage of this build runs the step with this key.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn turn(&self, key: Digest, cancel: &Cancel) -> Result<Turn<'_>> {
        let mut board = self.lock();
        while board.running.contains(&key) {
            cancel.check()?;
            let waited = self.changed.wait_timeout(board, PAUSE);
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        board.running.insert(key);
        Ok(Turn {
            once: self,
            key,
            claim: None,
        })
    }

    /// Takes the turn of a step that has begun already, if nobody has it.
    pub(super) fn try_turn(&self, key: Digest) -> Option<Turn<'_>> {
        let is_free = self.lock().running.insert(key);
        // Not made where it is not given: its end would be another's.
        is_free.then(|| Turn {
            once: self,
            key,
            claim: None,
        })
    }

    /// Tells whether a step of this name has made something in this build.
    pub(super) fn has_made(&self, name: &str) -> bool {
        self.lock().made.values().any(|made| made.name == name)
    }

    /// Returns what a step of this build with this key has made.
    pub(super) fn made(&self, key: &Digest) -> Option<CacheRecord> {
        self.lock().made.get(key).cloned()
    }

    /// Notes what a step has made.
    pub(super) fn note(&self, key: Digest, record: &CacheRecord) {
        self.lock().made.insert(key, record.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Has the step for this process alone, if no other process runs it at this moment.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn claim(&mut self, session: &Session) -> Result<bool> {
        self.claim = session.claim(&format!("step-{}", self.key.hex()))?;
        Ok(self.claim.is_some())
    }

    /// Waits until no other process runs the step; `tell` is called once when that takes a while.
    ///
    /// # Errors
    /// Cancellation; those of the file system.
    pub(super) fn wait<T>(
        &mut self,
        session: &Session,
        cancel: &Cancel,
        tell: impl Fn() -> T,
    ) -> Result<Option<T>> {
        let mut told = None;
        while !self.claim(session)? {
            told.get_or_insert_with(&tell);
            cancel.check()?;
            std::thread::sleep(PAUSE);
        }
        Ok(told)
    }

    /// Gives the other processes' turn away, to end when the result is in the store.
    pub(super) fn take_claim(&mut self) -> Option<Claim> {
        self.claim.take()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.once.lock().running.remove(&self.key);
        self.once.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cause;
    use crate::error::Kind;
    use crate::store::fixture;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn key(text: &[u8]) -> Digest {
        Digest::of(text)
    }

    #[test]
    fn one_stage_at_a_time_has_a_step_and_others_take_theirs() {
        let once = Once::default();
        let cancel = Cancel::new();
        let runs = AtomicU32::new(0);
        let other = once.turn(key(b"other"), &cancel).expect("turn");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let turn = once.turn(key(b"a"), &cancel).expect("turn");
                    if once.made(&key(b"a")).is_none() {
                        runs.fetch_add(1, Ordering::SeqCst);
                        let record = CacheRecord {
                            diff_id: None,
                            size: 0,
                            chain: None,
                            created: String::new(),
                            name: String::new(),
                            blob: None,
                            bases: Vec::new(),
                            content: None,
                        };
                        once.note(key(b"a"), &record);
                    }
                    drop(turn);
                });
            }
        });
        drop(other);
        assert_eq!(runs.into_inner(), 1);
    }

    #[test]
    fn a_step_that_has_begun_takes_a_turn_that_is_free() {
        let once = Once::default();
        let turn = once.try_turn(key(b"a")).expect("free");
        assert!(once.try_turn(key(b"a")).is_none());
        drop(turn);
        let turn = once.turn(key(b"a"), &Cancel::new()).expect("turn");
        assert!(once.try_turn(key(b"a")).is_none());
        drop(turn);
        assert!(once.try_turn(key(b"a")).is_some());
    }

    #[test]
    fn who_waits_can_be_stopped() {
        let (_dir, store) = fixture::store();
        let (one, two) = (
            store.session().expect("session"),
            store.session().expect("session"),
        );
        let (here, there) = (Once::default(), Once::default());
        let cancel = Cancel::new();
        let mut first = here.turn(key(b"a"), &cancel).expect("turn");
        assert!(first.claim(&one).expect("claim"));
        let stopped = Cancel::new();
        stopped.raise(Cause::Signal(2));
        let error = here.turn(key(b"a"), &stopped).expect_err("stopped");
        assert_eq!(error.get_kind(), Kind::Interrupted(2));
        let mut second = there.turn(key(b"a"), &cancel).expect("turn");
        let error = second.wait(&two, &stopped, || ()).expect_err("stopped");
        assert_eq!(error.get_kind(), Kind::Interrupted(2));
        // The result is on its way to the store for longer than the step ran.
        let claim = first.take_claim();
        drop(first);
        assert!(!second.claim(&two).expect("claim"));
        drop(claim);
        assert_eq!(second.wait(&two, &cancel, || ()).expect("turn"), None);
    }
}
