//! Paths that come from outside, resolved inside a root directory only.
//!
//! Responsible for every access to a path that a container, an image, an archive or a build
//! context named. Must never hand such a path to a path-based call: all resolution is by
//! `openat2(2)` with `RESOLVE_IN_ROOT` and without magic links, relative to a directory handle
//! (Linux 5.6). Invariant: no descriptor made here lies outside the root, whatever the tree's
//! symbolic links say and however it changes meanwhile.

pub mod remove;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

use crate::weaken::{self, Protection};

/// A directory that stands for `/`.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// The directory that holds an entry, and the entry's name in it.
///
/// The name is one component, never `.`, `..` or empty; it is not resolved, so it may be a
/// symbolic link or not exist.
#[derive(Debug)]
pub struct Entry {
    /// The parent directory, inside the root.
    pub dir: OwnedFd,
    /// The last component.
    pub name: OsString,
}

const RESOLVE: ResolveFlags = ResolveFlags::from_bits_retain(
    ResolveFlags::IN_ROOT.bits() | ResolveFlags::NO_MAGICLINKS.bits(),
);

impl Root {
    /// Takes a directory handle as root; a detached mount from `fsmount(2)` will do.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens a directory of the host as root. The path must be our own, not from outside.
    pub fn open_host(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// Opens `path` inside the root. Symbolic links are followed inside the root; add
    /// `O_NOFOLLOW` to keep the last one. `O_CLOEXEC` is always set.
    ///
    /// # Errors
    /// Those of openat2(2). `EAGAIN` (a rename raced with `..`) is retried.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        open_beneath(self.fd.as_fd(), path.as_ref(), flags, mode)
    }

