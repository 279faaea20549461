//! The files of an archive, kept aside until it is known what they are.
//!
//! Responsible for reading the stream once, in bounded memory. Invariant: a file's digest and size
//! are those of the bytes on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use tempfile::TempPath;

use crate::cancel::Cancel;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{Digest, HashingWriter};
use crate::layer::entry::EntryKind;
use crate::layer::tar_read::{Limits, TarReader};
use crate::store::blobs::Blobs;
use crate::store::lock::Session;

/// Archives of images have few files; each costs memory here.
const MAX_FILES: u64 = 100_000;

/// A document in an archive may have this many bytes.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// The files by name.
#[derive(Debug)]
pub(super) struct Spool {
    blobs: Blobs,
    files: Vec<Spooled>,
    names: HashMap<Vec<u8>, Name>,
}

#[derive(Debug)]
enum Name {
    File(usize),
    Link(Vec<u8>),
}

#[derive(Debug)]
struct Spooled {
    /// `None` once it is a blob.
    path: Option<TempPath>,
    digest: Digest,
    size: u64,
}

impl Spool {
    /// Reads an archive to its end.
    pub(super) fn read(session: &Session, tar: impl Read, cancel: &Cancel) -> Result<Self> {
        let limits = Limits {
            entries: MAX_FILES,
            ..Limits::default()
        };
        let mut spool = Self {
            blobs: session.blobs(),
            files: Vec::new(),
            names: HashMap::new(),
        };
        let mut reader = TarReader::new(tar, limits);
        while let Some(entry) = reader.next_entry()? {
            cancel.check()?;
            let name = match entry.kind {
                EntryKind::File => {
                    let mut out = HashingWriter::new(spool.blobs.file()?);
                    while let Some(chunk) = reader.next_chunk()? {
                        cancel.check()?;
                        if chunk.offset != out.count() {
                            return Err(Error::new("sparse file in an image archive")
                                .path_bytes(&entry.path));
                        }
                        out.write_all(chunk.bytes).op("write blob")?;
                    }
                    let (file, digest, size) = out.finish();
                    if size != entry.size {
                        return Err(
                            Error::new("sparse file in an image archive").path_bytes(&entry.path)
                        );
                    }
                    spool.files.push(Spooled {
                        // Thousands of files must not be thousands of descriptors.
                        path: Some(file.into_temp_path()),
                        digest,
                        size,
                    });
                    Name::File(spool.files.len() - 1)
                }
                EntryKind::Hardlink => Name::Link(normalize(&entry.link)),
                EntryKind::Symlink => Name::Link(resolve(&entry.path, &entry.link)),
                _ => continue,
            };
            spool.names.insert(normalize(&entry.path), name);
        }
        reader.drain()?;
        Ok(spool)
    }

    /// Tells whether the archive has this file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Reads a document.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let file = &self.files[self.get(name)?];
        if file.size > DOCUMENT_LIMIT {
            return Err(Error::new(format!(
                "file in the archive is larger than {DOCUMENT_LIMIT} bytes"
            ))
            .path(name));
        }
        let mut bytes = Vec::new();
        let path = self.path(name, file)?;
        File::open(&path)
            .and_then(|mut f| f.read_to_end(&mut bytes))
            .op_path("read", path)?;
        Ok(bytes)
    }

    /// Opens a file.
    pub(super) fn open(&self, name: &str) -> Result<File> {
        let path = self.path(name, &self.files[self.get(name)?])?;
        File::open(&path).op_path("open", path)
    }

    /// Returns a file's digest and size.
    pub(super) fn identity(&self, name: &str) -> Result<(Digest, u64)> {
        let file = &self.files[self.get(name)?];
        Ok((file.digest, file.size))
    }

    /// Makes a file a blob.
    pub(super) fn store(&mut self, name: &str) -> Result<(Digest, u64)> {
        let at = self.get(name)?;
        let file = &mut self.files[at];
        if let Some(path) = file.path.take() {
            let open = File::options()
                .read(true)
                .write(true)
                .open(&path)
                .op_path("open", &path)?;
            self.blobs
                .adopt(NamedTempFile::from_parts(open, path), &file.digest)?;
        }
        Ok((file.digest, file.size))
    }

    fn path(&self, name: &str, file: &Spooled) -> Result<std::path::PathBuf> {
        match &file.path {
            Some(path) => Ok(path.to_path_buf()),
            None => match self.blobs.size(&file.digest) {
                Some(_) => Ok(self.blobs.path(&file.digest)),
                None => Err(Error::new("file of the archive vanished").path(name)),
            },
        }
    }

    fn get(&self, name: &str) -> Result<usize> {
        self.find(name)
            .ok_or_else(|| Error::new("image archive lacks a file").path(name))
    }

    fn find(&self, name: &str) -> Option<usize> {
        let mut name = normalize(name.as_bytes());
        for _ in 0..MAX_LINKS {
            match self.names.get(&name)? {
                Name::File(at) => return Some(*at),
                Name::Link(to) => name.clone_from(to),
            }
        }
        None
    }
}

fn normalize(path: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    runtime::path::normalize(path).into_os_string().into_vec()
}

/// Resolves a symbolic link's target by text.
fn resolve(path: &[u8], link: &[u8]) -> Vec<u8> {
    if link.starts_with(b"/") {
        return normalize(link);
    }
    let mut whole = path.to_vec();
    whole.extend_from_slice(b"/../");
    whole.extend_from_slice(link);
    normalize(&whole)
}
