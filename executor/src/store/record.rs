//! Small records that prove themselves.
//!
//! Responsible for files that are cheap to write and safe to lose: no sync, but a checksum over
//! the content, so that a torn or foreign file reads as absent. Invariant: what [`read`] returns
//! is what some [`write()`] was given for the same kind of record.

use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, ResultExt};
use crate::image::digest::Digest;

/// What is larger by more than a page is no record of ours: its end is not read.
const LIMIT: u64 = 1 << 20;

/// So many files are not worth a thread.
const FEW: usize = 500;

fn seal(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{kind} {}\n", Digest::of(body).hex()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn unseal<'a>(kind: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let wanted = format!("{kind} {}", Digest::of(body).hex());
    (head == wanted.as_bytes()).then_some(body)
}

/// Writes a record: aside in `tmp`, then renamed. `kind` names type and version of the content.
///
/// # Errors
/// Those of the file system; a record that could not be written may be done without.
pub fn write<T: Serialize>(tmp: &Path, target: &Path, kind: &str, value: &T) -> Result<()> {
    let body = serde_json::to_vec(value).op("encode record")?;
    let mut file = tempfile::Builder::new()
        .prefix("record-")
        .tempfile_in(tmp)
        .op_path("create file in", tmp)?;
    file.write_all(&seal(kind, &body))
        .op_path("write", target)?;
    file.persist(target)
        .map_err(|e| e.error)
        .op_path("replace", target)?;
    Ok(())
}

/// Reads a record; `None` when it is missing, torn, of another kind or not readable.
pub fn read<T: DeserializeOwned>(path: &Path, kind: &str) -> Option<T> {
    let mut file = fs::File::open(path).ok()?;
    // Nearly all are as short as this, and stores have many.
    let mut bytes = vec![0; 4096];
    let read = loop {
        match file.read(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other.ok()?,
        }
    };
    let is_more = read == bytes.len();
    bytes.truncate(read);
    if is_more {
        file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    }
    serde_json::from_slice(unseal(kind, &bytes)?).ok()
}

/// Looks at many files, several at a time, in the order given.
pub(crate) fn side_by_side<T: Send>(
    paths: Vec<PathBuf>,
    look: impl Fn(PathBuf) -> T + Sync,
) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    if paths.len() < FEW || cores == 1 {
        return paths.into_iter().map(look).collect();
    }
    let share = paths.len().div_ceil(cores);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (paths.chunks(share))
            .map(|part| scope.spawn(|| part.iter().cloned().map(&look).collect::<Vec<T>>()))
            .collect();
        let done = threads.into_iter().map(|thread| match thread.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_torn_prefix_reads_as_absent() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("record");
        write(dir.path(), &path, "test-1", &"value").expect("write");
        assert_eq!(read::<String>(&path, "test-1").as_deref(), Some("value"));
        assert_eq!(read::<String>(&path, "test-2"), None);
        let whole = fs::read(&path).expect("read");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("write");
            assert_eq!(read::<String>(&path, "test-1"), None, "cut at {cut}");
        }
    }

    #[test]
    fn long_records_are_read_whole() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("record");
        for length in [3000, 4096, 5000, 100_000] {
            let value = "x".repeat(length);
            write(dir.path(), &path, "test-1", &value).expect("write");
            assert_eq!(read::<String>(&path, "test-1"), Some(value));
        }
    }

    #[test]
    fn order_is_kept() {
        let paths: Vec<PathBuf> = (0..FEW * 3).map(|n| n.to_string().into()).collect();
        assert_eq!(side_by_side(paths.clone(), |path| path), paths);
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(body: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let mut sealed = seal("test-1", &body);
            prop_assert_eq!(unseal("test-1", &sealed), Some(&body[..]));
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert_eq!(unseal("test-1", &sealed), None);
        }
    }
}
