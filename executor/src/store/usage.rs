//! How much the store holds, by kind.
//!
//! Responsible for counting. Must not change anything. Sizes of unpacked layers are those that
//! their makers recorded, since the caller may not read all of them.

use std::collections::HashSet;
use std::time::SystemTime;

use crate::error::Result;
use crate::image::digest::Digest;
use crate::store::Store;
use crate::store::census::{Census, EntryKind, Needs};
use crate::store::lock::{dead_sessions, live_sessions};
use crate::store::measure::{self, Measurer};

/// One kind of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub count: usize,
    /// How many of them are needed by named images, or by sessions that live.
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
    /// Results of steps; their bytes are those of the records.
    pub steps: Share,
    /// What ADD has fetched.
    pub downloads: Share,
    /// Cache mounts.
    pub cache_mounts: Share,
    /// Digests of the files of contexts.
    pub files: Share,
    /// Other records: compressed forms of layers, and where layers are that the store lacks.
    pub records: Share,
    /// Unfinished work of sessions that live.
    pub work: Share,
    /// Leftovers of dead sessions.
    pub garbage: Share,
}

/// One thing that the cache remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its kind.
    pub kind: EntryKind,
    /// Its id.
    pub id: String,
    /// Bytes that it has and holds.
    pub bytes: u64,
    /// Whether a named image needs something of it, too.
    pub shared: bool,
    /// When it was last used.
    pub used: SystemTime,
    /// What it is, for people.
    pub description: String,
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

/// Counts what is there. With builds running, the numbers are of no one moment. `measurer` measures the
/// cache mounts that the caller can't read.
pub fn measure(store: &Store, measurer: &Measurer<'_>) -> Result<Usage> {
    let census = Census::take(store, Some(measurer))?;
    let needs = Needs::named(&census);
    let mut usage = Usage::default();
    let mut downloads: HashSet<Digest> = HashSet::new();
    for entry in &census.entries {
        let share = match entry.kind {
            EntryKind::Step => &mut usage.steps,
            EntryKind::Download => {
                downloads.extend(&entry.holds.blobs);
                &mut usage.downloads
            }
            EntryKind::CacheMount => &mut usage.cache_mounts,
            EntryKind::Files => &mut usage.files,
            EntryKind::Form => &mut usage.records,
        };
        share.add(entry.bytes, false);
    }
    for (_, bytes) in &census.broken {
        usage.records.add(*bytes, false);
    }
    for stored in &census.remotes {
        let active = stored.digest.is_some_and(|d| needs.has_blob(&d));
        usage.records.add(stored.bytes, active);
    }
    let blobs = store.blobs();
    let mut documents = HashSet::new();
    for image in &census.images {
        let record = &image.record;
        let size = |digest| blobs.size(digest).unwrap_or(0);
        let bytes = size(&record.manifest) + size(&record.config);
        usage.images.add(bytes, !record.names.is_empty());
        documents.extend([record.manifest, record.config]);
    }
    for (_, digest, bytes) in &census.blobs {
        let active = digest.is_some_and(|d| needs.has_blob(&d));
        match digest {
            Some(digest) if documents.contains(digest) => {}
            Some(digest) if downloads.contains(digest) => {
                usage.downloads.bytes += bytes;
                usage.downloads.reclaimable += if active { 0 } else { *bytes };
            }
            _ => usage.layers.add(*bytes, active),
        }
    }
    for found in &census.snapshots {
        let chain = found.chain.filter(|_| found.size.is_some());
        let active = chain.is_some_and(|c| needs.has_chain(c));
        let bytes = found
            .size
            .unwrap_or_else(|| measure::tree(&found.dir).bytes);
        usage.snapshots.add(bytes, active);
    }
    for dir in live_sessions(store)? {
        usage.work.add(measure::tree(&dir).bytes, true);
    }
    for dead in dead_sessions(store)? {
        usage.garbage.add(measure::tree(&dead.dir).bytes, false);
    }
    Ok(usage)
}

/// Lists what the cache remembers, the latest used first.
pub fn items(store: &Store, measurer: &Measurer<'_>) -> Result<Vec<Item>> {
    let census = Census::take(store, Some(measurer))?;
    let needs = Needs::named(&census);
    let items = census.entries.iter().map(|entry| Item {
        kind: entry.kind,
        id: entry.id.clone(),
        bytes: census.size_of(entry),
        shared: needs.holds_any(&entry.holds),
        used: entry.used,
        description: entry.description.clone(),
    });
    let mut items: Vec<Item> = items.collect();
    items.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
    Ok(items)
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
        let usage = measure(session.store(), &|_| panic!("the caller's own")).expect("measure");
        assert_eq!((usage.images.count, usage.images.active), (2, 1));
        assert_eq!((usage.layers.count, usage.layers.active), (4, 2));
        let layer = fixture::layer_tar("file", b"c").len() as u64;
        assert_eq!(usage.layers.reclaimable, layer + 1000);
        assert_eq!(usage.layers.bytes, 3 * layer + 1000);
        assert_eq!(usage.garbage, Share::default());
        assert_eq!((usage.work.count, usage.work.active), (1, 1));
    }
}
