//! Entries of a copy: made, filled, and given their owner, permissions, attributes and time.
//!
//! Responsible for one entry at a time, below directory handles. Must not resolve paths.
//! Invariant: an entry never has more permissions than it ends up with, and its owner is set
//! before its permissions, because changing an owner clears set-id bits and capabilities.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime::identity::ownership::Trouble;
use runtime::identity::{Device, Identity, Owner, Record};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Copier;
use super::times::modification;
use crate::context::digest::FileKey;
use crate::context::ignore::bytes_path;
use crate::context::walk::{Node, changed};
use crate::context::xattrs::{self, Attribute};
use crate::error::{Error, Result, ResultExt};

/// Returns the type of an entry, unfollowed; `None` when there is none.
pub(super) fn kind(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Copier<'_> {
    /// Makes sure that the container has an owner, who is to own `path`.
    pub(super) fn require(&self, owner: Owner, path: &Path) -> Result<()> {
        if self.ownership.exists(owner) {
            return Ok(());
        }
        let count = self.ownership.ids().count;
        let error = Error::new(format!(
            "owner {owner} does not exist here: the container has {count} {}, needed for",
            if count == 1 { "id" } else { "ids" }
        ))
        .path(path);
        Err(if self.ownership.identity() == Identity::Subids {
            error.hint("`--isolation=emulated` has every id")
        } else {
            error
        })
    }

    /// Returns what the copy of `node` is; `opened` is the original, if it is a file or directory.
    fn record_of(&self, node: &Node<'_>, opened: Option<BorrowedFd<'_>>) -> Result<Record> {
        let original = match (self.owners, opened) {
            (None, _) => Record::default(),
            (Some(owners), Some(fd)) => owners.record(fd, node.stat).map_err(|e| of(node, e))?,
            (Some(owners), None) => owners
                .special(node.path.as_os_str().as_bytes(), node.stat)
                .map_err(|e| of(node, e))?
                .into(),
        };
        let owner = self.owner.unwrap_or(original.owner);
        self.require(owner, node.path)?;
        Ok(Record { owner, ..original })
    }

    fn mode_of(&self, stat: &Stat) -> Mode {
        let mode = stat.st_mode & 0o7777;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let chmod = self.request.chmod.as_ref();
        Mode::from_raw_mode(chmod.map_or(mode, |chmod| chmod.apply(mode, is_dir)))
    }

    /// Makes the copy of anything but a directory, at `path`, which is the node's place in `dir`.
    pub(super) fn place(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        node: &Node<'_>,
    ) -> Result<()> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::new("cannot replace the root directory with").path(node.path))?;
        match kind(dir, name).op_path("stat", path)? {
            Some(FileType::Directory) => {
                return Err(Error::new(format!(
                    "cannot copy `{}` over the directory",
                    node.path.display()
                ))
                .path(path));
            }
            Some(_) => rustix::fs::unlinkat(dir, name, AtFlags::empty()).op_path("remove", path)?,
            None => {}
        }
        self.stats.files += 1;
        match node.file_type() {
            FileType::RegularFile => self.place_file(dir, name, path, node),
            // What a program can talk to is gone anyway.
            FileType::Socket => {
                let record = self.record_of(node, None)?;
                let to = create(dir, name, path)?;
                self.finish_file(&to, path, node, &record, &[])
            }
            FileType::Symlink => {
                let target = node.read_link()?;
                rustix::fs::symlinkat(bytes_path(&target), dir, name)
                    .op_path("make symbolic link", path)?;
                self.finish_special(dir, name, path, node)
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                self.place_device(dir, name, path, node)
            }
            FileType::Directory | FileType::Unknown => {
                Err(Error::new("unknown file type of").path(node.path))
            }
        }
    }

    fn place_file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        node: &Node<'_>,
    ) -> Result<()> {
        let inode = (node.stat.st_dev, node.stat.st_ino);
        if let Some(first) = self.links.get(&inode) {
            return self.link(first, dir, name, path);
        }
        let from = node.open()?;
        let to = create(dir, name, path)?;
        let whole = self
            .transfer
            .copy(&from, &to, node.stat)
            .op_path("copy", node.path)?;
        let attributes = xattrs::read(&from).op_path("read attributes of", node.path)?;
        let now = rustix::fs::fstat(&from).op_path("stat", node.path)?;
        if !whole || FileKey::of(&now) != FileKey::of(node.stat) {
            return Err(changed(node.path));
        }
        self.stats.bytes += node.stat.st_size.cast_unsigned();
        if node.stat.st_nlink > 1 {
            self.links.insert(inode, path.to_owned());
        }
        let record = self.record_of(node, Some(from.as_fd()))?;
        self.finish_file(&to, path, node, &record, &attributes)
    }

    fn link(&self, first: &PathBuf, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let missing = || Error::new("the first of several hard links went away:").path(first);
        let entry = self.dest.entry(first).op_path("open", first)?;
        let entry = entry.ok_or_else(missing)?;
        rustix::fs::linkat(&entry.dir, &entry.name, dir, name, AtFlags::empty())
            .op_path("make hard link", path)
    }

    fn place_device(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        node: &Node<'_>,
    ) -> Result<()> {
        let kind = node.file_type();
        if kind == FileType::CharacterDevice && node.stat.st_rdev == 0 {
            // In an overlay this is how a removed file looks.
            return Err(
                Error::new("cannot copy a character device with number 0:0:").path(node.path),
            );
        }
        let device = if kind == FileType::Fifo {
            0
        } else {
            node.stat.st_rdev
        };
        if self.ownership.is_emulated() && kind != FileType::Fifo {
            let mut record = self.record_of(node, None)?;
            record.device = Some(Device {
                block: kind == FileType::BlockDevice,
                major: rustix::fs::major(device),
                minor: rustix::fs::minor(device),
            });
            let to = create(dir, name, path)?;
            return self.finish_file(&to, path, node, &record, &[]);
        }
        rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device).map_err(|e| {
            let error = Error::new("make device").path(path).source(e);
            if e == Errno::PERM {
                error.hint("devices can be made only by real root with --isolation=host")
            } else {
                error
            }
        })?;
        self.finish_special(dir, name, path, node)
    }

    /// Gives a directory its owner, permissions, attributes and time.
    pub(super) fn finish_dir(&mut self, to: &OwnedFd, path: &Path, node: &Node<'_>) -> Result<()> {
        let attributes = match &node.opened {
            Some(from) => xattrs::read(from).op_path("read attributes of", node.path)?,
            None => Vec::new(),
        };
        let record = self.record_of(node, node.opened)?;
        self.finish_file(to, path, node, &record, &attributes)
    }

    fn finish_file(
        &mut self,
        to: &OwnedFd,
        path: &Path,
        node: &Node<'_>,
        record: &Record,
        attributes: &[Attribute],
    ) -> Result<()> {
        // The permissions may forbid writing even attributes; an owner change drops capabilities.
        let (last, first): (Vec<_>, Vec<_>) = attributes
            .iter()
            .partition(|a| a.name == xattrs::CAPABILITY);
        self.write_attributes(to, node, &first);
        self.ownership
            .set_record(to, record)
            .map_err(|e| changing(path, e))?;
        rustix::fs::fchmod(to, self.mode_of(node.stat))
            .op_path("change the permissions of", path)?;
        self.write_attributes(to, node, &last);
        rustix::fs::futimens(to, &modification(node.stat)).op_path("set the time of", path)
    }

    /// Writes attributes; those that the destination can't store are only warned about, as in
    /// BuildKit.
    fn write_attributes(&mut self, to: &OwnedFd, node: &Node<'_>, attributes: &[&Attribute]) {
        let namespaced = self.ownership.identity() != Identity::Host;
        let root_id = namespaced.then_some(self.ownership.ids().first);
        for attribute in attributes {
            if let Err(e) = xattrs::write(to, attribute, root_id) {
                self.warn(format!(
                    "attribute `{}` of `{}` was not copied: {e}",
                    attribute.name.display(),
                    node.path.display()
                ));
            }
        }
    }

    /// Finishes what can't be opened: symbolic links, FIFOs and devices.
    fn finish_special(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        node: &Node<'_>,
    ) -> Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let record = self.record_of(node, None)?;
        self.ownership
            .set_special(dir, name, record.owner)
            .map_err(|e| changing(path, e))?;
        if node.file_type() != FileType::Symlink {
            // Not a link, and nobody else is here to put one in its place.
            rustix::fs::chmodat(dir, name, self.mode_of(node.stat), AtFlags::empty())
                .op_path("change the permissions of", path)?;
        }
        rustix::fs::utimensat(dir, name, &modification(node.stat), nofollow)
            .op_path("set the time of", path)
    }
}

fn of(node: &Node<'_>, trouble: Trouble) -> Error {
    Error::new("read the owner of")
        .path(node.path)
        .source(io::Error::from(trouble))
}

fn changing(path: &Path, trouble: Trouble) -> Error {
    Error::new("change the owner of")
        .path(path)
        .source(io::Error::from(trouble))
}

fn create(dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).op_path("create", path)
}
