//! Layers on their way to registries while others are still being made.
//!
//! Responsible for sending blobs as they are handed over, a few at a time. Must not make them, nor
//! decide which and where to. Invariants: when [`Courier::during`] returns, nothing is under way; after
//! the first trouble nothing more is sent.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;
use crate::progress::event::Vertex;
use crate::registry::{BlobSource, Registry};
use crate::store::lock::Session;

/// How many layers are sent at a time.
const SENDERS: usize = 3;

/// A blob of the store, and the repository that is to have it.
pub(super) type Parcel<'p> = (&'p Reference, Descriptor);

/// Sends layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Courier<'a> {
    pub(super) session: &'a Session,
    pub(super) registry: &'a Registry,
    /// Repositories that may have some of them, besides those that are known to.
    pub(super) origins: &'a [Reference],
}

impl Courier<'_> {
    /// Does `work`, which hands blobs over, and waits until they are sent; returns the first trouble
    /// beside what `work` did. `stopped` tells whether sending has no more use, `vertex` where it is shown.
    pub(super) fn during<'p, 'v, T>(
        &self,
        stopped: &(dyn Fn() -> bool + Sync),
        vertex: &(dyn Fn() -> &'v Vertex + Sync),
        work: impl FnOnce(&Sender<Parcel<'p>>) -> T,
    ) -> (T, Option<Error>) {
        let (post, parcels) = mpsc::channel::<Parcel<'p>>();
        let parcels = Mutex::new(parcels);
        let trouble = Mutex::new(None);
        let done = std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    while let Some((to, blob)) = next(&parcels) {
                        if !stopped()
                            && held(&trouble).is_none()
                            && let Err(error) = self.send(to, blob, vertex())
                        {
                            held(&trouble).get_or_insert(error);
                        }
                    }
                });
            }
            let done = work(&post);
            drop(post);
            done
        });
        let trouble = trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
        (done, trouble)
    }

    fn send(&self, to: &Reference, blob: Descriptor, vertex: &Vertex) -> Result<()> {
        let path = self.session.blobs().path(&blob.digest);
        let mut mount_from = self.session.cache().remotes().repositories(&blob);
        mount_from.extend_from_slice(self.origins);
        let source = BlobSource {
            mount_from,
            ..BlobSource::file(blob, path)
        };
        self.registry.send(to, &source, vertex)
    }
}

/// Returns the first repository of each registry: others take from there what it has.
pub(super) fn first_of_each<'r>(
    references: impl IntoIterator<Item = &'r Reference>,
) -> Vec<&'r Reference> {
    let mut first: Vec<&Reference> = Vec::new();
    for reference in references {
        if first
            .iter()
            .all(|known| known.registry != reference.registry)
        {
            first.push(reference);
        }
    }
    first
}

fn next<'p>(parcels: &Mutex<Receiver<Parcel<'p>>>) -> Option<Parcel<'p>> {
    held(parcels).recv().ok()
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
