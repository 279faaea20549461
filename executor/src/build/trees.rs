//! Unpacked layers: makes the snapshots that a step stands on.
//!
//! Responsible for the list of lower directories of a stack of layers, unpacking what is missing
//! from the blobs. Must not know what the trees are for. Invariant: a snapshot is committed only
//! when the archive's digest is the one that the image config promises.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::jobs::{Reply, Staged, Task, UnpackTask};
use super::state::Layer;
use super::worker::Worker;
use crate::error::{Error, Kind, Result};
use crate::image::digest::ChainId;
use crate::progress::event::Sender;
use crate::store::lock::Session;

/// Makes and finds snapshots; usable from any thread.
#[derive(Debug)]
pub struct Trees<'a> {
    session: &'a Session,
    worker: &'a Worker,
    progress: &'a Sender,
    max_bytes: u64,
    /// Held while unpacking, so that two stages with one base unpack it once.
    unpacking: Mutex<()>,
}

impl<'a> Trees<'a> {
    /// Takes what unpacking needs; `max_bytes` is the most that one layer may unpack to.
    pub fn new(
        session: &'a Session,
        worker: &'a Worker,
        progress: &'a Sender,
        max_bytes: u64,
    ) -> Self {
        Self {
            session,
            worker,
            progress,
            max_bytes,
            unpacking: Mutex::new(()),
        }
    }

    /// Returns the snapshot directories of a stack, topmost first, unpacking what is missing.
    /// `name` is the image's, for the progress display.
    pub fn lowers(&self, layers: &[Layer], name: &str) -> Result<Vec<PathBuf>> {
        let snapshots = self.session.store().snapshots();
        let identity = self.worker.identity();
        let mut lowers: Vec<PathBuf> = Vec::with_capacity(layers.len());
        let mut chain = None;
        let mut guard = None;
        for layer in layers {
            let here = ChainId::child(chain, layer.diff_id);
            let mut found = snapshots.get(identity, here);
            if found.is_none() && guard.is_none() {
                let lock = self.unpacking.lock();
                guard = Some(lock.unwrap_or_else(PoisonError::into_inner));
                found = snapshots.get(identity, here);
            }
            let dir = match found {
                Some(dir) => dir,
                None => self.unpack(layer, here, &lowers, name)?,
            };
            lowers.insert(0, dir);
            chain = Some(here);
        }
        Ok(lowers)
    }

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
            let snapshots = self.session.store().snapshots();
            let staging = snapshots.staging(self.session)?;
            let task = Task::Unpack(UnpackTask {
                tree: Staged {
                    lowers: lowers.to_vec(),
                    staging: staging.dir().to_path_buf(),
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
                return Err(Error::new(format!(
                    "layer {} unpacks to {}, but the image's config says {}",
                    layer.blob.digest, unpacked.diff_id, layer.diff_id
                )));
            }
            snapshots.commit(
                self.session,
                staging,
                self.worker.identity(),
                chain,
                unpacked.bytes,
            )
        })();
        match result {
            Ok(dir) => {
                vertex.done();
                Ok(dir)
            }
            Err(error) => {
                let error = error.during(format!("unpack {name}"));
                vertex.fail(error.chain());
                Err(error)
            }
        }
    }
}
