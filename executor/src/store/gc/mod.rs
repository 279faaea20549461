//! Collecting what nobody needs any more.
//!
//! Responsible for removing it, and what the cache shall forget. Must not enter snapshots, whose
//! files belong to other ids: they are moved aside, and a [`Remover`] deletes them. Invariant:
//! while a session lives, only the leftovers of dead sessions are removed; a collector that is
//! killed leaves its own such leftovers and a store in which all that is named is complete.

mod choice;

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::census::{Census, EntryKind, Needs};
use crate::store::images::Record;
use crate::store::lock::{Exclusive, Scratch, dead_sessions};
use crate::store::measure::{self, Measurer};
use crate::store::{Remover, Store};

pub use choice::{Filters, Forgotten, Limits};

/// What to collect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Also forget the whole cache, cache mounts included, as far as filters and limits let it go.
    pub all: bool,
    /// Wait until no session lives.
    pub wait: bool,
    /// Remove nothing, and tell what would be removed if no session lived.
    pub dry_run: bool,
    /// What of the cache may be forgotten; with any of them, it is.
    pub filters: Filters,
    /// How much of the cache is kept; with any of them, the rest is forgotten.
    pub limits: Limits,
}

impl Options {
    /// Tells whether something of the cache may go that is of use.
    fn forgets(&self) -> bool {
        self.all || !self.filters.is_empty() || !self.limits.is_empty()
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Ids of images without names.
    pub images: Vec<Digest>,
    /// What the cache has forgotten, least recently used first.
    pub forgotten: Vec<Forgotten>,
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

/// Ways to trees that hold files of other ids.
#[derive(Clone, Copy)]
pub struct Hands<'a> {
    /// Deletes them.
    pub remover: &'a Remover<'a>,
    /// Measures them.
    pub measurer: &'a Measurer<'a>,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

/// Removes what nobody needs.
///
/// # Errors
/// Those of the file system and of the hands. What was removed until then stays removed.
pub fn collect(store: &Store, options: &Options, hands: Hands<'_>) -> Result<Report> {
    if options.dry_run {
        let mut report = Report::default();
        for dead in dead_sessions(store)? {
            // One without a directory is a claim that a killed session had.
            report.sessions += usize::from(dead.dir.exists());
            report.bytes += measure::tree(&dead.dir).bytes;
        }
        sweep(store, options, None, hands.measurer, &mut report)?;
        return Ok(report);
    }
    let scratch = Scratch::new(store)?;
    let alone = Exclusive::take(store, options.wait)?;
    let mut report = Report {
        limited: alone.is_none(),
        ..Report::default()
    };
    for dead in dead_sessions(store)? {
        // One without a directory is a claim that a killed session had.
        report.sessions += usize::from(dead.dir.exists());
        report.bytes += measure::tree(&dead.dir).bytes;
        dead.bury(&scratch)?;
    }
    if alone.is_some() {
        sweep(store, options, Some(&scratch), hands.measurer, &mut report)?;
    }
    // Deleting trees takes long, and builds need not wait for it.
    drop(alone);
    scratch.clear(hands.remover)?;
    Ok(report)
}

/// Removes what is not needed, or only counts it where there is no place to move trees to.
fn sweep(
    store: &Store,
    options: &Options,
    scratch: Option<&Scratch>,
    measurer: &Measurer<'_>,
    report: &mut Report,
) -> Result<()> {
    loop {
        let census = Census::take(store, options.forgets().then_some(measurer))?;
        if sweep_once(store, &census, options, scratch, report)? {
            return Ok(());
        }
    }
}

/// Sweeps, unless an image has got a name meanwhile, for which nobody needs a session.
fn sweep_once(
    store: &Store,
    census: &Census,
    options: &Options,
    scratch: Option<&Scratch>,
    report: &mut Report,
) -> Result<bool> {
    let mut needs = Needs::named(census).with_cache();
    if options.forgets() {
        let garbage = census.bytes().saturating_sub(needs.bytes());
        let free = free_space(store)?.saturating_add(garbage);
        let rules = (&options.filters, &options.limits);
        report.forgotten = choice::forget(census, &mut needs, rules, free);
    }
    let gone = census.images.iter().enumerate();
    let gone = gone.filter(|(number, _)| !needs.has_image(*number));
    report.images = gone.map(|(_, image)| image.record.config).collect();
    if scratch.is_some() {
        let number = |record: &Record| {
            let same = |r: &Record| r.manifest == record.manifest && r.index == record.index;
            census.images.iter().position(|i| same(&i.record))
        };
        let kept = |record: &Record| number(record).is_none_or(|n| needs.has_image(n));
        let left = store.images().retain(kept)?;
        if !(left.iter()).all(|record| number(record).is_some_and(|n| needs.has_image(n))) {
            return Ok(false);
        }
    }
    sweep_records(census, &needs, scratch.is_some(), report)?;
    let kept = census.entries.iter().enumerate();
    let kept = kept.filter(|(number, e)| e.kind == EntryKind::Step && needs.has_entry(*number));
    let names = kept.map(|(_, entry)| entry.description.as_str());
    for path in store.cache().steps().names_without(names) {
        remove_file(&path, scratch.is_some())?;
    }
    for found in &census.snapshots {
        let chain = found.chain.filter(|_| found.size.is_some());
        if chain.is_some_and(|chain| needs.has_chain(chain)) {
            continue;
        }
        report.bytes += found
            .size
            .unwrap_or_else(|| measure::tree(&found.dir).bytes);
        report.snapshots += 1;
        if let Some(scratch) = scratch {
            fs::rename(&found.dir, scratch.fresh("snapshot")).op_path("move", &found.dir)?;
        }
    }
    // Nobody holds a cache mount: who does has a session.
    for (number, entry) in census.entries.iter().enumerate() {
        if entry.kind == EntryKind::CacheMount && !needs.has_entry(number) {
            report.bytes += entry.bytes;
            report.cache_mounts += 1;
            if let Some(scratch) = scratch {
                let aside = scratch.fresh("cache-mount");
                fs::rename(&entry.path, aside).op_path("move", &entry.path)?;
            }
        }
    }
    for (path, digest, size) in &census.blobs {
        if !digest.is_some_and(|digest| needs.has_blob(&digest)) {
            remove_file(path, scratch.is_some())?;
            report.bytes += size;
            report.blobs += 1;
        }
    }
    Ok(true)
}

/// Removes records, which go before what they name.
fn sweep_records(
    census: &Census,
    needs: &Needs<'_>,
    remove: bool,
    report: &mut Report,
) -> Result<()> {
    let entries = census.entries.iter().enumerate();
    let forgotten = entries
        .filter(|(number, entry)| entry.kind != EntryKind::CacheMount && !needs.has_entry(*number))
        .map(|(_, entry)| (&entry.path, entry.bytes));
    let lost = census.remotes.iter();
    let lost = lost
        .filter(|stored| !stored.digest.is_some_and(|d| needs.has_blob(&d)))
        .map(|stored| (&stored.path, stored.bytes));
    let broken = census.broken.iter().map(|(path, bytes)| (path, *bytes));
    for (path, bytes) in forgotten.chain(lost).chain(broken) {
        remove_file(path, remove)?;
        report.bytes += bytes;
        report.records += 1;
    }
    Ok(())
}

/// Removes a file, unless that is only tried; one that is gone is no error.
fn remove_file(path: &Path, remove: bool) -> Result<()> {
    if !remove {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove").path(path).source(e))
        }
        _ => Ok(()),
    }
}

/// Returns the bytes that the caller can still write to the store's file system.
fn free_space(store: &Store) -> Result<u64> {
    let stat = rustix::fs::statvfs(store.root()).op_path("read free space of", store.root())?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::steps::CacheRecord;
    use crate::image::digest::{ChainId, DiffId};
    use crate::store::fixture;
    use crate::store::lock::Session;
    use runtime::identity::Identity;
    use std::time::{Duration, SystemTime};

    fn collect_with(store: &Store, options: Options) -> Report {
        let hands = Hands {
            remover: &|_| panic!("all files are the caller's"),
            measurer: &|_| panic!("all files are the caller's"),
        };
        collect(store, &options, hands).expect("collect")
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
            bases: Vec::new(),
            content: None,
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
            filters: Filters {
                unused_since: Some(SystemTime::now() - day),
                ..Filters::default()
            },
            ..Options::default()
        };
        let report = collect_with(&store, options);
        assert_eq!((report.records, report.blobs), (1, 1));
        assert!(store.cache().steps().get(&old).is_none());
        assert!(store.cache().steps().get(&new).is_some());
    }