    /// Opens a directory inside the root for use with the `*at` calls.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens a handle of what is at `path`, which leads through no symbolic link; that it is one
    /// itself is no matter.
    ///
    /// # Errors
    /// Those of openat2(2); `ELOOP` where a directory on the way is a link.
    pub fn handle(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = normalize(path.as_ref());
        let relative = path.strip_prefix("/").unwrap_or(&path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Finds the directory that holds `path`'s last component, which is not resolved.
    /// Returns `None` for the root itself.
    pub fn entry(&self, path: impl AsRef<Path>) -> Result<Option<Entry>> {
        let (parent, name) = split(path.as_ref());
        match name {
            None => Ok(None),
            Some(name) => Ok(Some(Entry {
                dir: self.open_dir(parent)?,
                name,
            })),
        }
    }

    /// Returns the status of `path` inside the root, following links when `follow` is set.
    pub fn stat(&self, path: impl AsRef<Path>, follow: bool) -> Result<Stat> {
        let nofollow = if follow {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let fd = self.open(path, OFlags::PATH | nofollow, Mode::empty())?;
        rustix::fs::fstat(&fd)
    }

    /// Opens the directory `path`, making the missing parts of it with `mode`, and calls `made`
    /// with each new directory so that the caller can set its owner.
    ///
    /// Existing symbolic links on the way are followed inside the root.
    ///
    /// # Errors
    /// Those of openat2(2) and mkdirat(2); `ENOTDIR` where a part is no directory; `ELOOP` where
    /// links go round.
    pub fn make_dirs(
        &self,
        path: impl AsRef<Path>,
        mode: Mode,
        made: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<OwnedFd> {
        let mut rest: Vec<OsString> = Vec::new();
        let mut path = normalize(path.as_ref());
        let mut dir = loop {
            match self.open_dir(&path) {
                Ok(fd) => break fd,
                Err(Errno::NOENT) => {
                    let (parent, Some(name)) = split(&path) else {
                        return Err(Errno::NOENT);
                    };
                    rest.push(name);
                    path = parent;
                }
                Err(e) => return Err(e),
            }
        };
        // The first missing part may be a dangling link; mkdirat says EEXIST then, and the caller
        // learns that the path cannot be a directory.
        while let Some(name) = rest.pop() {
            match rustix::fs::mkdirat(&dir, &name, mode) {
                Ok(()) => {
                    let fd = open_beneath(
                        dir.as_fd(),
                        Path::new(&name),
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                        Mode::empty(),
                    )?;
                    // The umask of the process is not the tree's business.
                    rustix::fs::fchmod(&fd, mode)?;
                    made(fd.as_fd())?;
                    dir = fd;
                }
                Err(Errno::EXIST) => {
                    dir = open_beneath(
                        dir.as_fd(),
                        Path::new(&name),
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                        Mode::empty(),
                    )?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(dir)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Entry {
    /// Returns the status of the entry itself, a link unfollowed.
    pub fn stat(&self) -> Result<Stat> {
        rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    };
    // openat2 refuses a mode that the flags don't use.
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) {
        mode
    } else {
        Mode::empty()
    };
    if weaken::off(Protection::Root) {
        let path = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        return rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, mode);
    }
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, RESOLVE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Makes a path absolute and plain: `.` and `..` are resolved by text, doubled slashes dropped.
///
/// For paths as users write them, where `..` at the top stays at the top; not a security
/// boundary, which is the handle's task.
pub fn normalize(path: &Path) -> PathBuf {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.as_os_str().as_bytes().split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let mut out = PathBuf::from("/");
    out.extend(parts.into_iter().map(OsStr::from_bytes));
    out
}

/// Splits a path into its normalised parent and its last component.
fn split(path: &Path) -> (PathBuf, Option<OsString>) {
    let path = normalize(path);
    let name = path.file_name().map(OsStr::to_os_string);
    let parent = path
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    (parent, name)
}

/// Lists a directory that was opened for reading: its names, sorted, without `.` and `..`.
///
/// # Errors
/// Those of getdents(2).
pub fn names(dir: impl AsFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("open root");
        (dir, root)
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, root) = root();
        std::fs::create_dir_all(dir.path().join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("etc/passwd"), "inside").expect("write");
        symlink("/etc", dir.path().join("abs")).expect("symlink");
        symlink("../../../../etc", dir.path().join("up")).expect("symlink");
        for path in ["/etc/passwd", "abs/passwd", "up/passwd", "../../etc/passwd"] {
            let stat = root.stat(path, true).expect(path);
            assert_eq!(stat.st_size, 6, "{path}");
        }
    }

    #[test]
    fn a_handle_is_found_by_real_directories_only() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("etc")).expect("mkdir");
        symlink("x", dir.path().join("etc/link")).expect("symlink");
        symlink("etc", dir.path().join("up")).expect("symlink");
        let link = root.handle("etc/link").expect("a link itself");
        let stat = rustix::fs::fstat(link).expect("stat");
        assert_eq!(stat.st_size, 1);
        assert_eq!(
            root.handle("up/link").expect_err("through a link"),
            Errno::LOOP
        );
        assert_eq!(root.handle("etc/none").expect_err("missing"), Errno::NOENT);
        root.handle("/").expect("the root");
    }

    #[test]
    fn magic_links_are_refused() {
        let (dir, root) = root();
        symlink("/proc/self/root/etc", dir.path().join("magic")).expect("symlink");
        assert!(root.open("magic", OFlags::PATH, Mode::empty()).is_err());
        let proc = Root::open_host(Path::new("/proc")).expect("open proc");
        let link = proc.open("self/root/etc", OFlags::PATH, Mode::empty());
        assert_eq!(link.expect_err("a magic link"), Errno::LOOP);
    }

    #[test]
    fn make_dirs_follows_links_inside_and_reports_new_ones() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("real")).expect("mkdir");
        symlink("/real", dir.path().join("link")).expect("symlink");
        let mut made = 0;
        root.make_dirs("link/a/b", Mode::from_raw_mode(0o750), &mut |_| {
            made += 1;
            Ok(())
        })
        .expect("make directories");
        assert_eq!(made, 2);
        assert!(dir.path().join("real/a/b").is_dir());
        let stat = root.stat("real/a", true).expect("stat");
        assert_eq!(stat.st_mode & 0o7777, 0o750);
    }

    #[test]
    fn names_are_sorted_and_all() {
        let (dir, root) = root();
        for name in ["b", ".hidden", "a"] {
            std::fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = root.open("/", flags, Mode::empty()).expect("open");
        assert_eq!(names(opened).expect("list"), [".hidden", "a", "b"]);
    }

    #[test]
    fn a_dangling_link_is_not_a_directory() {
        let (dir, root) = root();
        symlink("/nowhere", dir.path().join("dangling")).expect("symlink");
        let made = root.make_dirs("dangling/a", Mode::from_raw_mode(0o755), &mut |_| Ok(()));
        assert!(made.is_err());
    }

    #[test]
    fn entry_keeps_the_last_component() {
        let (dir, root) = root();
        symlink("/nowhere", dir.path().join("link")).expect("symlink");
        let entry = root
            .entry("x/../link")
            .expect("entry")
            .expect("not the root");
        assert_eq!(entry.name, "link");
        assert_eq!(
            rustix::fs::FileType::from_raw_mode(entry.stat().expect("stat").st_mode),
            rustix::fs::FileType::Symlink
        );
        assert!(root.entry("/..").expect("entry").is_none());
    }
}
