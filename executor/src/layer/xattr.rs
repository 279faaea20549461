//! Which extended attributes a layer carries, and how file capabilities are written in it.
//!
//! Responsible for the policy on names and for `security.capability` in its two forms: in a
//! layer, revision 2 for container root; on disk under a user namespace, revision 3 with the id
//! that container root has there (capabilities(7), "File capability extended attribute
//! versioning"). Must not touch files. Invariant: overlayfs's own attributes and owner records never
//! pass, in either direction.

use runtime::identity::IdMap;
use runtime::identity::record::ATTRIBUTE;

/// The attribute that holds a file's capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// How an attribute is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// File capabilities: translated, and must not be lost.
    Capability,
    /// Free for everyone: kept.
    User,
    /// Our own record of an owner, which is an owner in a layer.
    Record,
    /// Book-keeping of overlayfs, which would change what a directory shows.
    Overlay,
    /// Of the host's policy or file system (`security.selinux`, `system.posix_acl_access`,
    /// `trusted.…`): means nothing, or something else, elsewhere. Not carried.
    Foreign,
}

/// Tells how an attribute is treated, by its name.
pub(super) fn classify(name: &[u8]) -> Class {
    if name == CAPABILITY {
        Class::Capability
    } else if name == ATTRIBUTE.as_bytes() {
        Class::Record
    } else if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.") {
        Class::Overlay
    } else if name.starts_with(b"user.") && name.len() > 5 {
        Class::User
    } else {
        Class::Foreign
    }
}

// struct vfs_cap_data, linux/capability.h: a little-endian word of revision and flags, pairs of
// permitted and inheritable words (one in revision 1, two since), and in revision 3 the id of the
// namespace's root.
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const SETS: usize = 16;

/// Capabilities taken apart: flags, sets, and the root id that they hold for.
struct Capability {
    flags: u32,
    sets: [u8; SETS],
    root: u32,
}

impl Capability {
    fn parse(value: &[u8]) -> Option<Self> {
        let (magic, rest) = value.split_first_chunk::<4>()?;
        let magic = u32::from_le_bytes(*magic);
        let mut sets = [0; SETS];
        let root = match (magic & REVISION_MASK, rest.len()) {
            (REVISION_1, 8) | (REVISION_2, SETS) => 0,
            (REVISION_3, 20) => u32::from_le_bytes(*rest.last_chunk::<4>()?),
            _ => return None,
        };
        let len = rest.len().min(SETS);
        sets[..len].copy_from_slice(&rest[..len]);
        Some(Self {
            flags: magic & !REVISION_MASK,
            sets,
            root,
        })
    }

    fn build(&self, root: u32) -> Vec<u8> {
        let revision = if root == 0 { REVISION_2 } else { REVISION_3 };
        let mut value = (revision | self.flags).to_le_bytes().to_vec();
        value.extend_from_slice(&self.sets);
        if root != 0 {
            value.extend_from_slice(&root.to_le_bytes());
        }
        value
    }
}

/// Translates file capabilities from a layer for writing: revision 3 unless container root is the
/// executor's own root. `None` when malformed or meant for an id that the container has not.
pub(super) fn capability_to_disk(value: &[u8], ids: IdMap) -> Option<Vec<u8>> {
    let capability = Capability::parse(value)?;
    Some(capability.build(ids.to_executor(capability.root)?))
}

/// Translates file capabilities as the kernel shows them to the executor for a layer: revision 2
/// when they hold for container root. `None` when malformed or held by an id outside of the
/// container.
pub(super) fn capability_to_layer(value: &[u8], ids: IdMap) -> Option<Vec<u8>> {
    let capability = Capability::parse(value)?;
    // The kernel shows revision 2 for its own root and for the namespace's: no id to translate.
    let root = match capability.root {
        0 => 0,
        id => ids.to_container(id)?,
    };
    Some(capability.build(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBIDS: IdMap = IdMap {
        first: 1,
        count: 65_536,
    };
    const ONE: IdMap = IdMap { first: 0, count: 1 };

    /// `cap_net_raw=ep` as setcap(8) writes it.
    const NET_RAW: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    fn for_root(id: u8) -> Vec<u8> {
        let mut value = NET_RAW.to_vec();
        value[3] = 3;
        value.extend_from_slice(&[id, 0, 0, 0]);
        value
    }

    #[test]
    fn capabilities_follow_container_root() {
        let disk = capability_to_disk(NET_RAW, SUBIDS).expect("valid");
        assert_eq!(disk, for_root(1));
        assert_eq!(capability_to_layer(&disk, SUBIDS).as_deref(), Some(NET_RAW));
        assert_eq!(capability_to_disk(NET_RAW, ONE).as_deref(), Some(NET_RAW));
        assert_eq!(
            capability_to_layer(NET_RAW, SUBIDS).as_deref(),
            Some(NET_RAW)
        );
    }

    #[test]
    fn other_roots_are_translated_or_refused() {
        assert_eq!(capability_to_disk(&for_root(7), SUBIDS), Some(for_root(8)));
        assert_eq!(capability_to_layer(&for_root(8), SUBIDS), Some(for_root(7)));
        assert_eq!(capability_to_disk(&for_root(7), ONE), None);
        assert_eq!(capability_to_layer(&for_root(7), ONE), None);
    }

    #[test]
    fn revision_1_is_widened() {
        let old = b"\x01\0\0\x01\0\x20\0\0\0\0\0\0";
        assert_eq!(capability_to_disk(old, ONE).as_deref(), Some(NET_RAW));
    }

    #[test]
    fn malformed_values_are_refused() {
        for value in [
            &b""[..],
            b"\x01\0\0\x02",
            &NET_RAW[..19],
            &for_root(1)[..20],
        ] {
            assert_eq!(capability_to_disk(value, ONE), None, "{value:?}");
        }
    }

    #[test]
    fn names() {
        for (name, class) in [
            (&b"security.capability"[..], Class::Capability),
            (b"user.mime", Class::User),
            (b"user.", Class::Foreign),
            (b"user.rootlesscontainers", Class::Record),
            (b"user.overlay.opaque", Class::Overlay),
            (b"trusted.overlay.redirect", Class::Overlay),
            (b"trusted.md5", Class::Foreign),
            (b"security.selinux", Class::Foreign),
            (b"system.posix_acl_access", Class::Foreign),
        ] {
            assert_eq!(classify(name), class);
        }
    }
}
