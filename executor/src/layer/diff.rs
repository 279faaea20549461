//! Turns the upper directory of an overlay into a layer.
//!
//! Responsible for finding what a step has changed, at a cost that depends on that alone, and for
//! saying it in the words of a layer: deletions as `.wh.` names, opaque directories, hard links.
//! Must not know what lies below the upper directory. Invariant: equal upper directories give
//! equal bytes; in each directory deletions come first and names are in byte order.
//!
//! As containerd does it: directories that overlayfs copied up are entries (they are on the way to
//! every change), the root itself is none, sockets are left out. Beyond it: attributes `user.*`
//! are carried. A name that begins with `.wh.` is an error, because it would be read as a
//! deletion.

mod ahead;
mod attributes;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use runtime::identity::ownership::Trouble;
use runtime::identity::{Ownership, Record};
use runtime::path::Root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};

use crate::error::{Error, Kind, Result};
use crate::layer::entry::{Entry, EntryKind, OPAQUE_NAME, WHITEOUT_PREFIX, join};
use crate::layer::tar_write::{Place, TarWriter};
use ahead::{Ahead, Seen};
use attributes::{Attributes, Opaque};

/// What a layer has become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffStats {
    /// Entries, deletions included. 0: the step has changed nothing.
    pub entries: u64,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Files that stand for devices.
    pub stand_ins: u64,
    /// Sockets, which an archive cannot hold.
    pub skipped_sockets: u64,
    /// Attributes that are not carried, by name, with how often each occurred. Not counted is
    /// `security.selinux`, which the host's policy puts everywhere.
    pub skipped_xattrs: BTreeMap<String, u64>,
}

impl DiffStats {
    /// Returns what the user may want to know, one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.skipped_sockets > 0 {
            notes.push(format!(
                "{} sockets are not part of the layer",
                self.skipped_sockets
            ));
        }
        for (name, count) in &self.skipped_xattrs {
            notes.push(format!(
                "extended attribute `{name}` is not part of the layer ({count} times)"
            ));
        }
        notes
    }
}

/// Directories on the way down that stay open; deeper ones are opened again on the way up.
const OPEN_LEVELS: usize = 64;

/// The longest path that anyone could unpack (PATH_MAX without the closing NUL).
const MAX_PATH: usize = 4095;

/// How an upper directory is read.
#[derive(Debug, Clone, Copy)]
pub struct DiffOptions<'a> {
    /// Tells the files' owners.
    pub ownership: &'a Ownership,
    /// The latest time that a file may have, in seconds since the epoch. Files with a later one
    /// get this time, in the directory too, so that it and the archive stay the same tree.
    pub latest: Option<i64>,
    /// Whether attributes `user.*` are removed, in the directory too.
    pub without_user: bool,
}

/// Writes what the upper directory `upper` says as an uncompressed archive to `out`, which is
/// written in large pieces.
///
/// # Errors
/// When a file has an owner that is none of the container's, cannot be read or changes meanwhile,
/// when a name cannot be put into a layer, and those of `out`. [`Kind::Internal`] for an upper
/// directory that was mounted with `metacopy` or `redirect_dir`.
pub fn write_diff(upper: &Root, options: DiffOptions<'_>, out: impl Write) -> Result<DiffStats> {
    write(upper, options, Ahead::new(ahead::FEW), out)
}

fn write(
    upper: &Root,
    options: DiffOptions<'_>,
    ahead: Ahead,
    out: impl Write,
) -> Result<DiffStats> {
    let mut differ = Differ {
        upper,
        options,
        tar: TarWriter::new(out),
        links: HashMap::new(),
        attributes: attributes::Reader::new(options.ownership, options.without_user),
        ahead,
        stats: DiffStats::default(),
    };
    differ.walk()?;
    differ.stats.skipped_xattrs = differ.attributes.into_skipped();
    differ.stats.bytes = differ.tar.len() + 2 * super::tar_write::BLOCK as u64;
    differ.tar.finish()?;
    Ok(differ.stats)
}

