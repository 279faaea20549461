//! Who owns what: the identities of a sandbox and their id maps.
//!
//! Responsible for the arithmetic between ids in a container and ids as the executor's user
//! namespace sees them. Must not enter namespaces or read files. Invariant: a map translates an
//! id to at most one id, in both directions, or says that it cannot.

use serde::{Deserialize, Serialize};

/// How ids of a container become ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A user namespace with a range of real ids; container root is the range's first id, never
    /// the caller.
    Subids,
    /// A user namespace with one id: container root is the caller, and no other id exists.
    Single,
    /// No user namespace: the caller is root and container ids are the host's.
    Host,
}

impl Identity {
    /// Returns the name used on the command line and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subids => "subids",
            Self::Single => "single",
            Self::Host => "host",
        }
    }
}

/// The ids of a container as the executor sees them: container id `n` is `first + n`, for
/// `n < count`.
///
/// With [`Identity::Subids`] the executor's user namespace maps its own 0 to the caller and
/// 1… to the range, so `first` is 1. With the others it is 0.
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
        (id < self.count).then(|| self.first + id)
    }

    /// Translates the executor's id to the container's; `None` when it is not one of them.
    pub fn to_container(self, id: u32) -> Option<u32> {
        id.checked_sub(self.first).filter(|n| *n < self.count)
    }
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
