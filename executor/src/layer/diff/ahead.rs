//! Small files of a directory, looked at by several threads before their turn.
//!
//! Responsible for everything that is asked of the kernel about a small regular file: its status, what it
//! stands for, its attributes, its content. Must not write to the archive. Invariant: what is found is
//! what the walk would find in the file's turn; files that need more than that are left to it.
//!
//! Six calls for each of many small files are most of a layer's time, and wait for locks and copies in
//! the kernel, not for each other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use runtime::identity::{IdMap, Identity, Ownership, Record};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::attributes::{self, Attributes};
use super::{DiffOptions, Name, owner_trouble, reading, set_latest};
use crate::error::{Error, Kind, Result};
use crate::layer::entry::join;

/// Files that are looked at together; with [`SMALL`] it limits the memory, to 4 MiB.
pub(super) const BATCH: usize = 256;

/// Fewer are not worth a thread.
pub(super) const FEW: usize = 32;

/// The longest file whose content is read.
const SMALL: u64 = 16 * 1024;

/// Threads beyond these wait for each other in the kernel.
const MOST_THREADS: usize = 4;

/// A small regular file.
pub(super) struct Seen {
    pub(super) stat: Stat,
    pub(super) record: Record,
    pub(super) attributes: Attributes,
    pub(super) content: Vec<u8>,
}

/// What looking at files has found: each in its order, `None` where it is left to the walk, and how
/// often which attribute was left out.
pub(super) type Found = (Vec<Result<Option<Seen>>>, BTreeMap<String, u64>);

/// Looks at files.
#[derive(Debug)]
pub(super) struct Ahead {
    /// How many files are worth it.
    few: usize,
    /// How many threads there are, once they were counted.
    threads: Option<usize>,
}

/// What threads need to know of the options, without what they can't share.
#[derive(Clone, Copy)]
struct Rules {
    identity: Identity,
    ids: IdMap,
    latest: Option<i64>,
    without_user: bool,
}

impl Ahead {
    /// Looks at no fewer than `few` files together.
    pub(super) fn new(few: usize) -> Self {
        Self { few, threads: None }
    }

    /// Tells whether so many files are enough.
    pub(super) fn is_worth(&self, files: usize) -> bool {
        files >= self.few
    }

    /// Looks at regular files of the directory `dir`, whose path is `path`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a thread panicked; troubles with a file are with it.
    pub(super) fn look(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        names: &[&Name],
        options: DiffOptions<'_>,
    ) -> Result<Found> {
        let rules = Rules {
            identity: options.ownership.identity(),
            ids: options.ownership.ids(),
            latest: options.latest,
            without_user: options.without_user,
        };
        let threads = *self.threads.get_or_insert_with(|| {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            cores.min(MOST_THREADS)
        });
        let mut parts = names.chunks(names.len().div_ceil(threads).max(1));
        let first = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let others: Vec<_> = parts
                .map(|part| scope.spawn(move || rules.look(dir, path, part)))
                .collect();
            let (mut all, mut skipped) = rules.look(dir, path, first);
            for other in others {
                let (files, more) = other.join().map_err(|_| {
                    Error::new("a thread that reads files panicked").kind(Kind::Internal)
                })?;
                all.extend(files);
                for (name, count) in more {
                    *skipped.entry(name).or_default() += count;
                }
            }
            Ok((all, skipped))
        })
    }
}

impl Rules {
    fn look(self, dir: &OwnedFd, path: &[u8], names: &[&Name]) -> Found {
        // Regular files need nothing of what it has learnt.
        let ownership = Ownership::new(self.identity, self.ids);
        let mut attributes = attributes::Reader::new(&ownership, self.without_user);
        let files = names
            .iter()
            .map(|name| self.file(dir, path, name, &ownership, &mut attributes))
            .collect();
        (files, attributes.into_skipped())
    }

