//! What must be true of a store on disk, whoever left it.
//!
//! Responsible for the parts of the layout that are a promise: blobs named by their digests, work
//! in progress under `tmp`. Must not read the rest.

use std::fs::File;
use std::path::Path;

use crate::hash;

/// Expects that no work in progress is left and that every blob is whole. A store that was never
/// made is clean.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_clean(store: &Path) {
    let left: Vec<_> = entries(&store.join("tmp"));
    assert!(left.is_empty(), "half-written in the store: {left:?}");
    assert_blobs_whole(store);
}

/// Expects that every blob has the contents that its name promises.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_blobs_whole(store: &Path) {
    for name in entries(&store.join("blobs/sha256")) {
        let file = File::open(store.join("blobs/sha256").join(&name)).expect("open a blob");
        let (_, digest) = hash::sha256_reader(file).expect("read a blob");
        assert_eq!(digest, name, "a broken blob in the store");
    }
}

/// Returns how many bytes the files of a store take, as far as the caller can see them.
pub fn size(directory: &Path) -> u64 {
    let Ok(list) = std::fs::read_dir(directory) else {
        return 0;
    };
    list.flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn entries(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .map(|list| {
            list.flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default()
}
