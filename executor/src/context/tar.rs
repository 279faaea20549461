//! Contexts that come as an archive, unpacked into a directory of ours.
//!
//! Responsible for unpacking with nothing but the caller's own rights: files, directories and
//! links, with their permissions and times. Must not make devices or change owners, which play no
//! part in a context. Invariant: nothing outside the directory is touched, whatever the names and
//! links in the archive say.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::context::archive::Opened;
use crate::context::ignore::bytes_path;
use crate::error::{Error, Result, ResultExt};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::tar_read::{Limits, TarReader};

/// Unpacks an archive below `root`.
///
/// Permissions are kept, except that the caller must be able to read what it owns: files get
/// `u+r`, directories `u+rwx`. A later entry replaces an earlier one.
///
/// # Errors
/// When the archive is malformed, truncated, over a limit, or holds a device.
pub fn extract(archive: Opened<'_>, root: &Root, limits: Limits) -> Result<()> {
    let mut reader = TarReader::new(archive.reader, limits);
    let mut unpacking = Unpacking {
        root,
        directories: Vec::new(),
    };
    while let Some(entry) = reader.next_entry()? {
        unpacking.take(&entry, &mut reader)?;
    }
    reader.drain()?;
    unpacking.finish()
}

struct Unpacking<'a> {
    root: &'a Root,
    /// Directories whose permissions and times are set at the end.
    directories: Vec<(PathBuf, u32, i64)>,
}

impl Unpacking<'_> {
    fn take(&mut self, entry: &Entry, reader: &mut TarReader<impl Read>) -> Result<()> {
        let path = bytes_path(&entry.path);
        if entry.kind == EntryKind::Dir {
            self.make_dirs(path)?;
            self.directories
                .push((path.to_owned(), entry.mode, entry.mtime));
            return Ok(());
        }
        let name = path.file_name().ok_or_else(|| {
            Error::new("the archive's root is not a directory, in the context's archive")
        })?;
        let dir = self.make_dirs(path.parent().unwrap_or_else(|| Path::new("")))?;
        self.make_room(&dir, name, path)?;
        match entry.kind {
            EntryKind::File => self.file(&dir, name, entry, reader),
            EntryKind::Symlink => {
                rustix::fs::symlinkat(bytes_path(&entry.link), &dir, name)
                    .op_path("make symbolic link", path)?;
                set_time(&dir, name, entry.mtime).op_path("set the time of", path)
            }
            EntryKind::Hardlink => self.hard_link(&dir, name, entry),
            _ => Err(Error::new("devices and pipes are not allowed in a context:").path(path)),
        }
    }

    fn file(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        reader: &mut TarReader<impl Read>,
    ) -> Result<()> {
        let path = bytes_path(&entry.path);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
            .op_path("create", path)?;
        while let Some(chunk) = reader.next_chunk()? {
            let mut at = chunk.offset;
            let mut bytes = chunk.bytes;
            while !bytes.is_empty() {
                match rustix::io::pwrite(&fd, bytes, at) {
                    Ok(n) => {
                        at += n as u64;
                        bytes = &bytes[n..];
                    }
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(Error::new("write").path(path).source(e)),
                }
            }
        }
        // A hole at the end.
        rustix::fs::ftruncate(&fd, entry.size).op_path("set the size of", path)?;
        for (name, value) in &entry.xattrs {
            if name.starts_with(b"user.") {
                // As everywhere else: what can't be stored is left out.
                let none = rustix::fs::XattrFlags::empty();
                rustix::fs::fsetxattr(&fd, bytes_path(name), value, none).unwrap_or_default();
            }
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode & 0o7777 | 0o400))
            .op_path("change the permissions of", path)?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).op_path("set the time of", path)
    }

    fn hard_link(&self, dir: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let (path, target) = (bytes_path(&entry.path), bytes_path(&entry.link));
        let missing = || {
            Error::new(format!(
                "hard link to `{}`, which is no file in the archive before it:",
                target.display()
            ))
            .path(path)
        };
        let source = self.root.entry(target).ok().flatten().ok_or_else(missing)?;
        let stat = source.stat().map_err(|e| missing().source(e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(missing());
        }
        rustix::fs::linkat(&source.dir, &source.name, dir, name, AtFlags::empty())
            .op_path("make hard link", path)
    }

    /// Removes what is in the way of a new entry.
    fn make_room(&self, dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(Error::new(
                "the archive has a directory and another entry of one name:",
            )
            .path(path)),
            Err(e) => Err(Error::new("remove").path(path).source(e)),
        }
    }

    fn make_dirs(&self, path: &Path) -> Result<OwnedFd> {
        self.root
            .make_dirs(path, Mode::from_raw_mode(0o755), &mut |_| Ok(()))
            .op_path("make directory", path)
    }

    fn finish(self) -> Result<()> {
        // From below: a directory's time changes with its entries.
        for (path, mode, mtime) in self.directories.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = self
                .root
                .open(path, flags, Mode::empty())
                .op_path("open directory", path)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777 | 0o700))
                .op_path("change the permissions of", path)?;
            rustix::fs::futimens(&fd, &times(*mtime)).op_path("set the time of", path)?;
        }
        Ok(())
    }
}

