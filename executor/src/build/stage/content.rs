//! Keys by content: what a step takes of other stages and images, instead of what they are made of.
//!
//! Responsible for the second key of a step that copies from, or mounts, a part of another tree: where
//! that came out the same, the step is found although the tree is another one. Must not decide when it
//! is asked for. Invariant: it is the key by definition, with the digest of what is taken in the place
//! of each tree's layers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::jobs::{ContentPart, ContentTask, Reply, Task};
use super::super::keys;
use super::super::sources::{Place, literal};
use super::super::state::{Layer, State};
use super::{Ready, Stage};
use crate::cache::key::KeyBuilder;
use crate::context::walk::Pick;
use crate::dockerfile::mode::FileMode;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::plan::step::{Op, Step};

/// Digests that were computed in this build, by the tree and what is taken of it.
#[derive(Debug, Default)]
pub(in crate::build) struct Contents(Mutex<HashMap<Digest, Option<Digest>>>);

/// What a step takes of one tree.
struct Taken<'a> {
    layers: &'a [Layer],
    /// Whose they are, for people.
    name: &'a str,
    pick: Pick,
    chmod: Option<&'a FileMode>,
    /// Whether a directory is taken with its own owner and permissions.
    whole: bool,
}

impl Taken<'_> {
    fn key(&self) -> Digest {
        let diff_ids: Vec<DiffId> = self.layers.iter().map(|layer| layer.diff_id).collect();
        let mut key = KeyBuilder::new("taken");
        key.option(
            "tree",
            ChainId::of(&diff_ids).map(|chain| *chain.0.as_bytes()),
        )
        .list("source", &self.pick.sources)
        .list("exclude", &self.pick.exclude)
        .field("parents", [u8::from(self.pick.parents)])
        .option("chmod", self.chmod.map(FileMode::to_bytes))
        .field("whole", [u8::from(self.whole)]);
        key.finish()
    }
}

impl Stage<'_> {
    /// Returns a step's key by content; `None` where it has no other than by definition, or where what it
    /// takes can't be read, which the step will say.
    pub(super) fn by_content(
        &self,
        step: &Step,
        ready: &Ready,
        state: &State,
    ) -> Result<Option<Digest>> {
        match &step.op {
            Op::Copy(copy) => {
                let Some(prepared) = &ready.prepared else {
                    return Ok(None);
                };
                let parts = prepared.parts().iter();
                let taken = parts.filter_map(|part| match &part.place {
                    Place::Layers(layers, name) => Some(Taken {
                        layers,
                        name,
                        pick: part.pick().clone(),
                        chmod: copy.chmod.as_ref(),
                        whole: false,
                    }),
                    _ => None,
                });
                let found = self.contents(&taken.collect::<Vec<_>>())?;
                let key = |content: Vec<Digest>| {
                    keys::copy(
                        self.below(state.chain()),
                        copy,
                        &prepared.digests_with(&content),
                    )
                };
                Ok(found.map(key))
            }
            Op::Run(run) => {
                let parts = ready.mounted.parts(&run.mounts);
                let taken = parts.map(|(layers, name, part)| Taken {
                    layers,
                    name,
                    pick: Pick::plain(vec![literal(part)]),
                    chmod: None,
                    whole: true,
                });
                let found = self.contents(&taken.collect::<Vec<_>>())?;
                let key = |content: Vec<Digest>| {
                    let mounted = ready.mounted.digests_with(&run.mounts, &content);
                    keys::with_mounts(self.run_key(run, state.chain()), &mounted)
                };
                Ok(found.map(key))
            }
            Op::Workdir { .. } | Op::Config => Ok(None),
        }
    }

    /// Returns the digest of each part; `None` when there is none, or one can't be read.
    fn contents(&self, taken: &[Taken<'_>]) -> Result<Option<Vec<Digest>>> {
        if taken.is_empty() {
            return Ok(None);
        }
        let shared = self.shared;
        let known = || {
            let memo = &shared.contents.0;
            memo.lock().unwrap_or_else(PoisonError::into_inner)
        };
        let missing: Vec<&Taken<'_>> = taken
            .iter()
            .filter(|one| !known().contains_key(&one.key()))
            .collect();
        if !missing.is_empty() {
            let mut parts = Vec::new();
            for one in &missing {
                parts.push(ContentPart {
                    lowers: shared.trees.lowers(one.layers, one.name)?,
                    pick: one.pick.clone(),
                    chmod: one.chmod.cloned(),
                    whole: one.whole,
                });
            }
            let place = shared.places.take();
            let reply = shared
                .worker
                .submit(&Task::Content(ContentTask { parts }), &[]);
            drop(place);
            let Reply::Content(digests) = reply? else {
                return Err(Error::new("unexpected reply to reading trees").kind(Kind::Internal));
            };
            let found = missing.iter().map(|one| one.key()).zip(digests);
            known().extend(found);
        }
        let known = known();
        let all = taken
            .iter()
            .map(|one| known.get(&one.key()).copied().flatten());
        Ok(all.collect())
    }
}
