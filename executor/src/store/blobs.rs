//! Blobs: immutable byte strings named by their digest.
//!
//! Responsible for writing them so that a name is never seen before its whole content is on disk
//! (written aside, hashed on the way, synced, renamed), and for opening them. Must not know what
//! the bytes mean. Invariant: a file under `blobs/sha256/` has the content that its name says. A
//! power cut may take the name of a new blob away until [`Blobs::settle`] has returned.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::{Digest, HashingReader, HashingWriter};
use crate::store::needs_session;
use crate::store::steady::Steady;

/// The store's blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
    /// Where unfinished blobs go; `None` when these are for reading only.
    tmp: Option<PathBuf>,
    /// Blobs that were written through this value or a clone of it.
    written: Arc<Mutex<HashSet<Digest>>>,
}

/// A blob that is being written; dropped, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    out: HashingWriter<Steady<NamedTempFile>>,
    blobs: Blobs,
}

impl Blobs {
    /// Takes the directory of the blobs and the one for unfinished files; both exist and are on
    /// one file system.
    pub fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self {
            dir,
            tmp: Some(tmp),
            written: Arc::default(),
        }
    }

    /// Takes the directory of the blobs, for reading.
    pub fn read_only(dir: PathBuf) -> Self {
        Self {
            dir,
            tmp: None,
            written: Arc::default(),
        }
    }

    /// Returns where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Returns a blob's size in bytes, or `None` when it is not here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.path(digest).metadata().ok().map(|m| m.len())
    }

    /// Tells whether a blob was written through this value or a clone of it, such as the
    /// session's. Its bytes were hashed on their way here and need not be hashed again.
    pub fn has_written(&self, digest: &Digest) -> bool {
        self.lock_written().contains(digest)
    }

    fn lock_written(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is not here.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|e| {
            let missing = e.kind() == io::ErrorKind::NotFound;
            let error = Error::new(format!("open blob {digest}")).source(e);
            if missing {
                error.kind(Kind::NotFound)
            } else {
                error
            }
        })
    }

    /// Reads a small blob (a manifest or a config) whole and checks its digest.
    ///
    /// # Errors
    /// When it is missing, larger than `limit` bytes, or not what its name says.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .op_path("read blob", self.path(digest))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(format!(
                "blob {digest} is larger than {limit} bytes"
            )));
        }
        if Digest::of(&bytes) != *digest {
            return Err(self.corrupt(digest));
        }
        Ok(bytes)
    }

    /// Reads a blob of any size to its end and checks its digest.
    ///
    /// # Errors
    /// When it is missing, or not what its name says; then it is removed.
    pub fn verify(&self, digest: &Digest) -> Result<()> {
        let mut reader = HashingReader::new(self.open(digest)?);
        io::copy(&mut reader, &mut io::sink()).op_path("read blob", self.path(digest))?;
        let found = reader.finish().1;
        if found == *digest {
            Ok(())
        } else {
            Err(condemn(&self.path(digest), digest, &found))
        }
    }

    /// The error for a blob that is not what its name says.
    fn corrupt(&self, digest: &Digest) -> Error {
        Error::new(format!("blob {digest} is corrupt in the store:"))
            .path(self.path(digest))
            .hint("remove the file; it is made or pulled again when it is needed")
    }

    /// Starts a blob.
    pub fn writer(&self) -> Result<BlobWriter> {
        Ok(BlobWriter {
            out: HashingWriter::new(Steady::new(self.file()?)),
            blobs: self.clone(),
        })
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).op("write blob")?;
        Ok(writer.commit(Some(&digest))?.0)
    }

    /// Stores two small blobs, which wait for the disk together.
    pub fn put_both(&self, [first, second]: [&[u8]; 2]) -> Result<[Digest; 2]> {
        let digest = Digest::of(first);
        if self.size(&digest) == Some(first.len() as u64) {
            return Ok([digest, self.put(second)?]);
        }
        std::thread::scope(|scope| {
            let first = scope.spawn(|| self.put(first));
            let second = self.put(second);
            let first = first
                .join()
                .map_err(|_| Error::new("store blob: the thread panicked").kind(Kind::Internal))?;
            Ok([first?, second?])
        })
    }

    /// Makes a file for a blob that somebody else writes, a job for example; dropped, it leaves
    /// nothing.
    pub fn file(&self) -> Result<NamedTempFile> {
        let tmp = self
            .tmp
            .as_ref()
            .ok_or_else(|| needs_session("write blob"))?;
        tempfile::Builder::new()
            .prefix("blob-")
            .tempfile_in(tmp)
            .op_path("create blob in", tmp)
    }

    /// Puts a finished file in place under a digest that its writer has computed on the way:
    /// syncs it, then renames it.
    pub fn adopt(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        let size = file.as_file().metadata().op("read blob's size")?.len();
        if self.size(digest) == Some(size) {
            return Ok(());
        }
        file.as_file().sync_all().op("sync blob")?;
        let target = self.path(digest);
        file.persist(&target)
            .map_err(|e| e.error)
            .op_path("store blob", &target)?;
        self.lock_written().insert(*digest);
        Ok(())
    }

    /// Makes the names of all blobs survive a power cut; to be called before something that must
    /// not dangle refers to them.
    pub fn settle(&self) -> Result<()> {
        File::open(&self.dir)
            .and_then(|d| d.sync_all())
            .op_path("sync", &self.dir)
    }

    /// Lists the files of all blobs, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        crate::cache::files(&self.dir)
    }
}

