//! Who owns what: the identities of a sandbox and their id maps.
//!
//! Responsible for the arithmetic between ids in a container and ids as the executor's user
//! namespace sees them; [`detect()`] chooses an identity and the spawner enters it. Must not know
//! what a container runs. Invariant: a map translates an id to at most one id, in both
//! directions, or says that it cannot.

pub(crate) mod detect;
pub(crate) mod enter;
pub mod owners;
pub mod ownership;
pub mod record;
pub mod specials;
mod subids;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use detect::{detect, detect_with};
pub use owners::Owners;
pub use ownership::Ownership;
pub use record::{Device, Owner, Record};
pub use specials::{Full, Inode, Specials};
pub use subids::Range;
pub(crate) use subids::render;

/// Which identity the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The best that is there: subordinate ids, else emulated ones. Never the host's.
    #[default]
    Auto,
    /// Subordinate ids, or an error.
    Subids,
    /// The caller's one id, and all others emulated.
    Emulated,
    /// The host's ids, without a user namespace; for root only.
    Host,
}

/// What to enter, decided by [`detect()`] in the main process and done by the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterPlan {
    /// The identity.
    pub identity: Identity,
    /// The ids of containers.
    pub ids: IdMap,
    /// The user ids of the executor's user namespace; empty for [`Identity::Host`].
    pub uid_map: Vec<Extent>,
    /// The group ids of the executor's user namespace; empty for [`Identity::Host`].
    pub gid_map: Vec<Extent>,
    /// Who writes the maps.
    pub writer: MapWriter,
    /// One line: why this identity.
    pub reason: String,
    /// What to change on the machine for a better one; often empty. With [`Identity::Emulated`]
    /// nothing has to be changed, and this is what would be quicker.
    pub advice: Vec<String>,
}

/// Who writes the id maps of the executor's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapWriter {
    /// Nobody: there is no user namespace.
    None,
    /// The process itself, for its one id, with setgroups(2) given up.
    Own,
    /// A process that stays in the parent namespace and may set ids there.
    Parent,
    /// The set-user-id programs newuidmap(1) and newgidmap(1).
    Programs {
        /// Absolute path of newuidmap.
        newuidmap: PathBuf,
        /// Absolute path of newgidmap.
        newgidmap: PathBuf,
    },
}

/// One line of an id map, user_namespaces(7): `inside..inside+count` are `outside…` in the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// How ids of a container become ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A user namespace with a range of real ids; container root is the range's first id, never
    /// the caller.
    Subids,
    /// A user namespace with one id, the caller's, which is container root. Every other id exists
    /// in records of who owns what ([`record`]), and in what a supervisor answers to the
    /// container's system calls.
    Emulated,
    /// No user namespace: the caller is root and container ids are the host's.
    Host,
}

impl Identity {
    /// Returns the name used on the command line and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subids => "subids",
            Self::Emulated => "emulated",
            Self::Host => "host",
        }
    }
}

/// The ids of a container as the executor sees them: container id `n` is `first + n`, for
/// `n < count`.
///
/// With [`Identity::Subids`] the executor's user namespace maps its own 0 to the caller and
/// 1… to the range, so `first` is 1. With the others it is 0. With [`Identity::Emulated`] these are
/// the ids that records may have: on disk all files belong to the executor's 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// What container id 0 is to the executor.
    pub first: u32,
    /// How many ids the container has.
    pub count: u32,
}

impl IdMap {
    /// Translates a container's id to the executor's; `None` when the container has no such id.
    pub fn to_executor(self, id: u32) -> Option<u32> {
        self.first.checked_add(id).filter(|_| id < self.count)
    }

    /// Translates the executor's id to the container's; `None` when it is not one of them.
    pub fn to_container(self, id: u32) -> Option<u32> {
        id.checked_sub(self.first).filter(|n| *n < self.count)
    }
}

/// Renders the maps of a container's user namespace, nested in the calling process's own.
pub(crate) fn nested_maps(ids: IdMap) -> crate::Result<(String, String)> {
    use crate::error::ResultExt;
    let map = |path: &str| {
        let text = std::fs::read_to_string(path).op_path("read id map", path)?;
        let outer = subids::parse_map(&text);
        crate::Result::Ok(subids::render(&subids::nest(&outer, ids.first, ids.count)))
    };
    Ok((map("/proc/self/uid_map")?, map("/proc/self/gid_map")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_both_ways() {
        let map = IdMap {
            first: 1,
            count: 65_536,
        };
        assert_eq!(map.to_executor(0), Some(1));
        assert_eq!(map.to_executor(65_535), Some(65_536));
        assert_eq!(map.to_executor(65_536), None);
        assert_eq!(map.to_container(0), None);
        assert_eq!(map.to_container(1), Some(0));
    }
}
