//! Single files of the host in a container, such as `/etc/resolv.conf`.
//!
//! Responsible for mounting them and for leaving no trace where the image lacks the path. Must
//! not write into them. Invariant: what was created for a mount point is removed again, and its
//! directory's times are put back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fstat, futimens, openat, unlinkat};
use rustix::io::Errno;

use super::mount;
use crate::error::{Error, Result, ResultExt};
use crate::path::{Entry, Root};

/// Mount points that were created, newest last.
#[derive(Debug, Default)]
pub(crate) struct Created {
    entries: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    entry: Entry,
    is_dir: bool,
    times: Timestamps,
}

/// Binds each host file on its path in the container. Whoever owns the file there may write it,
/// so it should be a copy of the caller's own.
///
/// A symbolic link at that path is not followed: the file is mounted on the link itself, so a
/// dangling `/etc/resolv.conf` needs no target.
pub(crate) fn mount(
    root: &Root,
    files: &[(PathBuf, PathBuf)],
    created: &mut Created,
) -> Result<()> {
    for (target, source) in files {
        let tree = mount::copy(source, false).op_path("open file to mount", source)?;
        mount::restrict(tree.as_fd(), false, mount::INERT).op_path("restrict mount", source)?;
        let point = open_or_create(root, target, created)?;
        mount::attach(tree, point).op_path("mount file on", target)?;
    }
    Ok(())
}

fn open_or_create(root: &Root, target: &Path, created: &mut Created) -> Result<OwnedFd> {
    let open = || root.open(target, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        other => return other.op_path("open mount point", target),
    }
    let parent = target
        .parent()
        .ok_or_else(|| Error::new("not a file").path(target))?;
    let mut missing = Vec::new();
    let mut dir = parent;
    while root.open_dir(dir).is_err_and(|e| e == Errno::NOENT) {
        missing.push(dir.to_path_buf());
        dir = dir.parent().unwrap_or_else(|| Path::new("/"));
    }
    for dir in missing.iter().rev() {
        created.make(root, dir, true)?;
    }
    created.make(root, target, false)?;
    open().op_path("open mount point", target)
}

impl Created {
    fn make(&mut self, root: &Root, path: &Path, is_dir: bool) -> Result<()> {
        let entry = root
            .entry(path)
            .op_path("open mount point", path)?
            .ok_or_else(|| Error::new("not a file").path(path))?;
        let stat = fstat(&entry.dir).op_path("open mount point", path)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: stat.st_atime,
                tv_nsec: stat.st_atime_nsec as _,
            },
            last_modification: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
        };
        if is_dir {
            rustix::fs::mkdirat(&entry.dir, &entry.name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&entry.dir, &entry.name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
        .op_path("create mount point", path)?;
        self.entries.push(Made {
            entry,
            is_dir,
            times,
        });
        Ok(())
    }

    /// Removes what was created, when it is still empty.
    ///
    /// The mounts on them must be gone: a mount point that another namespace still holds is
    /// unmounted there by the kernel as its directory entry goes.
    pub(crate) fn remove(self) -> Result<()> {
        for made in self.entries.into_iter().rev() {
            let flags = if made.is_dir {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            match unlinkat(&made.entry.dir, &made.entry.name, flags) {
                // The step has removed it itself, or made it its own.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::ISDIR | Errno::NOTDIR) => {}
                Err(e) => {
                    return Err(Error::new("remove mount point")
                        .path(Path::new(&made.entry.name))
                        .cause(e));
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = openat(&made.entry.dir, ".", flags, Mode::empty())
                .op("open directory of mount point")?;
            futimens(&dir, &made.times).op("restore times of directory")?;
        }
        Ok(())
    }
}
