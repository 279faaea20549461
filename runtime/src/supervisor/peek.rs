//! A look at a path without opening it, for root, whose calls are most of all calls.
//!
//! Responsible for finding out, in as few system calls as possible, that there is nothing to
//! emulate. Must not decide anything else. Invariant: a path is walked as the caller's kernel would,
//! magic links included, and nothing of what is found there is told to the caller: whatever is
//! not plainly the kernel's to answer is looked at again by handles.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::io::Errno;

use super::State;
use super::call::Call;
use super::paths::trim;
use crate::identity::record::ATTRIBUTE;
use crate::identity::specials;

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The kernel's answer is right.
    Plain,
    /// There may be something that it does not know.
    Unclear,
}

impl State {
    /// Looks for a record.
    pub(super) fn look(&self, call: &Call<'_>, dir: i32, path: &[u8], follow: bool) -> Seen {
        let path = name(call, dir, path);
        // No record is larger; one that is is for others to complain about.
        let mut value = [0_u8; 64];
        let found = if follow {
            rustix::fs::getxattr(path.as_path(), ATTRIBUTE, &mut value[..])
        } else {
            rustix::fs::lgetxattr(path.as_path(), ATTRIBUTE, &mut value[..])
        };
        match found {
            // Links, fifos, sockets and devices say this, too.
            Err(Errno::NODATA) if self.specials.is_empty() => Seen::Plain,
            Err(Errno::NODATA) => self.look_for_special(path.as_path(), follow),
            // The caller will get the same error.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP)
                if !path.says_myself() =>
            {
                Seen::Plain
            }
            _ => Seen::Unclear,
        }
    }

    fn look_for_special(&self, path: &Path, follow: bool) -> Seen {
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let wanted = specials::Inode::WANTED;
        match rustix::fs::statx(rustix::fs::CWD, path, flags, wanted) {
            Ok(stat) if self.specials.get(specials::Inode::of(&stat)).is_none() => Seen::Plain,
            _ => Seen::Unclear,
        }
    }

    /// Looks whether root's new inode at a path will be root's in every respect: its directory does
    /// not hand on a group.
    pub(super) fn look_for_group(&self, call: &Call<'_>, dir: i32, path: &[u8]) -> Seen {
        let path = &path[..trim(path).len()];
        let parent = match path.iter().rposition(|b| *b == b'/') {
            Some(0) => &b"/"[..],
            Some(at) => &path[..at],
            None => b".",
        };
        let parent = name(call, dir, parent);
        let (mode, flags) = (StatxFlags::MODE, AtFlags::empty());
        match rustix::fs::statx(rustix::fs::CWD, parent.as_path(), flags, mode) {
            Ok(stat) if u32::from(stat.stx_mode) & libc::S_ISGID == 0 => Seen::Plain,
            _ => Seen::Unclear,
        }
    }

    /// Looks whether opening a path for root makes nothing that is not root's: a file is there, or
    /// will be made in a directory that does not hand on a group.
    pub(super) fn look_before_open(&self, call: &Call<'_>, dir: i32, path: &[u8]) -> Seen {
        let own = name(call, dir, path);
        let (mode, flags) = (StatxFlags::TYPE, AtFlags::SYMLINK_NOFOLLOW);
        match rustix::fs::statx(rustix::fs::CWD, own.as_path(), flags, mode) {
            Ok(stat) => match FileType::from_raw_mode(stat.stx_mode.into()) {
                FileType::Symlink => Seen::Unclear,
                _ => Seen::Plain,
            },
            Err(Errno::NOENT) => self.look_for_group(call, dir, path),
            Err(_) => Seen::Unclear,
        }
    }
}

/// A caller's path as seen from a proc of the supervisor's.
struct Name(Vec<u8>);

impl Name {
    fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether a part of the path may depend on who asks.
    fn says_myself(&self) -> bool {
        self.0.windows(4).any(|part| part == b"self") || self.0.starts_with(b"/dev/")
    }
}

fn name(call: &Call<'_>, dir: i32, path: &[u8]) -> Name {
    if path.starts_with(b"/") {
        return Name(path.to_vec());
    }
    let tid = call.tid.as_raw_pid();
    let mut own = if dir == libc::AT_FDCWD {
        format!("{tid}/cwd/")
    } else {
        format!("{tid}/fd/{dir}/")
    }
    .into_bytes();
    own.extend_from_slice(path);
    Name(own)
}
