//! What the store holds, and what needs what.
//!
//! Responsible for reading the store once, for those who count or collect. Must not change anything.
//! Invariant: [`Needs`] counts a thing's bytes exactly while something that is kept needs it; what a
//! named image needs is kept whatever becomes of the cache.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache;
use crate::error::Result;
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::store::images::Record;
use crate::store::measure::{self, Measurer};
use crate::store::record::side_by_side;
use crate::store::{Store, snapshots};

/// What kind of thing an entry of the cache is; the names are buildx's as far as it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// The result of a step.
    Step,
    /// What ADD has fetched from a URL.
    Download,
    /// Digests of the files of a context.
    Files,
    /// A cache mount.
    CacheMount,
    /// A layer in another compression.
    Form,
}

impl EntryKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Step,
        Self::Download,
        Self::Files,
        Self::CacheMount,
        Self::Form,
    ];

    /// Returns the name by which filters and listings know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "regular",
            Self::Download => "source.http",
            Self::Files => "source.local",
            Self::CacheMount => "exec.cachemount",
            Self::Form => "internal",
        }
    }
}

/// What one thing needs of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) blobs: Vec<Digest>,
    pub(crate) chains: Vec<ChainId>,
    pub(crate) diff_ids: Vec<DiffId>,
    /// Manifests of images that it stands on.
    pub(crate) bases: Vec<Digest>,
}

/// One thing that the cache remembers, which may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) id: String,
    pub(crate) used: SystemTime,
    pub(crate) description: String,
    /// Its record, or a cache mount's directory.
    pub(crate) path: PathBuf,
    /// Bytes of what is at `path`.
    pub(crate) bytes: u64,
    pub(crate) holds: Holds,
    /// The layer that it is another form of: without that it is of no use.
    pub(crate) form_of: Option<DiffId>,
}

/// An image and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldImage {
    pub(crate) record: Record,
    pub(crate) holds: Holds,
}

/// All that is in the store, but for the work of sessions.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) images: Vec<HeldImage>,
    pub(crate) entries: Vec<Entry>,
    /// Records that lead nowhere, with their sizes.
    pub(crate) broken: Vec<(PathBuf, u64)>,
    pub(crate) remotes: Vec<cache::remotes::Stored>,
    pub(crate) snapshots: Vec<snapshots::Found>,
    /// All blobs with their sizes; `None` for a file that is none.
    pub(crate) blobs: Vec<(PathBuf, Option<Digest>, u64)>,
    sizes: HashMap<Digest, u64>,
    trees: HashMap<ChainId, u64>,
    /// Entries that are other forms of a layer.
    forms: HashMap<DiffId, Vec<usize>>,
    /// Images without names, by each of their manifests.
    unnamed: HashMap<Digest, Vec<usize>>,
}

/// What is needed, and by how many.
#[derive(Debug, Clone)]
pub(crate) struct Needs<'a> {
    census: &'a Census,
    blobs: HashMap<Digest, usize>,
    chains: HashMap<ChainId, usize>,
    diff_ids: HashMap<DiffId, usize>,
    bases: HashMap<Digest, usize>,
    images: Vec<bool>,
    entries: Vec<bool>,
    bytes: u64,
}

