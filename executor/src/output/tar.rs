//! The flattened root file system as one tar.
//!
//! Responsible for the archive of `type=tar`. Runs in a job, where the tree's owners are real.
//! Must not know of layers: the tree is the merged view.

use std::io::Write;

use runtime::identity::Ownership;
use runtime::path::Root;

use crate::error::Result;
use crate::layer::diff::write_tree;
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::tar_write::{Place, TarWriter};

/// Adds files of ours to a place of an archive, which ends after the `last` ones; `mtime` is their time in
/// seconds since the epoch.
///
/// # Errors
/// Those of `out`.
pub fn add_files<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    mtime: i64,
    place: Place,
    last: bool,
    out: impl Write,
) -> Result<()> {
    let mut tar = TarWriter::at(out, place);
    for (name, mut bytes) in files {
        let mut entry = Entry::new(name.as_bytes(), EntryKind::File, 0o644);
        entry.mtime = mtime;
        entry.size = bytes.len() as u64;
        tar.append_reader(&entry, &mut bytes)?;
    }
    if last {
        tar.finish()?;
    } else {
        tar.pause()?;
    }
    Ok(())
}

/// Writes the whole tree with owners as in the container into a place of an archive, which ends
/// after the `last` one. Returns what a tar could not hold, one line each.
///
/// # Errors
/// When a file cannot be read or named; those of `out`.
pub fn export_tar(
    root: &Root,
    ownership: &Ownership,
    place: Place,
    last: bool,
    out: impl Write,
) -> Result<Vec<String>> {
    Ok(write_tree(root, ownership, place, last, out)?.notes())
}
