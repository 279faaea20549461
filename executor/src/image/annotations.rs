//! Annotations of a result: what they say, on which document, for which platforms.
//!
//! Responsible for the two spellings (a key of `-o`, as BuildKit has it, and `--annotation`, as
//! buildx has it) and for telling what a document gets. Must not write documents. Invariant: an
//! annotation of an index is for no single platform.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::image::platform::Platform;

/// The document that an annotation is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// An image's manifest.
    Manifest,
    /// What points to the manifest: in an index, or in a layout.
    ManifestDescriptor,
    /// The index of several manifests.
    Index,
    /// What points to the index: in a layout.
    IndexDescriptor,
}

const NAMES: [(&str, Level); 4] = [
    ("manifest", Level::Manifest),
    ("manifest-descriptor", Level::ManifestDescriptor),
    ("index", Level::Index),
    ("index-descriptor", Level::IndexDescriptor),
];

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it is.
    pub level: Level,
    /// The platform whose document has it; `None` for all.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// All annotations of a result; of equal ones the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

fn usage(text: String) -> Error {
    Error::new(text).kind(Kind::Usage)
}

impl Annotation {
    /// Reads a key of `-o`: `annotation.KEY`, `annotation-LEVEL.KEY`, `annotation-LEVEL[PLATFORM].KEY`.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is not understood.
    pub fn of_output(key: &str, value: &str) -> Result<Self> {
        let malformed = || {
            usage(format!("malformed annotation `{key}`"))
                .hint("it is written annotation-manifest.KEY=VALUE or annotation-index.KEY=VALUE")
        };
        let place = key.strip_prefix("annotation").ok_or_else(malformed)?;
        let end = match place.find('[') {
            // A platform can have dots.
            Some(open) if !place[..open].contains('.') => {
                let close = place.find(']').ok_or_else(malformed)?;
                place[close..].find('.').map(|dot| close + dot)
            }
            _ => place.find('.'),
        };
        let (place, name) = place.split_at(end.ok_or_else(malformed)?);
        let (level, platform) = scope(place.strip_prefix('-').unwrap_or(place), key)?;
        Self::new(level, platform, &name[1..], value, key)
    }

