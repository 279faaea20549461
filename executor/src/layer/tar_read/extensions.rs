//! Extension headers: what they say about the entry after them.
//!
//! Responsible for the keys of PAX records. Invariant: a record that would change what the tree is
//! and is not understood is an error, never passed over.

use std::collections::BTreeMap;

use super::fields::{decimal, time};
use crate::error::{Error, Result};
use crate::layer::pax;
use crate::layer::tar_write::XATTR_KEY;

/// What the headers before an entry say about it.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the data is a sparse file's with its map in front (GNU tar, PAX formats 0.0 to 1.0).
    pub(super) pax_sparse: bool,
}

/// Global records would apply to all later entries. Docker ignores them, GNU tar obeys them: those
/// on which the tree would depend are refused, so that nobody is misled.
pub(super) fn check_global(data: &[u8]) -> Result<()> {
    for record in pax::records(data) {
        let (key, _) =
            record.map_err(|_| Error::new("the archive has a malformed global header"))?;
        let matters = matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
            || key.starts_with(XATTR_KEY)
            || key.starts_with(b"GNU.sparse.");
        if matters {
            return Err(Error::new(format!(
                "the archive sets `{}` in a global header, which is not supported",
                key.escape_ascii()
            )));
        }
    }
    Ok(())
}

impl Extensions {
    /// Takes over PAX records. The error says what is malformed.
    pub(super) fn apply(&mut self, data: &[u8]) -> std::result::Result<(), &'static str> {
        for record in pax::records(data) {
            let (key, value) = record.map_err(|_| "PAX header")?;
            if let Some(name) = key.strip_prefix(XATTR_KEY) {
                if name.is_empty() || name.contains(&0) {
                    return Err("extended attribute");
                }
                self.xattrs.insert(name.to_vec(), value.to_vec());
                continue;
            }
            self.pax_sparse |= key.starts_with(b"GNU.sparse.");
            // An empty value takes the record back (POSIX).
            let given = !value.is_empty();
            match key {
                b"path" | b"linkpath" if value.contains(&0) => return Err("path"),
                b"path" => self.path = given.then(|| value.to_vec()),
                b"linkpath" => self.link = given.then(|| value.to_vec()),
                b"size" => self.size = optional(given, decimal(value), "size")?,
                b"uid" => self.uid = optional(given, decimal(value), "owner")?,
                b"gid" => self.gid = optional(given, decimal(value), "group")?,
                b"mtime" => self.mtime = optional(given, time(value), "time")?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn optional(
    given: bool,
    value: Option<i64>,
    what: &'static str,
) -> std::result::Result<Option<i64>, &'static str> {
    match (given, value) {
        (false, _) => Ok(None),
        (true, Some(value)) => Ok(Some(value)),
        (true, None) => Err(what),
    }
}
