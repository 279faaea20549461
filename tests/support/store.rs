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

/// Expects that a store, which was pruned, holds nothing that is not named: no work in progress, no lock
/// of a session, nothing beside what the layout has.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_pruned(store: &Path) {
    assert_clean(store);
    const TOP: [&str; 8] = [
        "blobs",
        "cache",
        "cache-mounts",
        "images",
        "lock",
        "snapshots",
        "tmp",
        "version",
    ];
    let odd = |directory: &Path, known: &dyn Fn(&str) -> bool| {
        let left: Vec<_> = entries(directory)
            .into_iter()
            .filter(|name| !known(name))
            .collect();
        assert!(left.is_empty(), "in {}: {left:?}", directory.display());
    };
    let is_hex = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    odd(store, &|name| TOP.contains(&name));
    odd(&store.join("blobs"), &|name| name == "sha256");
    odd(&store.join("blobs/sha256"), &is_hex);
    for identity in entries(&store.join("snapshots")) {
        odd(&store.join("snapshots").join(identity), &is_hex);
    }
    for identity in entries(&store.join("cache-mounts")) {
        odd(&store.join("cache-mounts").join(identity), &|name| {
            name.split_once('-').is_some_and(|(hex, number)| {
                is_hex(hex) && number.bytes().all(|b| b.is_ascii_digit())
            })
        });
    }
}

/// Expects that a store has neither blobs, nor trees, nor images, nor records of steps.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_empty(store: &Path) {
    assert_pruned(store);
    let below = |path: &str| -> Vec<String> {
        entries(&store.join(path))
            .iter()
            .flat_map(|name| {
                let names = entries(&store.join(path).join(name));
                names.into_iter().map(move |n| format!("{path}/{n}"))
            })
            .collect()
    };
    let left = ["blobs", "snapshots", "cache-mounts", "images", "cache"]
        .map(below)
        .concat();
    assert!(left.is_empty(), "left in the store: {left:?}");
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
