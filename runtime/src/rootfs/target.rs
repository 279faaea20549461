//! Where a mount goes: its destination inside the container's root.
//!
//! Responsible for opening a destination, for making it where it is missing, and for refusing
//! those that would undermine `/proc`. Must not mount. Invariant: the descriptor lies beneath the
//! root whatever links the tree holds, and what is mounted on is that descriptor, never a path
//! (CVE-2019-16884, CVE-2021-30465).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FsWord, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat,
    openat2, readlinkat, statat,
};
use rustix::io::{Errno, Result};

use crate::error::{self, Error, ResultExt};
use crate::path::{Root, normalize};
use crate::weaken::{self, Protection};

/// What has to be at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// How symbolic links of the container are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Followed, inside the root.
    Follow,
    /// The last part is taken as it is.
    KeepLast,
    /// There may be none: a link would let an image choose where a kernel file system goes.
    Refuse,
}

/// `PROC_SUPER_MAGIC`, statfs(2).
const PROC: FsWord = 0x9fa0;

/// The inode of the root of any proc, `PROC_ROOT_INO` of the kernel.
const PROC_ROOT: u64 = 1;

/// Files of `/proc` that may be mounted over: they inform and steer nothing. The list is runc's.
const OVER_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Symbolic links followed for one path before it counts as a loop (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens what is at a destination, or makes it: directories with mode 0755, files with 0644.
pub(super) fn open_or_make(
    root: &Root,
    path: &Path,
    kind: Kind,
    links: Links,
) -> error::Result<OwnedFd> {
    match open(root, path, links) {
        Err(Errno::NOENT) => {}
        Err(Errno::LOOP) if links == Links::Refuse => {
            return Err(Error::new("destination leads through a symbolic link").path(path));
        }
        other => return other.op_path("open destination", path),
    }
    if links == Links::Refuse || weaken::off(Protection::Root) {
        let mode = Mode::from_raw_mode(0o755);
        root.make_dirs(path, mode, &mut |_| Ok(()))
            .op_path("create destination", path)?;
        return open(root, path, links).op_path("open destination", path);
    }
    make(root, path, kind, links).op_path("create destination", path)
}

/// Opens what is at a destination.
pub(super) fn open(root: &Root, path: &Path, links: Links) -> Result<OwnedFd> {
    match links {
        Links::Follow => root.open(path, OFlags::PATH, Mode::empty()),
        Links::KeepLast => root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()),
        Links::Refuse if weaken::off(Protection::OverProc) => open(root, path, Links::Follow),
        Links::Refuse => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            openat2(root, normalize(path), flags, Mode::empty(), resolve)
        }
    }
}