/// Writes a merged tree as a part of an archive, in which it goes into a place; `last` ends the
/// archive. A tree is a layer over nothing: in a merged view no deletions are left to see.
///
/// # Errors
/// As [`write_diff`].
pub fn write_tree(
    root: &Root,
    ownership: &Ownership,
    place: Place,
    last: bool,
    out: impl Write,
) -> Result<DiffStats> {
    let mut differ = Differ {
        upper: root,
        options: DiffOptions {
            ownership,
            latest: None,
            without_user: false,
        },
        tar: TarWriter::at(out, place),
        links: HashMap::new(),
        attributes: attributes::Reader::new(ownership, false),
        ahead: Ahead::new(ahead::FEW),
        stats: DiffStats::default(),
    };
    differ.walk()?;
    differ.stats.skipped_xattrs = differ.attributes.into_skipped();
    if last {
        differ.tar.finish()?;
    } else {
        differ.tar.pause()?;
    }
    Ok(differ.stats)
}

struct Differ<'a, W: Write> {
    upper: &'a Root,
    options: DiffOptions<'a>,
    tar: TarWriter<W>,
    /// Where files with several names were first met, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    attributes: attributes::Reader<'a>,
    ahead: Ahead,
    stats: DiffStats,
}

/// A directory on the way down.
struct Level {
    path: Vec<u8>,
    /// Closed while the walk is far below it.
    fd: Option<OwnedFd>,
    names: std::vec::IntoIter<Name>,
    /// The next regular files, where there were many to look at.
    seen: VecDeque<Result<Option<Seen>>>,
    /// Whether too few are left for that.
    is_small: bool,
}

/// An entry of a directory.
struct Name {
    name: OsString,
    kind: FileType,
}

