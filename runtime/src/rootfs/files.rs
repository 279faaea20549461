//! Small files that a container has while it runs, such as `/etc/resolv.conf`.
//!
//! Responsible for keeping them in memory, for mounting them, and for leaving no trace where the
//! image lacks the path. Must not know what is in them. Invariant: what was created for a mount
//! point is removed again, and its directory's times are put back.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fstat, futimens, openat, unlinkat};
use rustix::io::Errno;

use super::{devices, mount};
use crate::error::{Error, Result, ResultExt};
use crate::identity::IdMap;
use crate::path::{Entry, Root};

/// What the files of one container may grow to together (tmpfs(5), `size`).
const ROOM: &str = "16m";

/// A file that is in a container while it runs; the container's root owns it and may write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedFile {
    /// Where the container sees it.
    pub path: PathBuf,
    /// What is in it at first.
    pub content: Vec<u8>,
}

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

/// Files that are mounted; they outlive their mounts.
#[derive(Debug)]
pub(crate) struct Mounted(Vec<File>);

impl Mounted {
    /// Reads what is in the files now, in the order in which they were given.
    pub(crate) fn read(self) -> Result<Vec<Vec<u8>>> {
        let mut contents = Vec::with_capacity(self.0.len());
        for mut file in self.0 {
            let mut content = Vec::new();
            file.rewind().op("read mounted file")?;
            file.read_to_end(&mut content).op("read mounted file")?;
            contents.push(content);
        }
        Ok(contents)
    }
}

/// Mounts each file on its path in the container.
///
/// A symbolic link at that path is not followed: the file is mounted on the link itself, so a
/// dangling `/etc/resolv.conf` needs no target. Afterwards the host's `/proc` is hidden in this
/// mount namespace.
pub(crate) fn mount(
    root: &Root,
    ids: IdMap,
    files: &[ProvidedFile],
    created: &mut Created,
) -> Result<Mounted> {
    if files.is_empty() {
        return Ok(Mounted(Vec::new()));
    }
    let memory = devices::tmpfs(ids, "0700", ROOM, mount::INERT)?;
    let mut opened = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let name = index.to_string();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat(&memory, &name, flags, Mode::from_raw_mode(0o644))
            .op_path("create file", &file.path)?;
        devices::own(memory.as_fd(), &name, ids)?;
        let mut fd = File::from(fd);
        fd.write_all(&file.content)
            .op_path("write file", &file.path)?;
        opened.push(fd);
    }
    // Before Linux 6.15 only what is attached somewhere can be copied. This place goes with the
    // host's root.
    mount::attach_at(&memory, Path::new("/proc")).op("attach files")?;
    for (file, fd) in files.iter().zip(&opened) {
        let tree = mount::copy_at(fd.as_fd(), false).op_path("mount file on", &file.path)?;
        let point = created.open_or_create_unfollowed(root, ids, &file.path)?;
        mount::attach(tree, point).op_path("mount file on", &file.path)?;
    }
    Ok(Mounted(opened))
}

impl Created {
    /// Opens what is at a path, a link unfollowed; makes a file where nothing is.
    fn open_or_create_unfollowed(
        &mut self,
        root: &Root,
        ids: IdMap,
        target: &Path,
    ) -> Result<OwnedFd> {
        let open = || root.open(target, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        match open() {
            Err(Errno::NOENT) => {}
            other => return other.op_path("open mount point", target),
        }
        self.make_with_parents(root, ids, target, false)?;
        open().op_path("open mount point", target)
    }

    /// Opens what a path leads to inside the root; makes a file or a directory where nothing is.
    pub(crate) fn open_or_create(
        &mut self,
        root: &Root,
        ids: IdMap,
        target: &Path,
        is_dir: bool,
    ) -> Result<OwnedFd> {
        let open = || root.open(target, OFlags::PATH, Mode::empty());
        match open() {
            Err(Errno::NOENT) => {}
            other => return other.op_path("open mount point", target),
        }
        self.make_with_parents(root, ids, target, is_dir)?;
        open().op_path("open mount point", target)
    }

    /// Makes what is missing. The step may write there, so that it belongs to the container's root.
    fn make_with_parents(
        &mut self,
        root: &Root,
        ids: IdMap,
        target: &Path,
        is_dir: bool,
    ) -> Result<()> {
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
            self.make(root, ids, dir, true)?;
        }
        self.make(root, ids, target, is_dir)
    }

    fn make(&mut self, root: &Root, ids: IdMap, path: &Path, is_dir: bool) -> Result<()> {
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
        .map_err(|errno| {
            let error = Error::new("create mount point").path(path).cause(errno);
            match errno {
                Errno::EXIST => error.hint("a symbolic link is there that leads nowhere"),
                Errno::ROFS => error.hint("it is below another mount, which is read-only"),
                _ => error,
            }
        })?;
        devices::own(entry.dir.as_fd(), &entry.name, ids)?;
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
    ///
    /// Returns the directories that were there and have been written to, as paths in the mounts
    /// that they are of.
    pub(crate) fn remove(self) -> Result<Vec<PathBuf>> {
        let mut touched = Vec::new();
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
            let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
            // One that was removed meanwhile has a name that nothing has.
            touched.push(std::fs::read_link(&link).op_path("read", link)?);
        }
        Ok(touched)
    }
}