/// Removes a blob that is not what its name says, so that it can be made or fetched again, and returns the
/// error about it. Where the store can't be written to, it stays.
pub(crate) fn condemn(path: &Path, wanted: &Digest, found: &Digest) -> Error {
    let error = Error::new(format!(
        "blob {wanted} is corrupt in the store: it is {found}"
    ))
    .path(path);
    match std::fs::remove_file(path) {
        Ok(()) => error.hint("it was removed: try again, and it is made or pulled anew"),
        Err(_) => error.hint("remove the file; it is made or pulled again when it is needed"),
    }
}

impl BlobWriter {
    /// Returns the number of bytes written so far.
    pub fn len(&self) -> u64 {
        self.out.count()
    }

    /// Tells whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finishes the blob: syncs it and renames it into place. Returns its digest and its size in
    /// bytes.
    ///
    /// # Errors
    /// When the content's digest is not `expected`; nothing is stored then.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let (file, digest, size) = self.out.finish();
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::new(format!(
                "digest mismatch: expected {expected}, got {digest} ({size} bytes)"
            )));
        }
        self.blobs.adopt(file.into_inner(), &digest)?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (blobs, tmp) = (dir.path().join("blobs"), dir.path().join("tmp"));
        std::fs::create_dir(&blobs).expect("mkdir");
        std::fs::create_dir(&tmp).expect("mkdir");
        let blobs = Blobs::new(blobs, tmp);
        (dir, blobs)
    }

    #[test]
    fn what_was_written_here_is_known() {
        let (dir, blobs) = blobs();
        let other = Blobs::new(dir.path().join("blobs"), dir.path().join("tmp"));
        let digest = other.put(b"hello").expect("put");
        // Found, but not written: nobody has hashed these bytes here.
        assert_eq!(blobs.put(b"hello").expect("put"), digest);
        assert!(!blobs.has_written(&digest));
        assert!(other.clone().has_written(&digest));
    }

    #[test]
    fn two_at_once() {
        let (_dir, blobs) = blobs();
        for pair in [[b"one", b"two"], [b"one", b"new"], [b"old", b"two"]] {
            let digests = blobs.put_both([pair[0], pair[1]]).expect("put");
            for (digest, bytes) in digests.iter().zip(pair) {
                assert_eq!(blobs.read(digest, 3).expect("read"), bytes);
            }
        }
    }

    #[test]
    fn stores_and_reads() {
        let (_dir, blobs) = blobs();
        let digest = blobs.put(b"hello").expect("put");
        assert_eq!(digest, Digest::of(b"hello"));
        assert_eq!(blobs.read(&digest, 5).expect("read"), b"hello");
        assert!(blobs.read(&digest, 4).is_err());
    }

    #[test]
    fn a_mismatch_leaves_nothing() {
        let (dir, blobs) = blobs();
        let mut writer = blobs.writer().expect("writer");
        writer.write_all(b"x").expect("write");
        assert!(writer.commit(Some(&Digest::of(b"y"))).is_err());
        let left = |d: &str| std::fs::read_dir(dir.path().join(d)).expect("list").count();
        assert_eq!((left("blobs"), left("tmp")), (0, 0));
    }

    #[test]
    fn a_changed_blob_is_noticed() {
        let (_dir, blobs) = blobs();
        let digest = blobs.put(b"hello").expect("put");
        std::fs::write(blobs.path(&digest), b"other").expect("write");
        let error = blobs.read(&digest, 100).expect_err("corrupt");
        assert!(error.to_string().contains("corrupt"));
        let error = blobs.verify(&digest).expect_err("corrupt");
        assert!(error.to_string().contains("corrupt"));
        // Of the right size, it would keep the right one out.
        assert_eq!(blobs.size(&digest), None);
        blobs.put(b"hello").expect("put again");
        blobs.verify(&digest).expect("verify");
        let good = blobs.put(b"good").expect("put");
        blobs.verify(&good).expect("verify");
    }
}
