//! Databases of rpm: SQLite's, ndb's and Berkeley DB's.
//!
//! Responsible for the header that each package has in them (rpm, docs/manual/format.md). Reads pages, not
//! whole files. Invariants: any file gives packages or says what is wrong with it; loops of pages end.

mod berkeley;
mod ndb;
mod sqlite;

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::package::Package;
use super::system::Distribution;

/// The largest header that is read, in bytes.
const MAX_HEADER: usize = 32 << 20;

/// All headers of a database are not larger, in bytes.
const MAX_ALL: u64 = 4 << 30;

/// A database has no more packages.
const MAX_PACKAGES: usize = 100_000;

// Tags of a header.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;

/// Reads a database, whose kind its name tells.
pub(super) fn read(
    name: &str,
    file: &File,
    distribution: &Distribution,
) -> Result<Vec<Package>, String> {
    let mut all = Vec::new();
    let mut size = 0;
    let mut visit = |blob: &[u8]| {
        size += blob.len() as u64;
        if all.len() >= MAX_PACKAGES || size > MAX_ALL {
            return Err(format!("it has more than {} packages", all.len()));
        }
        all.extend(header(blob, distribution)?);
        Ok(())
    };
    match name {
        "rpmdb.sqlite" => sqlite::read(file, &mut visit)?,
        "Packages.db" => ndb::read(file, &mut visit)?,
        _ => berkeley::read(file, &mut visit)?,
    }
    Ok(all)
}

/// Is shown each package's header.
type Visit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), String>;

/// Reads bytes at a place.
fn bytes(file: &File, at: u64, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    let read = file.read_exact_at(&mut bytes, at);
    read.map_err(|error| format!("nothing to read at {at}: {error}"))?;
    Ok(bytes)
}

fn u32_le(bytes: &[u8], at: usize) -> Result<u32, String> {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    part.map(u32::from_le_bytes).ok_or_else(short)
}

fn u32_be(bytes: &[u8], at: usize) -> Result<u32, String> {
    u32_le(bytes, at).map(u32::swap_bytes)
}

fn short() -> String {
    "it ends too early".to_owned()
}

/// Reads a header; `None` for keys that signatures are checked with, which are no packages.
fn header(blob: &[u8], distribution: &Distribution) -> Result<Option<Package>, String> {
    let entries = u32_be(blob, 0)? as usize;
    let data = entries
        .checked_mul(16)
        .and_then(|size| blob.get(8 + size..))
        .ok_or_else(short)?;
    let place = |tag: u32| {
        let index = (0..entries).map(|n| 8 + 16 * n);
        let mut index = index.filter(|at| u32_be(blob, *at) == Ok(tag));
        u32_be(blob, index.next()? + 8).ok().map(|at| at as usize)
    };
    let text = |tag| {
        let rest = data.get(place(tag)?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let (Some(name), Some(version)) = (text(NAME), text(VERSION)) else {
        return Err("a package has no name or no version".to_owned());
    };
    if name == "gpg-pubkey" {
        return Ok(None);
    }
    let release = text(RELEASE)
        .map(|release| format!("-{release}"))
        .unwrap_or_default();
    let epoch = place(EPOCH).and_then(|at| u32_be(data, at).ok());
    let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    let (arch, source) = (
        text(ARCH).unwrap_or_default(),
        text(SOURCE).unwrap_or_default(),
    );
    let version = format!("{version}{release}");
    let qualifiers = [
        ("arch", arch.as_str()),
        ("epoch", &epoch),
        ("upstream", &source),
    ];
    let mut package = distribution.package("rpm", "", &name, &version, &qualifiers);
    if !epoch.is_empty() {
        package.version = format!("{epoch}:{version}");
    }
    Ok(Some(package.licensed(text(LICENSE).as_deref())))
}

#[cfg(test)]
mod tests;
