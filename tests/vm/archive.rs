//! An initial file system, as the kernel unpacks it: a cpio archive of the form `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
//!
//! Responsible for owners, modes and device numbers that the machine is to see, whoever writes the
//! archive. Must not know what is in it. Invariant: a file's parents come before it.

use std::collections::BTreeSet;

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    inodes: u32,
}

impl Archive {
    /// Adds a directory with its parents, of mode 0755, and of root.
    pub(crate) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.directories.insert(path.to_owned());
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    /// Adds a file of root, with its parents.
    pub(crate) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.parents(path);
        self.entry(path, 0o100_000 | mode, (0, 0), contents);
    }

    /// Adds a symbolic link, with its parents.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    /// Adds a character device, with its parents.
    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.parents(path);
        self.entry(path, 0o020_600, number, &[]);
    }

    /// Returns the whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.trim_start_matches('/').rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), contents: &[u8]) {
        let name = path.trim_start_matches('/');
        self.inodes += 1;
        let size = u32::try_from(contents.len()).expect("no file of 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // In this order: inode, mode, owner, group, links, time, size, device, number, name, sum.
        let fields = [
            self.inodes,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
