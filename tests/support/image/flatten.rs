//! Applying layers to a tree in memory.
//!
//! Responsible for OCI layer semantics: whiteouts, opaque directories, replacement, hard links.
//! Keeps a digest instead of each file's contents. Must not know where layers come from.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::read::{Image, normal};
use super::tape;
use crate::hash;

/// What kind of file a node is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file: its size and the SHA-256 of its contents.
    File {
        /// Bytes.
        size: u64,
        /// Hexadecimal.
        sha256: String,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character or block device.
    Device {
        /// Whether it is a block device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl NodeKind {
    /// Returns the kind's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "dir",
            Self::Symlink(_) => "symlink",
            Self::Device { .. } => "device",
            Self::Fifo => "fifo",
        }
    }
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its kind.
    pub kind: NodeKind,
    /// Permission bits with set-id and sticky bits; of no meaning for a symbolic link.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Equal for names of the same file; the path of the first of them.
    pub inode: PathBuf,
}

/// A whole file system: path without leading slash, to what is there.
pub type Tree = BTreeMap<PathBuf, Node>;

/// Applies all layers of an image.
///
/// # Errors
/// When a layer can't be read or holds what no layer may.
pub fn flatten(image: &Image) -> Result<Tree> {
    let mut tree = Tree::new();
    for index in 0..image.layer_count() {
        let entries = image
            .layer(index, read_entries)
            .with_context(|| format!("layer {index}"))?;
        apply(&mut tree, entries).with_context(|| format!("layer {index}"))?;
    }
    Ok(tree)
}

/// Expects a regular file with these contents.
///
/// # Panics
/// When there is something else, or nothing.
#[track_caller]
pub fn assert_file(tree: &Tree, path: &str, contents: impl AsRef<[u8]>) {
    let contents = contents.as_ref();
    let wanted = NodeKind::File {
        size: contents.len() as u64,
        sha256: hash::sha256(contents),
    };
    let found = tree.get(Path::new(path)).map(|node| &node.kind);
    assert_eq!(
        found,
        Some(&wanted),
        "`{path}` should hold {:?}",
        String::from_utf8_lossy(contents)
    );
}

/// Returns what is at a path.
///
/// # Panics
/// When nothing is.
#[track_caller]
pub fn node<'a>(tree: &'a Tree, path: &str) -> &'a Node {
    tree.get(Path::new(path)).unwrap_or_else(|| {
        let near: Vec<_> = tree.keys().filter(|at| !at.starts_with("bin")).collect();
        panic!("nothing at `{path}`; there are {near:?}")
    })
}

enum Entry {
    Node(Node),
    HardLink(PathBuf),
}

fn read_entries(tar: &mut dyn Read) -> Result<Vec<(PathBuf, Entry)>> {
    let mut found = Vec::new();
    tape::entries(tar, |entry, data| {
        let path = normal(Path::new(OsStr::from_bytes(&entry.path)));
        let read = read_entry(entry, data, &path)?;
        found.push((path, read));
        Ok(())
    })?;
    Ok(found)
}

fn read_entry(entry: tape::Entry, data: &mut dyn Read, path: &Path) -> Result<Entry> {
    let kind = match entry.kind {
        // Before POSIX, a directory was a file whose name ends in a slash.
        0 | b'0' if entry.path.ends_with(b"/") => NodeKind::Directory,
        0 | b'0' | b'7' => {
            let (size, sha256) = hash::sha256_reader(data)?;
            NodeKind::File { size, sha256 }
        }
        b'1' => {
            let target = normal(Path::new(OsStr::from_bytes(&entry.link)));
            return Ok(Entry::HardLink(target));
        }
        b'2' => NodeKind::Symlink(entry.link),
        kind @ (b'3' | b'4') => NodeKind::Device {
            block: kind == b'4',
            major: entry.device.0,
            minor: entry.device.1,
        },
        b'5' => NodeKind::Directory,
        b'6' => NodeKind::Fifo,
        other => bail!("an entry of type {:?}", char::from(other)),
    };
    Ok(Entry::Node(Node {
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs,
        inode: path.to_owned(),
    }))
}

