//! One entry of a layer, apart from its data; and the names that stand for deletions.
//!
//! Pure data. Must not know how an archive or a directory stores it. Invariant: ids are the
//! container's, paths are relative to the image's root and have no leading `./` and no trailing
//! slash.

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Another name of a file that came before.
    Hardlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path in the image as bytes; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits with set-id and sticky bits: 07777.
    pub mode: u32,
    /// Owner, as in the container.
    pub uid: u32,
    /// Group, as in the container.
    pub gid: u32,
    /// Bytes of data; 0 for anything but files.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Where a symbolic link leads (verbatim), or the path in the image that a hard link names;
    /// else empty.
    pub link: Vec<u8>,
    /// Major and minor number of a device, else zeros.
    pub rdev: (u32, u32),
    /// Extended attributes by name, sorted, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Makes an entry owned by 0:0, from the epoch, without data, link or attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link: Vec::new(),
            rdev: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// What stands before the name of a deleted entry (OCI image-spec, layer, "Whiteouts").
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name that says: nothing of lower layers is in this directory.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What stands before the names that AUFS used for itself.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What a name in a layer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// An entry like any other.
    Plain,
    /// The entry of this name is deleted. Not checked: it may be empty, `.` or `..`.
    Whiteout(&'a [u8]),
    /// The directory shows nothing of lower layers.
    Opaque,
    /// Book-keeping of AUFS, which is no part of the tree.
    Aufs,
}

/// Tells what a single name means.
pub fn classify(name: &[u8]) -> Name<'_> {
    if name == OPAQUE_NAME {
        Name::Opaque
    } else if name.starts_with(AUFS_PREFIX) {
        Name::Aufs
    } else if let Some(deleted) = name.strip_prefix(WHITEOUT_PREFIX) {
        Name::Whiteout(deleted)
    } else {
        Name::Plain
    }
}

/// Splits a path into its directory (empty for the root) and its last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Joins a directory (empty for the root) and a name.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_deletions() {
        for (name, meaning) in [
            (&b"file"[..], Name::Plain),
            (b".wh", Name::Plain),
            (b".wh.file", Name::Whiteout(b"file")),
            (b".wh.", Name::Whiteout(b"")),
            (b".wh..wh..opq", Name::Opaque),
            (b".wh..wh.plnk", Name::Aufs),
            (b".wh..wh..opq2", Name::Aufs),
            (b".wh...", Name::Whiteout(b"..")),
        ] {
            assert_eq!(classify(name), meaning, "{name:?}");
        }
    }

    #[test]
    fn split_and_join_are_inverse() {
        for path in [&b"a"[..], b"a/b", b"a/b/c"] {
            let (dir, name) = split(path);
            assert_eq!(join(dir, name), path);
        }
    }
}
