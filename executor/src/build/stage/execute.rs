//! One step: from the cache, or in a job, and what is remembered of it.
//!
//! Responsible for whose turn it is, for its progress entry, and for the order in which its result becomes
//! known. Must not know what jobs are told. Invariant: a step's result is recorded before that of the next
//! one, whose turn it takes first where that has begun early.

use std::thread::Scope;

use super::super::base::point;
use super::super::ledger::Entry;
use super::super::mounts::Held;
use super::super::once::Turn;
use super::super::sources::Prepared;
use super::super::state::{Layer, State};
use super::overlap::{Early, Job, Next};
use super::work::Left;
use super::{Ready, Stage};
use crate::cache::steps::CacheRecord;
use crate::error::{Error, Result};
use crate::image::digest::{ChainId, Digest};
use crate::plan::step::{Op, Step};
use crate::progress::event::Vertex;

/// A layer and its date, unless a step made none.
pub(super) type Made = Option<(Layer, String)>;

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

impl<'env> Stage<'env> {
    /// Executes a step, or finishes one that has begun `early`; returns its layer and date unless it made
    /// none, and the `next` one if that has begun meanwhile.
    pub(super) fn execute<'scope>(
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
        let next = next.filter(|next| !self.may_be_known(next));
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
}

/// Points an error at its step, unless it points somewhere already.
fn at(error: Error, step: &Step) -> Error {
    if error.diagnostics().is_empty() {
        point(error, &step.span)
    } else {
        error
    }
}
