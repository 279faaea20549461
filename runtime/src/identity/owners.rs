//! Owners of the links, fifos, sockets and devices of one tree, by path.
//!
//! Responsible for the table, and for its form in a file beside a layer's tree. Must not open
//! anything. Invariant: a path is relative to the tree, without symbolic links and without `.` or
//! `..`; who is not in the table is root's.

use std::collections::BTreeMap;

use super::record::Owner;

/// The first line of the file; the number changes when the form does.
const HEAD: &[u8] = b"sandcrab owners 1\n";

/// A line after it: there are files that stand for devices.
const DEVICES: &[u8] = b"devices\n";

/// Owners by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    owners: BTreeMap<Vec<u8>, Owner>,
    devices: bool,
}

impl Owners {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to say: all belong to root, and no file stands for a device.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && !self.devices
    }

    /// Whether there are files in the tree that stand for devices.
    pub fn has_devices(&self) -> bool {
        self.devices
    }

    /// Says that there are files in the tree that stand for devices.
    pub fn note_devices(&mut self) {
        self.devices = true;
    }

    /// Returns the owner of what is at `path`.
    pub fn get(&self, path: &[u8]) -> Owner {
        self.owners.get(path).copied().unwrap_or(Owner::ROOT)
    }

    /// Says who owns what is at `path`.
    pub fn set(&mut self, path: Vec<u8>, owner: Owner) {
        if owner == Owner::ROOT {
            self.owners.remove(&path);
        } else {
            self.owners.insert(path, owner);
        }
    }

    /// Returns all that do not belong to root, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Owner)> {
        self.owners
            .iter()
            .map(|(path, owner)| (path.as_slice(), *owner))
    }

    /// Renders the file.
    pub fn render(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        if self.devices {
            out.extend_from_slice(DEVICES);
        }
        for (path, owner) in &self.owners {
            out.extend_from_slice(format!("{} {} ", owner.uid, owner.gid).as_bytes());
            out.extend_from_slice(path);
            out.push(0);
        }
        out
    }

    /// Reads the file; `None` when it is malformed or of another version.
    pub fn parse(file: &[u8]) -> Option<Self> {
        let mut owners = Self::new();
        let mut rest = file.strip_prefix(HEAD)?;
        if let Some(entries) = rest.strip_prefix(DEVICES) {
            owners.note_devices();
            rest = entries;
        }
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == 0)?;
            let mut parts = rest[..end].splitn(3, |b| *b == b' ');
            let mut id = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
            let owner = Owner {
                uid: id()?,
                gid: id()?,
            };
            let path = parts.next().filter(|path| !path.is_empty())?;
            owners.set(path.to_vec(), owner);
            rest = &rest[end + 1..];
        }
        Some(owners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let mut owners = Owners::new();
        owners.set(b"run/a b\n".to_vec(), Owner { uid: 33, gid: 0 });
        owners.set(
            b"\xff".to_vec(),
            Owner {
                uid: 0,
                gid: 70_000,
            },
        );
        owners.set(b"root".to_vec(), Owner::ROOT);
        let file = owners.render();
        assert_eq!(file, b"sandcrab owners 1\n33 0 run/a b\n\x000 70000 \xff\0");
        assert_eq!(Owners::parse(&file), Some(owners.clone()));
        owners.note_devices();
        assert_eq!(Owners::parse(&owners.render()), Some(owners.clone()));
        assert_eq!(owners.get(b"run/a b\n").uid, 33);
        assert_eq!(owners.get(b"root"), Owner::ROOT);
        for cut in [HEAD.len() - 1, HEAD.len() + 2, file.len() - 1] {
            assert_eq!(Owners::parse(&file[..cut]), None, "{cut}");
        }
        assert_eq!(Owners::parse(b"sandcrab owners 2\n"), None);
        assert_eq!(Owners::parse(b"sandcrab owners 1\n1 x\0"), None);
        assert_eq!(Owners::parse(b"sandcrab owners 1\n1 1 \0"), None);
    }

    proptest! {
        #[test]
        fn both_ways(entries in proptest::collection::vec((proptest::collection::vec(1_u8..=255, 1..9), any::<u32>(), any::<u32>()), 0..9)) {
            let mut owners = Owners::new();
            for (path, uid, gid) in entries {
                owners.set(path, Owner { uid, gid });
            }
            prop_assert_eq!(Owners::parse(&owners.render()), Some(owners));
        }
    }
}
