//! The flattened root file system as files of the caller.
//!
//! Responsible for `type=local`: contents, modes, times, links; no extended attributes. Runs in a job, which may read
//! everything in the tree and whose own files are the caller's. Must not follow links of the tree
//! or of the destination. Invariant: each file appears whole; a new or empty destination has all
//! of them or none. Set-id bits are dropped, since they would speak for the caller.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime::identity::Ownership;
use runtime::path::{Root, names};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, Result, ResultExt};

/// How files are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalOptions {
    /// Whether what the destination has under other names is removed.
    pub delete: bool,
    /// The latest time of a file, in seconds since the epoch.
    pub latest: Option<i64>,
}

/// Writes the whole tree into a directory, which exists; what it has under other names stays, unless
/// it is to be removed. Returns what could not be written, one line each.
///
/// # Errors
/// Those of the file system, and a directory where the tree has something else.
pub fn export_local(
    root: &Root,
    ownership: &Ownership,
    dest: &Path,
    options: LocalOptions,
) -> Result<Vec<String>> {
    let is_empty = fs::read_dir(dest).op_path("read", dest)?.next().is_none();
    let parent = dest.parent().filter(|_| is_empty);
    let aside = parent.and_then(|parent| {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".sandcrab-").tempdir_in(parent).ok()
    });
    let Some(aside) = aside else {
        let exporter = Exporter::new(root, ownership, dest, options)?;
        if options.delete {
            exporter.clear()?;
        }
        return exporter.export();
    };
    let notes = Exporter::new(root, ownership, aside.path(), options)?.export()?;
    let permissions = fs::metadata(dest).op_path("read", dest)?.permissions();
    fs::set_permissions(aside.path(), permissions).op_path("protect", aside.path())?;
    fs::rename(aside.path(), dest).op_path("write", dest)?;
    // Its name is gone, so there is nothing to clean up.
    drop(aside.keep());
    Ok(notes)
}

struct Exporter<'a> {
    root: &'a Root,
    ownership: &'a Ownership,
    dest: Root,
    dest_path: &'a Path,
    latest: Option<i64>,
    /// Where a file with several names was first written.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories and what they get when nothing more is written into them.
    dirs: Vec<(PathBuf, Stat)>,
    devices: u64,
    sockets: u64,
    next: u64,
}

impl<'a> Exporter<'a> {
    fn new(
        root: &'a Root,
        ownership: &'a Ownership,
        dest: &'a Path,
        options: LocalOptions,
    ) -> Result<Self> {
        Ok(Self {
            root,
            ownership,
            dest: Root::open_host(dest).op_path("open", dest)?,
            dest_path: dest,
            latest: options.latest,
            links: HashMap::new(),
            dirs: Vec::new(),
            devices: 0,
            sockets: 0,
            next: 0,
        })
    }

    /// Removes what the destination has and the tree has not, or has as another kind of file.
    fn clear(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = self.dest.open("/", flags, Mode::empty());
        let dir = dir.map_err(|e| self.writing(Path::new("/"), e))?;
        let kind = |root: &Root, path: &Path| {
            let found = root.entry(path).ok().flatten()?;
            let stat = rustix::fs::statat(&found.dir, &found.name, AtFlags::SYMLINK_NOFOLLOW);
            Some(FileType::from_raw_mode(stat.ok()?.st_mode) == FileType::Directory)
        };
        let mut keep = |path: &[u8]| {
            let path = Path::new("/").join(std::ffi::OsStr::from_bytes(path));
            let wanted = kind(self.root, &path);
            wanted.is_some() && wanted == kind(&self.dest, &path)
        };
        runtime::path::remove::remove_children(dir, &mut keep)
            .map_err(|e| self.writing(Path::new("/"), e))
    }

