//! The images that a build starts from: found in the store or pulled into it.
//!
//! Responsible for the pull policy and for pulling each image once. Must not unpack. Invariant:
//! a loaded image's manifest and config are in the store, verified; its layers are, too, or it is
//! known where they can be fetched when something needs them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::state::Layer;
use crate::cache::remotes::Place;
use crate::cancel::Cancel;
use crate::diagnostics::{Diagnostic, Severity};
use crate::error::{Error, Kind, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::output::transcode::format_of;
use crate::plan::contexts::Layout;
use crate::progress::event::Sender;
use crate::registry::Registry;
use crate::store::images::Image;
use crate::store::import::layout::{self, Wanted};
use crate::store::lock::Session;

/// When an image is looked for in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store does not have it.
    Missing,
    /// Always; the store saves the layers that did not change.
    Always,
    /// Never.
    Never,
}

/// An image that is ready to build on.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// Its manifest's digest.
    pub digest: Digest,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Registry(Reference),
    Layout(Layout),
}

type Slot = Arc<Mutex<Option<Loaded>>>;

/// Loads images; usable from any thread.
#[derive(Debug)]
pub struct Images<'a> {
    session: &'a Session,
    registry: &'a Registry,
    progress: &'a Sender,
    policy: PullPolicy,
    loaded: Mutex<HashMap<(Source, Platform), Slot>>,
}

impl<'a> Images<'a> {
    /// Takes where images come from.
    pub fn new(
        session: &'a Session,
        registry: &'a Registry,
        progress: &'a Sender,
        policy: PullPolicy,
    ) -> Self {
        Self {
            session,
            registry,
            progress,
            policy,
            loaded: Mutex::new(HashMap::new()),
        }
    }

    /// Loads an image; `span` is where the Dockerfile names it.
    pub fn load(
        &self,
        reference: &Reference,
        platform: &Platform,
        span: &Range<usize>,
    ) -> Result<Loaded> {
        let slot = self.slot(Source::Registry(reference.clone()), platform);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*slot {
            return Ok(loaded.clone());
        }
        let name = format!("[internal] load image {reference}");
        let loaded = match self.find(reference, platform) {
            Ok(Some(found)) => {
                self.progress.start(name).cached();
                found
            }
            Ok(None) => self.pull(reference, platform, name, span)?,
            Err(error) => {
                self.progress.start(name).fail(&error);
                return Err(point(error, span));
            }
        };
        *slot = Some(loaded.clone());
        Ok(loaded)
    }

    fn slot(&self, source: Source, platform: &Platform) -> Slot {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(loaded.entry((source, platform.clone())).or_default())
    }

    /// Loads an image from a layout, which `name` stands for.
    pub fn load_layout(
        &self,
        name: &str,
        wanted: &Layout,
        platform: &Platform,
        span: &Range<usize>,
        cancel: &Cancel,
    ) -> Result<Loaded> {
        let slot = self.slot(Source::Layout(wanted.clone()), platform);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*slot {
            return Ok(loaded.clone());
        }
        let vertex = self
            .progress
            .start(format!("[internal] load context {name}"));
        let taken = (|| {
            let found = Wanted {
                tag: wanted.tag.as_deref(),
                digest: wanted.digest.as_ref(),
                platform,
            };
            let digest = layout::take(self.session, &wanted.path, found, cancel)?;
            loaded(self.session.store().images().get(&digest.to_string())?)
        })();
        match taken {
            Ok(loaded) => {
                vertex.done();
                *slot = Some(loaded.clone());
                Ok(loaded)
            }
            Err(error) => {
                let error = error.during(format!("open context `{name}`"));
                vertex.fail(&error);
                Err(point(error, span))
            }
        }
    }

    /// Takes an image that was found in the store otherwise; `None` when it lacks layers.
    pub fn take(&self, image: Image) -> Result<Option<Loaded>> {
        if !self.is_complete(&image) {
            return Ok(None);
        }
        loaded(image).map(Some)
    }

