//! Collecting what nobody needs any more.
//!
//! Responsible for deciding what is garbage and for removing it. Must not enter snapshots, whose
//! files belong to other ids: they are moved aside, and a [`Remover`] deletes them. Invariant:
//! while a session lives, only the leftovers of dead sessions are removed; a collector that is
//! killed leaves its own such leftovers and a store in which all that is named is complete.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::cache;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::store::images::Record;
use crate::store::lock::{Exclusive, Scratch, dead_sessions};
use crate::store::usage::tree_size;
use crate::store::{Remover, Store};

/// What to collect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Also forget all cache records, what only they need, and all cache mounts.
    pub all: bool,
    /// Wait until no session lives.
    pub wait: bool,
    /// Also forget cache records and cache mounts that were not used for this long.
    pub unused_for: Option<Duration>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Ids of images without names.
    pub images: Vec<Digest>,
    /// Leftovers of dead sessions.
    pub sessions: usize,
    /// Unpacked layers.
    pub snapshots: usize,
    /// Cache mounts.
    pub cache_mounts: usize,
    /// Blobs.
    pub blobs: usize,
    /// Cache records.
    pub records: usize,
    /// Bytes given back.
    pub bytes: u64,
    /// Whether live sessions kept the collector from more than their dead peers.
    pub limited: bool,
}

/// What is needed.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) chains: HashSet<ChainId>,
    diff_ids: HashSet<DiffId>,
}

impl Live {
    /// Keeps what images need. A document that cannot be read keeps nothing more, so that a
    /// damaged image does not stop the collector.
    pub(crate) fn add_images(&mut self, store: &Store, images: &[Record]) {
        for record in images {
            self.blobs.extend([record.manifest, record.config]);
            self.blobs.extend(record.index);
            self.blobs.extend(&record.parts);
            let images = store.images();
            let Ok(parts) = images.read(record).and_then(|image| images.parts(&image)) else {
                continue;
            };
            for image in parts {
                self.blobs.insert(image.config_digest);
                let layers = image.manifest.layers.iter().map(|l| l.digest);
                self.blobs.extend(layers);
                let mut chain = None;
                for diff_id in &image.config.rootfs.diff_ids {
                    let next = ChainId::child(chain, *diff_id);
                    self.chains.insert(next);
                    self.diff_ids.insert(*diff_id);
                    chain = Some(next);
                }
            }
        }
    }

    /// Keeps what the results of steps need; only records that `keep` accepts count.
    pub(crate) fn add_steps(
        &mut self,
        steps: &[cache::steps::Stored],
        keep: impl Fn(&cache::steps::Stored) -> bool,
    ) {
        for stored in steps.iter().filter(|s| keep(s)) {
            let Some(record) = &stored.record else {
                continue;
            };
            self.chains.extend(record.chain);
            if let Some(diff_id) = record.diff_id {
                self.diff_ids.insert(diff_id);
                let blob = record.blob.as_ref().map(|blob| blob.digest);
                self.blobs.insert(blob.unwrap_or(diff_id.0));
            }
        }
    }

    /// Keeps the compressed forms of what is kept already.
    pub(crate) fn add_variants(&mut self, variants: &[cache::variants::Stored]) {
        for stored in variants {
            if self.keeps_variant(stored) {
                self.blobs.extend(stored.blob);
            }
        }
    }

    fn keeps_variant(&self, stored: &cache::variants::Stored) -> bool {
        stored.blob.is_some() && stored.diff_id.is_some_and(|id| self.diff_ids.contains(&id))
    }
}

/// Removes what nobody needs.
///
/// # Errors
/// Those of the file system and of the remover. What was removed until then stays removed.
pub fn collect(store: &Store, options: Options, remover: &Remover<'_>) -> Result<Report> {
    let scratch = Scratch::new(store)?;
    let alone = Exclusive::take(store, options.wait)?;
    let mut report = Report {
        limited: alone.is_none(),
        ..Report::default()
    };
    for dead in dead_sessions(store)? {
        report.sessions += 1;
        report.bytes += tree_size(&dead.dir);
        dead.bury(&scratch)?;
    }
    if alone.is_some() {
        report.images = store.images().remove_dangling()?;
        sweep(store, options, &scratch, &mut report)?;
    }
    // Deleting trees takes long, and builds need not wait for it.
    drop(alone);
    scratch.clear(remover)?;
    Ok(report)
}

