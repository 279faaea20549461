//! Named contexts: what `--build-context` puts in the place of stages and images.
//!
//! Responsible for which names have one, and for stages that one replaces. Must not open any.
//! Invariant: a name is normalized as an image's is, so that `alpine` and
//! `docker.io/library/alpine:latest` are one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::step::{Base, CopyFrom, StageIndex};
use crate::context::location::Location;
use crate::dockerfile::ast::Dockerfile;
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// What is between a name and the platform that it is for.
pub const FOR: &str = "::";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files.
    Files(Location),
    /// An image from a registry or from the store.
    Image(Reference),
    /// An image in an OCI layout.
    Layout(Layout),
}

/// An image in a directory that is an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The directory.
    pub path: PathBuf,
    /// Which of its images, by its name there; `latest`, or the only one, without.
    pub tag: Option<String>,
    /// The digest of the image's manifest, or of its index.
    pub digest: Option<Digest>,
}

/// Normalizes a name: as an image's when it is like one, without `:latest`. Those of stages are.
pub fn normalize(name: &str) -> Option<String> {
    let familiar = name.parse::<Reference>().ok()?.familiar();
    Some(match familiar.strip_suffix(":latest") {
        Some(short) => short.to_owned(),
        None => familiar,
    })
}

/// Which names mean contexts, stage by stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contexts {
    given: BTreeMap<String, NamedContext>,
    /// The platform of each stage.
    platforms: Vec<Platform>,
}

impl Contexts {
    /// Takes the contexts by normalized name, and each stage's platform.
    pub(super) fn new(given: BTreeMap<String, NamedContext>, platforms: Vec<Platform>) -> Self {
        Self { given, platforms }
    }

    /// Finds what a name stands for in a stage: a context for its platform, else one for all. With
    /// it comes the name under which it is known.
    fn find(&self, index: StageIndex, name: &str) -> Option<(&String, &NamedContext)> {
        if self.given.is_empty() {
            return None;
        }
        let name = normalize(name)?;
        let own = self.platforms.get(index).and_then(|platform| {
            let key = format!("{name}{FOR}{platform}");
            self.given.get_key_value(&key)
        });
        own.or_else(|| self.given.get_key_value(&name))
    }

    /// Returns what FROM means by a name, if it is a context's.
    pub(super) fn base(&self, index: StageIndex, name: &str) -> Option<Base> {
        self.find(index, name).map(|(key, context)| match context {
            NamedContext::Image(reference) => Base::Image(reference.clone()),
            NamedContext::Files(_) | NamedContext::Layout(_) => Base::Named(key.clone()),
        })
    }

    /// Returns what `--from` means by a name, if it is a context's.
    pub(super) fn source(&self, index: StageIndex, name: &str) -> Option<CopyFrom> {
        self.find(index, name).map(|(key, context)| match context {
            NamedContext::Image(reference) => CopyFrom::Image(reference.clone()),
            NamedContext::Files(_) | NamedContext::Layout(_) => CopyFrom::Named(key.clone()),
        })
    }

    /// Takes away the instructions of stages that contexts replace.
    pub(super) fn replace(&self, file: &mut Dockerfile) {
        for (index, stage) in file.stages.iter_mut().enumerate() {
            if let Some(name) = &stage.name
                && self.find(index, name).is_some()
            {
                stage.instructions = Arc::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_images() {
        for (name, wanted) in [
            ("alpine", Some("alpine")),
            ("alpine:latest", Some("alpine")),
            ("docker.io/library/alpine:latest", Some("alpine")),
            ("alpine:3.20", Some("alpine:3.20")),
            ("quay.io/a/b", Some("quay.io/a/b")),
            ("Upper", None),
            ("", None),
        ] {
            assert_eq!(normalize(name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_platforms_own_context_comes_first() {
        let image = |name: &str| NamedContext::Image(name.parse().expect("reference"));
        let platform = |text: &str| text.parse::<Platform>().expect("platform");
        let contexts = Contexts::new(
            BTreeMap::from([
                ("base::linux/arm64".to_owned(), image("arm")),
                ("base".to_owned(), image("any")),
                ("only::linux/arm64".to_owned(), image("only")),
            ]),
            vec![platform("linux/amd64"), platform("linux/arm64")],
        );
        let found = |index, name| contexts.source(index, name);
        let wanted = |name: &str| Some(CopyFrom::Image(name.parse().expect("reference")));
        assert_eq!(found(0, "base"), wanted("any"));
        assert_eq!(found(1, "base:latest"), wanted("arm"));
        assert_eq!(found(0, "only"), None);
        assert_eq!(found(1, "only"), wanted("only"));
    }
}
