//! Builds: executes a plan and puts the image into the store.
//!
//! Responsible for the order of things: stages, steps, cache, jobs, the finished image. Must not
//! print, parse the command line or read the environment. The main process keeps the caller's
//! identity and does everything that needs no other ids; what does is in [`jobs`], one process
//! each, inside the build's user namespace.

pub mod add;
pub mod attested;
pub mod base;
pub mod contexts;
pub mod copy;
pub mod devices;
pub mod emulation;
pub mod fetch;
pub mod imports;
pub mod jobs;
mod keys;
mod ledger;
pub mod mounts;
pub mod once;
pub mod schedule;
pub mod sources;
pub mod squash;
pub mod ssh;
mod stage;
pub mod state;
pub mod trees;
pub mod users;
pub mod worker;

use std::sync::{Mutex, PoisonError, mpsc};

use crate::attest::record::Record;
use crate::attest::statement::{self, Predicate};
use crate::build::base::Images;
use crate::build::contexts::Contexts;
use crate::build::fetch::Fetcher;
use crate::build::imports::Imports;
use crate::build::ledger::Ledger;
use crate::build::once::Once;
use crate::build::schedule::Places;
use crate::build::sources::Sources;
use crate::build::state::State;
use crate::build::trees::Trees;
use crate::build::worker::Worker;
use crate::cache::exchange::format::StepResult;
use crate::diagnostics::Diagnostic;
use crate::error::Result;
use crate::image::annotations::{Annotations, Level};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Index, Manifest, media_type};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::plan::Plan;
use crate::progress::event::Sender;
use crate::store::lock::Session;

pub use ledger::Told;
pub use stage::Settings;

/// What a build works with.
#[derive(Debug)]
pub struct Build<'a> {
    /// What to build.
    pub plan: &'a Plan,
    /// The store.
    pub session: &'a Session,
    /// The way to the jobs.
    pub worker: &'a Worker,
    /// Where progress goes.
    pub progress: &'a Sender,
    /// Unpacked layers.
    pub trees: &'a Trees<'a>,
    /// Base images.
    pub images: &'a Images<'a>,
    /// The build context.
    pub sources: &'a Sources<'a>,
    /// Named contexts.
    pub contexts: &'a Contexts<'a>,
    /// Caches elsewhere.
    pub imports: &'a Imports<'a>,
    /// Layers elsewhere.
    pub fetcher: &'a Fetcher<'a>,
    /// What the steps of all platforms have made so far.
    pub once: &'a Once,
    /// How steps are executed.
    pub settings: &'a Settings,
    /// How many steps may run at once.
    pub jobs: usize,
    /// Who is told of the result's layers as soon as the store has them.
    pub layers: Option<&'a mpsc::Sender<Told>>,
    /// `--label`s.
    pub labels: &'a [(String, String)],
}

/// A finished build.
#[derive(Debug)]
pub struct Finished {
    /// The image.
    pub state: State,
    /// What attestations tell.
    pub record: Record,
    /// What its steps made, in the order of the Dockerfile.
    pub steps: Vec<StepResult>,
    /// What deserves attention in the Dockerfile.
    pub warnings: Vec<Diagnostic>,
}

