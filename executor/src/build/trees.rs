//! Unpacked layers: makes the snapshots that a step stands on.
//!
//! Responsible for the list of lower directories of a stack of layers, unpacking what is missing
//! from the blobs. Must not know what the trees are for. Invariant: a snapshot is committed only
//! when the archive's digest is the one that the image config promises.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fetch::Fetcher;
use super::jobs::{Reply, SkeletonTask, Staged, Task, UnpackTask};
use super::state::Layer;
use super::worker::Worker;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, Digest};
use crate::progress::event::Sender;
use crate::store::lock::Session;
use crate::store::snapshots::Staging;

/// Stands for the content of the skeleton where a layer's has its chain id.
const SKELETON: &[u8] = b"sandcrab mount points 1";

/// Makes and finds snapshots; usable from any thread.
#[derive(Debug)]
pub struct Trees<'a> {
    session: &'a Session,
    worker: &'a Worker,
    progress: &'a Sender,
    fetcher: &'a Fetcher<'a>,
    max_bytes: u64,
    /// Held while unpacking, so that two stages with one base unpack it once.
    unpacking: Mutex<()>,
    /// Snapshots that are in the store for as long as this session lives.
    known: Mutex<HashMap<ChainId, PathBuf>>,
    /// Those that will be.
    early: Mutex<HashMap<ChainId, Early>>,
}

/// A finished tree that a step stands on before it is in the store.
#[derive(Debug)]
struct Early {
    staging: Staging,
    size: u64,
    /// Whether others may use it where it is.
    shared: bool,
}

impl<'a> Trees<'a> {
    /// Takes what unpacking needs; `max_bytes` is the most that one layer may unpack to.
    pub fn new(
        session: &'a Session,
        worker: &'a Worker,
        progress: &'a Sender,
        fetcher: &'a Fetcher<'a>,
        max_bytes: u64,
    ) -> Self {
        Self {
            session,
            worker,
            progress,
            fetcher,
            max_bytes,
            unpacking: Mutex::new(()),
            known: Mutex::default(),
            early: Mutex::default(),
        }
    }

    /// Returns the snapshot directories of a stack, topmost first, unpacking what is missing.
    /// `name` is the image's, for the progress display.
    pub fn lowers(&self, layers: &[Layer], name: &str) -> Result<Vec<PathBuf>> {
        self.bring(layers, name)?;
        let mut lowers: Vec<PathBuf> = Vec::with_capacity(layers.len());
        let mut chain = None;
        let mut guard = None;
        for layer in layers {
            let here = ChainId::child(chain, layer.diff_id);
            let mut found = self.find(here);
            if found.is_none() && guard.is_none() {
                let lock = self.unpacking.lock();
                guard = Some(lock.unwrap_or_else(PoisonError::into_inner));
                found = self.find(here);
            }
            let dir = match found {
                Some(dir) => dir,
                None => self.unpack(layer, here, &lowers, name)?,
            };
            lowers.push(dir);
            chain = Some(here);
        }
        lowers.reverse();
        Ok(lowers)
    }

    /// Returns the directories for a sandbox: those of [`Self::lowers`], then one that holds the
    /// mount points which the image may lack.
    pub fn sandbox_lowers(&self, layers: &[Layer], name: &str) -> Result<Vec<PathBuf>> {
        let mut lowers = self.lowers(layers, name)?;
        lowers.push(self.skeleton()?);
        Ok(lowers)
    }

    /// Puts a finished tree into the store; `size` is that of its files in bytes.
    pub fn commit(&self, staging: Staging, chain: ChainId, size: u64) -> Result<PathBuf> {
        let snapshots = self.session.store().snapshots();
        let dir = snapshots.commit(self.session, staging, self.worker.identity(), chain, size)?;
        self.learn(chain, &dir);
        Ok(dir)
    }

    /// Lends a finished tree where it is: a job stands on it that was told so. It is to be put into the store
    /// by [`Self::settle`] after that job, or by [`Self::settle_all`].
    pub(super) fn lend(&self, staging: Staging, chain: ChainId, size: u64) {
        let early = Early {
            staging,
            size,
            shared: false,
        };
        // Where another step has made the same, two jobs stand on it; either directory stays until the end.
        (self.early().entry(chain))
            .and_modify(|found| found.shared = true)
            .or_insert(early);
    }

