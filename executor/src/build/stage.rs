//! Executes one stage: its base, then its steps, each from the cache or in a job.
//!
//! Responsible for the order of a stage's steps, and for their keys. Must not know how jobs isolate or
//! how results are written out. Invariant: a step's files are complete before the next step begins;
//! its archive may still be written then.

mod bases;
mod content;
mod execute;
mod found;
mod overlap;
mod recording;
mod work;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::base::Images;
use super::contexts::Contexts;
use super::fetch::Fetcher;
use super::imports::Imports;
use super::jobs::FileMount;
use super::keys::{self, Below};
use super::ledger::Ledger;
use super::mounts::Inputs;
use super::mounts::secrets::Secrets;
use super::once::Once;
use super::schedule::{Earlier, Places};
use super::sources::{Prepared, Sources};
use super::ssh::Agents;
use super::state::{Layer, State};
use super::trees::Trees;
use super::worker::Worker;
use crate::attest::record::{self, Record, Start};
use crate::cache::exchange::format::StepResult;
use crate::diagnostics::Diagnostic;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, Digest};
use crate::plan::entitlements::Entitlements;
use crate::plan::step::{
    Base, Copy, CopyFrom, CopySource, CopySourceKind, Network, Op, Run, StageHead, StageIndex, Step,
};
use crate::plan::{self, Lowered, Origin, Plan};
use crate::progress::event::{Sender, Vertex};
use crate::store::lock::Session;

use runtime::sandbox::Confinement;

pub(super) use content::Contents;

/// What all stages of a build share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) session: &'a Session,
    pub(super) worker: &'a Worker,
    pub(super) progress: &'a Sender,
    pub(super) trees: &'a Trees<'a>,
    pub(super) images: &'a Images<'a>,
    pub(super) sources: &'a Sources<'a>,
    pub(super) contexts: &'a Contexts<'a>,
    pub(super) places: &'a Places,
    pub(super) settings: &'a Settings,
    pub(super) warnings: &'a Mutex<Vec<Diagnostic>>,
    pub(super) ledger: &'a Ledger,
    /// Options of the command line about which something was said.
    pub(super) said: &'a Mutex<BTreeSet<String>>,
    pub(super) imports: &'a Imports<'a>,
    pub(super) fetcher: &'a Fetcher<'a>,
    /// What steps made.
    pub(super) trail: &'a Mutex<Vec<Trace>>,
    /// Digests of what steps take of other trees.
    pub(super) contents: &'a Contents,
    /// Whose turn each step is.
    pub(super) once: &'a Once,
    /// What attestations tell.
    pub(super) record: &'a Mutex<Record>,
}

/// What a step made, for caches elsewhere.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) stage: StageIndex,
    /// The step's number in its stage.
    pub(super) number: usize,
    pub(super) result: StepResult,
}

impl Shared<'_> {
    /// Keeps findings that stop nothing; each is shown once.
    fn note(&self, warnings: &[Diagnostic]) {
        let mut kept = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            if !kept.contains(warning) {
                kept.push(warning.clone());
            }
        }
    }
}

impl Shared<'_> {
    /// Shows what a step's job has to say. What it says about an option of the command line is the
    /// same for all steps, and shown once.
    fn warn(&self, vertex: &Vertex, notes: &[String]) {
        for note in notes {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            let (about, _) = note.split_once(": ").unwrap_or((note, ""));
            if !note.starts_with("--") || said.insert(about.to_owned()) {
                vertex.warn(note.clone());
            }
        }
    }
}

/// What a build's steps are executed with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Stages whose steps take nothing from it, by name in lower case.
    pub no_cache_filter: Vec<String>,
    /// Whether several platforms are built for, so that steps are shown with theirs.
    pub several: bool,
    /// The network of RUN steps that don't choose one.
    pub network: Network,
    /// Files that exist in every RUN step only.
    pub files: Vec<FileMount>,
    /// Host name in RUN steps.
    pub hostname: String,
    /// Names that RUN steps find in `/etc/hosts`, as part of keys; their addresses are not.
    pub hosts: Vec<String>,
    /// What RUN steps may do and use up.
    pub confinement: Confinement,
    /// Directories with specifications of devices.
    pub devices: Vec<PathBuf>,
    /// What RUN steps may ask for.
    pub entitlements: Entitlements,
    /// The date of what is built now (RFC 3339).
    pub now: String,
    /// What RUN steps can mount as secrets.
    pub secrets: Secrets,
    /// What they can mount as ssh agents.
    pub agents: Agents,
    /// `SOURCE_DATE_EPOCH`: `now` in seconds, when it was given. No file of a layer that is made
    /// and no part of the image gets a later date.
    pub epoch: Option<i64>,
    /// Whether layers that are made are without attributes `user.*`.
    pub without_user: bool,
}