    fn new(
        level: Level,
        platform: Option<Platform>,
        key: &str,
        value: &str,
        given: &str,
    ) -> Result<Self> {
        if key.is_empty() {
            return Err(usage(format!("annotation without a key: `{given}`")));
        }
        if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
            return Err(usage(format!(
                "an index is of all platforms, so its annotations are of none: `{given}`"
            )));
        }
        Ok(Self {
            level,
            platform,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Reads `LEVEL` or `LEVEL[PLATFORM]`; an empty level is the manifest.
fn scope(text: &str, given: &str) -> Result<(Level, Option<Platform>)> {
    let (name, platform) = match text.split_once('[') {
        None => (text, None),
        Some((name, platform)) => {
            let platform = platform.strip_suffix(']').ok_or_else(|| {
                usage(format!(
                    "a platform's bracket is not closed in annotation `{given}`"
                ))
            })?;
            let platform = platform
                .parse::<Platform>()
                .map_err(|e| e.kind(Kind::Usage))?;
            (name, Some(platform))
        }
    };
    if name.is_empty() {
        return Ok((Level::Manifest, platform));
    }
    let found = NAMES.iter().find(|(known, _)| *known == name);
    let (_, level) = found.ok_or_else(|| {
        usage(format!("unknown annotation type `{name}` in `{given}`"))
            .hint("types are manifest, index, manifest-descriptor and index-descriptor")
    })?;
    Ok((*level, platform))
}

impl Annotations {
    /// Reads a value of `--annotation`: `[TYPE[PLATFORM],…:]KEY=VALUE`.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is not understood.
    pub fn of_flag(text: &str) -> Result<Self> {
        let (place, value) = text.split_once('=').ok_or_else(|| {
            usage(format!("invalid annotation `{text}`"))
                .hint("annotations are written KEY=VALUE or TYPE:KEY=VALUE")
        })?;
        let (scopes, key) = place.split_once(':').unwrap_or(("", place));
        scopes
            .split(',')
            .map(|one| {
                let (level, platform) = scope(one.trim(), text)?;
                Annotation::new(level, platform, key.trim(), value, text)
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Adds one.
    pub fn push(&mut self, annotation: Annotation) {
        self.0.push(annotation);
    }

    /// Puts `earlier` ones before these, which win.
    pub fn after(&self, earlier: &Self) -> Self {
        Self(earlier.0.iter().chain(&self.0).cloned().collect())
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes through them in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.0.iter()
    }

    /// Returns what a document of an image for `platform` gets.
    pub fn on(&self, level: Level, platform: &Platform) -> BTreeMap<String, String> {
        self.select(level, |wanted| {
            wanted.is_none_or(|wanted| wanted.accepts(platform))
        })
    }

    /// Returns what the index, or what points to it, gets.
    pub fn on_index(&self, level: Level) -> BTreeMap<String, String> {
        self.select(level, |platform| platform.is_none())
    }

    fn select(
        &self,
        level: Level,
        fits: impl Fn(Option<&Platform>) -> bool,
    ) -> BTreeMap<String, String> {
        let fitting = self
            .0
            .iter()
            .filter(|a| a.level == level && fits(a.platform.as_ref()));
        fitting.map(|a| (a.key.clone(), a.value.clone())).collect()
    }
}

impl FromIterator<Annotation> for Annotations {
    fn from_iter<T: IntoIterator<Item = Annotation>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(annotations: &Annotations, level: Level, platform: &str) -> Vec<(String, String)> {
        let platform = platform.parse().expect("platform");
        annotations.on(level, &platform).into_iter().collect()
    }

    #[test]
    fn both_spellings_mean_the_same() {
        for (key, flag, level, platform) in [
            ("annotation.a.b", "a.b=V", Level::Manifest, None),
            (
                "annotation-manifest.a.b",
                "manifest:a.b=V",
                Level::Manifest,
                None,
            ),
            ("annotation-index.a.b", "index:a.b=V", Level::Index, None),
            (
                "annotation-index-descriptor.a.b",
                "index-descriptor:a.b=V",
                Level::IndexDescriptor,
                None,
            ),
            (
                "annotation-manifest-descriptor[linux/arm64].a.b",
                "manifest-descriptor[linux/arm64]:a.b=V",
                Level::ManifestDescriptor,
                Some("linux/arm64"),
            ),
            (
                "annotation[linux/amd64].a.b",
                "[linux/amd64]:a.b=V",
                Level::Manifest,
                Some("linux/amd64"),
            ),
        ] {
            let one = Annotation::of_output(key, "V").expect(key);
            assert_eq!(
                Annotations::of_flag(flag).expect(flag),
                Annotations(vec![one.clone()])
            );
            let platform = platform.map(|p| p.parse().expect("platform"));
            assert_eq!((one.level, one.platform), (level, platform));
            assert_eq!((one.key.as_str(), one.value.as_str()), ("a.b", "V"));
        }
        let two = Annotations::of_flag("manifest,index:k=a=b").expect("two");
        assert_eq!(
            two.on_index(Level::Index),
            BTreeMap::from([("k".into(), "a=b".into())])
        );
        assert_eq!(two.iter().count(), 2);
    }

    #[test]
    fn a_platforms_documents_get_its_own_and_what_is_for_all() {
        let mut all = Annotations::of_flag("a=1").expect("all");
        all.push(Annotation::of_output("annotation[linux/arm64].a", "2").expect("one"));
        let pair = |value: &str| vec![("a".to_owned(), value.to_owned())];
        assert_eq!(pairs(&all, Level::Manifest, "linux/amd64"), pair("1"));
        assert_eq!(pairs(&all, Level::Manifest, "linux/arm64/v8"), pair("2"));
        assert_eq!(pairs(&all, Level::Index, "linux/amd64"), []);
        let over = Annotations::of_flag("a=3").expect("over").after(&all);
        assert_eq!(pairs(&over, Level::Manifest, "linux/arm64"), pair("3"));
    }

    #[test]
    fn mistakes_are_named() {
        for (key, wanted) in [
            ("annotation", "malformed"),
            ("annotation-x.a", "`x`"),
            ("annotation-index[linux/amd64].a", "index is of all"),
            ("annotation[linux/amd64.a", "malformed"),
            ("annotation[/].a", "invalid platform"),
            ("annotation.", "without a key"),
        ] {
            let error = Annotation::of_output(key, "").expect_err(key);
            assert!(error.to_string().contains(wanted), "{key}: {error}");
            assert_eq!(error.get_kind(), Kind::Usage);
        }
        for flag in ["a", "=b", "manifest:=b", "nonsense:a=b", "index[linux:a=b"] {
            assert!(Annotations::of_flag(flag).is_err(), "{flag}");
        }
    }
}