impl<W: Write> Differ<'_, W> {
    fn walk(&mut self) -> Result<()> {
        let root = open_dir(self.upper, b"")?;
        let attributes = self.attributes.read(b"", root.as_fd())?;
        let mut levels = vec![self.enter(Vec::new(), root, &attributes)?];
        while let Some(level) = levels.last_mut() {
            let Some(kind) = level.names.as_slice().first().map(|name| name.kind) else {
                levels.pop();
                continue;
            };
            let dir = match &mut level.fd {
                Some(fd) => &*fd,
                closed => closed.insert(open_dir(self.upper, &level.path)?),
            };
            let is_file = kind == FileType::RegularFile;
            if is_file && level.seen.is_empty() && !level.is_small {
                let files = level.names.as_slice().iter();
                let files = files.filter(|name| name.kind == FileType::RegularFile);
                let files: Vec<&Name> = files.take(ahead::BATCH).collect();
                level.is_small = !self.ahead.is_worth(files.len());
                if !level.is_small {
                    let found = self.ahead.look(dir, &level.path, &files, self.options)?;
                    level.seen.extend(found.0);
                    self.attributes.add_skipped(found.1);
                }
            }
            let seen = if is_file {
                level.seen.pop_front()
            } else {
                None
            };
            let Some(name) = level.names.next() else {
                continue;
            };
            let path = join(&level.path, name.name.as_bytes());
            if let Some(below) = self.entry(dir, &name, path, seen)? {
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN_LEVELS) {
                    levels[far].fd = None;
                }
            }
        }
        Ok(())
    }

    /// Writes one entry, which may have been `seen` already; returns its level when it is a directory.
    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &Name,
        path: Vec<u8>,
        seen: Option<Result<Option<Seen>>>,
    ) -> Result<Option<Level>> {
        if name.name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return Err(
                Error::new("a layer cannot hold a name that begins with `.wh.`")
                    .path_bytes(&path)
                    .hint("such names mean deletions in layers; rename or remove the file"),
            );
        }
        if path.len() > MAX_PATH {
            return Err(Error::new(format!(
                "a path has more than {MAX_PATH} bytes, too many to be unpacked"
            ))
            .path_bytes(&path[..64]));
        }
        if let Some(seen) = seen.transpose()?.flatten() {
            let mut entry = describe(&path, EntryKind::File, &seen.stat, &seen.record);
            entry.xattrs = seen.attributes.carried;
            self.stats.entries += 1;
            self.tar.append_reader(&entry, &mut &seen.content[..])?;
            return Ok(None);
        }
        let reading = |e| reading(&path, e);
        let mut stat =
            rustix::fs::statat(dir, &name.name, AtFlags::SYMLINK_NOFOLLOW).map_err(reading)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Dir,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::Char,
            FileType::BlockDevice => EntryKind::Block,
            FileType::Fifo => EntryKind::Fifo,
            _ => {
                self.stats.skipped_sockets += 1;
                return Ok(None);
            }
        };
        let latest = self.options.latest;
        set_latest(dir, &name.name, &mut stat, latest, || path.clone())?;
        let opened = match kind {
            EntryKind::File => Some(OFlags::NONBLOCK),
            EntryKind::Dir => Some(OFlags::DIRECTORY),
            _ => None,
        };
        let opened = opened
            .map(|flags| {
                let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(dir, &name.name, flags, Mode::empty())
            })
            .transpose()
            .map_err(reading)?;
        let ownership = self.options.ownership;
        let record = match &opened {
            Some(fd) => ownership.record(fd, &stat),
            None => ownership.special(&path, &stat).map(Record::from),
        };
        let record = record.map_err(|trouble| owner_trouble(&path, trouble))?;
        let mut entry = describe(&path, kind, &stat, &record);
        if entry.kind != kind {
            self.stats.stand_ins += 1;
        }
        if kind != EntryKind::Dir && stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                (entry.kind, entry.size) = (EntryKind::Hardlink, 0);
                entry.link.clone_from(first);
                self.append(&entry)?;
                return Ok(None);
            }
            self.links.insert(id, path.clone());
        }
        match (entry.kind, opened) {
            (EntryKind::File, Some(file)) => {
                self.file(entry, &stat, File::from(file))?;
                Ok(None)
            }
            (EntryKind::Dir, Some(fd)) => {
                let mut attributes = self.attributes.read(&path, fd.as_fd())?;
                entry.xattrs = std::mem::take(&mut attributes.carried);
                self.append(&entry)?;
                self.enter(path, fd, &attributes).map(Some)
            }
            (EntryKind::Symlink, _) => {
                let link = rustix::fs::readlinkat(dir, &name.name, Vec::new());
                entry.link = link.map_err(reading)?.into_bytes();
                self.append(&entry).map(|()| None)
            }
            _ => self.append(&entry).map(|()| None),
        }
    }

    fn file(&mut self, mut entry: Entry, stat: &Stat, mut file: File) -> Result<()> {
        entry.xattrs = self.attributes.read(&entry.path, file.as_fd())?.carried;
        self.stats.entries += 1;
        // Blocks are counted in units of 512 bytes (stat(2)).
        let allocated = stat.st_blocks.cast_unsigned().saturating_mul(512);
        if allocated < entry.size {
            self.tar.append_sparse(&entry, &file)
        } else {
            self.tar.append_reader(&entry, &mut file)
        }
    }

    fn append(&mut self, entry: &Entry) -> Result<()> {
        self.stats.entries += 1;
        self.tar.append(entry)
    }

    /// Writes a directory's deletions and returns the rest of its entries, sorted.
    fn enter(&mut self, path: Vec<u8>, fd: OwnedFd, attributes: &Attributes) -> Result<Level> {
        let mut names = list(&fd).map_err(|e| reading(&path, e))?;
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if attributes.opaque == Some(Opaque::Whole) {
            self.delete(&path, OPAQUE_NAME)?;
        }
        let mut rest = Vec::with_capacity(names.len());
        for name in names {
            if self.is_whiteout(&path, fd.as_fd(), &name, attributes)? {
                let deleted = [WHITEOUT_PREFIX, name.name.as_bytes()].concat();
                self.delete(&path, &deleted)?;
            } else {
                rest.push(name);
            }
        }
        Ok(Level {
            path,
            fd: Some(fd),
            names: rest.into_iter(),
            seen: VecDeque::new(),
            is_small: false,
        })
    }

    fn delete(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        self.append(&Entry::new(join(dir, name), EntryKind::File, 0))
    }

    /// Tells whether overlayfs means an entry as deleted: a character device 0:0 or, in
    /// directories that say so, an empty file with a mark (Linux, overlayfs.rst).
    fn is_whiteout(
        &mut self,
        path: &[u8],
        dir: BorrowedFd<'_>,
        name: &Name,
        attributes: &Attributes,
    ) -> Result<bool> {
        let marks = attributes.opaque == Some(Opaque::HasMarks);
        let candidate = match name.kind {
            FileType::CharacterDevice | FileType::Unknown => true,
            FileType::RegularFile => marks,
            _ => false,
        };
        if !candidate {
            return Ok(false);
        }
        let reading = |e| reading(&join(path, name.name.as_bytes()), e);
        let stat =
            rustix::fs::statat(dir, &name.name, AtFlags::SYMLINK_NOFOLLOW).map_err(reading)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => Ok(stat.st_rdev == 0),
            FileType::RegularFile if marks && stat.st_size == 0 => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, &name.name, flags, Mode::empty());
                attributes::is_marked_deleted(fd.map_err(reading)?.as_fd()).map_err(reading)
            }
            _ => Ok(false),
        }
    }
}

