//! One package, as its list tells it.

use serde::{Deserialize, Serialize};

use super::super::purl;

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its package URL.
    pub purl: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The list that names it.
    pub found: String,
    /// The licence that is declared there, verbatim.
    pub license: Option<String>,
}

impl Package {
    /// Makes one of a language's packages; `name` may have a namespace before its last slash.
    pub(super) fn of(kind: &str, name: &str, version: &str) -> Self {
        let (namespace, last) = name.rsplit_once('/').unwrap_or(("", name));
        Self {
            purl: purl::make(kind, namespace, last, version, &[]),
            name: name.to_owned(),
            version: version.to_owned(),
            found: String::new(),
            license: None,
        }
    }

    /// Adds a licence; an empty one is none.
    pub(super) fn licensed(mut self, license: Option<&str>) -> Self {
        self.license = license
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(str::to_owned);
        self
    }
}