    fn file(
        self,
        dir: &OwnedFd,
        parent: &[u8],
        name: &Name,
        ownership: &Ownership,
        attributes: &mut attributes::Reader<'_>,
    ) -> Result<Option<Seen>> {
        let path = || join(parent, name.name.as_bytes());
        let failed = |e| reading(&path(), e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut stat =
            rustix::fs::statat(dir, &name.name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let size = stat.st_size.cast_unsigned();
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || stat.st_nlink > 1 || size > SMALL {
            return Ok(None);
        }
        set_latest(dir, &name.name, &mut stat, self.latest, path)?;
        let fd = rustix::fs::openat(dir, &name.name, flags, Mode::empty()).map_err(failed)?;
        let record = ownership
            .record(&fd, &stat)
            .map_err(|trouble| owner_trouble(&path(), trouble))?;
        if record.device.is_some() {
            return Ok(None);
        }
        let attributes = attributes.read(&path(), fd.as_fd())?;
        // Room for one more byte shows a file that has grown, without asking again.
        let mut content = vec![0; size as usize + 1];
        let length = File::from(fd)
            .read(&mut content)
            .map_err(|e| Error::new("read").path_bytes(&path()).source(e))?;
        if length as u64 != size {
            return Err(Error::new("file changed its size while it was copied").path_bytes(&path()));
        }
        content.truncate(length);
        Ok(Some(Seen {
            stat,
            record,
            attributes,
            content,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::Path;

    use runtime::identity::{Device, Owner};
    use runtime::path::Root;
    use rustix::fs::XattrFlags;

    use super::super::{DiffStats, write};
    use super::*;
    use crate::layer::testing::{emulated, own};

    fn put(path: &Path, text: &[u8]) {
        fs::write(path, text).expect("write");
    }

    /// A directory of more files than a batch, of all kinds and sizes, with others between them.
    fn fill(dir: &Path) {
        let small = SMALL as usize;
        for n in 0..3 * BATCH {
            let length = [0, 1, 700, small - 1, small, small + 1][n % 6];
            put(&dir.join(format!("f{n:04}")), &vec![n as u8; length]);
        }
        for n in [5, 300, 301, 600] {
            let name = |word| dir.join(format!("f{n:04}{word}"));
            fs::create_dir(name("-dir")).expect("mkdir");
            put(&name("-dir/inside"), b"inside");
            symlink("f0000", name("-link")).expect("symlink");
            fs::hard_link(name(""), name("-other")).expect("link");
            let sparse = fs::File::create(name("-sparse")).expect("create");
            sparse.set_len(9000).expect("truncate");
            sparse.write_at(b"x", 8000).expect("write");
        }
        let socket = dir.join("f0400-socket");
        std::os::unix::net::UnixListener::bind(socket).expect("bind");
    }

    fn archive(dir: &Path, options: DiffOptions<'_>, few: usize) -> Result<(Vec<u8>, DiffStats)> {
        let upper = Root::open_host(dir).expect("open");
        let mut out = Vec::new();
        let stats = write(&upper, options, Ahead::new(few), &mut out)?;
        Ok((out, stats))
    }

    #[test]
    fn the_layer_is_that_of_the_plain_walk() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fill(dir.path());
        let with_attribute = dir.path().join("f0123");
        let set = |name| rustix::fs::lsetxattr(&with_attribute, name, b"1", XattrFlags::empty());
        let has_attributes = set("user.a").is_ok();
        for ownership in [own(), emulated()] {
            if ownership.is_emulated() {
                if !has_attributes {
                    eprintln!("SKIP: the temporary directory has no user attributes");
                    return;
                }
                for (name, device) in [("f0006", None), ("f0012", Some((1, 3)))] {
                    let mut record = Record::from(Owner { uid: 7, gid: 8 });
                    record.device = device.map(|(major, minor)| Device {
                        block: false,
                        major,
                        minor,
                    });
                    let file = fs::File::open(dir.path().join(name)).expect("open");
                    ownership
                        .set_record(&file, &record)
                        .expect("write a record");
                }
            }
            // The last one changes times and attributes in the tree, too.
            for (latest, without_user) in [(None, false), (Some(1000), false), (Some(900), true)] {
                let options = DiffOptions {
                    ownership: &ownership,
                    latest,
                    without_user: without_user && ownership.is_emulated(),
                };
                let plain = archive(dir.path(), options, usize::MAX).expect("diff");
                for few in [1, FEW] {
                    let ahead = archive(dir.path(), options, few).expect("diff");
                    assert!(ahead == plain, "{:?} is not {:?}", ahead.1, plain.1);
                }
            }
        }
    }

    #[test]
    fn times_and_attributes_are_changed_ahead_too() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for n in 0..100 {
            put(&dir.path().join(format!("{n}")), b"x");
        }
        let file = dir.path().join("50");
        if rustix::fs::lsetxattr(&file, "user.a", b"1", XattrFlags::empty()).is_err() {
            eprintln!("SKIP: the temporary directory has no user attributes");
            return;
        }
        let ownership = own();
        let options = DiffOptions {
            ownership: &ownership,
            latest: Some(1000),
            without_user: true,
        };
        let ahead = archive(dir.path(), options, 1).expect("diff");
        let modified = fs::metadata(&file)
            .and_then(|m| m.modified())
            .expect("time");
        let since = modified
            .duration_since(std::time::UNIX_EPOCH)
            .expect("later");
        assert_eq!(since.as_secs(), 1000);
        let left = rustix::fs::lgetxattr(&file, "user.a", &mut [0_u8; 8]);
        assert_eq!(left, Err(rustix::io::Errno::NODATA));
        assert!(ahead == archive(dir.path(), options, usize::MAX).expect("diff"));
    }

    #[test]
    fn trouble_names_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for n in 0..100 {
            put(&dir.path().join(format!("{n}")), b"x");
        }
        let bad = dir.path().join("70");
        if rustix::fs::lsetxattr(&bad, "user.a=b", b"1", XattrFlags::empty()).is_err() {
            eprintln!("SKIP: the temporary directory has no user attributes");
            return;
        }
        let ownership = own();
        let options = DiffOptions {
            ownership: &ownership,
            latest: None,
            without_user: false,
        };
        let error = |few| {
            archive(dir.path(), options, few)
                .expect_err("an error")
                .chain()
        };
        assert!(error(1).contains("`70`"), "{}", error(1));
        assert_eq!(error(1), error(usize::MAX));
    }
}
