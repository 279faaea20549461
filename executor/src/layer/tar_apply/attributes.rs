//! Owners, modes, extended attributes and times of unpacked files.
//!
//! Responsible for their order, which the kernel makes matter: writing data and changing the owner
//! clear set-id bits and capabilities, and everything changes times. Invariant: file capabilities
//! are never lost in silence.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use runtime::identity::{Device, Identity, Owner, Record};
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::dirs::{seconds, timestamps};
use super::{Applier, unpacking};
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::xattr::{self, Class};

impl Applier<'_> {
    /// Returns an entry's owner.
    ///
    /// # Errors
    /// When the container has no such id.
    pub(super) fn owner(&self, entry: &Entry) -> Result<Owner> {
        let owner = Owner {
            uid: entry.uid,
            gid: entry.gid,
        };
        if self.options.ownership.exists(owner) {
            Ok(owner)
        } else {
            Err(self.missing_owner(entry))
        }
    }

    fn missing_owner(&self, entry: &Entry) -> Error {
        let needed = u64::from(entry.uid.max(entry.gid)) + 1;
        let error = Error::new(format!(
            "owner {}:{} does not exist in this sandbox, but in the archive it owns",
            entry.uid, entry.gid
        ))
        .path_bytes(&entry.path);
        match self.options.ownership.identity() {
            Identity::Subids => error.hint(format!(
                "needs {needed} ids, and your range has {}: enlarge it in /etc/subuid and \
                 /etc/subgid, or build with `--isolation=emulated`, which has every id",
                self.options.ownership.ids().count
            )),
            Identity::Emulated | Identity::Host => error,
        }
    }

    /// Sets owner, mode and attributes of an open file or directory.
    pub(super) fn set_attributes(&mut self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<()> {
        let record = Record {
            owner: self.owner(entry)?,
            device: device_of(entry),
        };
        self.options
            .ownership
            .set_record(fd, &record)
            .map_err(unpacking(&entry.path))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(unpacking(&entry.path))?;
        for (name, value) in &entry.xattrs {
            match xattr::classify(name) {
                Class::Capability => {
                    let value =
                        xattr::capability_to_disk(value, self.options.ownership.kernel_ids())
                            .ok_or_else(|| bad_capability(entry))?;
                    set_xattr(fd, name, &value).map_err(|e| {
                        Error::new("set file capabilities of")
                            .path_bytes(&entry.path)
                            .source(std::io::Error::from(e))
                    })?;
                }
                // Attributes of a device mean nothing on what stands for it.
                Class::User if record.device.is_some() => self.skip_xattr(name),
                Class::User => match set_xattr(fd, name, value) {
                    Ok(()) => {}
                    Err(Errno::OPNOTSUPP | Errno::PERM) => self.skip_xattr(name),
                    Err(e) => return Err(unpacking(&entry.path)(e)),
                },
                Class::Overlay => return Err(overlay_attribute(entry)),
                Class::Foreign | Class::Record => self.skip_xattr(name),
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
        let owner = self.owner(entry)?;
        self.options
            .ownership
            .set_special(dir, name, owner)
            .map_err(unpacking(&entry.path))?;
        let set = || -> rustix::io::Result<()> {
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
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
                Class::Capability | Class::User | Class::Foreign | Class::Record => {
                    self.skip_xattr(name);
                }
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

/// The device that an entry is, for the file that stands for it.
fn device_of(entry: &Entry) -> Option<Device> {
    let block = match entry.kind {
        EntryKind::Char => false,
        EntryKind::Block => true,
        _ => return None,
    };
    let (major, minor) = entry.rdev;
    Some(Device {
        block,
        major,
        minor,
    })
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
