//! `--cache-from` and `--cache-to`: the caches that a build shares with others.
//!
//! Responsible for the options and for writing caches at the end of a build. Must not read caches:
//! steps ask for them when they need to. Invariant: a cache that could not be written is an error,
//! unless its value says otherwise.

use std::collections::HashSet;

use super::environment::Environment;
use super::limits;
use super::push::Pusher;
use crate::build::fetch::Fetcher;
use crate::build::state::State;
use crate::cache::exchange::format::StepResult;
use crate::cache::exchange::options::{self, CacheSource, CacheTarget, TargetPlace};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::image::digest::DiffId;
use crate::output::cache::{Contents, write_layout};
use crate::output::transcode::Watch;
use crate::progress::event::{Sender, Vertex};
use crate::registry::Registry;
use crate::store::lock::Session;

/// The options.
#[derive(Debug, Default, clap::Args)]
pub(super) struct CacheArgs {
    /// Look for results of steps there: an image or cache in a registry, type=registry,ref=NAME, or
    /// type=local,src=DIR; can be given several times, and the first that has a step counts
    #[arg(long = "cache-from", value_name = "CACHE", help_heading = "Steps")]
    from: Vec<String>,

    /// Write results of steps there: type=registry,ref=NAME, type=local,dest=DIR or type=inline, and
    /// mode=max for those of all stages, compression=…, ignore-error=true
    #[arg(long = "cache-to", value_name = "CACHE", help_heading = "Steps")]
    to: Vec<String>,

    /// When the build is done, remove cache mounts that were used least recently, until all of them take
    /// no more than this; 10g, for example [default: $SANDCRAB_CACHE_MOUNT_SPACE]
    #[arg(long, value_name = "BYTES", help_heading = "Steps")]
    cache_mount_space: Option<String>,
}

/// The variable that stands for `--cache-mount-space`.
const MOUNT_SPACE: &str = "SANDCRAB_CACHE_MOUNT_SPACE";

/// The caches of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CacheRequest {
    /// Where results are looked for, in this order.
    pub(super) sources: Vec<CacheSource>,
    /// Where they are written.
    pub(super) targets: Vec<CacheTarget>,
    /// How many bytes cache mounts may take when the build is done.
    pub(super) mount_space: Option<u64>,
}

impl CacheArgs {
    /// Parses the options.
    pub(super) fn request(&self, environment: &Environment) -> Result<CacheRequest> {
        let mut request = CacheRequest {
            mount_space: self.mount_space(environment)?,
            ..CacheRequest::default()
        };
        for text in &self.from {
            request.sources.extend(options::source(text)?);
        }
        for text in &self.to {
            request.targets.push(options::target(text)?);
        }
        Ok(request)
    }

    fn mount_space(&self, environment: &Environment) -> Result<Option<u64>> {
        let own = self.cache_mount_space.clone();
        let own = own.map(|text| ("--cache-mount-space", text));
        let general = || Some((MOUNT_SPACE, environment.text(MOUNT_SPACE)?));
        let given = own.or_else(general);
        given
            .map(|(name, text)| limits::size(name, &text))
            .transpose()
    }
}

impl CacheRequest {
    /// Tells whether the image's config has the cache.
    pub(super) fn is_inline(&self) -> bool {
        let mut places = self.targets.iter().map(|target| &target.place);
        places.any(|place| *place == TargetPlace::Inline)
    }
}

/// What writing caches needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exporter<'a> {
    pub(super) registry: &'a Registry,
    pub(super) session: &'a Session,
    pub(super) fetcher: &'a Fetcher<'a>,
    pub(super) progress: &'a Sender,
    pub(super) cancel: &'a Cancel,
}

impl Exporter<'_> {
    /// Writes a cache of these steps; `states` are what the build has made.
    pub(super) fn write(
        &self,
        target: &CacheTarget,
        steps: &[StepResult],
        states: &[State],
    ) -> Result<()> {
        let name = match &target.place {
            TargetPlace::Inline => return Ok(()),
            TargetPlace::Registry(reference) => format!("registry {}", reference.familiar()),
            TargetPlace::Local { dest, .. } => dest.display().to_string(),
        };
        let vertex = self.progress.start(format!("exporting cache to {name}"));
        match self.send(target, steps, states, &vertex) {
            Ok(()) => vertex.done(),
            Err(error) if target.ignore_error => {
                self.cancel.check()?;
                vertex.warn(format!("the cache was not written: {}", error.chain()));
                vertex.done();
            }
            Err(error) => {
                let error = error.during(format!("export the cache to {name}"));
                vertex.fail(&error);
                return Err(error.hint("ignore-error=true lets the build go on without it"));
            }
        }
        Ok(())
    }

    fn send(
        &self,
        target: &CacheTarget,
        steps: &[StepResult],
        states: &[State],
        vertex: &Vertex,
    ) -> Result<()> {
        let layers = states.iter().flat_map(|state| &state.layers);
        let result: HashSet<DiffId> = layers.map(|layer| layer.diff_id).collect();
        let wanted = (!target.all).then_some(&result);
        let contents = Contents::new(steps.to_vec(), wanted);
        let read = contents.converted(self.session, &target.form);
        self.fetcher.bring(&read, "the cache")?;
        match &target.place {
            TargetPlace::Inline => Ok(()),
            TargetPlace::Registry(reference) => {
                let pusher = Pusher {
                    registry: self.registry,
                    session: self.session,
                    fetcher: self.fetcher,
                    vertex,
                    cancel: self.cancel,
                };
                let to = std::slice::from_ref(reference);
                let plan = pusher.sending(to, &[], |watch| {
                    contents.plan(self.session, &target.form, watch)
                })?;
                pusher.send(plan, to, &[]).map(|_| ())
            }
            TargetPlace::Local { dest, tag, reset } => {
                let watch = Watch {
                    cancel: self.cancel,
                    vertex: Some(vertex),
                    ready: None,
                };
                let plan = contents.plan(self.session, &target.form, watch)?;
                let layers = plan.layers.iter().map(|layer| &layer.descriptor);
                self.fetcher.bring(layers, "the cache")?;
                write_layout(plan, dest, tag, *reset)
            }
        }
    }
}