impl Census {
    /// Reads the store. Cache mounts are measured only with a measurer, since it takes as long as they
    /// have files.
    pub(crate) fn take(store: &Store, measurer: Option<&Measurer<'_>>) -> Result<Self> {
        let images = store.images().list()?.into_iter();
        let images: Vec<_> = images
            .map(|record| HeldImage {
                holds: holds_of(store, &record),
                record,
            })
            .collect();
        let mut unnamed: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (number, image) in images.iter().enumerate() {
            if image.record.names.is_empty() {
                for manifest in manifests(&image.record) {
                    unnamed.entry(*manifest).or_default().push(number);
                }
            }
        }
        let blobs = side_by_side(store.blobs().files(), |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = format!("sha256:{name}").parse().ok();
            let size = file_size(&path);
            (path, digest, size)
        });
        let sizes = blobs.iter().filter_map(|(_, d, size)| Some(((*d)?, *size)));
        let snapshots = store.snapshots().list()?;
        let mut trees = HashMap::new();
        for found in &snapshots {
            if let (Some(chain), Some(size)) = (found.chain, found.size) {
                *trees.entry(chain).or_default() += size;
            }
        }
        let mut census = Self {
            images,
            entries: Vec::new(),
            broken: Vec::new(),
            remotes: store.cache().remotes().list(),
            sizes: sizes.collect(),
            snapshots,
            blobs,
            trees,
            forms: HashMap::new(),
            unnamed,
        };
        census.read_records(store);
        let mounts = store.cache_mounts().list()?;
        let dirs: Vec<PathBuf> = mounts.iter().map(|found| found.dir.clone()).collect();
        let sizes = match measurer {
            Some(measurer) => measure::trees(&dirs, Some(measurer))?,
            None => vec![0; dirs.len()],
        };
        for (found, bytes) in mounts.into_iter().zip(sizes) {
            census.entries.push(Entry {
                kind: EntryKind::CacheMount,
                id: name_of(&found.dir),
                used: found.used,
                description: found.name,
                path: found.dir,
                bytes,
                holds: Holds::default(),
                form_of: None,
            });
        }
        Ok(census)
    }

    fn read_records(&mut self, store: &Store) {
        let cache = store.cache();
        for stored in cache.steps().list() {
            let Some(record) = stored.record else {
                self.discard(stored.path);
                continue;
            };
            let blob = record.blob.as_ref().map(|blob| blob.digest);
            let layer = record.diff_id.map(|id| blob.unwrap_or(id.0));
            let holds = Holds {
                blobs: layer.into_iter().collect(),
                chains: record.chain.into_iter().collect(),
                diff_ids: record.diff_id.into_iter().collect(),
                bases: record.bases,
            };
            self.admit(
                EntryKind::Step,
                stored.path,
                stored.used,
                record.name,
                holds,
            );
        }
        for stored in cache.downloads().list() {
            let Some(download) = stored.record else {
                self.discard(stored.path);
                continue;
            };
            let holds = Holds {
                blobs: vec![download.digest],
                ..Holds::default()
            };
            let name = download.name.unwrap_or_default();
            self.admit(EntryKind::Download, stored.path, stored.used, name, holds);
        }
        for path in cache::files(&cache.stat_dir()) {
            let used = time_of(&path);
            let nothing = Holds::default();
            self.admit(EntryKind::Files, path, used, String::new(), nothing);
        }
        for stored in cache.variants().list() {
            let (Some(diff_id), Some(blob)) = (stored.diff_id, stored.blob) else {
                self.discard(stored.path);
                continue;
            };
            let holds = Holds {
                blobs: vec![blob],
                ..Holds::default()
            };
            let used = time_of(&stored.path);
            self.admit(EntryKind::Form, stored.path, used, String::new(), holds);
            let number = self.entries.len() - 1;
            self.forms.entry(diff_id).or_default().push(number);
            if let Some(entry) = self.entries.last_mut() {
                entry.form_of = Some(diff_id);
                let (_, form) = entry.id.split_once('.').unwrap_or_default();
                entry.description = form.to_owned();
            }
        }
    }

    fn admit(
        &mut self,
        kind: EntryKind,
        path: PathBuf,
        used: SystemTime,
        description: String,
        holds: Holds,
    ) {
        self.entries.push(Entry {
            kind,
            id: name_of(&path),
            used,
            description,
            bytes: file_size(&path),
            path,
            holds,
            form_of: None,
        });
    }

    fn discard(&mut self, path: PathBuf) {
        let size = file_size(&path);
        self.broken.push((path, size));
    }

    /// Returns the bytes of everything, needed or not.
    pub(crate) fn bytes(&self) -> u64 {
        let blobs = self.blobs.iter().map(|(_, _, size)| size).sum::<u64>();
        let trees = self
            .snapshots
            .iter()
            .filter_map(|found| found.size)
            .sum::<u64>();
        let records = self.broken.iter().map(|(_, size)| size).sum::<u64>();
        let entries = self.entries.iter().map(|entry| entry.bytes).sum::<u64>();
        blobs + trees + records + entries
    }

    /// Returns the bytes that an entry has and holds, whoever else needs them.
    pub(crate) fn size_of(&self, entry: &Entry) -> u64 {
        let blobs = entry.holds.blobs.iter().filter_map(|b| self.sizes.get(b));
        let trees = entry.holds.chains.iter().filter_map(|c| self.trees.get(c));
        entry.bytes + blobs.sum::<u64>() + trees.sum::<u64>()
    }
}

impl<'a> Needs<'a> {
    /// Counts what named images need.
    pub(crate) fn named(census: &'a Census) -> Self {
        let mut needs = Self {
            census,
            blobs: HashMap::new(),
            chains: HashMap::new(),
            diff_ids: HashMap::new(),
            bases: HashMap::new(),
            images: vec![false; census.images.len()],
            entries: vec![false; census.entries.len()],
            bytes: 0,
        };
        for (number, image) in census.images.iter().enumerate() {
            if !image.record.names.is_empty() {
                needs.images[number] = true;
                needs.hold(&image.holds);
            }
        }
        needs
    }

    /// Adds the whole cache, and the images that it stands on.
    pub(crate) fn with_cache(mut self) -> Self {
        let census = self.census;
        let (forms, others): (Vec<_>, Vec<_>) =
            (0..census.entries.len()).partition(|n| census.entries[*n].form_of.is_some());
        // Whether a form is needed shows when everything else is counted.
        for number in others.into_iter().chain(forms) {
            let entry = &census.entries[number];
            if (entry.form_of).is_none_or(|layer| self.diff_ids.contains_key(&layer)) {
                self.entries[number] = true;
                self.bytes += entry.bytes;
                self.hold(&entry.holds);
            }
        }
        self
    }

