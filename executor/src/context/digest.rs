//! Content digests of what a COPY selects, for cache keys.
//!
//! Responsible for hashing exactly what decides the copy's result, and for not reading a file
//! again that is known from its status. Must not know where known digests are kept. Invariant:
//! times and (for a context) owners are not part of a digest; file names, types, permissions,
//! contents, link targets and copied attributes are.
//!
//! Memory is bounded: entries are gathered in batches, hashed by a few threads and folded into
//! the digest in order.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use runtime::identity::{Ownership, Record};
use runtime::path::Root;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use crate::context::ignore::Matcher;
use crate::context::walk::{self, Match, Node, Pick, Step, Tree};
use crate::context::xattrs;
use crate::dockerfile::mode::FileMode;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;

/// Entries that are gathered before they are hashed; few in tests, so that they fill some.
const BATCH: usize = if cfg!(test) { 64 } else { 4096 };
/// Below this many bytes, threads cost more than they save.
const PARALLEL_BYTES: u64 = 1 << 20;
/// Changes whenever the same tree would give another digest.
const VERSION: &[u8] = b"sandcrab copy content 1";

/// What identifies a state of a file without reading it.
///
/// ctime is what makes it trustworthy: it can't be set back, unlike mtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of contents: seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of status: seconds since the epoch, and nanoseconds.
    pub ctime: (i64, u32),
}

/// Known digests of files: SHA-256 over copied attributes and contents, both of which a key
/// vouches for.
pub trait FileDigests: Sync {
    /// Returns the digest of the file with this key, if it is known.
    fn lookup(&self, key: &FileKey) -> Option<Digest>;
    /// Remembers the digest of a file whose status was `key` at `seen` or later, and still after
    /// it was read. The implementation leaves out what changed so shortly before `seen` that a
    /// later write could have the same time stamp.
    fn insert(&self, key: &FileKey, digest: Digest, seen: SystemTime);
}

/// Knows nothing and remembers nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoDigests;

impl FileDigests for NoDigests {
    fn lookup(&self, _key: &FileKey) -> Option<Digest> {
        None
    }

    fn insert(&self, _key: &FileKey, _digest: Digest, _seen: SystemTime) {}
}

/// What to select and how it will be stored.
#[derive(Debug, Clone, Copy)]
pub struct SelectRequest<'a> {
    /// What is taken.
    pub pick: &'a Pick,
    /// `--chmod=`: the permissions that count are those of the copy.
    pub chmod: Option<&'a FileMode>,
    /// Who owns what in the tree when owners are kept (a stage or an image as source); `None` for a
    /// context, whose owners play no part.
    pub owners: Option<&'a Ownership>,
    /// Whether a directory counts with its own owner and permissions, as where it is mounted; a copy
    /// takes its contents only.
    pub whole: bool,
}

/// What a COPY selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Digest of everything that decides the result.
    pub digest: Digest,
    /// Identity of the files as they were; see [`Stamp`].
    pub stamp: Digest,
    /// Number of entries other than directories.
    pub files: u64,
    /// Bytes in regular files.
    pub bytes: u64,
}

/// Selects the sources of one COPY and computes their digests.
///
/// # Errors
/// Those of [`Tree::matches`] and [`Tree::walk`]; and when a file can't be read or changes
/// meanwhile.
pub fn select(
    root: &Root,
    ignore: &Matcher,
    request: &SelectRequest<'_>,
    known: &dyn FileDigests,
) -> Result<Selection> {
    let tree = Tree::new(root, ignore);
    let mut hashing = Hashing {
        root,
        request,
        known,
        hasher: Sha256::new(),
        batch: Vec::new(),
        links: HashMap::new(),
    };
    hashing.field(VERSION);
    let mut stamp = Stamp::new();
    let (mut files, mut bytes) = (0, 0);
    for from in tree.pick(request.pick)? {
        stamp.start(&from);
        hashing.start(&from)?;
        tree.walk(&from, &mut |step| {
            match step {
                Step::Enter(node) => {
                    stamp.add(node);
                    // A copied directory's own status is not copied, only its contents are.
                    if request.whole || !node.below.as_os_str().is_empty() {
                        hashing.add(node)?;
                    }
                }
                Step::Item(node) => {
                    stamp.add(node);
                    files += 1;
                    if node.file_type() == FileType::RegularFile {
                        bytes += node.stat.st_size.cast_unsigned();
                    }
                    hashing.add(node)?;
                }
                Step::Leave(_) => {}
            }
            Ok(())
        })?;
    }
    hashing.flush()?;
    Ok(Selection {
        digest: Digest::from_bytes(hashing.hasher.finalize().into()),
        stamp: stamp.finish(),
        files,
        bytes,
    })
}