    /// Looks in the store.
    fn find(&self, reference: &Reference, platform: &Platform) -> Result<Option<Loaded>> {
        if self.policy == PullPolicy::Always && !is_local_only(reference) {
            return Ok(None);
        }
        let images = self.session.store().images();
        let mut found = images.by_reference(reference)?;
        if let Some(image) = &found
            && !platform.accepts(&image.config.platform)
        {
            let mut parts = images.parts(image)?.into_iter();
            let fits = parts.find(|part| platform.accepts(&part.config.platform));
            found = fits.or(found);
        }
        let lack = match found {
            None => "is not in the store".to_owned(),
            Some(image) if !platform.accepts(&image.config.platform) => format!(
                "in the store is for {}, not for {platform}",
                image.config.platform
            ),
            Some(image) if !self.is_complete(&image) => "lacks layers in the store".to_owned(),
            Some(image) => return loaded(image).map(Some),
        };
        if self.policy == PullPolicy::Never {
            return Err(Error::new(format!("image `{reference}` {lack}"))
                .kind(Kind::NotFound)
                .hint("leave out `--pull=never` to fetch it"));
        }
        Ok(None)
    }

    fn is_complete(&self, image: &Image) -> bool {
        let blobs = self.session.blobs();
        let remotes = self.session.cache().remotes();
        // Who wants nothing to be pulled does not want it later either.
        let elsewhere = |l| self.policy != PullPolicy::Never && remotes.get(l).is_some();
        let mut layers = image.manifest.layers.iter();
        layers.all(|l| blobs.size(&l.digest) == Some(l.size) || elsewhere(l))
    }

    fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        name: String,
        span: &Range<usize>,
    ) -> Result<Loaded> {
        let vertex = self.progress.start(name);
        let result = (|| -> Result<Loaded> {
            let blobs = self.session.blobs();
            let pulled = self
                .registry
                .resolve(reference, platform, &blobs, &vertex)?;
            let layers = &pulled.manifest.layers;
            if layers.iter().all(|l| format_of(&l.media_type).is_some()) {
                let (remotes, place) = (self.session.cache().remotes(), Place::of(reference));
                layers.iter().try_for_each(|l| remotes.add(l, &place))?;
            } else {
                self.registry.fetch_layers(&pulled, &blobs, &vertex)?;
            }
            let digest = pulled.descriptor.digest;
            let images = self.session.store().images();
            let names: &[Reference] = match reference.tag {
                Some(_) => std::slice::from_ref(reference),
                None => &[],
            };
            images.add(&digest, names)?;
            images.add_origin(
                &digest,
                &Reference {
                    digest: Some(pulled.index.unwrap_or(digest)),
                    ..reference.clone()
                },
            )?;
            Ok(Loaded {
                layers: pair_layers(&pulled.manifest, &pulled.config)?,
                config: pulled.config,
                digest,
            })
        })();
        match result {
            Ok(loaded) => {
                vertex.done();
                Ok(loaded)
            }
            Err(error) => {
                vertex.fail(&error);
                Err(point(error, span))
            }
        }
    }
}

/// Tells whether a name can only mean an image that was built here.
fn is_local_only(reference: &Reference) -> bool {
    reference.registry == "localhost"
}

fn loaded(image: Image) -> Result<Loaded> {
    let layers = pair_layers(&image.manifest, &image.config)?;
    Ok(Loaded {
        config: image.config,
        layers,
        digest: image.manifest_digest,
    })
}

/// Joins a manifest's blobs with its config's diff ids.
///
/// # Errors
/// When there are not as many of one as of the other.
fn pair_layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>> {
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(Error::new(format!(
            "the image has {} layers, but its config names {}",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    let pair = |(blob, diff_id): (&Descriptor, &_)| Layer {
        diff_id: *diff_id,
        blob: blob.clone(),
    };
    Ok(manifest.layers.iter().zip(diff_ids).map(pair).collect())
}

/// Points an error at a place in the Dockerfile, unless it is a cancellation.
pub(super) fn point(error: Error, span: &Range<usize>) -> Error {
    if error.is_cancellation() {
        return error;
    }
    let message = error.chain();
    error.diagnostic(Diagnostic {
        severity: Severity::Error,
        rule: None,
        message,
        span: span.clone(),
        hint: None,
    })
}
