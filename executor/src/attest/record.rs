//! What a build did, as far as attestations tell it.
//!
//! Pure data between the build, which makes it, and [`super::provenance`]. Must not hold values of
//! secrets. Invariant: what was taken from the cache is recorded like what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::purl;
use crate::context::{Origin, Version};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::plan::step::{Op, StageIndex};

/// Something that a build took from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Its address, or an image's package URL.
    pub uri: String,
    /// The algorithm of its digest, as in-toto names it.
    pub algorithm: &'static str,
    /// Its digest in hexadecimal digits.
    pub digest: String,
}

impl Material {
    /// Makes that of an image for a platform, with its manifest's digest.
    pub fn image(reference: &Reference, platform: &Platform, digest: &Digest) -> Self {
        Self::sha256(purl::image(reference, platform), digest)
    }

    /// Makes that of an image of a layout.
    pub fn layout(name: &str, platform: &Platform, digest: &Digest) -> Self {
        Self::sha256(purl::layout(name, digest, platform), digest)
    }

    fn sha256(uri: String, digest: &Digest) -> Self {
        Self {
            uri,
            algorithm: "sha256",
            digest: digest.hex(),
        }
    }
}

impl From<&Origin> for Material {
    fn from(origin: &Origin) -> Self {
        match &origin.version {
            Version::Content(digest) => Self::sha256(origin.address.clone(), digest),
            Version::Commit(commit) => Self {
                uri: origin.address.clone(),
                // Commits have one of two lengths (gitformat-hash-function-transition(5)).
                algorithm: if commit.len() == 64 { "sha256" } else { "sha1" },
                digest: commit.clone(),
            },
        }
    }
}

/// What a stage started from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    #[default]
    Scratch,
    /// Another stage.
    Stage(StageIndex),
    /// An image: its name, and its manifest's digest.
    Image(String, Digest),
}

/// A step of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number in the stage.
    pub number: usize,
    /// Its key.
    pub key: Digest,
    /// Where its instruction is in the Dockerfile.
    pub span: Range<usize>,
    /// What it does.
    pub op: Op,
    /// Whether it had a network.
    pub online: bool,
    /// The layers of the stage after it, bottom first.
    pub layers: Vec<Descriptor>,
}

/// A stage that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The platform that it is for.
    pub platform: Platform,
    /// What it started from.
    pub start: Start,
    /// The layers of that.
    pub layers: Vec<Descriptor>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// What a build for one platform did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What was taken from elsewhere.
    pub materials: BTreeSet<Material>,
    /// Names and digests of images that steps copied from or mounted, by name.
    pub images: BTreeMap<String, Digest>,
    /// The stages that were built.
    pub stages: BTreeMap<StageIndex, Stage>,
}

impl Record {
    /// Returns all steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.values().flat_map(|stage| &stage.steps)
    }
}
