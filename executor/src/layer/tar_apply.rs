//! Unpacks an archive into a root file system.
//!
//! Responsible for what each entry means there: files of all kinds, replacement of what is in the
//! way as Docker's unpacking does it, deletions. The root is a plain directory or a merged
//! overlay; in the latter a removal through the mount makes the kernel's whiteout, so deletions
//! are removals in both. Must not know compression, digests or the store. Invariant: whatever the
//! archive says, nothing outside of the root is touched, and nothing in it is left that the
//! kernel's overlay would interpret.
//!
//! Where implementations differ: a directory that the archive does not mention keeps its time;
//! directories made because the archive forgot them belong to 0:0, have mode 0755 and the time 0,
//! so that the result does not depend on the clock. The archive's owners, modes and times of hard
//! links are those of the file that they name.

mod attributes;
mod dirs;
mod place;
mod whiteout;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use runtime::identity::{Owner, Ownership};
use runtime::path::Root;

pub use super::tar_read::Limits;
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind, join};
use crate::layer::tar_read::TarReader;
use dirs::Dirs;
use whiteout::Meaning;

/// How to unpack.
#[derive(Debug, Clone)]
pub struct ApplyOptions<'a> {
    /// How files get the archive's owners.
    pub ownership: &'a Ownership,
    /// What the archive may cost.
    pub limits: Limits,
    /// Whether `.wh.` names are deletions, as in layers, or names like any other.
    pub whiteouts: bool,
    /// Owner and group, as in the container, that every entry gets instead of its own.
    pub owner: Option<Owner>,
    /// Directory in the root that the archive's paths start from; empty for the root itself.
    pub dest: Vec<u8>,
}

impl<'a> ApplyOptions<'a> {
    /// Unpacks an image's layer.
    pub fn layer(ownership: &'a Ownership) -> Self {
        Self {
            ownership,
            limits: Limits::default(),
            whiteouts: true,
            owner: None,
            dest: Vec::new(),
        }
    }

    /// Unpacks an archive that a user names, as ADD does, into the directory `dest` of the root.
    /// Links in the archive may lead anywhere in the root.
    pub fn archive(ownership: &'a Ownership, dest: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let dest = runtime::path::normalize(dest);
        let dest = dest.as_os_str().as_bytes();
        Self {
            whiteouts: false,
            dest: dest.strip_prefix(b"/").unwrap_or(dest).to_vec(),
            ..Self::layer(ownership)
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries, deletions included.
    pub entries: u64,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Devices that files stand for now.
    pub stand_ins: u64,
    /// Devices that could not be made (in a user namespace nobody may make them, and files stand for
    /// them only where ids are emulated), or that would have been a whiteout; they stay in the archive.
    pub skipped_devices: u64,
    /// Attributes that mean nothing outside of the system they come from, or that the file system
    /// does not hold, by name, with how often each occurred.
    pub skipped_xattrs: BTreeMap<String, u64>,
}

impl Applied {
    /// Returns what the user may want to know, one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.skipped_devices > 0 {
            notes.push(format!(
                "{} device files were not unpacked: an ordinary user cannot make them",
                self.skipped_devices
            ));
        }
        for (name, count) in &self.skipped_xattrs {
            notes.push(format!(
                "extended attribute `{name}` was not unpacked ({count} times)"
            ));
        }
        notes
    }
}

/// Unpacks an archive, already decompressed, into `root`, and reads the stream to its end.
///
/// # Errors
/// When the archive is hostile, malformed or truncated, when a file is owned by an id that
/// `options.ownership` has not, and when the file system refuses. What was unpacked until then stays.
pub fn apply(reader: impl Read, root: &Root, options: &ApplyOptions<'_>) -> Result<Applied> {
    let mut reader = TarReader::new(reader, options.limits);
    let mut applier = Applier {
        options,
        dirs: Dirs::new(root, options.ownership),
        applied: Applied::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        applier.applied.entries += 1;
        applier.take(entry, &mut reader)?;
    }
    applier.applied.bytes = reader.drain()?;
    applier.dirs.restore_times()?;
    Ok(applier.applied)
}

struct Applier<'a> {
    options: &'a ApplyOptions<'a>,
    dirs: Dirs<'a>,
    applied: Applied,
}

impl Applier<'_> {
    fn take<R: Read>(&mut self, mut entry: Entry, reader: &mut TarReader<R>) -> Result<()> {
        if let Some(owner) = self.options.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        if !self.options.dest.is_empty() {
            entry.path = self.below_dest(&entry.path);
            if entry.kind == EntryKind::Hardlink {
                entry.link = self.below_dest(&entry.link);
            }
        }
        let meaning = if self.options.whiteouts {
            whiteout::meaning(&entry)?
        } else {
            Meaning::Plain
        };
        match meaning {
            Meaning::Plain => self.place(&entry, reader),
            Meaning::Nothing => Ok(()),
            Meaning::Whiteout(path) => self.dirs.delete(&path),
            Meaning::Opaque(dir) => self.dirs.hide_lower(&dir),
        }
    }

    fn below_dest(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() {
            self.options.dest.clone()
        } else {
            join(&self.options.dest, path)
        }
    }
}

/// Names the entry that could not be unpacked.
fn unpacking<E: Into<std::io::Error>>(path: &[u8]) -> impl FnOnce(E) -> Error {
    move |e| Error::new("unpack").path_bytes(path).source(e.into())
}

#[cfg(test)]
mod tests;
