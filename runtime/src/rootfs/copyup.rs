//! Copying a directory of a container into the tmpfs that will cover it (runc's `tmpcopyup`).
//!
//! Responsible for contents, kinds, modes, owners, times and attributes. Must not look outside
//! of the directory. Invariant: every name is opened in an open directory, unfollowed.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::{Errno, Result};

/// Copies what is in one directory, and its own mode and owner, to another, which is empty.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let from = open_dir(from, c".")?;
    let to = open_dir(to, c".")?;
    fill(&from, &to)
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn fill(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for found in Dir::read_from(from)? {
        let found = found?;
        let name = found.file_name();
        if name != c"." && name != c".." {
            copy_one(from, to, name)?;
        }
    }
    finish(from, to)
}

fn copy_one(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            return fill(&open_dir(from.as_fd(), name)?, &open_dir(to.as_fd(), name)?);
        }
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Not to wait, should it have become a fifo meanwhile.
            let read = flags | OFlags::RDONLY | OFlags::NONBLOCK;
            let source = openat(from, name, read, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&source)?.st_mode) != kind {
                return Err(Errno::STALE);
            }
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let made = openat(to, name, create, Mode::from_raw_mode(0o600))?;
            let (mut source, mut made) = (File::from(source), File::from(made));
            std::io::copy(&mut source, &mut made)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            return finish(&source.into(), &made.into());
        }
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?,
        // A socket without who listens is of no use.
        FileType::Socket | FileType::Unknown => return Ok(()),
        _ => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            match mknodat(to, name, kind, mode, stat.st_rdev) {
                // Devices can't be made in a user namespace, nor used on such a tmpfs.
                Err(Errno::PERM) => return Ok(()),
                other => other?,
            }
        }
    }
    let (uid, gid) = owner(&stat);
    owned(chownat(
        to,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    ))?;
    utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Copies what a file has besides its content.
fn finish(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = fstat(from)?;
    let (uid, gid) = owner(&stat);
    owned(fchown(to, Some(uid), Some(gid)))?;
    // After the owner, whose change clears set-id bits.
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_attributes(from, to)?;
    futimens(to, &times(&stat))
}

/// Copies extended attributes, as far as a tmpfs takes them (`user.` since Linux 6.6).
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut names = vec![0; 65_536];
    let length = match flistxattr(from, &mut names) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; 65_536];
    for name in names[..length].split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let length = fgetxattr(from, name, &mut value)?;
        match fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// An owner without an id in this user namespace can't be given: the copy stays its maker's.
fn owned(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
