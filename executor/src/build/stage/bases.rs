//! Which images a step's result stands on.
//!
//! Responsible for those that are named by digest, which nothing else keeps in the store: a name keeps
//! an image by itself. Must not load what is not loaded already. Invariant: while a cached step is kept,
//! so are the manifests that it names here.

use super::super::state::State;
use super::Stage;
use crate::cache::steps::CacheRecord;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::plan::step::{CopyFrom, MountKind, Op, Step};

/// How many images are remembered for a step that was found on several.
const KNOWN: usize = 8;

impl Stage<'_> {
    /// Returns the manifests of a step's images.
    pub(super) fn bases(&self, step: &Step, state: &State) -> Vec<Digest> {
        let mut all = state.bases.clone();
        let mut add = |from: &CopyFrom| match from {
            CopyFrom::Image(reference) => all.extend(self.pinned(reference, step)),
            CopyFrom::Stage(index) => {
                let built = self.earlier.result(*index);
                all.extend(built.map(|built| built.state.bases).unwrap_or_default());
            }
            CopyFrom::Context | CopyFrom::Named(_) => {}
        };
        match &step.op {
            Op::Copy(copy) => add(&copy.from),
            Op::Run(run) => {
                for mount in &run.mounts {
                    match &mount.kind {
                        MountKind::Bind(bind) => add(&bind.from),
                        MountKind::Cache(cache) => {
                            cache.from.iter().for_each(&mut add);
                        }
                        _ => {}
                    }
                }
            }
            Op::Workdir { .. } | Op::Config => {}
        }
        all.sort();
        all.dedup();
        all
    }

    /// Notes in a record that was found which images it stands on now.
    pub(super) fn stand_on(&self, key: &Digest, record: &CacheRecord, step: &Step, state: &State) {
        let mut bases = self.bases(step, state);
        bases.retain(|base| !record.bases.contains(base));
        if bases.is_empty() {
            return;
        }
        bases.extend(&record.bases);
        bases.truncate(KNOWN);
        let record = CacheRecord {
            bases,
            ..record.clone()
        };
        // Without it, the collector takes the image, which can be pulled again.
        drop(self.shared.session.cache().steps().put(key, &record));
    }

    /// Returns the manifest of an image that is named by digest; the step's key has loaded it.
    fn pinned(&self, reference: &Reference, step: &Step) -> Option<Digest> {
        reference.digest?;
        let platform = &self.head.platform;
        let loaded = self.shared.images.load(reference, platform, &step.span);
        Some(loaded.ok()?.digest)
    }
}