/// Walks part by part, because the kernel makes nothing behind a dangling link (an image's
/// `/etc/resolv.conf` often is one). Every step opens one name in an open directory and follows
/// nothing; a link's text is walked in the same way.
fn make(root: &Root, path: &Path, kind: Kind, links: Links) -> Result<OwnedFd> {
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut rest = parts(path.as_os_str().as_bytes());
    let mut followed = 0;
    let mut here = open_name(root.as_fd(), Path::new("."))?;
    while let Some(name) = rest.pop() {
        if name == ".." {
            if let Some(parent) = above.pop() {
                here = parent;
            }
            continue;
        }
        let next = match open_name(here.as_fd(), &name) {
            Err(Errno::NOENT) => {
                let kind = if rest.is_empty() {
                    kind
                } else {
                    Kind::Directory
                };
                make_one(here.as_fd(), &name, kind)?
            }
            other => other?,
        };
        let found = FileType::from_raw_mode(fstat(&next)?.st_mode);
        match found {
            FileType::Symlink if rest.is_empty() && links == Links::KeepLast => return Ok(next),
            FileType::Symlink => {
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let text = readlinkat(&next, "", Vec::new())?.into_bytes();
                if text.starts_with(b"/") {
                    above.clear();
                    here = open_name(root.as_fd(), Path::new("."))?;
                }
                rest.extend(parts(&text));
            }
            _ if rest.is_empty() => return Ok(next),
            FileType::Directory => above.push(std::mem::replace(&mut here, next)),
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(here)
}

/// Splits a path into its parts, last first.
fn parts(path: &[u8]) -> Vec<OsString> {
    path.split(|b| *b == b'/')
        .rev()
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

fn open_name(dir: BorrowedFd<'_>, name: impl AsRef<Path>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name.as_ref(), flags, Mode::empty())
}

fn make_one(dir: BorrowedFd<'_>, name: &OsString, kind: Kind) -> Result<OwnedFd> {
    let made = match kind {
        Kind::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else has made it; what it is will be seen.
        Ok(()) | Err(Errno::EXIST) => open_name(dir, name),
        Err(e) => Err(e),
    }
}

/// What is about to be mounted, as far as [`check`] cares.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// A new proc.
    Proc,
    /// A copy of a mount.
    Bind(BorrowedFd<'a>),
    /// Anything else.
    Other,
}

/// Refuses a mount that would replace `/proc` or a part of it by something else: what is written
/// there later (labels, for instance) would go astray.
pub(super) fn check(path: &Path, target: BorrowedFd<'_>, what: What<'_>) -> error::Result<()> {
    if weaken::off(Protection::OverProc) {
        return Ok(());
    }
    let path = normalize(path);
    if path == Path::new("/proc") {
        let is_proc = match what {
            What::Proc => true,
            What::Bind(source) => is_proc_root(source).op("look at source")?,
            What::Other => false,
        };
        if is_proc {
            return Ok(());
        }
        return Err(Error::new("only proc can be mounted on").path(path));
    }
    let known = OVER_PROC.iter().any(|p| path == Path::new(p));
    let inside = path.starts_with("/proc") || on_proc(target).op_path("look at", &path)?;
    if inside && !known {
        return Err(Error::new("destination is inside of /proc").path(path));
    }
    Ok(())
}

/// Says whether a descriptor is on a proc file system.
pub(super) fn on_proc(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(fstatfs(fd)?.f_type == PROC)
}

fn is_proc_root(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(on_proc(fd)? && fstat(fd)?.st_ino == PROC_ROOT)
}

/// Says whether a descriptor is a directory.
pub(super) fn is_dir(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// The number of the mount that a descriptor is on, and of the file in it.
pub(super) fn place(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    use rustix::fs::{StatxFlags, statx};
    // Linux 5.8.
    let mask = StatxFlags::MNT_ID | StatxFlags::INO;
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, mask)?;
    Ok((stat.stx_mnt_id, stat.stx_ino))
}

/// Opens the root of the mount that a directory of the host is on.
pub(super) fn mount_root(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = openat(dir, ".", flags, Mode::empty())?;
    let mut found = place(here.as_fd())?;
    loop {
        let above = openat(&here, "..", flags, Mode::empty())?;
        let next = place(above.as_fd())?;
        if next.0 != found.0 || next == found {
            return Ok(here);
        }
        (here, found) = (above, next);
    }
}

/// The mode of a directory as tmpfs(5) writes it.
pub(super) fn mode_text(dir: BorrowedFd<'_>) -> Result<String> {
    let stat = statat(dir, "", AtFlags::EMPTY_PATH)?;
    Ok(format!("mode={:04o}", stat.st_mode & 0o7777))
}

/// Makes a path absolute, beneath a directory of the host when it is relative.
pub(super) fn beneath(base: &Path, path: &str) -> PathBuf {
    // Joining an absolute path replaces the base.
    base.join(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("open root");
        (dir, root)
    }

    fn made(root: &Root, path: &str, kind: Kind, links: Links) -> error::Result<OwnedFd> {
        open_or_make(root, Path::new(path), kind, links)
    }

    #[test]
    fn makes_what_is_missing_behind_dangling_links() {
        let (dir, root) = tree();
        std::fs::create_dir_all(dir.path().join("etc/sub")).expect("mkdir");
        symlink(
            "../../../run/systemd/stub.conf",
            dir.path().join("etc/sub/resolv.conf"),
        )
        .expect("symlink");
        made(&root, "/etc/sub/resolv.conf", Kind::File, Links::Follow).expect("make");
        assert!(dir.path().join("run/systemd/stub.conf").is_file());
        symlink("/var/x", dir.path().join("abs")).expect("symlink");
        made(&root, "abs/y", Kind::Directory, Links::Follow).expect("make");
        assert!(dir.path().join("var/x/y").is_dir());
    }

    #[test]
    fn loops_and_files_on_the_way_are_errors() {
        let (dir, root) = tree();
        symlink("b", dir.path().join("a")).expect("symlink");
        symlink("a", dir.path().join("b")).expect("symlink");
        std::fs::write(dir.path().join("file"), "").expect("write");
        for path in ["a/x", "a", "file/x"] {
            assert!(
                made(&root, path, Kind::Directory, Links::Follow).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn links_can_be_kept_or_refused() {
        let (dir, root) = tree();
        std::fs::create_dir(dir.path().join("real")).expect("mkdir");
        symlink("real", dir.path().join("link")).expect("symlink");
        let kept = made(&root, "link", Kind::File, Links::KeepLast).expect("open");
        assert!(!is_dir(kept.as_fd()).expect("stat"));
        assert!(made(&root, "link", Kind::Directory, Links::Refuse).is_err());
        assert!(made(&root, "link/x", Kind::Directory, Links::Refuse).is_err());
        made(&root, "real/x", Kind::Directory, Links::Refuse).expect("make");
    }

    #[test]
    fn proc_is_not_covered() {
        let (_dir, root) = tree();
        let plain = root.open_dir("/").expect("open");
        let proc = Root::open_host(Path::new("/proc")).expect("open proc");
        let part = proc.open_dir("sys").expect("open proc/sys");
        let check = |path: &str, target: BorrowedFd<'_>, what| {
            super::check(Path::new(path), target, what).is_ok()
        };
        assert!(check("/proc", plain.as_fd(), What::Proc));
        assert!(check("proc/", plain.as_fd(), What::Bind(proc.as_fd())));
        assert!(!check("/proc", plain.as_fd(), What::Bind(part.as_fd())));
        assert!(!check("/proc", plain.as_fd(), What::Bind(plain.as_fd())));
        assert!(!check("/proc", plain.as_fd(), What::Other));
        assert!(check("/proc/cpuinfo", part.as_fd(), What::Other));
        assert!(!check("/proc/self/attr", part.as_fd(), What::Other));
        assert!(!check("/x/../proc/kcore", part.as_fd(), What::Other));
        assert!(!check("/elsewhere", part.as_fd(), What::Other));
        assert!(check("/process", plain.as_fd(), What::Other));
    }

    #[test]
    fn the_root_of_a_mount_is_found() {
        let proc = Root::open_host(Path::new("/proc/self/fd")).expect("open proc");
        let root = mount_root(proc.as_fd()).expect("walk");
        assert!(is_proc_root(root.as_fd()).expect("stat"));
    }
}