/// A finished stage.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) state: State,
    lowered: Arc<Lowered>,
}

/// Executes one stage.
pub(super) fn build(
    shared: &Shared<'_>,
    head: &StageHead,
    earlier: &Earlier<'_, Built>,
) -> Result<Built> {
    let mut files = None;
    let mut start = Start::Scratch;
    let (mut state, lowered) = match &head.base {
        Base::Scratch => (
            State::scratch(head.platform.clone()),
            plan::lower(shared.plan, head.index, Origin::Scratch)?,
        ),
        Base::Stage(index) => {
            let base = earlier.result(*index)?;
            start = Start::Stage(*index);
            let lowered = plan::lower(shared.plan, head.index, Origin::Stage(&base.lowered))?;
            (base.state, lowered)
        }
        Base::Named(name) => match shared.contexts.layout(name) {
            Some(layout) => {
                let image = shared.layout(name, layout, &head.platform, &head.span)?;
                start = Start::Image(name.clone(), image.digest);
                let lowered = plan::lower(shared.plan, head.index, Origin::Image(&image.config))?;
                (State::based_on(image.config, image.layers), lowered)
            }
            None => {
                files = Some(name);
                (
                    State::scratch(head.platform.clone()),
                    plan::lower(shared.plan, head.index, Origin::Scratch)?,
                )
            }
        },
        Base::Image(reference) => {
            let image = shared.image(reference, &head.platform, &head.span)?;
            start = Start::Image(reference.to_string(), image.digest);
            let lowered = plan::lower(shared.plan, head.index, Origin::Image(&image.config))?;
            let mut state = State::based_on(image.config, image.layers);
            if reference.digest.is_some() {
                state.bases.push(image.digest);
            }
            (state, lowered)
        }
    };
    shared.record().stages.insert(
        head.index,
        record::Stage {
            platform: head.platform.clone(),
            start,
            layers: state.layers.iter().map(|l| l.blob.clone()).collect(),
            steps: Vec::new(),
        },
    );
    // A trigger of the base may need stages that nothing else does.
    for needed in &lowered.needs {
        earlier.begin(*needed)?;
    }
    let stage = Stage {
        shared,
        head,
        earlier,
        total: 1 + lowered.steps.iter().filter(|s| is_shown(s)).count(),
    };
    shared.note(&lowered.warnings);
    match files {
        Some(name) => {
            let step = all_of(name, head);
            let made = std::thread::scope(|scope| {
                let done = stage.execute(scope, &step, (1, None), &state, None);
                done.map(|(made, _)| made)
            })?;
            state.push(&step, made);
            stage.record_layers(&state);
        }
        None => stage.show_base(),
    }
    std::thread::scope(|scope| {
        let mut number = 1;
        let mut early = None;
        for (index, step) in lowered.steps.iter().enumerate() {
            shared.worker.cancel().check()?;
            if !is_shown(step) {
                state.push(step, None);
                continue;
            }
            number += 1;
            let next = stage.next(step, &lowered.steps[index + 1..], number);
            let (made, begun) = stage.execute(scope, step, (number, next), &state, early.take())?;
            early = begun;
            state.push(step, made);
            stage.record_layers(&state);
        }
        Ok(())
    })?;
    state.config.config = lowered.config();
    Ok(Built {
        state,
        lowered: Arc::new(lowered),
    })
}

/// Returns the step that makes a named context's files a layer.
fn all_of(name: &str, head: &StageHead) -> Step {
    Step {
        span: head.span.clone(),
        name: head.display.clone(),
        created_by: format!("FROM {name}"),
        author: None,
        op: Op::Copy(Box::new(Copy {
            from: CopyFrom::Named(name.to_owned()),
            sources: vec![CopySource {
                span: head.span.clone(),
                kind: CopySourceKind::Word(".".into()),
            }],
            dest: "/".into(),
            ..Copy::default()
        })),
    }
}

fn is_shown(step: &Step) -> bool {
    !matches!(step.op, Op::Config)
}

/// A stage that is being executed.
pub(super) struct Stage<'a> {
    pub(super) shared: &'a Shared<'a>,
    head: &'a StageHead,
    earlier: &'a Earlier<'a, Built>,
    total: usize,
}

/// A step that is ready to run: its key, and the files it copies.
struct Ready {
    key: Digest,
    prepared: Option<Prepared>,
    mounted: Inputs,
}