/// Says what a file with this status and record is in the container.
fn describe(path: &[u8], kind: EntryKind, stat: &Stat, record: &Record) -> Entry {
    let kind = match record.device {
        Some(device) if device.block => EntryKind::Block,
        Some(_) => EntryKind::Char,
        None => kind,
    };
    let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (record.owner.uid, record.owner.gid);
    entry.mtime = stat.st_mtime;
    if kind == EntryKind::File {
        entry.size = stat.st_size.cast_unsigned();
    }
    if let Some(device) = record.device {
        entry.rdev = (device.major, device.minor);
    } else if matches!(kind, EntryKind::Char | EntryKind::Block) {
        entry.rdev = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
    }
    entry
}

/// Gives a file that is younger than the latest time this one, in the directory and in `stat`.
fn set_latest(
    dir: &OwnedFd,
    name: &OsStr,
    stat: &mut Stat,
    latest: Option<i64>,
    path: impl Fn() -> Vec<u8>,
) -> Result<()> {
    if let Some(latest) = latest
        && (stat.st_mtime > latest || stat.st_mtime == latest && stat.st_mtime_nsec > 0)
    {
        let times = modified(latest);
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::new("set the time of").path_bytes(&path()).source(e))?;
        stat.st_mtime = latest;
    }
    Ok(())
}

fn open_dir(upper: &Root, path: &[u8]) -> Result<OwnedFd> {
    let path_or_root = if path.is_empty() { b"/" } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    upper
        .open(OsStr::from_bytes(path_or_root), flags, Mode::empty())
        .map_err(|e| reading(path, e))
}

/// A modification time in seconds; the access time stays.
fn modified(seconds: i64) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(0, UTIME_OMIT),
        last_modification: time(seconds, 0),
    }
}

fn list(dir: &OwnedFd) -> rustix::io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(Name {
                name: OsString::from_vec(name.to_vec()),
                kind: entry.file_type(),
            });
        }
    }
    Ok(names)
}

fn owner_trouble(path: &[u8], trouble: Trouble) -> Error {
    match trouble {
        Trouble::Foreign(uid, gid) => Error::new(format!(
            "owner {uid}:{gid} is none of the container's, but owns"
        ))
        .path_bytes(path),
        other => Error::new("read the owner of")
            .path_bytes(path)
            .source(std::io::Error::from(other)),
    }
}

fn reading(path: &[u8], e: rustix::io::Errno) -> Error {
    Error::new("read")
        .path_bytes(if path.is_empty() { b"/" } else { path })
        .source(std::io::Error::from(e))
}

/// An upper directory that the builder's own mounts cannot have made.
fn foreign_upper(path: &[u8], name: &[u8]) -> Error {
    Error::new(format!(
        "the overlay was mounted with a feature that layers cannot express (`{}`) at",
        String::from_utf8_lossy(name)
    ))
    .path_bytes(path)
    .kind(Kind::Internal)
}

#[cfg(test)]
mod tests;
