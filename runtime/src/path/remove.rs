//! Removal of directory trees by descriptor.
//!
//! Responsible for removing trees of any depth and width with two descriptors at a time. Must
//! never follow a symbolic link nor leave the directory that it was given. Invariant: a step up
//! is taken only into the very directory that the step down came from.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::Entry;

impl Entry {
    /// Removes the entry, a directory with all that is in it. Nothing there is no error.
    ///
    /// # Errors
    /// Those of unlinkat(2), openat(2) and getdents(2); `ESTALE` when a directory was moved away
    /// meanwhile.
    pub fn remove_all(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(e) => return Err(e),
        }
        let dir = open_child(self.dir.as_fd(), &self.name)?;
        remove_children(dir, &mut |_| false)?;
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}

/// A directory on the way down.
struct Level {
    name: OsString,
    id: (u64, u64),
    /// Directories in it that are still to be emptied, and whether they are kept themselves.
    dirs: Vec<(OsString, bool)>,
    kept: bool,
}

/// Removes what is in a directory (open for reading), except what `keep` says to keep: it is
/// asked with each path relative to the directory, and below a directory only when that is kept.
///
/// # Errors
/// As [`Entry::remove_all`].
pub fn remove_children(dir: OwnedFd, keep: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    let mut path = Vec::new();
    let mut levels = vec![list(&dir, OsString::new(), true, &path, keep)?];
    let mut current = dir;
    while let Some(level) = levels.last_mut() {
        if let Some((name, kept)) = level.dirs.pop() {
            let child = open_child(current.as_fd(), &name)?;
            if levels.len() > 1 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            levels.push(list(&child, name, kept, &path, keep)?);
            current = child;
            continue;
        }
        let done = levels.pop();
        if let (Some(done), Some(parent)) = (done, levels.last()) {
            let up = open_child(current.as_fd(), OsStr::new(".."))?;
            if id(up.as_fd())? != parent.id {
                return Err(Errno::STALE);
            }
            current = up;
            path.truncate(path.len() - done.name.len());
            if path.last() == Some(&b'/') {
                path.pop();
            }
            if !done.kept {
                rustix::fs::unlinkat(&current, &done.name, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Removes a directory's entries that are no directories and returns those that are.
fn list(
    dir: &OwnedFd,
    name: OsString,
    kept: bool,
    path: &[u8],
    keep: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Level> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if !matches!(bytes, b"." | b"..") {
            names.push((OsStr::from_bytes(bytes).to_os_string(), entry.file_type()));
        }
    }
    let mut dirs = Vec::new();
    for (name, kind) in names {
        let child_kept = kept && {
            let mut child = path.to_vec();
            if !path.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(name.as_bytes());
            keep(&child)
        };
        let kind = match kind {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        if kind == FileType::Directory {
            dirs.push((name, child_kept));
        } else if !child_kept {
            rustix::fs::unlinkat(dir, &name, AtFlags::empty())?;
        }
    }
    Ok(Level {
        name,
        id: id(dir.as_fd())?,
        dirs,
        kept,
    })
}

fn open_child(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn id(dir: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::super::Root;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn removes_trees_but_not_what_links_lead_to() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("tree/a/b")).expect("mkdir");
        fs::create_dir(at("other")).expect("mkdir");
        fs::write(at("other/file"), "").expect("write");
        fs::write(at("tree/a/file"), "").expect("write");
        symlink("../../other", at("tree/a/link")).expect("symlink");
        let root = Root::open_host(dir.path()).expect("root");
        let entry = |p: &str| root.entry(p).expect("entry").expect("not the root");
        entry("tree").remove_all().expect("remove");
        assert!(!at("tree").exists());
        assert!(at("other/file").exists());
        entry("tree").remove_all().expect("nothing to remove");
        symlink("other", at("link")).expect("symlink");
        entry("link").remove_all().expect("remove");
        assert!(at("other/file").exists());
    }

    #[test]
    fn keeps_what_it_is_told_to() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |p: &str| dir.path().join(p);
        for d in ["top/keep/inner", "top/keep/gone", "top/gone/keep"] {
            fs::create_dir_all(at(d)).expect("mkdir");
            fs::write(at(d).join("file"), "").expect("write");
        }
        let root = Root::open_host(&at("top")).expect("root");
        let top = root
            .open(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .expect("open");
        let mut asked = Vec::new();
        remove_children(top, &mut |path| {
            asked.push(String::from_utf8_lossy(path).into_owned());
            path.starts_with(b"keep") && !path.ends_with(b"gone")
        })
        .expect("remove");
        assert!(at("top/keep/inner/file").exists());
        assert!(!at("top/keep/gone").exists());
        assert!(!at("top/gone").exists());
        assert!(!asked.iter().any(|p| p.starts_with("gone/")), "{asked:?}");
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut fd = open_child(rustix::fs::CWD, dir.path().as_os_str()).expect("open");
        // Deeper than PATH_MAX and than the usual limit of descriptors.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "ddd", Mode::RWXU).expect("mkdir");
            fd = open_child(fd.as_fd(), OsStr::new("ddd")).expect("open");
        }
        let root = Root::open_host(dir.path()).expect("root");
        let entry = root.entry("ddd").expect("entry").expect("not the root");
        entry.remove_all().expect("remove");
        assert!(!dir.path().join("ddd").exists());
    }
}
