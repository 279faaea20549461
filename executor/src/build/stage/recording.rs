//! What attestations tell of a stage, noted while it is built.
//!
//! Responsible for what was used and which steps there were. Must not decide what is told. Invariant: what
//! comes from the cache is noted like what is done.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use super::super::base::Loaded;
use super::super::sources::Prepared;
use super::super::state::State;
use super::{Ready, Shared, Stage};
use crate::attest::record::{self, Material, Record};
use crate::error::Result;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::plan::contexts::Layout;
use crate::plan::step::{Network, Op, Step};

impl Shared<'_> {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads an image, and notes that it was used.
    pub(super) fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
        span: &Range<usize>,
    ) -> Result<Loaded> {
        let loaded = self.images.load(reference, platform, span)?;
        let mut record = self.record();
        let material = Material::image(reference, platform, &loaded.digest);
        record.materials.insert(material);
        record.images.insert(reference.to_string(), loaded.digest);
        Ok(loaded)
    }

    /// Loads an image of a layout, and notes that it was used.
    pub(super) fn layout(
        &self,
        name: &str,
        layout: &Layout,
        platform: &Platform,
        span: &Range<usize>,
    ) -> Result<Loaded> {
        let cancel = self.worker.cancel();
        let loaded = (self.images).load_layout(name, layout, platform, span, cancel)?;
        let material = Material::layout(name, platform, &loaded.digest);
        self.record().materials.insert(material);
        Ok(loaded)
    }
}

impl Stage<'_> {
    /// Notes a step for attestations.
    pub(super) fn record_step(&self, step: &Step, number: usize, ready: &Ready) {
        let mut record = self.shared.record();
        for origin in ready.prepared.iter().flat_map(Prepared::origins) {
            record.materials.insert(origin.into());
        }
        if let Some(stage) = record.stages.get_mut(&self.head.index) {
            stage.steps.push(record::Step {
                number,
                key: ready.key,
                span: step.span.clone(),
                online: matches!(&step.op, Op::Run(run) if self.network(run) == Network::Host),
                op: step.op.clone(),
                layers: Vec::new(),
            });
        }
    }

    /// Notes which layers the last step that was noted leaves.
    pub(super) fn record_layers(&self, state: &State) {
        let mut record = self.shared.record();
        let stage = record.stages.get_mut(&self.head.index);
        if let Some(step) = stage.and_then(|stage| stage.steps.last_mut()) {
            step.layers = state.layers.iter().map(|l| l.blob.clone()).collect();
        }
    }
}
