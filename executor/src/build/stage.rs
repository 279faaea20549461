//! Executes one stage: its base, then its steps, each from the cache or in a job.
//!
//! Responsible for a step's key, its progress entry, and the layer it makes. Must not know how
//! jobs isolate or how results are written out. Invariant: a step's snapshot is in the store
//! before the next step begins; its archive may still be on its way there.

mod bases;
mod content;
mod found;
mod overlap;
mod recording;
mod work;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::base::Images;
use super::contexts::Contexts;
use super::fetch::Fetcher;
use super::imports::Imports;
use super::jobs::FileMount;
use super::keys::{self, Below};
use super::ledger::{Entry, Ledger};
use super::mounts::secrets::Secrets;
use super::mounts::{Held, Inputs};
use super::once::{Once, Turn};
use super::schedule::{Earlier, Places};
use super::sources::{Prepared, Sources};
use super::ssh::Agents;
use super::state::{Layer, State};
use super::trees::Trees;
use super::worker::Worker;
use crate::attest::record::{self, Record, Start};
use crate::cache::exchange::format::StepResult;
use crate::cache::steps::CacheRecord;
use crate::diagnostics::{Diagnostic, Severity};
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

use overlap::{Early, Job, Next};
use work::Left;

pub(super) use content::Contents;
pub(super) use overlap::Seen;

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
    /// Steps that were made before this build.
    pub(super) seen: &'a Seen,
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
        for (step, rest) in (1..)
            .map_while(|n| lowered.steps.split_at_checked(n))
            .filter_map(|(done, rest)| Some((done.last()?, rest)))
        {
            shared.worker.cancel().check()?;
            if !is_shown(step) {
                state.push(step, None);
                continue;
            }
            number += 1;
            let next = stage.next(step, rest, number);
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

/// A layer and its date, unless a step made none.
type Made = Option<(Layer, String)>;

/// What has become of a step's job.
struct Done<'scope, 'env> {
    vertex: Vertex,
    result: Result<Option<Left>>,
    /// The next step's job, if that stands on the tree already.
    follower: Option<Job<'scope, 'env>>,
}

impl Done<'_, '_> {
    fn alone(vertex: Vertex, result: Result<Option<Left>>) -> Self {
        Self {
            vertex,
            result,
            follower: None,
        }
    }
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

    /// Executes a step, or finishes one that has begun `early`; returns its layer and date unless it made
    /// none, and the `next` one if that has begun meanwhile.
    fn execute<'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        step: &'env Step,
        (number, next): (usize, Option<Next<'env>>),
        state: &State,
        early: Option<Early<'scope, 'env>>,
    ) -> Result<(Made, Option<Early<'scope, 'env>>)> {
        let name = format!("{} {}", self.label(number), step.name);
        let mut ready = match self.prepare(step, state) {
            Ok(ready) => ready,
            Err(error) => return Err(self.refuse(name, at(error, step))),
        };
        self.record_step(step, number, &ready);
        if let Some(Early {
            mut job,
            turn,
            below,
        }) = early
        {
            let on = (state, below);
            let follower = next.map(|next| self.follow(scope, &mut job, next, on));
            let done = self.end(job, &mut ready, follower)?;
            self.settle(below)?;
            return self.finish(step, (number, next), state, (ready, None, turn), done);
        }
        let taken = |record: &CacheRecord| {
            let made = self.take(step, &ready.key, state, record, (name.clone(), number));
            made.map(|made| (made, None))
        };
        if let Some(record) = self.recall(&ready.key, step, state) {
            return taken(&record);
        }
        let mut turn = match self.turn(&ready.key, &name) {
            Ok(turn) => turn,
            Err(error) => return Err(self.refuse(name, at(error, step))),
        };
        // Somebody else may have run it meanwhile.
        if let Some(record) = self.recall(&ready.key, step, state) {
            return taken(&record);
        }
        let content = match self.by_content(step, &ready, state) {
            Ok(content) => content,
            Err(error) => return Err(self.refuse(name, at(error, step))),
        };
        if let Some(key) = content
            && !self.is_fresh()
            && let Some(record) = self.recall(&key, step, state)
        {
            let record = CacheRecord { content, ..record };
            // The next build need not look at the content.
            self.shared.ledger.enter(Entry {
                keys: vec![ready.key],
                record: record.clone(),
                blob: None,
                claim: turn.take_claim(),
                told: None,
            })?;
            return taken(&record);
        }
        // Before a place is taken: who holds a lock may be waiting for one.
        let held = match &step.op {
            Op::Run(run) => self.hold_caches(run, &ready.mounted),
            _ => Ok(Held::default()),
        };
        let held = match held {
            Ok(held) => held,
            Err(error) => return Err(self.refuse(name, at(error, step))),
        };
        let place = self.shared.places.take();
        self.shared.worker.cancel().check()?;
        // Unpacking is not the step's own time.
        let lowers = match self.lowers(step, state) {
            Ok(lowers) => lowers,
            Err(error) => return Err(self.refuse(name, at(error, step))),
        };
        let vertex = self.shared.progress.start(name);
        let next = next.filter(|next| self.may_be_known(next) != Some(true));
        let done = match (next, self.site(lowers)) {
            (_, Err(error)) => Done::alone(vertex, Err(error)),
            (None, Ok(site)) => {
                let prepared = ready.prepared.as_ref();
                let result = self.work(step, &ready.mounted, prepared, site, &held, &vertex);
                drop((place, held));
                Done::alone(vertex, result)
            }
            (Some(next), Ok(site)) => {
                let with = (std::mem::take(&mut ready.mounted), held, Some(place));
                let mut job = self.begin(scope, step, site, with, vertex)?;
                let follower = self.follow(scope, &mut job, next, (state, None));
                self.end(job, &mut ready, Some(follower))?
            }
        };
        self.finish(
            step,
            (number, next),
            state,
            (ready, content, Some(turn)),
            done,
        )
    }

    /// Waits for a job's end, after the next step has begun or could not.
    fn end<'scope>(
        &self,
        job: Job<'scope, 'env>,
        ready: &mut Ready,
        follower: Option<Result<Option<Job<'scope, 'env>>>>,
    ) -> Result<Done<'scope, 'env>> {
        let ended = job.join()?;
        ready.mounted = ended.inputs;
        let (follower, result) = match follower.transpose() {
            Ok(follower) => (follower.flatten(), ended.result),
            Err(error) => (None, ended.result.and(Err(error))),
        };
        Ok(Done {
            vertex: ended.vertex,
            result,
            follower,
        })
    }

    /// Notes what a step's job has left.
    fn finish<'scope>(
        &self,
        step: &Step,
        (number, next): (usize, Option<Next<'env>>),
        state: &State,
        (ready, content, turn): (Ready, Option<Digest>, Option<Turn<'env>>),
        done: Done<'scope, 'env>,
    ) -> Result<(Made, Option<Early<'scope, 'env>>)> {
        let Done {
            vertex,
            result,
            follower,
        } = done;
        let kept = result.and_then(|left| {
            let kept = left.map(|left| self.keep(state, left, follower.is_some()));
            kept.transpose()
        });
        let made = match kept {
            Ok(made) => made,
            Err(error) => {
                // What has begun on it ends, too.
                drop(follower);
                let error = at(error, step);
                if !self.shared.fetcher.can_do_without() {
                    vertex.fail(&error);
                }
                return Err(error);
            }
        };
        let created = self.shared.settings.now.clone();
        let (layer, file) = made.unzip();
        let diff_id = layer.as_ref().map(|l: &Layer| l.diff_id);
        if let Some(layer) = &layer {
            vertex.layer(layer.blob.size);
        }
        let record = CacheRecord {
            diff_id,
            size: layer.as_ref().map_or(0, |l| l.blob.size),
            chain: match diff_id {
                Some(diff_id) => Some(ChainId::child(state.chain(), diff_id)),
                None => state.chain(),
            },
            created: created.clone(),
            name: step.name.clone(),
            blob: None,
            bases: self.bases(step, state),
            content,
        };
        let unchanged = ready.mounted.is_unchanged()
            && ready.prepared.as_ref().is_none_or(Prepared::is_unchanged);
        if !unchanged {
            vertex.warn("the context changed while it was being copied; the step is not cached");
        }
        let mut keys = vec![ready.key];
        keys.extend(content);
        if !unchanged {
            keys.clear();
        }
        if unchanged {
            self.trace(number, ready.key, &record);
        }
        // Before this step's turn ends, after which others look for the next one.
        let early = match follower.zip(next) {
            Some((job, next)) => Some(self.early(job, next, &record)?),
            None => None,
        };
        for key in &keys {
            self.shared.once.note(*key, &record);
        }
        let mut turn = turn;
        self.shared.ledger.enter(Entry {
            keys,
            record,
            blob: file.zip(diff_id.map(|id| id.0)),
            claim: turn.as_mut().and_then(Turn::take_claim),
            told: self.told(layer.as_ref()),
        })?;
        drop(turn);
        vertex.done();
        Ok((layer.map(|l| (l, created)), early))
    }

    /// Shows a step that can't begin.
    fn refuse(&self, name: String, error: Error) -> Error {
        // A step that can be prepared in another way is shown then.
        if !error.is_cancellation() && !self.shared.fetcher.can_do_without() {
            self.shared.progress.start(name).fail(&error);
        }
        error
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

/// Points an error at its step, unless it points somewhere already.
fn at(error: Error, step: &Step) -> Error {
    if !error.diagnostics().is_empty() || error.is_cancellation() {
        return error;
    }
    let message = error.chain();
    error.diagnostic(Diagnostic {
        severity: Severity::Error,
        rule: None,
        message,
        span: step.span.clone(),
        hint: None,
    })
}