impl<'env> Stage<'env> {
    fn label(&self, number: usize) -> String {
        let total = self.total;
        let width = total.to_string().len();
        if self.shared.settings.several {
            let platform = &self.head.platform;
            return match &self.head.name {
                Some(name) => format!("[{platform} {name} {number:>width$}/{total}]"),
                None if self.shared.plan.stage_count() > 1 => {
                    format!(
                        "[{platform} stage-{} {number:>width$}/{total}]",
                        self.head.index
                    )
                }
                None => format!("[{platform} {number:>width$}/{total}]"),
            };
        }
        match (&self.head.name, self.shared.plan.stage_count() > 1) {
            (_, false) => format!("[{number:>width$}/{total}]"),
            (Some(name), true) => format!("[{name} {number:>width$}/{total}]"),
            (None, true) => format!("[stage-{} {number:>width$}/{total}]", self.head.index),
        }
    }

    /// Names what the stage starts from, for people.
    fn base_name(&self) -> String {
        match &self.head.base {
            Base::Image(reference) => reference.familiar(),
            Base::Named(name) => name.clone(),
            Base::Stage(index) => format!("stage {index}"),
            Base::Scratch => "scratch".into(),
        }
    }

    /// Shows what the stage starts from; loading an image has its own entry.
    fn show_base(&self) {
        if !matches!(self.head.base, Base::Scratch) {
            let name = format!("{} {}", self.label(1), self.head.display);
            self.shared.progress.start(name).cached();
        }
    }

    /// Returns the snapshots that a step stands on, unpacked where they were not.
    fn lowers(&self, step: &Step, state: &State) -> Result<Vec<PathBuf>> {
        let name = self.base_name();
        match &step.op {
            Op::Run(_) => self.shared.trees.sandbox_lowers(&state.layers, &name),
            _ => self.shared.trees.lowers(&state.layers, &name),
        }
    }

    /// Returns what the key of a step on this tree begins with.
    fn below(&self, chain: Option<ChainId>) -> Below {
        Below {
            chain,
            epoch: self.shared.settings.epoch,
            without_user: self.shared.settings.without_user,
        }
    }

    /// Returns the key of a RUN step without what it mounts.
    fn run_key(&self, run: &Run, chain: Option<ChainId>) -> Digest {
        let settings = self.shared.settings;
        let around = keys::Around {
            hosts: &settings.hosts,
            confinement: &settings.confinement,
        };
        let platform = &self.head.platform;
        keys::run(self.below(chain), platform, run, self.network(run), around)
    }

    /// Computes a step's key; for COPY this reads what is copied.
    fn prepare(&self, step: &Step, state: &State) -> Result<Ready> {
        let below = self.below(state.chain());
        match &step.op {
            Op::Run(run) => {
                // Also where the step is cached: what isn't allowed isn't used.
                self.devices(run, &mut Confinement::default())?;
                let mounted = self.mount_inputs(run)?;
                let key = self.run_key(run, state.chain());
                Ok(Ready {
                    key: keys::with_mounts(key, &mounted.digests(&run.mounts)),
                    prepared: None,
                    mounted,
                })
            }
            Op::Workdir { path, user } => Ok(Ready {
                key: keys::workdir(below, path, user),
                prepared: None,
                mounted: Inputs::default(),
            }),
            Op::Copy(copy) => {
                let prepared = self.prepare_copy(copy, &step.span)?;
                Ok(Ready {
                    key: keys::copy(below, copy, &prepared.digests()),
                    prepared: Some(prepared),
                    mounted: Inputs::default(),
                })
            }
            Op::Config => Err(Error::new("a config step has no key").kind(Kind::Internal)),
        }
    }

    pub(super) fn prepare_copy(&self, copy: &Copy, span: &Range<usize>) -> Result<Prepared> {
        let tree = self.tree_of(&copy.from, span)?;
        self.shared.sources.prepare(copy, tree)
    }

    /// Returns the layers of another stage or of an image, and its name for people; `None` for files
    /// of the caller's, which [`Sources`] has.
    pub(super) fn tree_of(
        &self,
        from: &CopyFrom,
        span: &Range<usize>,
    ) -> Result<Option<(Vec<Layer>, String)>> {
        match from {
            CopyFrom::Context => Ok(None),
            CopyFrom::Named(name) => {
                let Some(layout) = self.shared.contexts.layout(name) else {
                    return Ok(None);
                };
                let platform = &self.head.platform;
                let image = self.shared.layout(name, layout, platform, span)?;
                Ok(Some((image.layers, name.clone())))
            }
            CopyFrom::Stage(index) => {
                let built = self.earlier.result(*index)?;
                Ok(Some((built.state.layers, format!("stage {index}"))))
            }
            CopyFrom::Image(reference) => {
                let platform = &self.head.platform;
                let image = self.shared.image(reference, platform, span)?;
                Ok(Some((image.layers, reference.familiar())))
            }
        }
    }
}
