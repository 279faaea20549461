//! What is known of a step before it runs, and whose turn it is.
//!
//! Responsible for asking this build, the store and caches elsewhere, for taking what they have, and for
//! noting what a step made. Must not compute keys or run anything. Invariant: a step that must not be
//! taken from the cache is only taken from this build.

use std::sync::PoisonError;

use super::super::ledger::Told;
use super::super::once::Turn;
use super::super::state::{Layer, State};
use super::{Stage, Trace};
use crate::cache::exchange::format::{Made, StepResult};
use crate::cache::steps::CacheRecord;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::plan::step::{Base, Step};

impl Stage<'_> {
    /// Takes what a step has made already.
    pub(super) fn take(
        &self,
        step: &Step,
        key: &Digest,
        state: &State,
        record: &CacheRecord,
        (name, number): (String, usize),
    ) -> Result<Option<(Layer, String)>> {
        self.stand_on(key, record, step, state);
        self.trace(number, *key, record);
        let vertex = self.shared.progress.start(name);
        if record.diff_id.is_some() {
            vertex.layer(record.size);
        }
        vertex.cached();
        let layer = Layer::recorded(record);
        if let Some(layer) = layer.as_ref().filter(|_| self.is_result()) {
            self.shared.ledger.tell(layer, record)?;
        }
        Ok(layer.map(|layer| (layer, record.created.clone())))
    }

    /// Waits until neither another stage nor another build runs the step. Nothing that others may wait
    /// for is held meanwhile: mounts are locked and places taken by who has the turn.
    pub(super) fn turn(&self, key: &Digest, name: &str) -> Result<Turn<'_>> {
        let shared = self.shared;
        let cancel = shared.worker.cancel();
        let mut turn = shared.once.turn(*key, cancel)?;
        if shared.once.made(key).is_some() {
            return Ok(turn);
        }
        if self.is_fresh() {
            // It won't take another build's result; but a third one may wait for this.
            turn.claim(shared.session)?;
        } else {
            let tell = || {
                let wait = format!("[internal] wait for another build's {name}");
                shared.progress.start(wait)
            };
            if let Some(vertex) = turn.wait(shared.session, cancel, tell)? {
                vertex.done();
            }
        }
        Ok(turn)
    }

    /// Returns what is told of a layer that was made.
    pub(super) fn told(&self, layer: Option<&Layer>) -> Option<Told> {
        layer.filter(|_| self.is_result()).map(|layer| Told {
            layer: layer.clone(),
            fresh: true,
        })
    }

    /// Tells whether the stage's layers are the result's.
    fn is_result(&self) -> bool {
        let heads = &self.shared.plan.heads;
        let mut part = heads.last();
        while let Some(head) = part {
            if head.index == self.head.index {
                return true;
            }
            part = match head.base {
                Base::Stage(index) => heads.iter().find(|head| head.index == index),
                _ => None,
            };
        }
        false
    }

    /// Tells whether the stage takes nothing from the cache.
    pub(super) fn is_fresh(&self) -> bool {
        let settings = self.shared.settings;
        let name = self.head.name.as_ref();
        settings.no_cache || name.is_some_and(|n| settings.no_cache_filter.contains(n))
    }

    pub(super) fn recall(&self, key: &Digest, step: &Step, state: &State) -> Option<CacheRecord> {
        // Also without the cache: what equal steps of this build make is made once.
        if let Some(made) = self.shared.once.made(key) {
            return Some(made);
        }
        if self.is_fresh() {
            return None;
        }
        let imports = self.shared.imports;
        let own = self.shared.ledger.recall(key);
        own.and_then(|record| imports.accept(record))
            .or_else(|| imports.find(key, &step.name, state.chain()))
    }

    /// Notes what a step made, for caches elsewhere.
    pub(super) fn trace(&self, number: usize, key: Digest, record: &CacheRecord) {
        let made = |layer: Layer| Made {
            diff_id: layer.diff_id,
            size: record.size,
            // A layer without a size is one that nobody can have.
            blob: (layer.blob.size != 0).then_some(layer.blob),
        };
        let trace = Trace {
            stage: self.head.index,
            number,
            result: StepResult {
                key,
                content: record.content,
                created: record.created.clone(),
                layer: Layer::recorded(record).map(made),
            },
        };
        let mut trail = (self.shared.trail.lock()).unwrap_or_else(PoisonError::into_inner);
        trail.push(trace);
    }
}
