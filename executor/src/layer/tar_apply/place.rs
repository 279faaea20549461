//! Makes the files of an archive.
//!
//! Responsible for one entry at a time: clear what is in its way, make it, fill it. Invariant:
//! each is made new and exclusively in an open directory, so that no link is ever written
//! through.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use runtime::identity::ownership;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{host_path, seconds, timestamps};
use super::{Applier, unpacking};
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind, split};
use crate::layer::tar_read::TarReader;

/// Chunks of zeros from this length on become holes.
const HOLE: usize = 32 * 1024;

impl Applier<'_> {
    /// Makes an entry, replacing what is there: a directory only if the entry is none.
    pub(super) fn place<R: Read>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        // Before anything is made, so that an owner that does not exist leaves no trace.
        self.owner(entry)?;
        if entry.path.is_empty() {
            return self.place_root(entry);
        }
        self.dirs.mark_own(&entry.path);
        match entry.kind {
            EntryKind::File => self.place_file(entry, reader),
            EntryKind::Dir => self.place_dir(entry),
            EntryKind::Symlink => {
                let link = OsStr::from_bytes(&entry.link);
                self.make(entry, |dir, name| rustix::fs::symlinkat(link, dir, name))?;
                self.finish_unopened(entry, None)
            }
            EntryKind::Hardlink => self.place_hard_link(entry),
            EntryKind::Fifo => {
                self.make(entry, |dir, name| {
                    rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR, 0)
                })?;
                self.finish_unopened(entry, Some(Mode::from_raw_mode(entry.mode)))
            }
            EntryKind::Char => self.place_device(entry, FileType::CharacterDevice),
            EntryKind::Block => self.place_device(entry, FileType::BlockDevice),
        }
    }

    /// Applies an entry for the root itself, which is there already.
    fn place_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(Error::new(
                "the archive replaces the root by something that is no directory",
            ));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = self.dirs.root().open("/", flags, Mode::empty());
        let root = root.map_err(unpacking(b"/"))?;
        self.set_attributes(entry, root.as_fd())?;
        self.dirs.set_time(b"", root.as_fd(), entry.mtime)
    }

    fn place_file<R: Read>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.make(entry, |dir, name| {
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let file = File::from(fd);
        let failed = |e| Error::new("write").path_bytes(&entry.path).source(e);
        let mut end = 0;
        while let Some(chunk) = reader.next_chunk()? {
            if !is_hole(chunk.bytes) {
                file.write_all_at(chunk.bytes, chunk.offset)
                    .map_err(failed)?;
                end = chunk.offset + chunk.bytes.len() as u64;
            }
        }
        if end < entry.size {
            file.set_len(entry.size).map_err(failed)?;
        }
        self.set_attributes(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &timestamps(seconds(entry.mtime)))
            .map_err(unpacking(&entry.path))
    }

    fn place_dir(&mut self, entry: &Entry) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make(entry, |dir, name| {
            match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
                Ok(()) => rustix::fs::openat(dir, name, flags, Mode::empty()),
                // A directory may stay, with what is in it; anything else is cleared away.
                Err(Errno::EXIST) => match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                    Err(Errno::NOTDIR | Errno::LOOP) => Err(Errno::EXIST),
                    other => other,
                },
                Err(e) => Err(e),
            }
        })?;
        self.set_attributes(entry, fd.as_fd())?;
        self.dirs.set_time(&entry.path, fd.as_fd(), entry.mtime)?;
        self.dirs.remember_parent(&entry.path, fd);
        Ok(())
    }

    fn place_hard_link(&mut self, entry: &Entry) -> Result<()> {
        let lost = |e: Errno| {
            Error::new(format!(
                "unpack the hard link to `{}` at",
                String::from_utf8_lossy(&entry.link)
            ))
            .path_bytes(&entry.path)
            .source(std::io::Error::from(e))
        };
        let target = self.dirs.root().entry(host_path(&entry.link));
        let target = target.map_err(lost)?.ok_or_else(|| lost(Errno::ISDIR))?;
        let source = target.stat().map_err(lost)?;
        let inode = ownership::look_up(&target.dir, &target.name).map_err(lost)?;
        if FileType::from_raw_mode(source.st_mode) == FileType::Directory {
            return Err(lost(Errno::ISDIR));
        }
        self.make(entry, |dir, name| {
            let flags = AtFlags::empty();
            match rustix::fs::linkat(&target.dir, &target.name, dir, name, flags) {
                Err(Errno::EXIST) => {
                    let there = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    let same = (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino);
                    if same { Ok(()) } else { Err(Errno::EXIST) }
                }
                other => other,
            }
        })?;
        let kind = FileType::from_raw_mode(source.st_mode);
        if kind == FileType::RegularFile {
            return Ok(());
        }
        let (dir, name) = split(&entry.path);
        let parent = self.dirs.open(dir)?;
        let linked = self
            .options
            .ownership
            .linked(inode, &*parent, OsStr::from_bytes(name));
        linked.map_err(unpacking(&entry.path))
    }

    fn place_device(&mut self, entry: &Entry, kind: FileType) -> Result<()> {
        let (major, minor) = entry.rdev;
        let device = rustix::fs::makedev(major, minor);
        // A character device 0:0 is overlayfs's whiteout, and no device that exists.
        let is_whiteout = entry.kind == EntryKind::Char && device == 0;
        if self.options.ownership.is_emulated() && !is_whiteout {
            return self.place_stand_in(entry);
        }
        let made = self.make(entry, |dir, name| {
            if is_whiteout {
                // What is in the way goes, as it would for the device.
                return match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => Ok(false),
                    Err(e) => Err(e),
                };
            }
            match rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device) {
                Ok(()) => Ok(true),
                Err(Errno::PERM) => Ok(false),
                Err(e) => Err(e),
            }
        })?;
        if made {
            self.finish_unopened(entry, Some(Mode::from_raw_mode(entry.mode)))
        } else {
            self.applied.skipped_devices += 1;
            Ok(())
        }
    }

    /// Makes the file that stands for a device.
    fn place_stand_in(&mut self, entry: &Entry) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.make(entry, |dir, name| {
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        self.set_attributes(entry, fd.as_fd())?;
        self.applied.stand_ins += 1;
        rustix::fs::futimens(&fd, &timestamps(seconds(entry.mtime))).map_err(unpacking(&entry.path))
    }

    /// Runs `make` with the directory and the name that the entry is to have; if something is
    /// there already (`EEXIST`), clears it away and runs it again.
    fn make<T>(
        &mut self,
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let (dir, name) = split(&entry.path);
        let name = OsStr::from_bytes(name);
        let parent = self.dirs.open(dir)?;
        match make(parent.as_fd(), name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(unpacking(&entry.path)),
        }
        self.clear(entry, &parent, name)?;
        let parent = self.dirs.open(dir)?;
        make(parent.as_fd(), name).map_err(unpacking(&entry.path))
    }

    fn clear(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let clear = || -> rustix::io::Result<bool> {
            let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_file = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
            if is_file {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            } else if let Some(entry) = self.dirs.root().entry(host_path(&entry.path))? {
                entry.remove_all()?;
            }
            Ok(is_file)
        };
        if !clear().map_err(unpacking(&entry.path))? {
            self.dirs.forget_parent();
        }
        Ok(())
    }

    fn finish_unopened(&mut self, entry: &Entry, mode: Option<Mode>) -> Result<()> {
        let (dir, name) = split(&entry.path);
        let parent = self.dirs.open(dir)?;
        self.set_attributes_at(entry, parent.as_fd(), OsStr::from_bytes(name), mode)
    }
}

fn is_hole(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 512] = [0; 512];
    let (chunks, rest) = bytes.as_chunks::<512>();
    bytes.len() >= HOLE && chunks.iter().all(|c| *c == ZEROS) && rest.iter().all(|b| *b == 0)
}
