//! The files that mounts show: of the context, of stages, of images.
//!
//! Responsible for finding them, for their part in a step's key, and for making trees of what is the
//! caller's: a tree is kept under the content that is in it, so that it is copied once. Must not mount.
//! Invariant: nothing is kept under a content that changed while it was copied.

use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::build::jobs::{Reply, SeedReply, SeedTask, Task};
use crate::build::keys;
use crate::build::sources::{Prepared, literal};
use crate::build::stage::Stage;
use crate::build::state::Layer;
use crate::cache::key::KeyBuilder;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::plan::step::{
    Copy, CopyFrom, CopySource, CopySourceKind, Mount, MountKind, Permissions, Run,
};
use crate::progress::event::Vertex;
use crate::store::snapshots::Staging;

/// What the mounts of a step show: one entry for each mount.
#[derive(Debug, Default)]
pub(in crate::build) struct Inputs(Vec<Option<Input>>);

/// What one mount shows.
#[derive(Debug)]
pub(super) enum Input {
    /// A place in the tree of these layers; the name is for the progress display.
    Layers(Vec<Layer>, String),
    /// What this copy takes.
    Copy(Box<Copy>, Prepared),
}

impl Inputs {
    /// Returns what stands for the content of bind mounts, in order. What cache mounts begin with is
    /// no part of a step's key.
    pub(in crate::build) fn digests(&self, mounts: &[Mount]) -> Vec<Digest> {
        self.digests_with(mounts, &[])
    }

    /// Returns the trees of which bind mounts show a part, with that part's place, in order. A whole tree
    /// is not among them: reading all of it would take longer than most steps.
    pub(in crate::build) fn parts<'i>(
        &'i self,
        mounts: &'i [Mount],
    ) -> impl Iterator<Item = (&'i [Layer], &'i str, &'i str)> {
        let inputs = mounts.iter().zip(&self.0);
        inputs.filter_map(|(mount, input)| match (&mount.kind, input) {
            (MountKind::Bind(bind), Some(Input::Layers(layers, name))) => {
                let part = bind.source.trim_matches('/');
                (!part.is_empty()).then_some((&layers[..], &**name, part))
            }
            _ => None,
        })
    }

    /// Returns what stands for the content of bind mounts as [`Self::digests`], with these for the
    /// [`Self::parts`].
    pub(in crate::build) fn digests_with(
        &self,
        mounts: &[Mount],
        content: &[Digest],
    ) -> Vec<Digest> {
        let mut content = content.iter();
        let inputs = mounts.iter().zip(&self.0);
        let digest = |(mount, input): (&Mount, &Option<Input>)| {
            let MountKind::Bind(bind) = &mount.kind else {
                return None;
            };
            let input = input.as_ref()?;
            let is_part =
                matches!(input, Input::Layers(..)) && !bind.source.trim_matches('/').is_empty();
            let known = if is_part { content.next() } else { None };
            Some(known.copied().unwrap_or_else(|| input.digest()))
        };
        inputs.filter_map(digest).collect()
    }

    /// Tells whether what was copied is what the key is for.
    pub(in crate::build) fn is_unchanged(&self) -> bool {
        self.0.iter().flatten().all(|input| match input {
            Input::Layers(..) => true,
            Input::Copy(_, prepared) => prepared.is_unchanged(),
        })
    }

    /// Returns what the mount of this number shows.
    pub(super) fn get(&self, number: usize) -> Option<&Input> {
        self.0.get(number).and_then(Option::as_ref)
    }
}

impl Input {
    /// Returns what stands for the content.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Input::Layers(layers, _) => {
                let diff_ids: Vec<DiffId> = layers.iter().map(|l| l.diff_id).collect();
                keys::tree_content(ChainId::of(&diff_ids))
            }
            Input::Copy(copy, prepared) => {
                let mut key = KeyBuilder::new("mounted");
                key.list("content", prepared.digests().iter().map(|d| *d.as_bytes()))
                    .field("place", &copy.dest);
                key.finish()
            }
        }
    }
}

/// Returns the copy that takes `source` to where it was.
fn copy_of(mount: &Mount, from: &CopyFrom, source: &str, dest: &str) -> Copy {
    let word = match source.trim_start_matches('/') {
        "" => ".".to_owned(),
        path => literal(path),
    };
    Copy {
        from: from.clone(),
        sources: vec![CopySource {
            span: mount.span.clone(),
            kind: CopySourceKind::Word(word),
        }],
        dest: dest.to_owned(),
        ..Copy::default()
    }
}

impl Stage<'_> {
    /// Finds what the mounts of a step show; this reads what is the caller's.
    pub(in crate::build) fn mount_inputs(&self, run: &Run) -> Result<Inputs> {
        let mut inputs = Vec::with_capacity(run.mounts.len());
        for mount in &run.mounts {
            let input = match &mount.kind {
                MountKind::Bind(bind) => Some(match self.tree_of(&bind.from, &mount.span)? {
                    Some((layers, name)) => Input::Layers(layers, name),
                    None => self.copied(
                        copy_of(mount, &bind.from, &bind.source, &bind.source),
                        mount,
                    )?,
                }),
                MountKind::Cache(cache) => match &cache.from {
                    Some(from) => {
                        Some(self.copied(copy_of(mount, from, &cache.source, "/"), mount)?)
                    }
                    None => None,
                },
                _ => None,
            };
            inputs.push(input);
        }
        Ok(Inputs(inputs))
    }

    fn copied(&self, copy: Copy, mount: &Mount) -> Result<Input> {
        let prepared = self.prepare_copy(&copy, &mount.span)?;
        Ok(Input::Copy(Box::new(copy), prepared))
    }

    /// Returns the snapshots in which a bind mount's files are, topmost first.
    pub(super) fn lowers_of(&self, input: &Input, vertex: &Vertex) -> Result<Vec<PathBuf>> {
        let (copy, prepared) = match input {
            Input::Layers(layers, name) => return self.shared.trees.lowers(layers, name),
            Input::Copy(copy, prepared) => (copy, prepared),
        };
        let chain = ChainId(input.digest());
        if let Some(found) = self.shared.trees.find(chain) {
            return Ok(vec![found]);
        }
        let (staging, made) = self.seed(Some((copy, prepared)), Permissions::DIRECTORY)?;
        for note in &made.notes {
            vertex.warn(note.clone());
        }
        if !prepared.is_unchanged() {
            // Nothing that another step could find.
            return Ok(vec![staging.fs()]);
        }
        let dir = self.shared.trees.commit(staging, chain, made.bytes)?;
        Ok(vec![dir])
    }

    /// Makes a tree of what a copy takes, or an empty one.
    pub(super) fn seed(
        &self,
        from: Option<(&Copy, &Prepared)>,
        permissions: Permissions,
    ) -> Result<(Staging, SeedReply)> {
        let shared = self.shared;
        let staging = shared.session.store().snapshots().staging(shared.session)?;
        let (dirs, parts) = match from {
            Some((copy, prepared)) => self.parts(copy, prepared)?,
            None => (Vec::new(), Vec::new()),
        };
        let fds: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
        let task = Task::Seed(SeedTask {
            staging: staging.dir().to_path_buf(),
            parts,
            permissions,
        });
        let Reply::Seeded(made) = shared.worker.submit(&task, &fds)? else {
            return Err(Error::new("unexpected reply to making a tree").kind(Kind::Internal));
        };
        if let Some((_, prepared)) = from {
            prepared.check(&made.stamps);
        }
        Ok((staging, made))
    }
}
