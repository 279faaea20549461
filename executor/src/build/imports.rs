//! What caches elsewhere know about steps.
//!
//! Responsible for asking the caches of `--cache-from`, once and only when the store does not know a
//! step, and for what is believed of their answers. Must not fetch layers: what a cache has is noted,
//! and fetched when something needs it; but for eStargz, of which the store has no use as it is. Invariants: a cache that can't be read is a warning; the first
//! one that has a step decides; what turned out to be lost is not believed again in this build.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::fetch::Fetcher;
use crate::cache::exchange::format::{self, MAX_LAYER, Made, StepResult};
use crate::cache::exchange::options::CacheSource;
use crate::cache::remotes::Place;
use crate::cache::steps::CacheRecord;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{ChainId, Digest};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::platform::Platform;
use crate::layer::estargz;
use crate::progress::event::{Sender, Vertex};
use crate::registry::Registry;
use crate::store::import::layout::{self, Wanted};
use crate::store::lock::Session;

/// Asks caches; usable from any thread.
#[derive(Debug)]
pub struct Imports<'a> {
    session: &'a Session,
    registry: &'a Registry,
    progress: &'a Sender,
    fetcher: &'a Fetcher<'a>,
    sources: &'a [CacheSource],
    loaded: OnceLock<Vec<Loaded>>,
    distrusted: Mutex<HashSet<Digest>>,
}

/// Manifests, each with what it calls its config.
type Documents = Vec<(Manifest, Vec<u8>)>;

/// One cache.
#[derive(Debug)]
struct Loaded {
    place: Place,
    steps: HashMap<Digest, StepResult>,
}

impl<'a> Imports<'a> {
    /// Takes the caches, in the order in which they count, and what asking needs.
    pub fn new(
        session: &'a Session,
        registry: &'a Registry,
        progress: &'a Sender,
        fetcher: &'a Fetcher<'a>,
        sources: &'a [CacheSource],
    ) -> Self {
        Self {
            session,
            registry,
            progress,
            fetcher,
            sources,
            loaded: OnceLock::new(),
            distrusted: Mutex::default(),
        }
    }

    /// Tells whether there are caches to ask.
    pub(super) fn are_some(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Believes nothing any more that needs one of these blobs.
    pub fn distrust(&self, lost: HashSet<Digest>) {
        let mut distrusted = self
            .distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        distrusted.extend(lost);
    }

    fn is_distrusted(&self, blob: &Digest) -> bool {
        let distrusted = self
            .distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        distrusted.contains(blob)
    }

    /// Takes a record of the store, unless it needs what is lost. It can be done without: the step is run
    /// again where the layer turns out to be lost or damaged.
    pub(super) fn accept(&self, record: CacheRecord) -> Option<CacheRecord> {
        let blob = record.blob.as_ref().map(|blob| blob.digest);
        if let Some(blob) = blob.or_else(|| record.diff_id.map(|id| id.0)) {
            if self.is_distrusted(&blob) {
                return None;
            }
            self.fetcher.promise(&blob);
        }
        Some(record)
    }

    /// Finds what a step made, here the one of this `name` on `below`. A result whose layer can be
    /// fetched becomes one of the store's own records.
    pub(super) fn find(
        &self,
        key: &Digest,
        name: &str,
        below: Option<ChainId>,
    ) -> Option<CacheRecord> {
        if self.sources.is_empty() {
            return None;
        }
        let mut known_only = None;
        for cache in self.loaded.get_or_init(|| self.load()) {
            let Some(step) = cache.steps.get(key) else {
                continue;
            };
            let record = |made: Option<&Made>| CacheRecord {
                diff_id: made.map(|made| made.diff_id),
                size: made.map_or(0, |made| made.size),
                chain: match made {
                    Some(made) => Some(ChainId::child(below, made.diff_id)),
                    None => below,
                },
                created: step.created.clone(),
                name: name.to_owned(),
                blob: made.and_then(|made| made.blob.clone()),
                bases: Vec::new(),
                content: step.content,
            };
            let Some(made) = &step.layer else {
                return Some(self.keep(key, record(None)));
            };
            if let Some(size) = self.session.blobs().size(&made.diff_id.0) {
                let here = Made {
                    size,
                    blob: None,
                    ..made.clone()
                };
                return Some(self.keep(key, record(Some(&here))));
            }
            if let Some(blob) = made.estargz() {
                if let Some(here) = self.take_out(made, blob, &cache.place) {
                    return Some(self.keep(key, record(Some(&here))));
                }
                continue;
            }
            match &made.blob {
                Some(blob) => {
                    let usable = !self.is_distrusted(&blob.digest)
                        && (self.session.cache().remotes())
                            .add(blob, &cache.place)
                            .is_ok();
                    if usable {
                        self.fetcher.promise(&blob.digest);
                        return Some(self.keep(key, record(Some(made))));
                    }
                }
                None if !self.is_distrusted(&made.diff_id.0) => {
                    known_only = known_only.or_else(|| {
                        Some(CacheRecord {
                            size: 0,
                            ..record(Some(made))
                        })
                    });
                }
                None => {}
            }
        }
        // That is as good, as long as nothing needs the files.
        if let Some(diff_id) = known_only.as_ref().and_then(|record| record.diff_id) {
            self.fetcher.promise(&diff_id.0);
        }
        known_only
    }

    /// Takes what a step made out of a layer in eStargz, which is more than that: the store's layer is the
    /// plain archive. Where that can't be had, the cache is as good as without this step.
    fn take_out(&self, made: &Made, blob: &Descriptor, place: &Place) -> Option<Made> {
        let is_usable = !self.is_distrusted(&blob.digest)
            && self.session.cache().remotes().add(blob, place).is_ok()
            && self.fetcher.try_bring(blob, "the cache");
        if !is_usable {
            return None;
        }
        let size = match self.unpack(made, blob) {
            Ok(size) => size,
            Err(error) => {
                let vertex = self
                    .progress
                    .start("[internal] unpack a layer of the cache");
                vertex.warn(format!(
                    "layer {} is not used: {}",
                    blob.digest,
                    error.chain()
                ));
                vertex.done();
                self.distrust(HashSet::from([blob.digest]));
                return None;
            }
        };
        Some(Made {
            size,
            blob: None,
            ..made.clone()
        })
    }

    fn unpack(&self, made: &Made, blob: &Descriptor) -> Result<u64> {
        let blobs = self.session.blobs();
        let archive = estargz::archive(blobs.open(&blob.digest)?).op("read layer")?;
        let archive = archive.ok_or_else(|| Error::new("it has no table of contents"))?;
        let mut out = blobs.writer()?;
        // One byte more shows in the digest.
        let most = if made.size == 0 { MAX_LAYER } else { made.size };
        io::copy(&mut archive.take(most + 1), &mut out).op("unpack layer")?;
        let (_, size) = out.commit(Some(&made.diff_id.0))?;
        Ok(size)
    }

    fn keep(&self, key: &Digest, record: CacheRecord) -> CacheRecord {
        // Without it the next build asks again.
        drop(self.session.cache().steps().put(key, &record));
        record
    }

    /// Asks all caches at the same time.
    fn load(&self) -> Vec<Loaded> {
        let asked: Vec<Option<Loaded>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (self.sources.iter())
                .map(|source| scope.spawn(|| self.load_one(source)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().ok());
            joined.map(Option::flatten).collect()
        });
        asked.into_iter().flatten().collect()
    }