    /// Ages a step's record by hours.
    fn age(store: &Store, key: &Digest, hours: u64) {
        let path = store.root().join("cache/steps").join(key.hex());
        let file = fs::File::open(path).expect("open");
        let age = Duration::from_secs(hours * 3600);
        file.set_modified(SystemTime::now() - age).expect("age");
    }

    fn keys(store: &Store) -> Vec<Digest> {
        let steps = store.cache().steps().list().into_iter();
        let mut keys: Vec<Digest> = steps
            .map(|s| {
                let name = s.path.file_name().expect("name").to_string_lossy();
                format!("sha256:{name}").parse().expect("digest")
            })
            .collect();
        keys.sort();
        keys
    }

    #[test]
    fn limits_take_the_least_recently_used() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let content = [b'a', b'b', b'c', b'd'].map(|letter| vec![letter; 50_000]);
        let steps = content.each_ref().map(|c| cached_step(&session, c).0);
        // One is an image's layer, too: forgetting it gives nearly nothing back.
        let image = fixture::image(&session, &["x"], &["app"]);
        let shared = fs::read(store.blobs().path(&image.manifest.layers[0].digest)).expect("read");
        let (shared, _) = cached_step(&session, &shared);
        drop(session);
        for (key, hours) in steps.iter().zip([2, 40, 30, 10]) {
            age(&store, key, hours);
        }
        age(&store, &shared, 50);
        let limits = |max_used| Options {
            limits: Limits {
                max_used: Some(max_used),
                ..Limits::default()
            },
            ..Options::default()
        };
        let dry = Options {
            dry_run: true,
            ..limits(120_000)
        };
        let planned = collect_with(&store, dry);
        assert_eq!(keys(&store).len(), 5, "a dry run removes nothing");
        let report = collect_with(&store, limits(120_000));
        assert_eq!(report, planned);
        let ids: Vec<&str> = report.forgotten.iter().map(|f| f.id.as_str()).collect();
        assert_eq!(ids, [shared.hex(), steps[1].hex(), steps[2].hex()]);
        assert!(report.forgotten[0].bytes < 1000 && report.forgotten[1].bytes > 50_000);
        let mut left = vec![steps[0], steps[3]];
        left.sort();
        assert_eq!(keys(&store), left);
        assert_eq!(collect_with(&store, limits(120_000)), Report::default());
        let reserved = Options {
            limits: Limits {
                reserved: Some(60_000),
                max_used: Some(1),
                min_free: None,
            },
            ..Options::default()
        };
        collect_with(&store, reserved);
        assert_eq!(keys(&store), [steps[0]]);
        let all = Options {
            limits: Limits {
                min_free: Some(u64::MAX),
                ..Limits::default()
            },
            ..Options::default()
        };
        collect_with(&store, all);
        assert!(keys(&store).is_empty());
        assert!(store.images().get("app").is_ok());
    }

    #[test]
    fn filters_choose() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let image = fixture::image(&session, &["x"], &["app"]);
        let layer = fs::read(store.blobs().path(&image.manifest.layers[0].digest)).expect("read");
        let (shared, _) = cached_step(&session, &layer);
        let (private, _) = cached_step(&session, b"private");
        drop(session);
        let filters = |filters| Options {
            filters,
            // What the filters leave out stays all the same.
            all: true,
            ..Options::default()
        };
        let none = filters(Filters {
            kinds: vec![EntryKind::CacheMount, EntryKind::Download],
            ..Filters::default()
        });
        assert_eq!(collect_with(&store, none), Report::default());
        let by_id = filters(Filters {
            ids: vec![private.hex()[..12].to_owned()],
            shared: Some(true),
            ..Filters::default()
        });
        assert_eq!(collect_with(&store, by_id), Report::default());
        let lone = filters(Filters {
            kinds: vec![EntryKind::Step],
            shared: Some(false),
            ..Filters::default()
        });
        let report = collect_with(&store, lone);
        assert_eq!((report.records, report.blobs), (1, 1));
        assert_eq!(keys(&store), [shared]);
    }

    #[test]
    fn a_base_without_a_name_stays_with_its_steps() {
        let (_dir, session) = fixture::session();
        let store = session.store().clone();
        let base = fixture::image(&session, &["base"], &[]);
        fixture::image(&session, &["other"], &[]);
        let (key, _) = cached_step(&session, b"step");
        let steps = session.cache().steps();
        let mut record = steps.get(&key).expect("record");
        record.bases = vec![base.manifest_digest];
        steps.put(&key, &record).expect("put");
        snapshot(&session, base.config.rootfs.diff_ids[0]);
        drop(session);
        let report = collect_with(&store, Options::default());
        assert_eq!((report.images.len(), report.snapshots), (1, 0));
        let left = store.images().list().expect("list");
        assert_eq!(left.len(), 1);
        assert!(store.images().get(&base.config_digest.to_string()).is_ok());
        let layer = &base.manifest.layers[0];
        assert_eq!(store.blobs().size(&layer.digest), Some(layer.size));
        let report = collect_with(&store, all());
        assert_eq!((report.images.len(), report.snapshots), (1, 1));
        assert!(store.blobs().files().is_empty());
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
        let remover = |paths: &[std::path::PathBuf]| {
            asked.set(paths.len());
            for path in paths {
                fs::set_permissions(path.join("fs/closed"), mode(0o700)).expect("chmod");
                fs::remove_dir_all(path).expect("remove");
            }
            Ok(())
        };
        let hands = Hands {
            remover: &remover,
            measurer: &|_| panic!("nothing is measured"),
        };
        collect(&store, &Options::default(), hands).expect("collect");
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(asked.get(), usize::from(!is_root));
        let tmp = store.root().join("tmp");
        assert_eq!(fs::read_dir(tmp).expect("list").count(), 0);
    }
}
