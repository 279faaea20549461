//! Cache mounts of a step: which directories they are, and whose turn it is.
//!
//! Responsible for a cache mount's identity, for making it when it is first asked for, and for its
//! sharing mode, also between processes. Must not know what steps do with it. Invariant: a step's
//! directories are locked in one order, so that no two steps wait for each other.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::trees::{Input, Inputs};
use crate::build::stage::Stage;
use crate::cache::key::KeyBuilder;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::plan::step::{CacheMount, MountKind, Run, Sharing};
use crate::store::cache_mounts::CacheDir;

/// How long to wait before looking at a lock again.
const PAUSE: Duration = Duration::from_millis(50);

/// The cache mounts that a step has for itself, or shares, until this is dropped.
#[derive(Debug, Default)]
pub(in crate::build) struct Held {
    /// The tree of each mount that is one, by the mount's number.
    trees: Vec<(usize, PathBuf)>,
    locks: Vec<File>,
}

impl Held {
    /// Returns the tree of the mount of this number.
    pub(super) fn tree(&self, number: usize) -> Option<&Path> {
        let found = self.trees.iter().find(|(n, _)| *n == number);
        found.map(|(_, tree)| tree.as_path())
    }

    /// Returns the locks, for the job to hold, too.
    pub(super) fn locks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.locks.iter().map(AsFd::as_fd)
    }
}

/// One cache mount of a step.
struct Wanted<'a> {
    number: usize,
    key: Digest,
    cache: &'a CacheMount,
    input: Option<&'a Input>,
}

fn key_of(cache: &CacheMount, input: Option<&Input>) -> Digest {
    let mut key = KeyBuilder::new("cache mount");
    key.field("id", &cache.id);
    if let Some(input) = input {
        key.field("from", input.digest().as_bytes())
            .field("source", &cache.source);
    }
    key.finish()
}

impl Stage<'_> {
    /// Waits until the step may use its cache mounts; makes those that are not there.
    pub(in crate::build) fn hold_caches(&self, run: &Run, inputs: &Inputs) -> Result<Held> {
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        for (number, mount) in run.mounts.iter().enumerate() {
            if let MountKind::Cache(cache) = &mount.kind {
                let input = inputs.get(number);
                wanted.push(Wanted {
                    number,
                    key: key_of(cache, input),
                    cache,
                    input,
                });
            }
        }
        let rank = |sharing| match sharing {
            Sharing::Locked => 0,
            Sharing::Shared => 1,
            Sharing::Private => 2,
        };
        wanted.sort_by_key(|w| (*w.key.as_bytes(), rank(w.cache.sharing)));
        let mut held = Held::default();
        let mut common: Option<(Digest, PathBuf)> = None;
        for one in &wanted {
            let is_private = one.cache.sharing == Sharing::Private;
            // Two mounts of one cache in a step are one to others.
            let known = common
                .as_ref()
                .filter(|(key, _)| *key == one.key && !is_private);
            let tree = match known {
                Some((_, tree)) => tree.clone(),
                None => {
                    let (dir, lock) = self.hold_cache(one)?;
                    held.locks.push(lock);
                    if !is_private {
                        common = Some((one.key, dir.fs()));
                    }
                    dir.fs()
                }
            };
            held.trees.push((one.number, tree));
        }
        Ok(held)
    }

    fn hold_cache(&self, wanted: &Wanted<'_>) -> Result<(CacheDir, File)> {
        let shared = self.shared;
        let mounts = shared.session.store().cache_mounts();
        let mut number = 0;
        let mut waiting = None;
        loop {
            let dir = mounts.at(shared.worker.identity(), &wanted.key, number);
            if !dir.exists() {
                let from = match wanted.input {
                    Some(Input::Copy(copy, prepared)) => Some((&**copy, prepared)),
                    _ => None,
                };
                let (staging, _) = self.seed(from, wanted.cache.permissions)?;
                mounts.commit(shared.session, staging, &dir, &wanted.cache.id)?;
            }
            // Who trims cache mounts may take it away at any time until it is locked.
            let Some(lock) = dir.lock()? else {
                continue;
            };
            let tried = match wanted.cache.sharing {
                Sharing::Shared => lock.try_lock_shared(),
                Sharing::Private | Sharing::Locked => lock.try_lock(),
            };
            match tried {
                Ok(()) if dir.is_held_by(&lock) => return Ok((dir, lock)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if wanted.cache.sharing == Sharing::Private => {
                    number += 1;
                }
                Err(TryLockError::WouldBlock) => {
                    let target = &wanted.cache.target;
                    waiting.get_or_insert_with(|| {
                        let name = format!("[internal] wait for cache mount `{target}`");
                        shared.progress.start(name)
                    });
                    shared.worker.cancel().check()?;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(e)) => {
                    return Err(Error::new("lock cache mount").path(dir.fs()).source(e));
                }
            }
        }
    }
}
