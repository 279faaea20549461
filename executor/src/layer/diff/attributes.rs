//! Extended attributes of an upper directory's files.
//!
//! Responsible for reading them with one call where there are none, for choosing those that a
//! layer carries, and for what overlayfs says in its own. Must not write anything, but removes those
//! that a layer is to be without.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use runtime::identity::Ownership;
use rustix::io::Errno;

use super::{foreign_upper, reading};
use crate::error::{Error, Result};
use crate::layer::xattr::{self, Class};

/// What overlayfs says about a directory by `user.overlay.opaque` (Linux, overlayfs.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opaque {
    /// `y`: nothing of lower layers shows.
    Whole,
    /// `x`: some of its files are marked as deleted.
    HasMarks,
}

/// The attributes of one file.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Those for the layer, sorted by name.
    pub(super) carried: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) opaque: Option<Opaque>,
}

/// Linux's limit for the list of names and for one value.
const MAX: usize = 64 * 1024;

/// Reads attributes through buffers that it keeps.
pub(super) struct Reader<'a> {
    ownership: &'a Ownership,
    without_user: bool,
    names: Vec<u8>,
    value: Vec<u8>,
    skipped: BTreeMap<String, u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ownership: &'a Ownership, without_user: bool) -> Self {
        Self {
            ownership,
            without_user,
            names: vec![0; MAX],
            value: vec![0; MAX],
            skipped: BTreeMap::new(),
        }
    }

    /// Adds what another reader has left out.
    pub(super) fn add_skipped(&mut self, others: BTreeMap<String, u64>) {
        for (name, count) in others {
            *self.skipped.entry(name).or_default() += count;
        }
    }

    /// Returns how often which attribute was left out.
    pub(super) fn into_skipped(self) -> BTreeMap<String, u64> {
        self.skipped
    }

    /// Reads the attributes of an open file or directory; `path` is for errors.
    pub(super) fn read(&mut self, path: &[u8], fd: BorrowedFd<'_>) -> Result<Attributes> {
        let mut found = Attributes::default();
        let len = match rustix::fs::flistxattr(fd, &mut self.names[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(found),
            Ok(len) => len,
            Err(e) => return Err(reading(path, e)),
        };
        for name in self.names[..len]
            .split(|b| *b == 0)
            .filter(|n| !n.is_empty())
        {
            let class = xattr::classify(name);
            if class == Class::Record && self.ownership.is_emulated() {
                continue;
            }
            if matches!(class, Class::Foreign | Class::Record) {
                if name != b"security.selinux" {
                    let name = String::from_utf8_lossy(name).into_owned();
                    *self.skipped.entry(name).or_default() += 1;
                }
                continue;
            }
            if class == Class::User && self.without_user {
                rustix::fs::fremovexattr(fd, OsStr::from_bytes(name))
                    .map_err(|e| reading(path, e))?;
                continue;
            }
            let value = rustix::fs::fgetxattr(fd, OsStr::from_bytes(name), &mut self.value[..]);
            let value = &self.value[..value.map_err(|e| reading(path, e))?];
            match class {
                Class::Foreign | Class::Record => {}
                Class::Overlay => match (name, value) {
                    (b"user.overlay.opaque", b"y") => found.opaque = Some(Opaque::Whole),
                    (b"user.overlay.opaque", b"x") => found.opaque = Some(Opaque::HasMarks),
                    (b"user.overlay.redirect" | b"user.overlay.metacopy", _) => {
                        return Err(foreign_upper(path, name));
                    }
                    _ => {}
                },
                Class::Capability => {
                    let ids = self.ownership.kernel_ids();
                    let value = xattr::capability_to_layer(value, ids).ok_or_else(|| {
                        Error::new(
                            "file capabilities are for an id that is none of the container's",
                        )
                        .path_bytes(path)
                    })?;
                    found.carried.push((name.to_vec(), value));
                }
                Class::User => {
                    // In an archive, `=` ends the name.
                    if name.contains(&b'=') {
                        return Err(Error::new(format!(
                            "a layer cannot hold the attribute name `{}` of",
                            String::from_utf8_lossy(name)
                        ))
                        .path_bytes(path));
                    }
                    found.carried.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        found.carried.sort();
        Ok(found)
    }
}

/// Tells whether overlayfs marks an empty file as deleted.
pub(super) fn is_marked_deleted(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    match rustix::fs::fgetxattr(fd, "user.overlay.whiteout", &mut [0_u8; 16]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
