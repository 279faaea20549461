//! What the tests of layers share: archives made byte by byte, and trees as comparable values.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use runtime::identity::{IdMap, Identity, Ownership};
use runtime::path::Root;

use super::pax;
use super::tar_apply::{Applied, ApplyOptions, apply};
use crate::error::Result;

/// An archive under construction, in which every header can be wrong in its own way.
#[derive(Default)]
pub(super) struct RawTar(pub(super) Vec<u8>);

/// One header; `build` adds the checksum.
#[derive(Clone)]
pub(super) struct RawHeader([u8; 512]);

impl RawHeader {
    /// A GNU header of the given type, mode 0644, owner 0:0 of the container.
    pub(super) fn new(name: &str, kind: u8) -> Self {
        let mut header = Self([0; 512]);
        header.0[257..265].copy_from_slice(b"ustar  \0");
        header.0[156] = kind;
        header
            .put(0, name.as_bytes())
            .put(100, b"0000644\0")
            .put(108, b"0000000\0")
            .put(116, b"0000000\0")
            .size(0)
            .put(136, b"00000000017\0")
    }

    /// Overwrites bytes anywhere.
    pub(super) fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn size(self, size: u64) -> Self {
        self.put(124, format!("{size:011o}\0").as_bytes())
    }

    pub(super) fn mode(self, mode: u32) -> Self {
        self.put(100, format!("{mode:07o}\0").as_bytes())
    }

    pub(super) fn link(self, link: &str) -> Self {
        self.put(157, link.as_bytes())
    }

    fn build(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|b| u32::from(*b)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes()).0
    }
}

impl RawTar {
    pub(super) fn header(mut self, header: RawHeader) -> Self {
        self.0.extend_from_slice(&header.build());
        self
    }

    /// A header followed by data, whatever size the header claims.
    pub(super) fn data(self, header: RawHeader, data: &[u8]) -> Self {
        let mut tar = self.header(header);
        tar.0.extend_from_slice(data);
        tar.0.resize(tar.0.len().next_multiple_of(512), 0);
        tar
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.data(RawHeader::new(name, b'0').size(data.len() as u64), data)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.header(RawHeader::new(name, b'5').mode(0o755))
    }

    pub(super) fn symlink(self, name: &str, to: &str) -> Self {
        self.header(RawHeader::new(name, b'2').link(to))
    }

    pub(super) fn hard_link(self, name: &str, to: &str) -> Self {
        self.header(RawHeader::new(name, b'1').link(to))
    }

    pub(super) fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            pax::append_record(&mut data, key.as_bytes(), value.as_bytes());
        }
        self.data(RawHeader::new("pax", kind).size(data.len() as u64), &data)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// An identity that works for any user without a namespace: container root is the caller.
pub(crate) fn own_ids() -> IdMap {
    let uid = rustix::process::geteuid().as_raw();
    // Root may give files to anyone, others to themselves only.
    let count = if uid == 0 { u32::MAX } else { 1 };
    IdMap { first: uid, count }
}

/// As [`own_ids`], with real owners.
pub(crate) fn own() -> Ownership {
    Ownership::new(Identity::Host, own_ids())
}

/// Every id, in records of files that are the caller's.
pub(crate) fn emulated() -> Ownership {
    let ids = IdMap {
        count: u32::MAX,
        ..own_ids()
    };
    Ownership::new(Identity::Emulated, ids)
}

/// Unpacks into a directory as the caller.
pub(super) fn unpack(archive: &[u8], dir: &Path) -> Result<Applied> {
    let root = Root::open_host(dir).expect("open root");
    apply(archive, &root, &ApplyOptions::layer(&own()))
}

/// Everything about a file that a layer carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: i64,
    pub(super) content: Vec<u8>,
    pub(super) rdev: u64,
    /// The first path in order that is the same file.
    pub(super) same_as: String,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads a whole tree, without the root itself.
pub(super) fn tree(dir: &Path) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    read(dir, "", &mut nodes, &mut firsts);
    nodes
}

fn read(
    dir: &Path,
    prefix: &str,
    nodes: &mut BTreeMap<String, Node>,
    firsts: &mut BTreeMap<(u64, u64), String>,
) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("list")
        .map(|e| e.expect("entry"))
        .collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let meta = entry.path().symlink_metadata().expect("stat");
        let kind = meta.file_type();
        let content = if kind.is_file() {
            fs::read(entry.path()).expect("read")
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).expect("link");
            link.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let first = if kind.is_dir() {
            path.clone()
        } else {
            let id = (meta.dev(), meta.ino());
            firsts.entry(id).or_insert_with(|| path.clone()).clone()
        };
        let node = Node {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: meta.mtime(),
            content,
            rdev: if kind.is_char_device() || kind.is_block_device() {
                meta.rdev()
            } else {
                0
            },
            same_as: first,
            xattrs: xattrs(&entry.path()),
        };
        nodes.insert(path.clone(), node);
        if kind.is_dir() {
            read(&entry.path(), &format!("{path}/"), nodes, firsts);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0_u8; 65_536];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    names[..len]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty() && *n != b"security.selinux" && !n.starts_with(b"user.overlay."))
        .map(|name| {
            let mut value = vec![0_u8; 65_536];
            let name_str = std::ffi::OsStr::from_bytes(name);
            let len = rustix::fs::lgetxattr(path, name_str, &mut value[..]).expect("xattr");
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}