fn set_time(dir: &OwnedFd, name: &OsStr, mtime: i64) -> rustix::io::Result<()> {
    rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime,
            tv_nsec: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::archive;
    use crate::layer::tar_write::TarWriter;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn unpack(entries: &[(Entry, &[u8])]) -> (tempfile::TempDir, Result<()>) {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, data) in entries {
            let mut entry = entry.clone();
            entry.size = data.len() as u64;
            entry.mtime = 1_577_836_800;
            tar.append_reader(&entry, &mut &data[..]).expect("append");
        }
        let tar = tar.finish().expect("finish");
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("open root");
        let result = extract(
            archive::open(&tar[..]).expect("open"),
            &root,
            Limits::default(),
        );
        (dir, result)
    }

    fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
        Entry::new(path, kind, mode)
    }

    fn link(path: &str, kind: EntryKind, target: &str) -> Entry {
        let mut entry = Entry::new(path, kind, 0o777);
        entry.link = target.as_bytes().to_vec();
        entry
    }

    #[test]
    fn keeps_contents_permissions_times_and_links() {
        let (dir, result) = unpack(&[
            (entry("d", EntryKind::Dir, 0o555), b""),
            (entry("d/f", EntryKind::File, 0o4755), b"one"),
            (link("d/h", EntryKind::Hardlink, "d/f"), b""),
            (link("l", EntryKind::Symlink, "../../etc/passwd"), b""),
            (entry("implied/x", EntryKind::File, 0), b"two"),
            (entry("d/f2", EntryKind::File, 0o600), b"three"),
        ]);
        result.expect("unpack");
        let meta = |p: &str| dir.path().join(p).symlink_metadata().expect(p);
        assert_eq!(meta("d").mode() & 0o7777, 0o755);
        assert_eq!(meta("d").mtime(), 1_577_836_800);
        assert_eq!(meta("d/f").mode() & 0o7777, 0o4755);
        assert_eq!(meta("d/f").ino(), meta("d/h").ino());
        assert_eq!(meta("implied/x").mode() & 0o7777, 0o400);
        assert_eq!(
            std::fs::read_link(dir.path().join("l")).expect("link"),
            Path::new("../../etc/passwd")
        );
        assert_eq!(
            std::fs::read(dir.path().join("d/f2")).expect("read"),
            b"three"
        );
        assert_eq!(meta("l").mtime(), 1_577_836_800);
        assert_eq!(meta("d").permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn stays_inside_and_refuses_what_is_hostile() {
        let outside = tempfile::tempdir().expect("temporary directory");
        let target = outside.path().to_str().expect("UTF-8");
        let (dir, result) = unpack(&[
            (link("out", EntryKind::Symlink, target), b""),
            (entry("out/file", EntryKind::File, 0o644), b"contained"),
        ]);
        // The link leads to a path below the root, which does not exist there.
        assert!(result.is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("list").count(), 0);
        drop(dir);
        let mut device = entry("dev", EntryKind::Char, 0o666);
        device.rdev = (1, 3);
        for entries in [
            vec![(device, &b""[..])],
            vec![(link("h", EntryKind::Hardlink, "missing"), &b""[..])],
            vec![
                (link("s", EntryKind::Symlink, "/etc/passwd"), &b""[..]),
                (link("h", EntryKind::Hardlink, "s"), &b""[..]),
            ],
            vec![
                (entry("d/x", EntryKind::File, 0o644), &b""[..]),
                (entry("d", EntryKind::File, 0o644), &b""[..]),
            ],
        ] {
            assert!(unpack(&entries).1.is_err(), "{entries:?}");
        }
    }
}