    fn export(mut self) -> Result<Vec<String>> {
        let mut rest = vec![PathBuf::from("/")];
        while let Some(path) = rest.pop() {
            let source = self.open_source(&path, OFlags::DIRECTORY)?;
            let target = self
                .dest
                .open_dir(&path)
                .map_err(|e| self.writing(&path, e))?;
            for name in names(&source).op_path("read", &path)? {
                let child = path.join(&name);
                if self.write(&source, &target, &name, &child)? {
                    rest.push(child);
                }
            }
        }
        // Children first: writing into a directory changes its time, and it may be read-only.
        for (path, stat) in std::mem::take(&mut self.dirs).iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            self.dest
                .open(path, flags, Mode::empty())
                .and_then(|dir| finish(&dir, stat, 0o1777))
                .map_err(|e| self.writing(path, e))?;
        }
        let mut notes = Vec::new();
        for (count, what) in [(self.devices, "devices"), (self.sockets, "sockets")] {
            if count > 0 {
                notes.push(format!("{count} {what} are not among the exported files"));
            }
        }
        Ok(notes)
    }

    /// Writes one entry; tells whether it is a directory, whose entries come later.
    fn write(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &OsString,
        path: &Path,
    ) -> Result<bool> {
        let mut stat =
            rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).op_path("read", path)?;
        if let Some(latest) = self.latest.filter(|latest| stat.st_mtime >= *latest) {
            (stat.st_mtime, stat.st_mtime_nsec) = (latest, 0);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            make_dir(target, name).map_err(|e| self.writing(path, e))?;
            self.dirs.push((path.to_path_buf(), stat));
            return Ok(true);
        }
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&id)
        {
            let first = self.dest.entry(first).op_path("find", first)?;
            if let Some(first) = first {
                return self
                    .place(target, name, path, |aside| {
                        rustix::fs::linkat(&first.dir, &first.name, target, aside, AtFlags::empty())
                    })
                    .map(|()| false);
            }
        }
        match kind {
            FileType::RegularFile => {
                let file = File::from(self.open_source(path, OFlags::NOFOLLOW)?);
                if self.stands_in(&file, &stat, path)? {
                    self.devices += 1;
                    return Ok(false);
                }
                let aside = self.aside();
                copy(file, target, &aside, &stat)
                    .and_then(|()| Ok(rustix::fs::renameat(target, &aside, target, name)?))
                    .map_err(|e| {
                        rustix::fs::unlinkat(target, &aside, AtFlags::empty()).ok();
                        self.writing(path, e)
                    })?;
            }
            FileType::Symlink => {
                let link =
                    rustix::fs::readlinkat(source, name, Vec::new()).op_path("read", path)?;
                self.place(target, name, path, |aside| {
                    rustix::fs::symlinkat(&link, target, aside)?;
                    let times = times(&stat);
                    rustix::fs::utimensat(target, aside, &times, AtFlags::SYMLINK_NOFOLLOW)
                })?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
                self.place(target, name, path, |aside| {
                    rustix::fs::mknodat(target, aside, FileType::Fifo, mode, 0)?;
                    rustix::fs::chmodat(target, aside, mode, AtFlags::empty())?;
                    rustix::fs::utimensat(target, aside, &times(&stat), AtFlags::empty())
                })?;
            }
            FileType::Socket => self.sockets += 1,
            _ => self.devices += 1,
        }
        if stat.st_nlink > 1 && matches!(kind, FileType::RegularFile | FileType::Symlink) {
            self.links.insert(id, path.to_path_buf());
        }
        Ok(false)
    }

    /// Makes an entry under a name of its own and moves it into place.
    fn place(
        &mut self,
        target: &OwnedFd,
        name: &OsString,
        path: &Path,
        make: impl FnOnce(&str) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let aside = self.aside();
        make(&aside)
            .and_then(|()| rustix::fs::renameat(target, &aside, target, name))
            .map_err(|e| self.writing(path, e))?;
        // Renaming one name of a file to another of the same file does nothing (rename(2)).
        match rustix::fs::unlinkat(target, &aside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.writing(path, e)),
        }
    }

    /// Tells whether a file stands for a device.
    fn stands_in(&self, file: &File, stat: &Stat, path: &Path) -> Result<bool> {
        if !self.ownership.is_emulated() || stat.st_size > 0 {
            return Ok(false);
        }
        let record = self.ownership.record(file, stat);
        Ok(record.op_path("read the owner of", path)?.device.is_some())
    }

    fn aside(&mut self) -> String {
        self.next += 1;
        format!(".sandcrab-{}-{}", std::process::id(), self.next)
    }

    fn open_source(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.root
            .open(path, OFlags::RDONLY | flags, Mode::empty())
            .op_path("read", path)
    }

    fn writing(&self, path: &Path, error: impl Into<io::Error>) -> Error {
        let relative = path.strip_prefix("/").unwrap_or(path);
        Error::new("write")
            .path(self.dest_path.join(relative))
            .source(error.into())
    }
}

/// Makes a directory that can be written into; a file or link of this name makes way.
fn make_dir(target: &OwnedFd, name: &OsString) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o700);
    match rustix::fs::mkdirat(target, name, mode) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    let stat = rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(());
    }
    rustix::fs::unlinkat(target, name, AtFlags::empty())?;
    rustix::fs::mkdirat(target, name, mode)
}

/// Copies a file's data, leaving out holes, and gives it mode and time.
fn copy(mut source: File, target: &OwnedFd, name: &str, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
    let mut out = File::from(fd);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(&source, rustix::fs::SeekFrom::Hole(data))?;
        source.seek(SeekFrom::Start(data))?;
        out.seek(SeekFrom::Start(data))?;
        io::copy(&mut source.by_ref().take(end - data), &mut out)?;
        at = end;
    }
    out.set_len(size)?;
    finish(&out, stat, 0o777)?;
    Ok(())
}

fn finish(fd: impl AsFd, stat: &Stat, mask: u32) -> rustix::io::Result<()> {
    let fd: BorrowedFd<'_> = fd.as_fd();
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode & mask))?;
    rustix::fs::futimens(fd, &times(stat))
}

