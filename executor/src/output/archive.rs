//! Where an image layout's files go: one tar, or a directory.
//!
//! Responsible for writing named files in the order given. Must not know what they are.
//! Invariant: a tar has fixed owners, modes and times, so its bytes depend on names and contents
//! only; a file in a directory appears whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Result, ResultExt};
use crate::image::digest::HashingReader;
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::tar_write::TarWriter;
use crate::output::assemble::LayerBlob;
use crate::output::destination::{Aside, Destination, write_file};
use crate::store::blobs::condemn;

const BUFFER: usize = 256 * 1024;

/// A place for named files.
#[derive(Debug)]
pub enum Sink {
    /// One tar file.
    Tar {
        /// The archive so far.
        tar: TarWriter<Destination>,
        /// Directories that it has.
        dirs: BTreeSet<String>,
    },
    /// A directory, which exists.
    Dir(PathBuf),
}

impl Sink {
    /// Starts an archive.
    pub fn tar(out: Destination) -> Self {
        Self::Tar {
            tar: TarWriter::new(out),
            dirs: BTreeSet::new(),
        }
    }

    /// Takes a directory, making it when it is missing.
    pub fn dir(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).op_path("create", path)?;
        Ok(Self::Dir(path.to_path_buf()))
    }

    /// Adds a small file.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.parents(name)?;
        match self {
            Self::Tar { tar, .. } => {
                tar.append_reader(&entry(name, bytes.len() as u64), &mut &bytes[..])
            }
            Self::Dir(dir) => write_file(&dir.join(name), bytes),
        }
    }

    /// Adds a layer's blob and checks its digest on the way, unless that was done already.
    pub fn copy(&mut self, name: &str, layer: &LayerBlob) -> Result<()> {
        self.parents(name)?;
        let size = layer.descriptor.size;
        match self {
            Self::Tar { tar, .. } => {
                read(layer, |data| tar.append_reader(&entry(name, size), data))
            }
            Self::Dir(dir) => {
                let target = dir.join(name);
                if fs::metadata(&target).is_ok_and(|m| m.len() == size) {
                    return Ok(());
                }
                let out = Aside::new(&target)?;
                read(layer, |data| {
                    let mut out = BufWriter::with_capacity(BUFFER, out.file());
                    std::io::copy(data, &mut out)
                        .and_then(|_| out.flush())
                        .op_path("write", &target)
                })?;
                out.persist(&target)
            }
        }
    }

    /// Makes the result visible.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Tar { tar, .. } => tar.finish()?.finish(),
            Self::Dir(_) => Ok(()),
        }
    }

    fn parents(&mut self, name: &str) -> Result<()> {
        for (end, _) in name.match_indices('/') {
            let parent = &name[..end];
            match self {
                Self::Tar { tar, dirs } => {
                    if dirs.insert(parent.to_owned()) {
                        tar.append(&Entry::new(parent, EntryKind::Dir, 0o755))?;
                    }
                }
                Self::Dir(dir) => {
                    let path = dir.join(parent);
                    fs::create_dir_all(&path).op_path("create", &path)?;
                }
            }
        }
        Ok(())
    }
}

fn entry(name: &str, size: u64) -> Entry {
    Entry {
        size,
        ..Entry::new(name, EntryKind::File, 0o644)
    }
}

/// Lets `write` read a layer's bytes, and checks their digest unless it is known to be right.
fn read(layer: &LayerBlob, write: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<()> {
    let mut file = File::open(&layer.path).op_path("open", &layer.path)?;
    if layer.hashed {
        return write(&mut file);
    }
    let mut reader = HashingReader::new(file);
    write(&mut reader)?;
    let (wanted, found) = (&layer.descriptor.digest, reader.finish().1);
    if *wanted == found {
        return Ok(());
    }
    Err(condemn(&layer.path, wanted, &found))
}