    /// Returns the bytes of everything that is needed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells whether a blob is needed.
    pub(crate) fn has_blob(&self, blob: &Digest) -> bool {
        self.blobs.contains_key(blob)
    }

    /// Tells whether the snapshots of a chain are needed.
    pub(crate) fn has_chain(&self, chain: ChainId) -> bool {
        self.chains.contains_key(&chain)
    }

    /// Tells whether an image, by its number, is needed.
    pub(crate) fn has_image(&self, number: usize) -> bool {
        self.images[number]
    }

    /// Tells whether an entry, by its number, is kept.
    pub(crate) fn has_entry(&self, number: usize) -> bool {
        self.entries[number]
    }

    /// Tells whether something besides the entry needs what it holds.
    pub(crate) fn holds_any(&self, holds: &Holds) -> bool {
        holds.blobs.iter().any(|blob| self.has_blob(blob))
            || holds.chains.iter().any(|chain| self.has_chain(*chain))
    }

    /// Forgets an entry, and returns the bytes that nothing needs any more.
    pub(crate) fn forget(&mut self, number: usize) -> u64 {
        let before = self.bytes;
        if std::mem::replace(&mut self.entries[number], false) {
            let entry = &self.census.entries[number];
            self.bytes -= entry.bytes;
            self.release(&entry.holds);
        }
        before - self.bytes
    }

    fn hold(&mut self, holds: &Holds) {
        let census = self.census;
        for blob in &holds.blobs {
            if one_more(&mut self.blobs, *blob) {
                self.bytes += census.sizes.get(blob).copied().unwrap_or(0);
            }
        }
        for chain in &holds.chains {
            if one_more(&mut self.chains, *chain) {
                self.bytes += census.trees.get(chain).copied().unwrap_or(0);
            }
        }
        for diff_id in &holds.diff_ids {
            one_more(&mut self.diff_ids, *diff_id);
        }
        for base in &holds.bases {
            if one_more(&mut self.bases, *base) {
                for number in census.unnamed.get(base).into_iter().flatten() {
                    if !std::mem::replace(&mut self.images[*number], true) {
                        self.hold(&census.images[*number].holds);
                    }
                }
            }
        }
    }

    fn release(&mut self, holds: &Holds) {
        let census = self.census;
        for blob in &holds.blobs {
            if one_less(&mut self.blobs, blob) {
                self.bytes -= census.sizes.get(blob).copied().unwrap_or(0);
            }
        }
        for chain in &holds.chains {
            if one_less(&mut self.chains, chain) {
                self.bytes -= census.trees.get(chain).copied().unwrap_or(0);
            }
        }
        for diff_id in &holds.diff_ids {
            if one_less(&mut self.diff_ids, diff_id) {
                for number in census.forms.get(diff_id).into_iter().flatten() {
                    self.forget(*number);
                }
            }
        }
        for base in &holds.bases {
            if one_less(&mut self.bases, base) {
                for number in census.unnamed.get(base).into_iter().flatten() {
                    let image = &census.images[*number];
                    let is_needed = manifests(&image.record).any(|m| self.bases.contains_key(m));
                    if !is_needed && std::mem::replace(&mut self.images[*number], false) {
                        self.release(&image.holds);
                    }
                }
            }
        }
    }
}

/// Returns the manifests that a record stands for.
fn manifests(record: &Record) -> impl Iterator<Item = &Digest> {
    let own = (!record.parts.contains(&record.manifest)).then_some(&record.manifest);
    own.into_iter().chain(&record.parts)
}

/// Finds what an image needs. A document that can't be read needs nothing more, so that a damaged
/// image does not stop the collector.
fn holds_of(store: &Store, record: &Record) -> Holds {
    let mut holds = Holds {
        blobs: vec![record.manifest, record.config],
        ..Holds::default()
    };
    holds.blobs.extend(record.index);
    holds.blobs.extend(&record.parts);
    let images = store.images();
    let parts = images.read(record).and_then(|image| images.parts(&image));
    for image in parts.unwrap_or_default() {
        holds.blobs.push(image.config_digest);
        let layers = image.manifest.layers.iter().map(|l| l.digest);
        holds.blobs.extend(layers);
        let mut chain = None;
        for diff_id in &image.config.rootfs.diff_ids {
            let next = ChainId::child(chain, *diff_id);
            holds.chains.push(next);
            holds.diff_ids.push(*diff_id);
            chain = Some(next);
        }
    }
    holds
}

fn one_more<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) -> bool {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count == 1
}

/// Takes one away; tells whether it was the last one.
fn one_less<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else {
        return false;
    };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    counts.remove(key);
    true
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn file_size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |m| m.len())
}

fn time_of(path: &Path) -> SystemTime {
    let time = fs::metadata(path).and_then(|m| m.modified());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