fn sweep(store: &Store, options: Options, scratch: &Scratch, report: &mut Report) -> Result<()> {
    let now = SystemTime::now();
    let old = |used: SystemTime| {
        let age = now.duration_since(used).unwrap_or_default();
        options.unused_for.is_some_and(|limit| age > limit)
    };
    let keeps = |s: &cache::steps::Stored| !options.all && s.record.is_some() && !old(s.used);
    let cache = store.cache();
    let (steps, variants) = (cache.steps().list(), cache.variants().list());
    let mut live = Live::default();
    live.add_images(store, &store.images().list()?);
    live.add_steps(&steps, keeps);
    if !options.all {
        live.add_variants(&variants);
    }
    let downloads = cache.downloads().list();
    let keeps_download =
        |s: &cache::downloads::Stored| !options.all && s.blob.is_some() && !old(s.used);
    let kept = downloads.iter().filter(|s| keeps_download(s));
    live.blobs.extend(kept.filter_map(|s| s.blob));
    // Records go before what they name.
    for stored in downloads.iter().filter(|s| !keeps_download(s)) {
        report.bytes += remove_file(&stored.path)?;
        report.records += 1;
    }
    for stored in steps.iter().filter(|s| !keeps(s)) {
        report.bytes += remove_file(&stored.path)?;
        report.records += 1;
    }
    for stored in variants {
        if options.all || !live.keeps_variant(&stored) {
            report.bytes += remove_file(&stored.path)?;
            report.records += 1;
        }
    }
    for stored in cache.remotes().list() {
        if !stored.digest.is_some_and(|d| live.blobs.contains(&d)) {
            report.bytes += remove_file(&stored.path)?;
            report.records += 1;
        }
    }
    if options.all {
        for path in cache::files(&cache.stat_dir()) {
            report.bytes += remove_file(&path)?;
            report.records += 1;
        }
    }
    for found in store.snapshots().list()? {
        let size = found.size;
        if size.is_some() && found.chain.is_some_and(|c| live.chains.contains(&c)) {
            continue;
        }
        report.bytes += size.unwrap_or_else(|| tree_size(&found.dir));
        report.snapshots += 1;
        fs::rename(&found.dir, scratch.fresh("snapshot")).op_path("move", &found.dir)?;
    }
    // Nobody holds one: who does has a session.
    for found in store.cache_mounts().list()? {
        if options.all || old(found.used) {
            report.bytes += tree_size(&found.dir);
            report.cache_mounts += 1;
            fs::rename(&found.dir, scratch.fresh("cache-mount")).op_path("move", &found.dir)?;
        }
    }
    for path in store.blobs().files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let digest = format!("sha256:{name}").parse::<Digest>();
        if !digest.is_ok_and(|d| live.blobs.contains(&d)) {
            report.bytes += remove_file(&path)?;
            report.blobs += 1;
        }
    }
    Ok(())
}

