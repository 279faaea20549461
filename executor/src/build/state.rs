//! What an image is while it is being built.
//!
//! Responsible for the config, its history and its layers growing together. Must not execute
//! anything. Invariant: there are as many layers as diff ids, and as many history entries that
//! are not `empty_layer` as either, unless the base image broke that rule.

use crate::cache::steps::CacheRecord;
use crate::image::config::{History, ImageConfig};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::image::manifest::{Descriptor, media_type};
use crate::image::platform::Platform;
use crate::plan::step::Step;

/// Who made a history entry.
const COMMENT: &str = "sandcrab";

/// When images without any layer were made: nothing in them depends on time.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// An image in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The config so far.
    pub config: ImageConfig,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
    /// Manifests of the images below that are named by digest.
    pub bases: Vec<Digest>,
}

/// One layer: what the config calls it, and the blob that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// The blob that has it: in the store, or known to be elsewhere.
    pub blob: Descriptor,
}

impl Layer {
    /// Makes the layer of an uncompressed archive in the store.
    pub fn uncompressed(diff_id: DiffId, size: u64) -> Self {
        Self {
            diff_id,
            blob: Descriptor::new(media_type::OCI_LAYER, diff_id.0, size),
        }
    }

    /// Makes the layer that a step is recorded to have made.
    pub fn recorded(record: &CacheRecord) -> Option<Self> {
        let diff_id = record.diff_id?;
        Some(match &record.blob {
            Some(blob) => Self {
                diff_id,
                blob: blob.clone(),
            },
            None => Self::uncompressed(diff_id, record.size),
        })
    }
}

impl State {
    /// Starts with nothing.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            config: ImageConfig::scratch(platform),
            layers: Vec::new(),
            bases: Vec::new(),
        }
    }

    /// Starts from a finished image: what it was made of stays, when it was made does not.
    pub fn based_on(config: ImageConfig, layers: Vec<Layer>) -> Self {
        Self {
            config,
            layers,
            bases: Vec::new(),
        }
    }

    /// Returns the chain of all layers, or `None` without any.
    pub fn chain(&self) -> Option<ChainId> {
        ChainId::of(&self.config.rootfs.diff_ids)
    }

    /// Adds what a step did: a history entry and, if it made one, its layer. Without
    /// a layer the step is dated like the one before it, so that a rebuild makes the same image.
    pub fn push(&mut self, step: &Step, made: Option<(Layer, String)>) {
        let (layer, created) = match made {
            Some((layer, created)) => (Some(layer), Some(created)),
            None => (None, self.config.created.clone()),
        };
        self.config.author.clone_from(&step.author);
        self.config.history.push(History {
            created: created.clone(),
            created_by: step.created_by.clone(),
            author: step.author.clone().unwrap_or_default(),
            comment: COMMENT.into(),
            empty_layer: layer.is_none(),
        });
        self.config.created = created;
        if let Some(layer) = layer {
            self.config.rootfs.diff_ids.push(layer.diff_id);
            self.layers.push(layer);
        }
    }

    /// Completes the config: labels of the command line, and a date in any case. With a `fixed`
    /// date (RFC 3339) that is the image's, and no part of it is younger; so does BuildKit.
    pub fn finish(&mut self, labels: &[(String, String)], fixed: Option<&str>) {
        if let Some(fixed) = fixed {
            self.config.created = Some(fixed.to_owned());
        }
        let created = self
            .config
            .created
            .get_or_insert_with(|| EPOCH.into())
            .clone();
        let latest = fixed.and_then(date);
        for entry in &mut self.config.history {
            let entry = entry.created.get_or_insert_with(|| created.clone());
            if latest.is_some() && date(entry).is_none_or(|date| Some(date) > latest) {
                entry.clone_from(&created);
            }
        }
        self.config.config.labels.extend(labels.iter().cloned());
    }
}

fn date(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::Op;

    fn step(created_by: &str) -> Step {
        Step {
            span: 0..0,
            name: created_by.into(),
            created_by: created_by.into(),
            author: None,
            op: Op::Config,
        }
    }

    #[test]
    fn history_and_layers_grow_together() {
        let mut state = State::scratch(Platform::host());
        state.push(&step("ENV a=b"), None);
        let layer = Layer::uncompressed(DiffId(Digest::of(b"x")), 1);
        let date = "2026-01-01T00:00:00Z".to_owned();
        state.push(&step("RUN x"), Some((layer.clone(), date.clone())));
        state.push(&step("CMD y"), None);
        state.finish(&[("k".into(), "v".into())], None);
        let config = &state.config;
        assert_eq!(state.layers, [layer]);
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        let empty: Vec<bool> = config.history.iter().map(|h| h.empty_layer).collect();
        assert_eq!(empty, [true, false, true]);
        assert!(
            config
                .history
                .iter()
                .all(|h| h.created.as_deref() == Some(&date))
        );
        assert_eq!(config.config.labels["k"], "v");
    }

    #[test]
    fn nothing_is_younger_than_a_fixed_date() {
        let mut state = State::scratch(Platform::host());
        for date in ["2020-01-01T00:00:00.5Z", "2025-01-01T00:00:00+02:00", "?"] {
            let layer = Layer::uncompressed(DiffId(Digest::of(b"x")), 1);
            state.push(&step("RUN x"), Some((layer, date.into())));
        }
        state.config.history[0].created = None;
        state.push(&step("CMD y"), None);
        state.config.history[1].created = Some("2020-01-01T00:00:00.5Z".into());
        state.finish(&[], Some("2024-01-01T00:00:00Z"));
        let dates = state.config.history.iter().map(|h| h.created.as_deref());
        let fixed = Some("2024-01-01T00:00:00Z");
        let kept = Some("2020-01-01T00:00:00.5Z");
        assert_eq!(dates.collect::<Vec<_>>(), [fixed, kept, fixed, fixed]);
        assert_eq!(state.config.created.as_deref(), fixed);
    }
}
