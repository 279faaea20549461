//! Destinations of one stream of bytes.
//!
//! Responsible for opening them so that a file appears whole or not at all. Must not know what is
//! written. Invariant: without [`Destination::finish`], a regular file that was there before is
//! unchanged, and no new one appears; not even when the process is killed, where the file system has
//! files without a name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use tempfile::NamedTempFile;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::output::options::Dest;

/// An open destination.
#[derive(Debug)]
pub struct Destination {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    /// Standard output, a pipe or a device: written as it comes.
    Direct(File),
    /// A regular file, written aside.
    Aside(Aside, PathBuf),
}

/// A file that becomes another one when it is whole.
#[derive(Debug)]
pub(super) enum Aside {
    /// Without a name: it goes with the process.
    Unnamed(File),
    /// Where the file system has no such.
    Named(NamedTempFile),
}

impl Aside {
    /// Starts a file beside `target`, with the permissions that a new file gets.
    pub(super) fn new(target: &Path) -> Result<Self> {
        let parent = parent_of(target);
        let mode = Mode::from_raw_mode(0o666);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(parent, flags, mode) {
            Ok(file) => Ok(Self::Unnamed(file.into())),
            // The next attempt says what is wrong with the directory, if that is it.
            Err(_) => named().tempfile_in(parent).map(Self::Named),
        }
        .op_path("create file in", parent)
    }

    /// Returns the open file.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it its name; what had that before is replaced.
    pub(super) fn persist(self, target: &Path) -> Result<()> {
        let file = match self {
            Self::Unnamed(file) => {
                // open(2) of Linux, under `O_TMPFILE`, has this way for callers without privileges.
                let source = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |name: &Path| {
                    let flags = AtFlags::SYMLINK_FOLLOW;
                    linkat(CWD, &source, CWD, name, flags).map_err(io::Error::from)
                };
                match link(target) {
                    Ok(()) => return Ok(()),
                    // A link replaces nothing.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e).op_path("write", target),
                }
                let parent = parent_of(target);
                named()
                    .make_in(parent, link)
                    .op_path("write", target)?
                    .into_temp_path()
            }
            Self::Named(file) => file.into_temp_path(),
        };
        file.persist(target)
            .map_err(|e| e.error)
            .op_path("write", target)
    }
}

fn named() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".sandcrab-")
        .permissions(fs::Permissions::from_mode(0o666));
    builder
}

fn parent_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Destination {
    /// Opens a destination. `stdout` is this process's standard output or what stands for it.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the bytes would go to a terminal; those of the file system.
    pub fn open(dest: &Dest, stdout: BorrowedFd<'_>) -> Result<Self> {
        let inner = match dest {
            Dest::Stdout => {
                if rustix::termios::isatty(stdout) {
                    return Err(Error::new("an archive does not go to a terminal")
                        .kind(Kind::Usage)
                        .hint("redirect standard output, or name a file"));
                }
                let fd = stdout
                    .try_clone_to_owned()
                    .op("duplicate standard output")?;
                Inner::Direct(File::from(fd))
            }
            Dest::Path(path) => match fs::metadata(path) {
                Ok(m) if m.is_dir() => {
                    return Err(Error::new("destination is a directory")
                        .path(path)
                        .kind(Kind::Usage)
                        .hint("name a file in it"));
                }
                Ok(m) if !m.is_file() => {
                    let file = File::options().write(true).open(path);
                    Inner::Direct(file.op_path("open", path)?)
                }
                // The file that a link leads to is replaced, not the link.
                Ok(_) => {
                    let target = fs::canonicalize(path).op_path("find", path)?;
                    Inner::Aside(Aside::new(&target)?, target)
                }
                Err(_) => Inner::Aside(Aside::new(path)?, path.clone()),
            },
        };
        Ok(Self { inner })
    }

    /// Makes the result visible.
    pub fn finish(self) -> Result<()> {
        match self.inner {
            Inner::Direct(mut file) => file.flush().op("write output"),
            Inner::Aside(file, target) => file.persist(&target),
        }
    }

    /// Returns the open file, for a job to write to.
    pub fn file(&self) -> &File {
        match &self.inner {
            Inner::Direct(file) => file,
            Inner::Aside(file, _) => file.file(),
        }
    }
}

/// Removes what a directory has besides some names.
///
/// # Errors
/// Those of the file system.
pub fn keep_only(dir: &Path, names: &[String]) -> Result<()> {
    let root = runtime::path::Root::open_host(dir).op_path("open", dir)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = root.open("/", flags, Mode::empty()).op_path("open", dir)?;
    // Each name's tree is another's to look after.
    let mut keep =
        |path: &[u8]| path.contains(&b'/') || names.iter().any(|name| name.as_bytes() == path);
    runtime::path::remove::remove_children(opened, &mut keep).op_path("clear", dir)
}

impl Write for Destination {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl AsFd for Destination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

/// Writes a small result file whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let null = File::open("/dev/null").op_path("open", "/dev/null")?;
    let mut out = Destination::open(&Dest::Path(path.to_path_buf()), null.as_fd())?;
    out.write_all(bytes).op_path("write", path)?;
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_only_when_finished() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("out");
        let dest = Dest::Path(path.clone());
        let null = File::open("/dev/null").expect("null");
        for before in [None, Some("old")] {
            if let Some(text) = before {
                fs::write(&path, text).expect("write");
            }
            let mut out = Destination::open(&dest, null.as_fd()).expect("open");
            out.write_all(b"half").expect("write");
            drop(out);
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
            assert_eq!(
                fs::read_dir(dir.path()).expect("list").count(),
                before.iter().count()
            );
        }
        write_file(&path, b"new").expect("write");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
    }

    #[test]
    fn only_some_names_stay() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in ["a/b/c", "b/a", "c"] {
            fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        }
        keep_only(dir.path(), &["a".to_owned()]).expect("clear");
        assert!(dir.path().join("a/b/c").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn links_and_pipes_are_written_through() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").expect("write");
        std::os::unix::fs::symlink(&real, &link).expect("symlink");
        write_file(&link, b"new").expect("write");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).expect("read"), "new");
        write_file(Path::new("/dev/null"), b"x").expect("device");
        assert!(write_file(dir.path(), b"x").is_err());
    }
}