/// Applies one layer: first everything it hides, then everything it brings. Whiteouts only concern
/// lower layers, wherever in the archive they stand.
fn apply(tree: &mut Tree, entries: Vec<(PathBuf, Entry)>) -> Result<()> {
    for (path, _) in &entries {
        let (parent, name) = split(path);
        if name == b".wh..wh..opq" {
            remove_below(tree, parent);
        } else if let Some(hidden) = name.strip_prefix(b".wh.") {
            let hidden = parent.join(OsStr::from_bytes(hidden));
            tree.remove(&hidden);
            remove_below(tree, &hidden);
        }
    }
    for (path, entry) in entries {
        if path.as_os_str().is_empty() || split(&path).1.starts_with(b".wh.") {
            continue;
        }
        let node = match entry {
            Entry::Node(node) => node,
            Entry::HardLink(target) => tree
                .get(&target)
                .with_context(|| {
                    format!(
                        "`{}`: hard link to nothing, `{}`",
                        path.display(),
                        target.display()
                    )
                })?
                .clone(),
        };
        if node.kind != NodeKind::Directory {
            remove_below(tree, &path);
        }
        tree.insert(path, node);
    }
    Ok(())
}

fn split(path: &Path) -> (&Path, &[u8]) {
    (
        path.parent().unwrap_or_else(|| Path::new("")),
        path.file_name().map_or(b"".as_slice(), OsStr::as_bytes),
    )
}

fn remove_below(tree: &mut Tree, directory: &Path) {
    if directory.as_os_str().is_empty() {
        tree.clear();
        return;
    }
    // Descendants sort after the directory and before its next sibling in component order.
    let below: Vec<PathBuf> = tree
        .range(directory.to_owned()..)
        .skip_while(|(path, _)| path.as_path() == directory)
        .take_while(|(path, _)| path.starts_with(directory))
        .map(|(path, _)| path.clone())
        .collect();
    for path in below {
        tree.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, kind: NodeKind) -> (PathBuf, Entry) {
        let node = Node {
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
            inode: path.into(),
        };
        (path.into(), Entry::Node(node))
    }

    fn file(path: &str) -> (PathBuf, Entry) {
        node(
            path,
            NodeKind::File {
                size: 0,
                sha256: String::new(),
            },
        )
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.keys().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let mut tree = Tree::new();
        let lower = vec![
            node("d", NodeKind::Directory),
            file("d/a"),
            file("d/b"),
            file("d.x"),
        ];
        apply(&mut tree, lower).unwrap();
        // The whiteout stands after the file of the same layer that it must spare.
        apply(
            &mut tree,
            vec![file("d/c"), file("d/.wh..wh..opq"), file(".wh.d.x")],
        )
        .unwrap();
        assert_eq!(names(&tree), ["d", "d/c"]);
    }

    #[test]
    fn a_file_replaces_a_directory_with_all_below_it() {
        let mut tree = Tree::new();
        let lower = vec![
            node("d", NodeKind::Directory),
            file("d/a"),
            file("d-sibling"),
        ];
        apply(&mut tree, lower).unwrap();
        apply(&mut tree, vec![file("d")]).unwrap();
        assert_eq!(names(&tree), ["d", "d-sibling"]);
    }

    #[test]
    fn a_hard_link_is_the_same_inode_across_layers() {
        let mut tree = Tree::new();
        apply(&mut tree, vec![file("a")]).unwrap();
        apply(&mut tree, vec![("b".into(), Entry::HardLink("a".into()))]).unwrap();
        assert_eq!(tree[Path::new("b")].inode, Path::new("a"));
        assert!(apply(&mut tree, vec![("c".into(), Entry::HardLink("x".into()))]).is_err());
    }
}
