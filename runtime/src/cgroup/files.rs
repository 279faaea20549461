//! The control files of one group.
//!
//! Responsible for finding a group below a mounted hierarchy and for reading, writing and listing
//! what is in it. Must not know what the files mean. Invariant: a group's path comes from a
//! configuration, so it is resolved inside the mount only, and nothing is ever created but
//! directories.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use crate::path::Root;

/// An open group.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the group at `inside` below the mount point of a hierarchy.
    pub(crate) fn open(mount: &Path, inside: &Path) -> Result<Self> {
        let root = Root::open_host(mount)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let inside = clean(inside);
        let fd = root.open(&inside, flags, Mode::empty())?;
        Ok(Self {
            fd,
            path: below(mount, &inside),
        })
    }

    /// The group's path on the host, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The handle.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives up the handle.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens a file of the group.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::openat2(
            &self.fd,
            name,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Says whether the group has a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads a whole file.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let fd = self.open_file(name, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut buffer) {
                Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads a file that holds one number; `max` is the largest.
    pub(crate) fn read_number(&self, name: &str) -> Result<u64> {
        let text = self.read(name)?;
        number(text.trim()).ok_or(Errno::INVAL)
    }

    /// Writes a value in one write, as the kernel wants it.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<()> {
        // A file in a directory that stands in for cgroupfs must lose its old content; the kernel
        // ignores the flag.
        let fd = self.open_file(name, OFlags::WRONLY | OFlags::TRUNC)?;
        loop {
            match rustix::io::write(&fd, value.as_bytes()) {
                Ok(_) => return Ok(()),
                // Lowering a limit waits for memory to be freed, which a signal interrupts.
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens the group below of this name.
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        Ok(Self {
            fd: self.open_file(name, OFlags::RDONLY | OFlags::DIRECTORY)?,
            path: self.path.join(name),
        })
    }

    /// Makes the group below of this name, or finds it; says whether it is new.
    pub(crate) fn make_child(&self, name: &str) -> Result<(Self, bool)> {
        let new = match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            // A group on the way may not be ours to write to and yet exist.
            Err(e) => return self.child(name).map(|c| (c, false)).map_err(|_| e),
        };
        self.child(name).map(|c| (c, new))
    }

    /// Removes the empty group below of this name.
    pub(crate) fn remove_child(&self, name: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Lists the groups directly below.
    pub(crate) fn children(&self) -> Result<Vec<String>> {
        Ok(self
            .list()?
            .into_iter()
            .filter(|(_, kind)| *kind == FileType::Directory)
            .map(|(name, _)| name)
            .collect())
    }

    /// Lists the files.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        Ok(self
            .list()?
            .into_iter()
            .filter(|(_, kind)| *kind == FileType::RegularFile)
            .map(|(name, _)| name)
            .collect())
    }

    fn list(&self) -> Result<Vec<(String, FileType)>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name != "." && name != ".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(names)
    }
}

/// Reads a number; `max` is the largest.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        // Version 1 writes "no limit" as -1 in some files.
        "-1" => Some(u64::MAX),
        _ => text.parse().ok(),
    }
}

/// Makes a path that can't leave its root: absolute, without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Joins a mount point and a cleaned path.
pub(crate) fn below(mount: &Path, inside: &Path) -> PathBuf {
    match inside.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => mount.to_path_buf(),
        Ok(rest) => mount.join(rest),
        Err(_) => mount.join(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_root() {
        for (given, want) in [
            ("", "/"),
            ("a/b", "/a/b"),
            ("/a//b/./c/", "/a/b/c"),
            ("../../etc", "/etc"),
            ("a/../../b", "/b"),
        ] {
            assert_eq!(clean(Path::new(given)), Path::new(want), "{given}");
        }
    }

    #[test]
    fn files_are_written_but_never_made() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("g")).expect("mkdir");
        std::fs::write(dir.path().join("g/memory.max"), "max\n").expect("write");
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("g/link")).expect("link");
        let group = Directory::open(dir.path(), Path::new("../g")).expect("open");
        assert_eq!(group.read_number("memory.max"), Ok(u64::MAX));
        group.write("memory.max", "4096").expect("write");
        assert_eq!(group.read_number("memory.max"), Ok(4096));
        assert_eq!(group.write("memory.low", "1"), Err(Errno::NOENT));
        assert_eq!(group.write("../x", "1"), Err(Errno::XDEV));
        assert!(group.read("link").is_err());
        let (child, new) = group.make_child("c").expect("make");
        assert!(new && child.path() == dir.path().join("g/c"));
        assert_eq!(group.children(), Ok(vec!["c".to_owned()]));
        assert!(!group.make_child("c").expect("find").1);
        group.remove_child("c").expect("remove");
    }
}