/// Removes a file and returns its size; one that is gone counts nothing.
fn remove_file(path: &Path) -> Result<u64> {
    let size = fs::symlink_metadata(path).map_or(0, |m| m.len());
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove").path(path).source(e))
        }
        _ => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::steps::CacheRecord;
    use crate::store::fixture;
    use crate::store::lock::Session;
    use runtime::identity::Identity;

    fn collect_with(store: &Store, options: Options) -> Report {
        collect(store, options, &|_| panic!("all files are the caller's")).expect("collect")
    }

    fn all() -> Options {
        Options {
            all: true,
            ..Options::default()
        }
    }

    fn cached_step(session: &Session, content: &[u8]) -> (Digest, DiffId) {
        let diff_id = DiffId(session.blobs().put(content).expect("blob"));
        let key = Digest::of(content);
        let record = CacheRecord {
            diff_id: Some(diff_id),
            size: content.len() as u64,
            chain: ChainId::of(&[diff_id]),
            created: "2026-01-01T00:00:00Z".into(),
            name: "RUN".into(),
            blob: None,
        };
        session.cache().steps().put(&key, &record).expect("put");
        (key, diff_id)
    }

    fn snapshot(session: &Session, diff_id: DiffId) {
        let snapshots = session.store().snapshots();
        let staging = snapshots.staging(session).expect("staging");
        let chain = ChainId::child(None, diff_id);
        snapshots
            .commit(session, staging, Identity::Emulated, chain, 10)
            .expect("commit");
    }

    #[test]
    fn keeps_images_and_cache_and_removes_the_rest() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let image = fixture::image(&session, &["a"], &["app"]);
        let (key, step) = cached_step(&session, b"step");
        fixture::image(&session, &["dangling"], &[]);
        let lone = session.blobs().put(b"lone").expect("blob");
        snapshot(&session, image.config.rootfs.diff_ids[0]);
        snapshot(&session, step);
        snapshot(&session, DiffId(lone));
        drop(session);
        let report = collect_with(&store, Options::default());
        assert_eq!((report.images.len(), report.snapshots), (1, 1));
        // The dangling image's three documents and the lone blob.
        assert_eq!(report.blobs, 4);
        assert!(report.bytes > 14 && !report.limited);
        assert!(store.cache().steps().get(&key).is_some());
        assert_eq!(store.snapshots().list().expect("list").len(), 2);
        assert!(store.images().get("app").is_ok());
        let again = collect_with(&store, Options::default());
        assert_eq!(again, Report::default());
        let report = collect_with(&store, all());
        assert_eq!((report.records, report.blobs, report.snapshots), (1, 1, 1));
        for layer in &store.images().get("app").expect("image").manifest.layers {
            assert_eq!(store.blobs().size(&layer.digest), Some(layer.size));
        }
    }

    #[test]
    fn a_live_session_keeps_everything_but_the_dead() {
        let (_dir, session) = fixture::session();
        let store = session.store();
        let lone = session.blobs().put(b"lone").expect("blob");
        let tmp = store.root().join("tmp");
        fs::create_dir(tmp.join("killed")).expect("mkdir");
        fs::write(tmp.join("killed/blob-x"), vec![1; 9000]).expect("write");
        fs::write(tmp.join("killed.lock"), "").expect("write");
        let report = collect_with(store, all());
        assert!(report.limited);
        assert_eq!((report.sessions, report.blobs), (1, 0));
        assert!(report.bytes >= 9000);
        assert!(store.blobs().size(&lone).is_some());
        assert!(session.scratch().dir().exists());
        assert_eq!(fs::read_dir(tmp).expect("list").count(), 2);
    }

    #[test]
    fn unused_records_go_by_age() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let (old, _) = cached_step(&session, b"old");
        let (new, _) = cached_step(&session, b"new");
        drop(session);
        let path = store.root().join("cache/steps").join(old.hex());
        let file = fs::File::open(path).expect("open");
        let day = Duration::from_secs(24 * 3600);
        file.set_modified(SystemTime::now() - 2 * day).expect("age");
        let options = Options {
            unused_for: Some(day),
            ..Options::default()
        };
        let report = collect_with(&store, options);
        assert_eq!((report.records, report.blobs), (1, 1));
        assert!(store.cache().steps().get(&old).is_none());
        assert!(store.cache().steps().get(&new).is_some());
    }

    #[test]
    fn what_the_caller_cannot_remove_is_the_removers() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        snapshot(&session, DiffId(Digest::of(b"x")));
        drop(session);
        // A directory that may not be read stands for one of another id; root reads it anyway.
        let found = store.snapshots().list().expect("list").remove(0);
        let mode = |m| <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(m);
        fs::create_dir(found.dir.join("fs/closed")).expect("mkdir");
        fs::write(found.dir.join("fs/closed/file"), "x").expect("write");
        fs::set_permissions(found.dir.join("fs/closed"), mode(0)).expect("chmod");
        let asked = std::cell::Cell::new(0);
        collect(&store, Options::default(), &|paths| {
            asked.set(paths.len());
            for path in paths {
                fs::set_permissions(path.join("fs/closed"), mode(0o700)).expect("chmod");
                fs::remove_dir_all(path).expect("remove");
            }
            Ok(())
        })
        .expect("collect");
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(asked.get(), usize::from(!is_root));
        let tmp = store.root().join("tmp");
        assert_eq!(fs::read_dir(tmp).expect("list").count(), 0);
    }
}
