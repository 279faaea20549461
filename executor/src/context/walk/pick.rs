//! Which parts of what a source names are copied: `--exclude` and `--parents`.
//!
//! Responsible for deciding about paths below a source by name. Must not read anything.
//! Invariant: decisions go from the source downwards, one [`Verdict`] per directory, and a
//! directory that is left out is entered only where something below it may be taken.
//!
//! Patterns are those of ignore files, relative to the source. A file that is a source by itself is
//! left out when `--exclude` matches its name: so the reference manual promises, though BuildKit
//! copies it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::ignore::{Matcher, State};
use crate::context::pattern::{Pattern, has_wildcard};
use crate::error::{Error, Result};

/// What a COPY takes, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    /// Source patterns, in order.
    pub sources: Vec<String>,
    /// `--exclude`: patterns of what is left out.
    pub exclude: Vec<String>,
    /// `--parents`: directories of a source's path are kept.
    pub parents: bool,
}

impl Pick {
    /// Takes whole sources.
    pub fn plain(sources: Vec<String>) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    /// Returns the rules of `--exclude`; `None` without any.
    pub(super) fn excluded(&self) -> Result<Option<Arc<Matcher>>> {
        if self.exclude.is_empty() {
            return Ok(None);
        }
        Matcher::patterns("`--exclude`", &self.exclude).map(|m| Some(Arc::new(m)))
    }
}

/// What of a match is taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) exclude: Option<Arc<Matcher>>,
    pub(super) include: Option<Arc<Include>>,
}

/// What `--parents` takes of a source: what its path below the pivot names.
#[derive(Debug)]
pub(super) struct Include {
    pattern: Pattern,
    /// The part of the pattern before the first wildcard.
    fixed: PathBuf,
}

/// What a filter says of one path, and what its children need to know.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    taken: bool,
    exclude: Option<State>,
}

impl Include {
    /// Takes a clean, relative path, which may have wildcards.
    pub(super) fn new(path: &Path, source: &str) -> Result<Self> {
        let text = path.as_os_str().as_bytes();
        let pattern = if has_wildcard(text) {
            Pattern::recursive(text)
        } else {
            // As in other sources, nothing is escaped where nothing needs to be.
            let escape = |b: &u8| {
                if *b == b'\\' {
                    vec![b'\\'; 2]
                } else {
                    vec![*b]
                }
            };
            Pattern::recursive(&text.iter().flat_map(escape).collect::<Vec<u8>>())
        };
        let pattern =
            pattern.map_err(|e| Error::new(format!("invalid source pattern `{source}`: {e}")))?;
        let fixed = path.iter().take_while(|p| !has_wildcard(p.as_bytes()));
        Ok(Self {
            pattern,
            fixed: fixed.collect(),
        })
    }
}

impl Filter {
    /// Returns the verdict on the source itself.
    pub(super) fn root(&self) -> Verdict {
        Verdict {
            taken: self.include.is_none(),
            exclude: self.exclude.as_ref().map(|m| m.root()),
        }
    }

    /// Decides about `below`, relative to the source, from its parent directory's verdict.
    pub(super) fn enter(&self, parent: &Verdict, below: &Path) -> Verdict {
        let matches = |include: &Arc<Include>| include.pattern.matches(bytes(below));
        Verdict {
            taken: parent.taken || self.include.as_ref().is_some_and(matches),
            exclude: match (&self.exclude, &parent.exclude) {
                (Some(rules), Some(state)) => Some(rules.enter(state, below)),
                _ => None,
            },
        }
    }

    /// Tells whether a directory that is left out may have something below it that is not.
    pub(super) fn may_take_below(&self, verdict: &Verdict, below: &Path) -> bool {
        let included = verdict.taken
            || self.include.as_ref().is_some_and(|include| {
                below.starts_with(&include.fixed) || include.fixed.starts_with(below)
            });
        included
            && (!verdict.is_excluded()
                || self
                    .exclude
                    .as_ref()
                    .is_some_and(|m| m.may_include_below(below)))
    }

    /// Tells whether a source that is a file is left out.
    pub(super) fn drops_file(&self, name: &Path) -> bool {
        self.exclude
            .as_ref()
            .is_some_and(|m| m.decide(name).is_excluded())
    }
}

impl Verdict {
    fn is_excluded(&self) -> bool {
        self.exclude.as_ref().is_some_and(State::is_excluded)
    }

    /// Tells whether the path is left out.
    pub(super) fn is_out(&self) -> bool {
        !self.taken || self.is_excluded()
    }
}

/// Splits a source of `--parents` at its pivot: the directory before the first `/./`, and the path
/// that is kept. The reference's frontend refuses an empty one; here it takes everything.
pub(super) fn at_pivot(source: &str) -> (&str, &str) {
    match source.split_once("/./") {
        // The root is before the pivot.
        Some(("", kept)) => ("/", kept),
        Some(found) => found,
        None => ("/", source),
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pivots() {
        for (source, expected) in [
            ("a/b", ("/", "a/b")),
            ("./a/b", ("/", "./a/b")),
            ("a/./b/c", ("a", "b/c")),
            ("/./b", ("/", "b")),
            ("./x/./", ("./x", "")),
            ("./", ("/", "./")),
            ("a/./b/./c", ("a", "b/./c")),
        ] {
            assert_eq!(at_pivot(source), expected, "{source}");
        }
    }

    #[test]
    fn directories_are_entered_where_something_may_be_taken() {
        let filter = |pattern: &str, exclude: &[&str]| Filter {
            include: Some(Arc::new(
                Include::new(Path::new(pattern), pattern).expect(pattern),
            )),
            exclude: Pick {
                exclude: exclude.iter().map(|e| (*e).to_owned()).collect(),
                ..Pick::default()
            }
            .excluded()
            .expect("valid"),
        };
        for (pattern, exclude, path, out, below) in [
            ("a/b", &[][..], "a", true, true),
            ("a/b", &[], "a/b", false, true),
            ("a/b", &[], "a/b/c", false, true),
            ("a/b", &[], "a/c", true, false),
            ("a/*/c", &[], "a/x", true, true),
            ("a/*/c", &[], "a/x/c", false, true),
            ("**/c", &[], "x/y", true, true),
            ("**/c", &[], "c", false, true),
            ("a/**", &[], "a", true, true),
            ("a/**", &[], "a/x", false, true),
            ("a", &["a/x"], "a/x", true, false),
            ("a", &["a/*", "!a/x/y"], "a/x", true, true),
        ] {
            let filter = filter(pattern, exclude);
            let mut verdict = filter.root();
            let mut at = PathBuf::new();
            for part in Path::new(path) {
                at.push(part);
                verdict = filter.enter(&verdict, &at);
            }
            assert_eq!(verdict.is_out(), out, "{pattern} {exclude:?} {path}");
            let may = filter.may_take_below(&verdict, &at);
            assert_eq!(may, below, "{pattern} {exclude:?} below {path}");
        }
    }
}
