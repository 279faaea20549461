//! Layers of the result on their way out while the build goes on.
//!
//! Responsible for compressing each layer as soon as the store has it, in the forms that outputs want,
//! and for sending it to the registries that get the image. Must not decide what an output is made of:
//! that is done in the end as if nothing had happened here, and finds most of it done. Invariants:
//! trouble here is no error, since the output meets it again and says so; one layer is compressed at a
//! time, with as many threads as there are cores, and a few are sent; when [`Ahead::during`] returns,
//! nothing is under way.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::build::Request;
use super::courier::{Courier, Parcel, first_of_each};
use crate::build::Told;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::image::digest::DiffId;
use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;
use crate::output::options::Target;
use crate::output::packing::Packing;
use crate::output::transcode::{self, Watch, format_of};
use crate::progress::event::{self, Vertex};
use crate::registry::Registry;
use crate::store::lock::Session;

/// Prepares layers for outputs.
pub(super) struct Ahead<'a> {
    pub(super) session: &'a Session,
    pub(super) registry: &'a Registry,
    pub(super) progress: &'a event::Sender,
    pub(super) cancel: &'a Cancel,
    /// What outputs want.
    pub(super) wanted: Vec<Wanted<'a>>,
}

/// A form in which layers leave the store.
pub(super) struct Wanted<'a> {
    packing: Packing,
    force: bool,
    /// The repositories that get them, one for each registry.
    to: Vec<&'a Reference>,
}

/// What a build's layers leave the store for.
pub(super) fn wanted(request: &Request) -> Vec<Wanted<'_>> {
    let mut all: Vec<Wanted<'_>> = Vec::new();
    // Its layers are not those that steps make.
    if request.result.squash {
        return all;
    }
    for output in &request.outputs {
        let form = &output.form;
        let push = match &output.target {
            Target::Image(target) if target.push => true,
            Target::Archive { .. } => false,
            _ => continue,
        };
        let names = match output.names.as_slice() {
            [] => &request.tags,
            names => names,
        };
        let to = first_of_each(names.iter().filter(|_| push));
        all.push(Wanted {
            packing: form.compression.unwrap_or(Packing::GZIP),
            force: form.force_compression,
            to,
        });
    }
    all
}

/// What has ended.
#[derive(Debug, Default)]
struct Ends {
    /// The build.
    work: AtomicBool,
    /// The wish for anything.
    all: AtomicBool,
}

impl Ahead<'_> {
    /// Does `work`, which may tell of layers that are in the store, while they are prepared; and, when
    /// it ends well, waits until those are that are sent. The rest is left to the output, which
    /// compresses several at a time.
    pub(super) fn during<T>(
        &self,
        work: impl FnOnce(Option<&Sender<Told>>) -> Result<T>,
    ) -> Result<T> {
        if self.wanted.is_empty() {
            return work(None);
        }
        let ends = Ends::default();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let ends = &ends;
            scope.spawn(move || self.prepare(told, ends));
            let done = work(Some(&tell));
            ends.work.store(true, Ordering::Relaxed);
            ends.all.store(done.is_err(), Ordering::Relaxed);
            drop(tell);
            done
        })
    }

    fn prepare(&self, told: Receiver<Told>, ends: &Ends) {
        let Ok(first) = told.recv() else {
            return;
        };
        let shown = Shown {
            progress: self.progress,
            vertex: OnceLock::new(),
        };
        let courier = Courier {
            session: self.session,
            registry: self.registry,
            origins: &[],
        };
        let stopped = || ends.all.load(Ordering::Relaxed) || self.cancel.check().is_err();
        let sends = self.wanted.iter().any(|wanted| !wanted.to.is_empty());
        let vertex = || shown.vertex();
        let (trouble, not_sent) = courier.during(&stopped, &vertex, |post| {
            let mut trouble = None;
            let mut seen = HashSet::new();
            for one in std::iter::once(first).chain(told) {
                let left = ends.work.load(Ordering::Relaxed) && !(sends && one.fresh);
                if !stopped()
                    && !left
                    && seen.insert(one.layer.diff_id)
                    && let Err(error) = self.compress(&one, post, &shown)
                {
                    trouble.get_or_insert(error);
                }
            }
            trouble
        });
        let trouble = not_sent.or(trouble);
        let Some(vertex) = shown.vertex.into_inner() else {
            return;
        };
        match (self.cancel.check(), trouble) {
            (Err(cancelled), _) => vertex.fail(&cancelled),
            (Ok(()), trouble) => {
                if let Some(error) = trouble {
                    vertex.warn(format!("left to the output: {}", error.chain()));
                }
                vertex.done();
            }
        }
    }

    /// Brings a layer into all forms, and hands those over that are sent.
    fn compress<'w>(
        &'w self,
        told: &Told,
        send: &Sender<Parcel<'w>>,
        shown: &Shown<'_>,
    ) -> Result<()> {
        let layer = &told.layer;
        let blobs = self.session.blobs();
        if blobs.size(&layer.blob.digest) != Some(layer.blob.size)
            || format_of(&layer.blob.media_type).is_none()
        {
            // It is elsewhere, and may stay there.
            return Ok(());
        }
        for wanted in &self.wanted {
            let pair: [(Descriptor, DiffId); 1] = [(layer.blob.clone(), layer.diff_id)];
            let (packing, force) = (wanted.packing, wanted.force);
            let work = transcode::converted(self.session, &pair, packing, force);
            let watch = Watch {
                cancel: self.cancel,
                vertex: (!work.is_empty()).then(|| shown.vertex()),
                ready: None,
            };
            let made = transcode::layers(self.session, &pair, packing, force, watch)?;
            // What the cache had was most likely sent by the build that made it.
            for (blob, _) in made.iter().filter(|_| told.fresh) {
                for to in &wanted.to {
                    // Nobody listens only when nothing is sent.
                    drop(send.send((to, blob.clone())));
                }
            }
        }
        Ok(())
    }
}

/// A display that begins when there is something to show.
struct Shown<'a> {
    progress: &'a event::Sender,
    vertex: OnceLock<Vertex>,
}

impl Shown<'_> {
    fn vertex(&self) -> &Vertex {
        self.vertex
            .get_or_init(|| self.progress.start("exporting layers"))
    }
}
