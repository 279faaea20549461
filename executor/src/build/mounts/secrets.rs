//! The caller's secrets, and their way to a job.
//!
//! Responsible for keeping values where they are neither printed nor written to disk. Must not know
//! how steps see them. Invariant: no value is part of anything's `Debug` form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, Kind, Result, ResultExt};

/// The most bytes that a secret may have, as in BuildKit.
pub const MAX_SECRET: usize = 500 * 1024;

/// Secrets by id.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Adds a secret; a later one of the same id replaces it.
    pub fn add(&mut self, id: String, value: Vec<u8>) {
        self.0.insert(id, value);
    }

    /// Returns a secret's value.
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        self.0.get(id).map(Vec::as_slice)
    }

    /// Returns the ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Puts values into memory that goes with its descriptor.
pub(in crate::build) fn pack(values: &[&[u8]]) -> Result<OwnedFd> {
    let fd = memfd_create("secrets", MemfdFlags::CLOEXEC).op("keep secrets in memory")?;
    let mut file = File::from(fd);
    let bytes = serde_json::to_vec(values).expect("lists of numbers");
    file.write_all(&bytes).op("keep secrets in memory")?;
    file.rewind().op("keep secrets in memory")?;
    Ok(file.into())
}

/// Takes them out again.
pub(in crate::build) fn unpack(fd: OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).op("read secrets")?;
    // The parser's own message could quote what it did not like.
    serde_json::from_slice(&bytes)
        .map_err(|_| Error::new("secrets on their way to a job are malformed").kind(Kind::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_travel_and_are_not_shown() {
        let mut secrets = Secrets::default();
        secrets.add("b".into(), b"hunter2".to_vec());
        secrets.add("a".into(), vec![0, 255]);
        assert_eq!(format!("{secrets:?}"), r#"{"a", "b"}"#);
        let values: Vec<&[u8]> = secrets.ids().filter_map(|id| secrets.get(id)).collect();
        let fd = pack(&values).expect("pack");
        assert_eq!(unpack(fd).expect("unpack"), values);
    }
}
