//! A RUN step that runs while the layer of the one before it is read and hashed.
//!
//! Responsible for when that is worth it, for the jobs that are at work meanwhile, and for what they
//! stand on. Must not make keys or records. Invariants: a step begins early only where its result could
//! not have been in the cache, and on a tree that is complete; what it made is recorded after the step
//! before it, whose failure ends it.
//!
//! What a step stands on has a digest, and so the step has a key, only when the layer below has been
//! hashed. A step of which the store knows nothing is begun without: the job of the step before announces
//! that its view has ended, and goes on with the archive. One layer at most is read behind a running step
//! that way, and that of the running step itself. A step that begins early has its key's turn before the
//! step before it gives its own away, so that equal steps run once here as elsewhere. Where another build
//! has that key already, which takes a layer that came out the same by chance, both run, and the record
//! that is written last counts.

use std::io::{PipeReader, Read};
use std::path::PathBuf;
use std::thread::{Scope, ScopedJoinHandle};

use super::super::mounts::{Held, Inputs};
use super::super::once::Turn;
use super::super::schedule::Place;
use super::super::state::State;
use super::work::{Left, Site};
use super::{Stage, is_shown};
use crate::cache::steps::CacheRecord;
use crate::cancel::{Cancel, Cause, Registration};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::ChainId;
use crate::plan::step::{MountKind, Op, Run, Step};
use crate::progress::event::Vertex;

/// A step that may begin early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next<'env> {
    pub(super) step: &'env Step,
    pub(super) run: &'env Run,
    /// Its number in the stage.
    pub(super) number: usize,
}

/// A step's job, at work in a thread.
#[derive(Debug)]
pub(super) struct Job<'scope, 'env> {
    thread: ScopedJoinHandle<'scope, Ended>,
    announced: PipeReader,
    /// The tree that it makes.
    tree: PathBuf,
    place: Option<Place<'env>>,
    _stop: Stop,
}

/// A job's end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) vertex: Vertex,
    pub(super) inputs: Inputs,
    pub(super) result: Result<Option<Left>>,
}

/// Ends a job that nobody waits for any more.
#[derive(Debug)]
struct Stop {
    own: Cancel,
    _registration: Registration,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.own.raise(Cause::Failure);
    }
}

/// A step that has begun early.
#[derive(Debug)]
pub(super) struct Early<'scope, 'env> {
    pub(super) job: Job<'scope, 'env>,
    /// Its turn, where nobody else had it.
    pub(super) turn: Option<Turn<'env>>,
    /// The tree that it stands on, which is lent to it.
    pub(super) below: Option<ChainId>,
}

