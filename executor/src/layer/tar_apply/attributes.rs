//! Owners, modes, extended attributes and times of unpacked files.
//!
//! Responsible for their order, which the kernel makes matter: writing data and changing the owner
//! clear set-id bits and capabilities, and everything changes times. Invariant: file capabilities
//! are never lost in silence.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use runtime::identity::Identity;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::dirs::{seconds, timestamps};
use super::{Applier, unpacking};
use crate::error::{Error, Result};
use crate::layer::entry::Entry;
use crate::layer::xattr::{self, Class};

impl Applier<'_> {
    /// Translates an entry's owner.
    ///
    /// # Errors
    /// When the container has no such id.
    pub(super) fn owner(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        let ids = self.options.ids;
        match (ids.to_executor(entry.uid), ids.to_executor(entry.gid)) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => Err(self.missing_owner(entry)),
        }
    }

    /// Returns container root, who owns what the archive does not speak of.
    pub(super) fn root_owner(&self) -> (Uid, Gid) {
        let root = self.options.ids.first;
        (Uid::from_raw(root), Gid::from_raw(root))
    }

    fn missing_owner(&self, entry: &Entry) -> Error {
        let needed = u64::from(entry.uid.max(entry.gid)) + 1;
        let error = Error::new(format!(
            "owner {}:{} does not exist in this sandbox, but in the archive it owns",
            entry.uid, entry.gid
        ))
        .path_bytes(&entry.path);
        match self.options.identity {
            Identity::Single => error.hint(format!(
                "a single id can hold files of 0:0 only: this needs at least {} ids in \
                 /etc/subuid and /etc/subgid, and newuidmap; `sandcrab doctor` tells more",
                needed.max(65_536)
            )),
            Identity::Subids => error.hint(format!(
                "needs {needed} ids, and your range has {}: enlarge it in /etc/subuid and \
                 /etc/subgid",
                self.options.ids.count
            )),
            Identity::Host => error,
        }
    }

    /// Sets owner, mode and attributes of an open file or directory.
    pub(super) fn set_attributes(&mut self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(unpacking(&entry.path))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(unpacking(&entry.path))?;
        for (name, value) in &entry.xattrs {
            match xattr::classify(name) {
                Class::Capability => {
                    let value = xattr::capability_to_disk(value, self.options.ids)
                        .ok_or_else(|| bad_capability(entry))?;
                    set_xattr(fd, name, &value).map_err(|e| {
                        Error::new("set file capabilities of")
                            .path_bytes(&entry.path)
                            .source(std::io::Error::from(e))
                    })?;
                }
                Class::User => match set_xattr(fd, name, value) {
                    Ok(()) => {}
                    Err(Errno::OPNOTSUPP | Errno::PERM) => self.skip_xattr(name),
                    Err(e) => return Err(unpacking(&entry.path)(e)),
                },
                Class::Overlay => return Err(overlay_attribute(entry)),
                Class::Foreign => self.skip_xattr(name),
            }
        }
        Ok(())
    }

    /// Sets the owner of an entry that cannot be opened; its mode too unless it is a link.
    pub(super) fn set_attributes_at(
        &mut self,
        entry: &Entry,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        mode: Option<Mode>,
    ) -> Result<()> {
        let (uid, gid) = self.owner(entry)?;
        let set = || -> rustix::io::Result<()> {
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), nofollow)?;
            if let Some(mode) = mode {
                // fchmod(2) takes no O_PATH descriptors, and fchmodat2(2) is too new.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
                rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?;
            }
            let times = timestamps(seconds(entry.mtime));
            rustix::fs::utimensat(dir, name, &times, nofollow)
        };
        set().map_err(unpacking(&entry.path))?;
        for (name, _) in &entry.xattrs {
            match xattr::classify(name) {
                Class::Overlay => return Err(overlay_attribute(entry)),
                // Only files and directories can carry attributes of users, and capabilities
                // mean something on files only.
                Class::Capability | Class::User | Class::Foreign => self.skip_xattr(name),
            }
        }
        Ok(())
    }

    fn skip_xattr(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name).into_owned();
        // Names beyond a handful come from a hostile archive.
        if self.applied.skipped_xattrs.len() < 32 || self.applied.skipped_xattrs.contains_key(&name)
        {
            *self.applied.skipped_xattrs.entry(name).or_default() += 1;
        }
    }
}

fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(
        fd.as_fd(),
        OsStr::from_bytes(name),
        value,
        XattrFlags::empty(),
    )
}

fn bad_capability(entry: &Entry) -> Error {
    Error::new("the archive has malformed file capabilities at").path_bytes(&entry.path)
}

fn overlay_attribute(entry: &Entry) -> Error {
    Error::new("the archive has an attribute of overlayfs, which is not allowed, at")
        .path_bytes(&entry.path)
}
