//! Directories that a step's mount points have made overlayfs copy up, and that are as before.
//!
//! Responsible for taking them out of the upper directory again, after the overlay is gone. Must not
//! touch anything that a step has changed. Invariant: what is removed is an empty directory that
//! looks exactly like the one below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use runtime::path::Root;
use runtime::rootfs::overlay;

use crate::error::{Result, ResultExt};

/// What overlayfs notes about a copy that is a copy and nothing else (overlayfs.rst).
const HARMLESS: [&[u8]; 2] = [b"user.overlay.origin", b"user.overlay.impure"];

/// Removes those of the directories, and of the ones above them, that are as they are in `lowers`.
pub(super) fn remove(upper: &Root, lowers: &[PathBuf], touched: &[PathBuf]) -> Result<()> {
    let mut candidates: Vec<&Path> = touched.iter().flat_map(|path| path.ancestors()).collect();
    // Deepest first, so that what is above them is empty then.
    candidates.sort_by_key(|path| std::cmp::Reverse((path.components().count(), *path)));
    candidates.dedup();
    candidates.retain(|path| path.parent().is_some());
    if candidates.is_empty() || lowers.is_empty() {
        return Ok(());
    }
    let below = overlay::mount(lowers, None)
        .map(Root::new)
        .op("mount overlay")?;
    for path in candidates {
        if let Some(copy) = Looks::read(upper, path)?
            && copy.is_empty
            && let Some(original) = Looks::read(&below, path)?
            && copy.same_as(&original)
            && let Some(entry) = upper.entry(path).op_path("open", path)?
        {
            let times = times_of(entry.dir.as_fd()).op_path("read status of", path)?;
            rustix::fs::unlinkat(&entry.dir, &entry.name, AtFlags::REMOVEDIR)
                .op_path("remove", path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(&entry.dir, ".", flags, Mode::empty())
                .and_then(|dir| rustix::fs::futimens(&dir, &times))
                .op_path("restore times above", path)?;
        }
    }
    Ok(())
}

fn times_of(dir: BorrowedFd<'_>) -> rustix::io::Result<Timestamps> {
    let stat = rustix::fs::fstat(dir)?;
    let time = |tv_sec, nanoseconds: u64| Timespec {
        tv_sec,
        tv_nsec: nanoseconds as _,
    };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    })
}

/// A directory's looks.
struct Looks {
    stat: rustix::fs::Stat,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    is_empty: bool,
}

impl Looks {
    /// Reads a directory; `None` when there is none.
    fn read(root: &Root, path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match root.open(path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(e).op_path("open", path),
        };
        let mut entries = Dir::read_from(&dir).op_path("read", path)?;
        Ok(Some(Self {
            stat: rustix::fs::fstat(&dir).op_path("read status of", path)?,
            attributes: attributes(dir.as_fd()).op_path("read attributes of", path)?,
            is_empty: entries.all(|entry| {
                entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
            }),
        }))
    }

    fn same_as(&self, other: &Self) -> bool {
        let facts = |looks: &Self| {
            let stat = &looks.stat;
            let times = (stat.st_mtime, stat.st_mtime_nsec);
            (stat.st_mode, stat.st_uid, stat.st_gid, times)
        };
        facts(self) == facts(other) && self.attributes == other.attributes
    }
}

/// Returns attributes in order, but for what overlayfs notes on any copy.
fn attributes(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    let mut value = vec![0; 1 << 16];
    for name in names[..length].split(|b| *b == 0) {
        if name.is_empty() || HARMLESS.contains(&name) {
            continue;
        }
        let length = rustix::fs::fgetxattr(fd, OsStr::from_bytes(name), &mut value[..])?;
        found.push((name.to_vec(), value[..length].to_vec()));
    }
    found.sort();
    Ok(found)
}
