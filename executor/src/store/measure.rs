//! How much trees take on disk.
//!
//! Responsible for counting the bytes of trees that others may be changing meanwhile. Must not follow
//! links, whatever a step has put into its cache mount: the walk is by descriptor. Invariant: a file with
//! several names in a tree counts once.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Directories deeper than this are not looked into: each takes a descriptor.
const DEPTH: usize = 500;

/// Measures trees that hold files of other ids, which only a job in the user namespace can read.
pub type Measurer<'a> = dyn Fn(&[PathBuf]) -> Result<Vec<Size>> + 'a;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether something could not be read.
    pub partial: bool,
}

/// Measures a tree, as far as this process may read it.
pub(crate) fn tree(path: &Path) -> Size {
    let mut count = Count::default();
    match (
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        open(CWD, path),
    ) {
        (Ok(stat), Ok(dir)) => {
            count.add(&stat);
            count.walk(dir, DEPTH);
        }
        (Ok(stat), Err(_)) => {
            count.add(&stat);
            count.size.partial = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        }
        // One that is gone takes nothing.
        (Err(_), _) => {}
    }
    count.size
}

/// Measures trees; `measurer` is asked for those that this process can't read as a whole.
pub(crate) fn trees(paths: &[PathBuf], measurer: Option<&Measurer<'_>>) -> Result<Vec<u64>> {
    let mut sizes: Vec<Size> = paths.iter().map(|path| tree(path)).collect();
    if let Some(measurer) = measurer {
        let partial = |size: &Size| size.partial;
        let unread: Vec<PathBuf> = (paths.iter().zip(&sizes))
            .filter(|(_, size)| partial(size))
            .map(|(path, _)| path.clone())
            .collect();
        if !unread.is_empty() {
            let measured = measurer(&unread)?;
            let left = sizes.iter_mut().filter(|size| partial(size));
            for (size, measured) in left.zip(measured) {
                *size = measured;
            }
        }
    }
    Ok(sizes.iter().map(|size| size.bytes).collect())
}

#[derive(Default)]
struct Count {
    size: Size,
    /// Files with several names that were counted.
    seen: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, stat: &rustix::fs::Stat) {
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir || stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.size.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }

    fn walk(&mut self, dir: OwnedFd, depth: usize) {
        let Ok(entries) = Dir::read_from(&dir) else {
            self.size.partial = true;
            return;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                self.size.partial = true;
                return;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.enter(dir.as_fd(), name, depth);
            }
        }
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) {
        match (depth.checked_sub(1), open(dir, name)) {
            (Some(depth), Ok(below)) => self.walk(below, depth),
            (_, Err(rustix::io::Errno::NOENT)) => {}
            _ => self.size.partial = true,
        }
    }
}

fn open<P: rustix::path::Arg>(at: impl AsFd, name: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn counts_each_file_once_and_follows_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (a, outside) = (dir.path().join("a"), dir.path().join("outside"));
        fs::create_dir_all(a.join("b/c")).expect("mkdir");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("big"), vec![1; 1 << 20]).expect("write");
        symlink(&outside, a.join("link")).expect("link");
        let empty = tree(&a);
        assert!(!empty.partial && empty.bytes < 1 << 18);
        fs::write(a.join("b/c/file"), vec![1; 1 << 20]).expect("write");
        let one = tree(&a);
        assert!(one.bytes >= empty.bytes + (1 << 20));
        fs::hard_link(a.join("b/c/file"), a.join("again")).expect("link");
        assert_eq!(tree(&a).bytes, one.bytes);
        assert!(!tree(&a.join("link")).partial);
        assert_eq!(tree(&dir.path().join("missing")), Size::default());
    }

    #[test]
    fn what_cannot_be_read_is_asked_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let paths = ["open", "closed"].map(|name| dir.path().join(name));
        for path in &paths {
            fs::create_dir_all(path.join("below")).expect("mkdir");
        }
        let closed = paths[1].join("below");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("chmod");
        let job = |asked: &[PathBuf]| {
            assert_eq!(asked, &paths[1..]);
            let size = Size {
                bytes: 7,
                partial: false,
            };
            Ok(vec![size])
        };
        let sizes = trees(&paths, Some(&job)).expect("sizes");
        // Root reads everything.
        assert_eq!(sizes[1] == 7, !rustix::process::geteuid().is_root());
        assert_eq!(sizes[0], tree(&paths[0]).bytes);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    }
}