    /// Puts a tree that was lent into the store, unless others have found it meanwhile. The one whom it was
    /// lent to has no use for it any more.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(super) fn settle(&self, chain: ChainId) -> Result<()> {
        // Locked until it is in place: who looks for it now finds it there.
        let mut early = self.early();
        match early.get(&chain) {
            Some(found) if !found.shared => {}
            _ => return Ok(()),
        }
        match early.remove(&chain) {
            Some(found) => self.commit(found.staging, chain, found.size).map(drop),
            None => Ok(()),
        }
    }

    /// Puts all trees that were lent into the store, when no step of the build runs any more.
    ///
    /// # Errors
    /// The first of [`Self::commit`].
    pub(super) fn settle_all(&self) -> Result<()> {
        let all = std::mem::take(&mut *self.early());
        let settled = all.into_iter().map(|(chain, early)| {
            let committed = self.commit(early.staging, chain, early.size);
            committed.map(drop)
        });
        settled.fold(Ok(()), Result::and)
    }

    fn early(&self) -> MutexGuard<'_, HashMap<ChainId, Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the layers that have to be unpacked and are elsewhere.
    fn bring(&self, layers: &[Layer], name: &str) -> Result<()> {
        let mut chain = None;
        let unpacked = layers.iter().map(|layer| {
            let here = ChainId::child(chain, layer.diff_id);
            chain = Some(here);
            self.find(here).is_some()
        });
        let unpacked: Vec<bool> = unpacked.collect();
        let needed = layers.iter().zip(unpacked).filter(|(_, found)| !found);
        self.fetcher.bring(needed.map(|(l, _)| &l.blob), name)
    }

    /// Finds a snapshot.
    pub(super) fn find(&self, chain: ChainId) -> Option<PathBuf> {
        if let Some(early) = self.early().get_mut(&chain) {
            early.shared = true;
            return Some(early.staging.fs());
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = known.get(&chain) {
            return Some(dir.clone());
        }
        drop(known);
        let snapshots = self.session.store().snapshots();
        let dir = snapshots.get(self.worker.identity(), chain)?;
        self.learn(chain, &dir);
        Some(dir)
    }

    fn learn(&self, chain: ChainId, dir: &Path) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(chain, dir.to_path_buf());
    }

    /// Returns the mount points' directory, which is kept like a layer's.
    fn skeleton(&self) -> Result<PathBuf> {
        let chain = ChainId(Digest::of(SKELETON));
        if let Some(dir) = self.find(chain) {
            return Ok(dir);
        }
        let staging = self.session.store().snapshots().staging(self.session)?;
        self.worker.submit(
            &Task::Skeleton(SkeletonTask {
                staging: staging.dir().to_path_buf(),
            }),
            &[],
        )?;
        self.commit(staging, chain, 0)
    }

    /// Unpacks a layer on `lowers`, bottom first.
    fn unpack(
        &self,
        layer: &Layer,
        chain: ChainId,
        lowers: &[PathBuf],
        name: &str,
    ) -> Result<PathBuf> {
        let short = &layer.blob.digest.hex()[..12];
        let vertex = self
            .progress
            .start(format!("[internal] unpack {name} {short}"));
        let result = (|| {
            let staging = self.session.store().snapshots().staging(self.session)?;
            let task = Task::Unpack(UnpackTask {
                tree: Staged {
                    lowers: lowers.iter().rev().cloned().collect(),
                    staging: staging.dir().to_path_buf(),
                    latest: None,
                    without_user: false,
                },
                blob: self.session.blobs().path(&layer.blob.digest),
                max_bytes: self.max_bytes,
            });
            let Reply::Unpacked(unpacked) = self.worker.submit(&task, &[])? else {
                return Err(Error::new("unexpected reply to unpacking").kind(Kind::Internal));
            };
            for note in &unpacked.notes {
                vertex.warn(note.clone());
            }
            if unpacked.diff_id != layer.diff_id.0 {
                self.fetcher.lose(&layer.blob.digest);
                return Err(Error::new(format!(
                    "layer {} unpacks to {}, but the image's config says {}",
                    layer.blob.digest, unpacked.diff_id, layer.diff_id
                )));
            }
            self.commit(staging, chain, unpacked.bytes)
        })();
        match result {
            Ok(dir) => {
                vertex.done();
                Ok(dir)
            }
            Err(error) => {
                // What is wrong with the archive may be wrong with our copy of it only.
                let blobs = self.session.blobs();
                let error = match self.worker.cancel().check() {
                    Ok(()) => match blobs.verify(&layer.blob.digest) {
                        Ok(()) => error,
                        Err(damage) => {
                            self.fetcher.spoil(&layer.blob);
                            damage
                        }
                    },
                    Err(_) => error,
                };
                let error = error.during(format!("unpack {name}"));
                if self.fetcher.can_do_without() {
                    vertex.warn(format!("{}; it is made or fetched again", error.chain()));
                    vertex.done();
                } else {
                    vertex.fail(&error);
                }
                Err(error)
            }
        }
    }
}
