//! How much the store holds, by kind.
//!
//! Responsible for counting. Must not change anything. Sizes of unpacked layers are those that
//! their makers recorded, since the caller may not read all of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cache;
use crate::error::Result;
use crate::store::Store;
use crate::store::gc::Live;
use crate::store::lock::dead_sessions;

/// One kind of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub count: usize,
    /// How many of them are needed by named images (for garbage: none).
    pub active: usize,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that collecting everything but named images would give back.
    pub reclaimable: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images; their bytes are those of their manifests and configs.
    pub images: Share,
    /// Layers as archives, compressed or not.
    pub layers: Share,
    /// Unpacked layers.
    pub snapshots: Share,
    /// Cache mounts, as far as the caller may read them.
    pub cache_mounts: Share,
    /// Records of the cache.
    pub cache: Share,
    /// Leftovers of dead sessions.
    pub garbage: Share,
}

impl Share {
    fn add(&mut self, bytes: u64, active: bool) {
        self.count += 1;
        self.bytes += bytes;
        if active {
            self.active += 1;
        } else {
            self.reclaimable += bytes;
        }
    }
}

/// Counts what is there. With builds running, the numbers are of no one moment.
pub fn measure(store: &Store) -> Result<Usage> {
    let images = store.images().list()?;
    let named: Vec<_> = images
        .iter()
        .filter(|r| !r.names.is_empty())
        .cloned()
        .collect();
    let mut live = Live::default();
    live.add_images(store, &named);
    let blobs = store.blobs();
    let mut usage = Usage::default();
    let mut documents = std::collections::HashSet::new();
    for record in &images {
        let size = |digest| blobs.size(digest).unwrap_or(0);
        let bytes = size(&record.manifest) + size(&record.config);
        usage.images.add(bytes, !record.names.is_empty());
        documents.extend([record.manifest.hex(), record.config.hex()]);
    }
    for path in blobs.files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !documents.contains(name.as_ref()) {
            let digest = format!("sha256:{name}").parse();
            let active = digest.is_ok_and(|d| live.blobs.contains(&d));
            usage.layers.add(file_size(&path), active);
        }
    }
    for found in store.snapshots().list()? {
        let known = found.size.is_some();
        let active = known && found.chain.is_some_and(|c| live.chains.contains(&c));
        let bytes = found.size.unwrap_or_else(|| tree_size(&found.dir));
        usage.snapshots.add(bytes, active);
    }
    for found in store.cache_mounts().list()? {
        usage.cache_mounts.add(tree_size(&found.dir), false);
    }
    for path in store.cache().dirs().iter().flat_map(|d| cache::files(d)) {
        usage.cache.add(file_size(&path), false);
    }
    for dead in dead_sessions(store)? {
        usage.garbage.add(tree_size(&dead.dir), false);
    }
    Ok(usage)
}

fn file_size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |m| m.len())
}

/// Returns the bytes that a tree takes on disk, as far as the caller may read it.
pub(crate) fn tree_size(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut rest = vec![path.to_path_buf()];
    while let Some(path) = rest.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            rest.extend(entries.map(|e| e.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[test]
    fn counts_by_kind_and_need() {
        let (_dir, session) = fixture::session();
        fixture::image(&session, &["a", "b"], &["app"]);
        fixture::image(&session, &["a", "c"], &[]);
        let lone = vec![0; 1000];
        session.blobs().put(&lone).expect("blob");
        let usage = measure(session.store()).expect("measure");
        assert_eq!((usage.images.count, usage.images.active), (2, 1));
        assert_eq!((usage.layers.count, usage.layers.active), (4, 2));
        let layer = fixture::layer_tar("file", b"c").len() as u64;
        assert_eq!(usage.layers.reclaimable, layer + 1000);
        assert_eq!(usage.layers.bytes, 3 * layer + 1000);
        assert_eq!(usage.garbage, Share::default());
    }
}
