//! Claims: names that one process at a time works on, whichever builds use the store.
//!
//! Responsible for locks that last as long as their process, and for leaving nothing behind. Must
//! not know what the names stand for, or wait. Invariant: of two claims of one name, at most one is
//! held; the lock file of a claim whose process was killed is garbage like that of a session, and
//! is found by the same collector.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

use super::lock::{Session, is_linked};
use super::lock_error;
use crate::error::{Result, ResultExt};

/// A name that this process has for itself until this is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Session {
    /// Claims a name, which must be a file name; `None` when somebody else has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn claim(&self, name: &str) -> Result<Option<Claim>> {
        let path = self.store().root().join("tmp").join(format!("{name}.lock"));
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .op_path("create", &path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(lock_error(&path, e)),
            }
            // Who had it has removed the file that was opened here; the next one counts.
            if is_linked(&file, &path) {
                return Ok(Some(Claim { path, _lock: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: who opens it now sees that it is gone, and makes another.
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // A collector finds it.
            Err(e) => debug_assert_ne!(e.kind(), io::ErrorKind::NotFound, "a claim was lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_has_a_name_at_a_time() {
        let (_dir, store) = store();
        let (one, two) = (
            store.session().expect("session"),
            store.session().expect("session"),
        );
        let held = one.claim("step-a").expect("claim");
        assert!(held.is_some());
        assert!(two.claim("step-a").expect("claim").is_none());
        assert!(one.claim("step-a").expect("claim").is_none());
        assert!(two.claim("step-b").expect("claim").is_some());
        assert!(
            super::super::lock::dead_sessions(&store)
                .expect("list")
                .is_empty()
        );
        drop(held);
        assert!(two.claim("step-a").expect("claim").is_some());
        drop((one, two));
        let left = fs::read_dir(store.root().join("tmp")).expect("list");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_a_killed_process_had_can_be_had_and_is_garbage() {
        let (_dir, store) = store();
        let session = store.session().expect("session");
        fs::write(store.root().join("tmp/step-a.lock"), "").expect("write");
        let dead = super::super::lock::dead_sessions(&store).expect("list");
        assert_eq!(dead.len(), 1);
        drop(dead);
        assert!(session.claim("step-a").expect("claim").is_some());
        assert!(!store.root().join("tmp/step-a.lock").exists());
    }

    #[test]
    fn no_two_of_many_have_it() {
        let (_dir, store) = store();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let session = store.session().expect("session");
                    let mut had = 0;
                    while had < 50 {
                        if let Some(claim) = session.claim("step-a").expect("claim") {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            had += 1;
                            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                            drop(claim);
                        }
                    }
                });
            }
        });
    }
}