/// Identity of a set of files by their status: equal stamps before and after a copy mean that
/// nothing changed meanwhile.
///
/// Directories count with their inode only: their times change with entries that are ignored.
pub struct Stamp(Sha256);

impl Stamp {
    /// Starts an empty set.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Begins the next match.
    pub fn start(&mut self, from: &Match) {
        self.0.update(b"match");
        self.0.update(from.source.to_le_bytes());
    }

    /// Adds an entry, in the order of the walk.
    pub fn add(&mut self, node: &Node<'_>) {
        let path = node.below.as_os_str().as_bytes();
        self.0.update(path.len().to_le_bytes());
        self.0.update(path);
        let stat = node.stat;
        self.0.update(stat.st_dev.to_le_bytes());
        self.0.update(stat.st_ino.to_le_bytes());
        self.0.update(stat.st_mode.to_le_bytes());
        if node.file_type() != FileType::Directory {
            let key = FileKey::of(stat);
            self.0.update(key.size.to_le_bytes());
            for (seconds, nanoseconds) in [key.mtime, key.ctime] {
                self.0.update(seconds.to_le_bytes());
                self.0.update(nanoseconds.to_le_bytes());
            }
        }
    }

    /// Returns the stamp.
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamp").finish_non_exhaustive()
    }
}

impl FileKey {
    /// Takes a file's key from its status.
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            mtime: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }
}

/// An entry whose record waits for its content's digest.
struct Pending {
    record: Vec<u8>,
    path: PathBuf,
    key: FileKey,
    content: Content,
}

enum Content {
    /// Complete without.
    None,
    Known(Digest),
    Wanted,
}

struct Hashing<'a> {
    root: &'a Root,
    request: &'a SelectRequest<'a>,
    known: &'a dyn FileDigests,
    hasher: Sha256,
    batch: Vec<Pending>,
    /// Where files with several links were seen first, in one match.
    links: HashMap<(u64, u64), OsString>,
}

impl Hashing<'_> {
    fn field(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn start(&mut self, from: &Match) -> Result<()> {
        self.links.clear();
        let mut record = vec![b'm'];
        push(&mut record, &(from.source as u64).to_le_bytes());
        // A file is called so in a destination directory; a directory lends only its contents.
        if !from.is_dir() {
            push(&mut record, from.name.as_bytes());
        }
        self.enqueue(record, Path::new(""), None)
    }

    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        let kind = node.file_type();
        let stat = node.stat;
        let mut record = vec![match kind {
            FileType::Directory => b'd',
            FileType::Symlink => b'l',
            FileType::RegularFile => b'f',
            FileType::Fifo => b'p',
            FileType::CharacterDevice => b'c',
            FileType::BlockDevice => b'b',
            FileType::Socket => b's',
            FileType::Unknown => return Err(Error::new("unknown file type of").path(node.path)),
        }];
        push(&mut record, node.below.as_os_str().as_bytes());
        if let Some(owners) = self.request.owners {
            let found = record_of(owners, node)?;
            for id in [found.owner.uid, found.owner.gid] {
                push(&mut record, &id.to_le_bytes());
            }
            if let Some(device) = found.device {
                record.push(b'D');
                record.push(u8::from(device.block));
                push(&mut record, &device.major.to_le_bytes());
                push(&mut record, &device.minor.to_le_bytes());
            }
        }
        if kind != FileType::Symlink {
            let mode = stat.st_mode & 0o7777;
            let is_dir = kind == FileType::Directory;
            let mode = self.request.chmod.map_or(mode, |m| m.apply(mode, is_dir));
            push(&mut record, &mode.to_le_bytes());
        }
        match kind {
            FileType::Symlink => push(&mut record, &node.read_link()?),
            FileType::CharacterDevice | FileType::BlockDevice => {
                push(&mut record, &stat.st_rdev.to_le_bytes());
            }
            FileType::RegularFile if stat.st_nlink > 1 => {
                let first = self.links.entry((stat.st_dev, stat.st_ino));
                let first = match first {
                    std::collections::hash_map::Entry::Occupied(first) => first,
                    std::collections::hash_map::Entry::Vacant(new) => {
                        new.insert(node.below.as_os_str().to_owned());
                        return self.enqueue(record, node.path, Some(FileKey::of(stat)));
                    }
                };
                record.push(b'h');
                push(&mut record, first.get().as_bytes());
            }
            FileType::RegularFile => {
                return self.enqueue(record, node.path, Some(FileKey::of(stat)));
            }
            FileType::Directory => {
                if let Some(fd) = &node.opened {
                    let attributes = xattrs::read(fd).op_path("read attributes of", node.path)?;
                    push_attributes(&mut record, &attributes);
                }
            }
            _ => {}
        }
        self.enqueue(record, node.path, None)
    }

    /// Adds a record; `key` is that of the file whose digest belongs to it.
    fn enqueue(&mut self, record: Vec<u8>, path: &Path, key: Option<FileKey>) -> Result<()> {
        let content = match key {
            None => Content::None,
            Some(key) => match self.known.lookup(&key) {
                Some(digest) => Content::Known(digest),
                None => Content::Wanted,
            },
        };
        self.batch.push(Pending {
            record,
            path: path.to_owned(),
            key: key.unwrap_or_default(),
            content,
        });
        if self.batch.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Hashes the batch's files and folds its records in, in order.
    fn flush(&mut self) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let wanted: Vec<(usize, &Pending)> = batch
            .iter()
            .enumerate()
            .filter(|(_, p)| matches!(p.content, Content::Wanted))
            .collect();
        let found = self.hash_files(&wanted)?;
        for (index, digest) in found {
            batch[index].content = Content::Known(digest);
        }
        for pending in &batch {
            self.field(&pending.record);
            if let Content::Known(digest) = &pending.content {
                self.field(digest.as_bytes());
            }
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    fn hash_files(&self, wanted: &[(usize, &Pending)]) -> Result<Vec<(usize, Digest)>> {
        let bytes: u64 = wanted.iter().map(|(_, p)| p.key.size).sum();
        let threads = match bytes {
            0..PARALLEL_BYTES => 1,
            _ => std::thread::available_parallelism().map_or(1, |n| n.get().min(4)),
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Digest)>> {
            let mut done = Vec::new();
            let mut buffer = vec![0; 128 << 10];
            while let Some((index, pending)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let seen = SystemTime::now();
                let digest = hash_file(self.root, &pending.path, &pending.key, &mut buffer)?;
                self.known.insert(&pending.key, digest, seen);
                done.push((*index, digest));
            }
            Ok(done)
        };
        if threads.min(wanted.len()) <= 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::with_capacity(wanted.len());
            for worker in workers {
                let done = worker
                    .join()
                    .map_err(|_| Error::new("a hashing thread panicked"))?;
                all.extend(done?);
            }
            Ok(all)
        })
    }
}