impl Build<'_> {
    /// Builds the target stage.
    pub fn run(&self) -> Result<Finished> {
        let places = Places::new(self.jobs);
        let warnings = Mutex::new(self.plan.warnings.clone());
        let said = Mutex::default();
        let trail = Mutex::default();
        let contents = stage::Contents::default();
        let record = Mutex::default();
        let (blobs, steps) = (self.session.blobs(), self.session.cache().steps());
        let ledger = Ledger::new(blobs, steps, self.layers.cloned());
        let shared = stage::Shared {
            plan: self.plan,
            session: self.session,
            worker: self.worker,
            progress: self.progress,
            trees: self.trees,
            images: self.images,
            sources: self.sources,
            contexts: self.contexts,
            places: &places,
            settings: self.settings,
            warnings: &warnings,
            ledger: &ledger,
            said: &said,
            imports: self.imports,
            fetcher: self.fetcher,
            trail: &trail,
            contents: &contents,
            once: self.once,
            record: &record,
        };
        let (heads, spare) = (&self.plan.heads, &self.plan.spare);
        let built = schedule::run(heads, spare, self.worker.cancel(), |head, earlier| {
            stage::build(&shared, head, earlier)
        });
        let written = ledger.close();
        let settled = self.trees.settle_all();
        let built = built?;
        written.and(settled)?;
        let mut state = built.state;
        let fixed = self.settings.epoch.map(|_| self.settings.now.as_str());
        state.finish(self.labels, fixed);
        let mut trail: Vec<stage::Trace> =
            trail.into_inner().unwrap_or_else(PoisonError::into_inner);
        trail.sort_by_key(|trace| (trace.stage, trace.number));
        let mut record: Record = record.into_inner().unwrap_or_else(PoisonError::into_inner);
        let origins = self.contexts.origins();
        record.materials.extend(origins.iter().map(Into::into));
        Ok(Finished {
            state,
            record,
            steps: trail.into_iter().map(|trace| trace.result).collect(),
            warnings: warnings
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }
}

/// The digests of an image that was put into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The manifest's.
    pub manifest: Digest,
    /// The config's: the image's id.
    pub config: Digest,
}

/// Puts a finished image into the store under these names.
pub fn store(
    session: &Session,
    state: &State,
    annotations: &Annotations,
    names: &[Reference],
) -> Result<Stored> {
    let stored = put(session, state, annotations)?;
    session.store().images().add(&stored.manifest, names)?;
    Ok(stored)
}

/// What is said about the images of a build.
#[derive(Debug, Clone, Copy)]
pub struct Attested<'a> {
    /// For each image what is said; nothing at all where it is empty.
    pub predicates: &'a [Vec<Predicate>],
    /// The names of the images, wherever they go.
    pub names: &'a [Reference],
}

/// Puts images for several platforms into the store, and under these names an index of them and of what is
/// said about them, whose digest is returned.
pub fn store_several(
    session: &Session,
    states: &[State],
    annotations: &Annotations,
    host: &Platform,
    names: &[Reference],
    attested: Attested<'_>,
) -> Result<Digest> {
    let blobs = session.blobs();
    let mut manifests = Vec::new();
    for state in states {
        let stored = put(session, state, annotations)?;
        let size = blobs.size(&stored.manifest).unwrap_or_default();
        let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, stored.manifest, size);
        descriptor.platform = Some(state.config.platform.clone());
        descriptor.annotations = annotations.on(Level::ManifestDescriptor, &state.config.platform);
        manifests.push(descriptor);
    }
    // After all images, where BuildKit has them.
    for (number, predicates) in attested.predicates.iter().enumerate() {
        let (Some(state), Some(image)) = (states.get(number), manifests.get(number)) else {
            continue;
        };
        if predicates.is_empty() {
            continue;
        }
        let platform = &state.config.platform;
        let carrier = statement::carrier(predicates, &image.digest, attested.names, platform);
        for statement in &carrier.statements {
            blobs.put(statement)?;
        }
        blobs.put_both([&carrier.config, &carrier.manifest])?;
        manifests.push(carrier.descriptor);
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests,
        annotations: annotations.on_index(Level::Index),
    };
    let index = blobs.put(&serde_json::to_vec(&index).expect("an index has string keys only"))?;
    session.store().images().add_index(&index, host, names)?;
    Ok(index)
}

fn put(session: &Session, state: &State, annotations: &Annotations) -> Result<Stored> {
    let blobs = session.blobs();
    let config = state.config.to_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: state.layers.iter().map(|l| to_oci(&l.blob)).collect(),
        annotations: annotations.on(Level::Manifest, &state.config.platform),
    };
    let manifest = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
    let [config_digest, manifest_digest] = blobs.put_both([&config, &manifest])?;
    Ok(Stored {
        manifest: manifest_digest,
        config: config_digest,
    })
}

/// Names a layer's media type as OCI does; the bytes are the same in both dialects.
fn to_oci(blob: &Descriptor) -> Descriptor {
    let media_type = match blob.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    };
    Descriptor {
        media_type: media_type.into(),
        ..blob.clone()
    }
}