impl Job<'_, '_> {
    /// Waits until a step can stand on the tree, or the job has ended; tells whether it can.
    pub(super) fn is_standing(&mut self) -> bool {
        self.announced.read_exact(&mut [0]).is_ok()
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    /// [`Kind::Internal`] when its thread has panicked.
    pub(super) fn join(self) -> Result<Ended> {
        let joined = self.thread.join();
        joined.map_err(|_| Error::new("a step's thread panicked").kind(Kind::Internal))
    }
}

impl<'env> Stage<'env> {
    /// Returns the step after one if it may begin early as far as the two of them tell. What the archive
    /// changes in the tree, as it does for `SOURCE_DATE_EPOCH`, the next step has to see.
    pub(super) fn next<'s>(
        &self,
        step: &Step,
        rest: &'s [Step],
        number: usize,
    ) -> Option<Next<'s>> {
        let settings = self.shared.settings;
        if !matches!(step.op, Op::Run(_)) || settings.epoch.is_some() || settings.without_user {
            return None;
        }
        let step = rest.iter().find(|step| is_shown(step))?;
        let Op::Run(run) = &step.op else {
            return None;
        };
        let simple = run.devices.is_empty() && run.mounts.iter().all(|m| needs_nothing(&m.kind));
        let asks = !self.is_fresh() && self.shared.imports.are_some();
        (simple && !asks).then_some(Next {
            step,
            run,
            number: number + 1,
        })
    }

    /// Tells whether the result of a step may be in the cache.
    pub(super) fn may_be_known(&self, next: &Next<'_>) -> bool {
        // Equal steps have equal names, so that it is one of them if the cache has it.
        let name = &next.step.name;
        let in_store = || self.shared.session.cache().steps().may_know(name);
        self.shared.once.has_made(name) || !self.is_fresh() && in_store()
    }

    /// Begins a step's job in a thread.
    pub(super) fn begin<'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        step: &'env Step,
        mut site: Site,
        (inputs, held, place): (Inputs, Held, Option<Place<'env>>),
        vertex: Vertex,
    ) -> Result<Job<'scope, 'env>> {
        let (announced, announce) = std::io::pipe().op("create pipe")?;
        site.announce = Some(announce);
        let own = Cancel::new();
        site.cancel = own.clone();
        let told = own.clone();
        let all = self.shared.worker.cancel();
        let stop = Stop {
            own,
            _registration: all.on_raise(move || told.raise(Cause::Failure)),
        };
        let tree = site.staging.fs();
        let thread = scope.spawn(move || {
            let result = self.work(step, &inputs, None, site, &held, &vertex);
            Ended {
                vertex,
                inputs,
                // Why all end is told by the flag of all.
                result: result.map_err(|error| match self.shared.worker.cancel().check() {
                    Err(cancelled) if error.is_cancellation() => cancelled,
                    _ => error,
                }),
            }
        });
        Ok(Job {
            thread,
            announced,
            tree,
            place,
            _stop: stop,
        })
    }

    /// Begins the step after one whose job is at work on `state`, if the job says that it can; `None` if
    /// it can't, or nothing is gained. `below` is the tree that was lent to the job.
    pub(super) fn follow<'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        job: &mut Job<'scope, 'env>,
        next: Next<'env>,
        (state, below): (&State, Option<ChainId>),
    ) -> Result<Option<Job<'scope, 'env>>> {
        if self.may_be_known(&next) || !job.is_standing() {
            return Ok(None);
        }
        // The job has no use for what is below it any more.
        self.settle(below)?;
        let name = self.base_name();
        let below = (self.shared.trees).sandbox_lowers(&state.layers, &name)?;
        let lowers = std::iter::once(job.tree.clone()).chain(below).collect();
        let site = self.site(lowers)?;
        let name = format!("{} {}", self.label(next.number), next.step.name);
        let vertex = self.shared.progress.start(name);
        let with = (Inputs::default(), Held::default(), job.place.take());
        self.begin(scope, next.step, site, with, vertex).map(Some)
    }

    /// Takes the turn of a step that has begun, on the tree that the step before it is found to have made.
    pub(super) fn early<'scope>(
        &self,
        job: Job<'scope, 'env>,
        next: Next<'env>,
        made: &CacheRecord,
    ) -> Result<Early<'scope, 'env>> {
        let mut turn = (self.shared.once).try_turn(self.run_key(next.run, made.chain));
        if let Some(turn) = &mut turn {
            turn.claim(self.shared.session)?;
        }
        Ok(Early {
            job,
            turn,
            below: made.chain,
        })
    }

    /// Puts the tree that was lent to a step into the store.
    pub(super) fn settle(&self, below: Option<ChainId>) -> Result<()> {
        below.map_or(Ok(()), |chain| self.shared.trees.settle(chain))
    }
}

/// Tells whether a mount waits for nothing and has no part in the step's key but what the plan says.
fn needs_nothing(mount: &MountKind) -> bool {
    match mount {
        MountKind::Script { .. } | MountKind::Tmpfs { .. } => true,
        MountKind::Bind(_) | MountKind::Cache(_) | MountKind::Secret(_) | MountKind::Ssh(_) => {
            false
        }
    }
}