/// Returns what an entry is to the container.
fn record_of(owners: &Ownership, node: &Node<'_>) -> Result<Record> {
    let found = match (node.file_type(), node.opened) {
        // Only there owners are in the file, which has to be open for that.
        (FileType::RegularFile, _) if owners.is_emulated() => {
            owners.record(node.open()?, node.stat)
        }
        (FileType::Directory, Some(fd)) if owners.is_emulated() => owners.record(fd, node.stat),
        _ => owners
            .special(node.path.as_os_str().as_bytes(), node.stat)
            .map(Record::from),
    };
    found.map_err(|trouble| {
        Error::new("read the owner of")
            .path(node.path)
            .source(std::io::Error::from(trouble))
    })
}

/// Narrows a count of nanoseconds, which is below 10^9 whatever its type.
fn nanoseconds(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(0)
}

fn push(record: &mut Vec<u8>, field: &[u8]) {
    record.extend((field.len() as u64).to_le_bytes());
    record.extend(field);
}

fn push_attributes(record: &mut Vec<u8>, attributes: &[xattrs::Attribute]) {
    for attribute in attributes {
        push(record, attribute.name.as_bytes());
        push(record, &attribute.value);
    }
}

/// Hashes one file and makes sure that it stayed the one that was listed.
fn hash_file(root: &Root, path: &Path, key: &FileKey, buffer: &mut [u8]) -> Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = root
        .open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|e| walk::changed_or(e, "open", path))?;
    let same = |file: &File| -> Result<()> {
        let now = rustix::fs::fstat(file).op_path("stat", path)?;
        if FileKey::of(&now) == *key {
            Ok(())
        } else {
            Err(walk::changed(path))
        }
    };
    same(&file)?;
    let mut record = Vec::new();
    push_attributes(
        &mut record,
        &xattrs::read(&file).op_path("read attributes of", path)?,
    );
    let mut hasher = Sha256::new();
    loop {
        match file.read(buffer).op_path("read", path)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    same(&file)?;
    push(&mut record, &hasher.finalize());
    Ok(Digest::of(&record))
}

#[cfg(test)]
mod tests;