/// Returns a file's modification time, for both of the times that can be set.
fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.cast_signed(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::own;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = |p: &str| dir.path().join(p);
        fs::create_dir_all(path("a/b")).expect("mkdir");
        fs::write(path("a/file"), "content").expect("write");
        fs::hard_link(path("a/file"), path("a/b/same")).expect("link");
        symlink("/etc/passwd", path("a/link")).expect("symlink");
        fs::write(path("tool"), "#!").expect("write");
        let mode = |m| fs::Permissions::from_mode(m);
        fs::set_permissions(path("tool"), mode(0o4755)).expect("chmod");
        let sparse = File::create(path("sparse")).expect("create");
        sparse.set_len(1 << 40).expect("truncate");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        sparse.set_modified(old).expect("time");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .expect("fifo");
        std::os::unix::net::UnixListener::bind(path("socket")).expect("socket");
        fs::set_permissions(path("a/b"), mode(0o500)).expect("chmod");
        let root = Root::open_host(dir.path()).expect("root");
        (dir, root)
    }

    fn check(dest: &Path) {
        let stat = |p: &str| fs::symlink_metadata(dest.join(p)).expect(p);
        let text = fs::read_to_string(dest.join("a/b/same")).expect("read");
        assert_eq!(text, "content");
        assert_eq!(stat("a/file").ino(), stat("a/b/same").ino());
        assert_eq!(
            fs::read_link(dest.join("a/link")).expect("link"),
            Path::new("/etc/passwd")
        );
        assert_eq!(stat("tool").mode() & 0o7777, 0o755);
        assert_eq!(stat("a/b").mode() & 0o7777, 0o500);
        assert_eq!(
            (stat("sparse").len(), stat("sparse").mtime()),
            (1 << 40, 1_000_000)
        );
        assert!(stat("sparse").blocks() < 1000);
        assert!(stat("pipe").mode() & 0o170_000 == 0o010_000);
        let left = fs::read_dir(dest).expect("list").flatten();
        assert!(
            left.map(|e| e.file_name())
                .all(|n| !n.to_string_lossy().starts_with('.'))
        );
    }

    /// Lets the temporary directory be removed by a user who is not root.
    fn open_up(dir: &Path) {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.join("a/b"), mode).expect("chmod");
    }

    #[test]
    fn a_new_destination_and_again_over_it() {
        let (source, root) = tree();
        let dir = tempfile::tempdir().expect("temporary directory");
        let dest = dir.path().join("out");
        fs::create_dir(&dest).expect("mkdir");
        for _ in 0..2 {
            let notes =
                export_local(&root, &own(), &dest, LocalOptions::default()).expect("export");
            assert_eq!(notes, ["1 sockets are not among the exported files"]);
            check(&dest);
            open_up(&dest);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        open_up(source.path());
    }

    #[test]
    fn links_in_the_destination_are_replaced_not_followed() {
        let (source, root) = tree();
        let dir = tempfile::tempdir().expect("temporary directory");
        let (dest, victim) = (dir.path().join("out"), dir.path().join("victim"));
        fs::create_dir(&dest).expect("mkdir");
        fs::create_dir(&victim).expect("mkdir");
        fs::write(victim.join("tool"), "mine").expect("write");
        symlink(&victim, dest.join("a")).expect("symlink");
        symlink(victim.join("tool"), dest.join("tool")).expect("symlink");
        fs::write(dest.join("other"), "stays").expect("write");
        export_local(&root, &own(), &dest, LocalOptions::default()).expect("export");
        check(&dest);
        assert_eq!(fs::read_dir(&victim).expect("list").count(), 1);
        assert_eq!(
            fs::read_to_string(victim.join("tool")).expect("read"),
            "mine"
        );
        assert!(dest.join("other").exists());
        open_up(&dest);
        open_up(source.path());
    }

    #[test]
    fn a_directory_in_the_way_is_an_error() {
        let (source, root) = tree();
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("tool/x")).expect("mkdir");
        let error = export_local(&root, &own(), dir.path(), LocalOptions::default())
            .expect_err("directory");
        assert!(error.to_string().contains("tool"), "{error}");
        open_up(source.path());
        if dir.path().join("a/b").exists() {
            open_up(dir.path());
        }
    }
    #[test]
    fn what_is_not_in_the_tree_goes_when_that_is_asked_for() {
        let (source, root) = tree();
        let dir = tempfile::tempdir().expect("temporary directory");
        let (dest, victim) = (dir.path().join("out"), dir.path().join("victim"));
        fs::create_dir_all(dest.join("tool/deep/er")).expect("mkdir");
        fs::create_dir_all(dest.join("a/old")).expect("mkdir");
        fs::create_dir(&victim).expect("mkdir");
        fs::write(victim.join("f"), "mine").expect("write");
        symlink(&victim, dest.join("link to a directory")).expect("symlink");
        fs::write(dest.join("a/old/f"), "goes").expect("write");
        let options = LocalOptions {
            delete: true,
            latest: Some(500_000),
        };
        export_local(&root, &own(), &dest, options).expect("export");
        let text = fs::read_to_string(victim.join("f")).expect("read");
        assert_eq!(text, "mine");
        assert!(!dest.join("link to a directory").is_symlink());
        assert!(!dest.join("a/old").exists());
        assert!(dest.join("tool").is_file());
        let date = fs::metadata(dest.join("sparse")).expect("stat").mtime();
        assert_eq!(date, 500_000);
        open_up(&dest);
        open_up(source.path());
    }
}
