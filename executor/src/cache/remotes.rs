//! Where layers are that the store knows and does not have.
//!
//! Responsible for remembering from which repositories and layouts a blob can be fetched. Must not
//! fetch. Invariant: a record is a hint: what it leads to is verified by digest before it counts, and
//! may have vanished.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::Shelf;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;
use crate::store::record;

const KIND: &str = "sandcrab-remote-1";

/// How many places are remembered for one blob.
const PLACES: usize = 4;

/// The records of blobs that are elsewhere.
#[derive(Debug, Clone)]
pub struct Remotes {
    shelf: Shelf,
}

/// A blob that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its size in bytes, as whoever named it says.
    pub size: u64,
    /// Where it is, the latest known first.
    pub places: Vec<Place>,
}

/// Where a blob is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a repository: `registry/name`.
    Repository(String),
    /// In an OCI layout's directory, by absolute path.
    Layout(PathBuf),
}

/// A record with the file that holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The file.
    pub(crate) path: PathBuf,
    /// The blob; `None` for a foreign file.
    pub(crate) digest: Option<Digest>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

impl Place {
    /// Names the repository of a reference.
    pub fn of(reference: &Reference) -> Self {
        Self::Repository(reference.name())
    }

    /// Returns the repository, when it is one.
    pub fn repository(&self) -> Option<Reference> {
        match self {
            Self::Repository(name) => {
                let reference: Reference = name.parse().ok()?;
                // A name without a tag is read as one with the usual tag.
                Some(Reference {
                    tag: None,
                    digest: None,
                    ..reference
                })
            }
            Self::Layout(_) => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(name) => f.write_str(name),
            Self::Layout(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Remotes {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf }
    }

    /// Finds out where a blob is; `None` when nobody said so, or with another size.
    pub fn get(&self, blob: &Descriptor) -> Option<Remote> {
        let remote: Remote = record::read(&self.shelf.path(&blob.digest.hex()), KIND)?;
        (remote.size == blob.size && !remote.places.is_empty()).then_some(remote)
    }

    /// Returns the repositories that have a blob, as far as it is known.
    pub fn repositories(&self, blob: &Descriptor) -> Vec<Reference> {
        let remote = self.get(blob);
        let places = remote.iter().flat_map(|remote| &remote.places);
        places.filter_map(Place::repository).collect()
    }

    /// Notes that a blob is at this place. Nothing is written when that is known already.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&self, blob: &Descriptor, place: &Place) -> Result<()> {
        let mut remote = self.get(blob).unwrap_or(Remote {
            size: blob.size,
            places: Vec::new(),
        });
        if remote.places.first() == Some(place) {
            return Ok(());
        }
        remote.places.retain(|known| known != place);
        remote.places.insert(0, place.clone());
        remote.places.truncate(PLACES);
        self.shelf.write(&blob.digest.hex(), KIND, &remote)
    }

    /// Lists all records.
    pub(crate) fn list(&self) -> Vec<Stored> {
        let digest = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            format!("sha256:{name}").parse().ok()
        };
        let files = self.shelf.list().into_iter();
        files
            .map(|path| Stored {
                digest: digest(&path),
                bytes: path.symlink_metadata().map_or(0, |m| m.len()),
                path,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::media_type;
    use crate::store::fixture;

    #[test]
    fn the_latest_places_are_remembered() {
        let (_dir, session) = fixture::session();
        let remotes = session.cache().remotes();
        let blob = Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer");
        assert_eq!(remotes.get(&blob), None);
        for n in 0..6 {
            let place = Place::Repository(format!("127.0.0.1:5000/r{n}"));
            remotes.add(&blob, &place).expect("add");
        }
        remotes
            .add(&blob, &Place::Layout("/cache".into()))
            .expect("add");
        let found = remotes.get(&blob).expect("known").places;
        assert_eq!(found.len(), PLACES);
        assert_eq!(found[0], Place::Layout("/cache".into()));
        let repositories = remotes.repositories(&blob);
        assert_eq!(repositories[0].name(), "127.0.0.1:5000/r5");
        assert_eq!(repositories[0].tag, None);
        assert_eq!(remotes.list()[0].digest, Some(blob.digest));
        let other = Descriptor {
            size: 1,
            ..blob.clone()
        };
        assert_eq!(remotes.get(&other), None);
    }
}
