//! Layers that are elsewhere: fetched when something needs their bytes, not before.
//!
//! Responsible for bringing the blobs of layers into the store from the places where they are known
//! to be. Must not decide what needs them. Invariant: when [`Fetcher::bring`] succeeds, all blobs it
//! was asked for are in the store, verified by their digests; those that it could not get are
//! remembered, so that what was built on their promise can be built without them.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cache::remotes::Place;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::progress::event::{Sender, Vertex};
use crate::registry::Registry;
use crate::store::import::layout;
use crate::store::lock::Session;

/// Fetches layers; usable from any thread.
#[derive(Debug)]
pub struct Fetcher<'a> {
    session: &'a Session,
    registry: &'a Registry,
    progress: &'a Sender,
    cancel: &'a Cancel,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Blobs that can't be had, or are not what they should be.
    lost: HashSet<Digest>,
    /// Blobs of steps' results, which can be made again.
    promised: HashSet<Digest>,
    /// Blobs of which our copy was damaged.
    damaged: HashSet<Digest>,
}

impl<'a> Fetcher<'a> {
    /// Takes what fetching needs.
    pub fn new(
        session: &'a Session,
        registry: &'a Registry,
        progress: &'a Sender,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            session,
            registry,
            progress,
            cancel,
            known: Mutex::default(),
        }
    }

    /// Tells whether a blob is in the store.
    pub fn is_here(&self, blob: &Descriptor) -> bool {
        self.session.blobs().size(&blob.digest) == Some(blob.size)
    }

    /// Tells whether a blob is in the store, or where it can be fetched.
    pub fn is_known(&self, blob: &Descriptor) -> bool {
        self.is_here(blob) || self.session.cache().remotes().get(blob).is_some()
    }

    /// Notes that a blob is not what was promised.
    pub fn lose(&self, blob: &Digest) {
        self.lock().lost.insert(*blob);
    }

    /// Notes that our copy of a blob was damaged, and is gone. One that can be fetched is fetched once
    /// more: what is damaged twice tells of the disk.
    pub(super) fn spoil(&self, blob: &Descriptor) {
        let is_elsewhere = self.session.cache().remotes().get(blob).is_some();
        let mut known = self.lock();
        known.lost.insert(blob.digest);
        if known.damaged.insert(blob.digest) && is_elsewhere {
            known.promised.insert(blob.digest);
        }
    }

    /// Notes that a blob is a step's result: without it, the step can be run.
    pub(super) fn promise(&self, blob: &Digest) {
        self.lock().promised.insert(*blob);
    }

    /// Tells whether something is lost that can be made again.
    pub(super) fn can_do_without(&self) -> bool {
        let known = self.lock();
        !known.lost.is_disjoint(&known.promised)
    }

    /// Returns what is lost and can be made again, and forgets that it was promised.
    pub fn take_lost(&self) -> HashSet<Digest> {
        let mut known = self.lock();
        let lost = std::mem::take(&mut known.lost);
        let lost = lost.intersection(&known.promised).copied().collect();
        known
            .promised
            .retain(|blob| !HashSet::contains(&lost, blob));
        lost
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these blobs in the store; `name` is what they are of, for people.
    ///
    /// # Errors
    /// When one can't be fetched from any place that is known for it; cancellation.
    pub fn bring<'d>(
        &self,
        blobs: impl IntoIterator<Item = &'d Descriptor>,
        name: &str,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let missing: Vec<&Descriptor> = (blobs.into_iter())
            .filter(|blob| !self.is_here(blob) && seen.insert(blob.digest))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let vertex = self
            .progress
            .start(format!("[internal] fetch layers of {name}"));
        match self.fetch_all(missing, name, &vertex) {
            Ok(()) => {
                vertex.done();
                Ok(())
            }
            Err(error) => {
                if self.can_do_without() {
                    vertex.warn(format!(
                        "{}; what it was made by is run again",
                        error.chain()
                    ));
                    vertex.done();
                } else {
                    vertex.fail(&error);
                }
                Err(error)
            }
        }
    }

    /// Has a blob in the store, if it can be had; returns whether. What is in the way is a warning.
    pub(super) fn try_bring(&self, blob: &Descriptor, name: &str) -> bool {
        if self.is_here(blob) {
            return true;
        }
        let vertex = self
            .progress
            .start(format!("[internal] fetch layers of {name}"));
        let Err(error) = self.fetch_all(vec![blob], name, &vertex) else {
            vertex.done();
            return true;
        };
        // Nothing depends on it.
        self.lock().lost.remove(&blob.digest);
        if error.is_cancellation() {
            vertex.fail(&error);
        } else {
            vertex.warn(error.chain());
            vertex.done();
        }
        false
    }

    fn fetch_all(&self, missing: Vec<&Descriptor>, name: &str, vertex: &Vertex) -> Result<()> {
        let remotes = self.session.cache().remotes();
        let mut left: Vec<(&Descriptor, Vec<Place>)> = Vec::new();
        let mut failure = None;
        for blob in missing {
            match remotes.get(blob) {
                Some(remote) => left.push((blob, remote.places)),
                None => {
                    self.lose(&blob.digest);
                    failure.get_or_insert_with(|| {
                        Error::new(format!(
                            "layer {} of {name} is not in the store",
                            blob.digest
                        ))
                        .kind(Kind::NotFound)
                        .hint("pull or build the image again")
                    });
                }
            }
        }
        let unknown = failure.is_some();
        let mut round = 0;
        while left.iter().any(|(_, places)| places.len() > round) {
            let mut groups: BTreeMap<&Place, Vec<&Descriptor>> = BTreeMap::new();
            for (blob, places) in &left {
                if let Some(place) = places.get(round) {
                    groups.entry(place).or_default().push(blob);
                }
            }
            let mut trouble = None;
            for (place, blobs) in groups {
                if let Err(error) = self.fetch_from(place, &blobs, vertex) {
                    self.cancel.check()?;
                    trouble = Some(error);
                }
            }
            left.retain(|(blob, _)| !self.is_here(blob));
            if left.is_empty() {
                break;
            }
            if failure.is_none() {
                failure = trouble;
            }
            round += 1;
        }
        for (blob, _) in &left {
            self.lose(&blob.digest);
        }
        match failure {
            Some(error) if unknown || !left.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Fetches from one place. Where one blob is not there, the others still are worth having.
    fn fetch_from(&self, place: &Place, blobs: &[&Descriptor], vertex: &Vertex) -> Result<()> {
        let wanted: Vec<Descriptor> = blobs.iter().map(|blob| (*blob).clone()).collect();
        let all = self.fetch_some(place, &wanted, vertex);
        match all {
            Err(error) if error.get_kind() == Kind::NotFound && wanted.len() > 1 => {
                let mut result = Ok(());
                for blob in &wanted {
                    self.cancel.check()?;
                    let one = self.fetch_some(place, std::slice::from_ref(blob), vertex);
                    result = result.and(one);
                }
                result
            }
            all => all,
        }
    }

    fn fetch_some(&self, place: &Place, blobs: &[Descriptor], vertex: &Vertex) -> Result<()> {
        match (place, place.repository()) {
            (Place::Layout(path), _) => layout::take_blobs(self.session, path, blobs, self.cancel),
            (_, Some(repository)) => {
                let into = self.session.blobs();
                self.registry.fetch_some(&repository, blobs, &into, vertex)
            }
            (place, None) => Err(Error::new(format!("`{place}` is no repository"))),
        }
    }
}