    fn load_one(&self, source: &CacheSource) -> Option<Loaded> {
        let name = match source {
            CacheSource::Registry(reference) => reference.familiar(),
            CacheSource::Local { src, .. } => src.display().to_string(),
        };
        let vertex = (self.progress).start(format!("importing cache manifest from {name}"));
        match self.read(source, &vertex) {
            Ok(loaded) => {
                vertex.done();
                Some(loaded)
            }
            Err(error) => {
                vertex.warn(format!("cache `{name}` is not used: {}", error.chain()));
                vertex.done();
                None
            }
        }
    }

    fn read(&self, source: &CacheSource, vertex: &Vertex) -> Result<Loaded> {
        let (place, documents) = self.documents(source, vertex)?;
        let mut steps = HashMap::new();
        let mut broken = 0;
        let mut failure = None;
        for (manifest, config) in &documents {
            match format::read(manifest, config) {
                Ok(found) => {
                    broken += found.broken;
                    for step in found.steps {
                        if let Some(content) = step.content {
                            steps.entry(content).or_insert_with(|| step.clone());
                        }
                        steps.entry(step.key).or_insert(step);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if broken > 0 {
            vertex.warn(format!(
                "{broken} entries of the cache make no sense and are not used"
            ));
        }
        match failure {
            Some(error) if steps.is_empty() => Err(error),
            None if documents.is_empty() => Err(Error::new("it has no manifest")),
            _ => Ok(Loaded { place, steps }),
        }
    }

    fn documents(&self, source: &CacheSource, vertex: &Vertex) -> Result<(Place, Documents)> {
        match source {
            CacheSource::Registry(reference) => {
                let blobs = self.session.blobs();
                let found = self.registry.documents(reference, &blobs, vertex)?;
                Ok((Place::of(reference), found))
            }
            CacheSource::Local { src, tag, digest } => {
                let path = std::path::absolute(src).op_path("find", src)?;
                let wanted = Wanted {
                    tag: digest.is_none().then_some(tag),
                    digest: digest.as_ref(),
                    platform: &Platform::host(),
                };
                let found = layout::documents(&path, wanted)?;
                Ok((Place::Layout(path), found))
            }
        }
    }
}
