//! Digests of unchanged files, so that a context is not read again on every build.
//!
//! Responsible for remembering a file's digest under its status. Must not open the files.
//! Invariant: an entry is used only while device, inode, size and both times are the same, and
//! only when the change time was safely past when the file was read: a write within the same
//! clock tick as an earlier one leaves no trace in the status (git calls such entries racy).

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::needs_session;

const MAGIC: &[u8; 16] = b"sandcrab-stat-1\n";
const ENTRY: usize = 8 * 8 + 32;

/// A change this recent may be followed by one that the status does not show. Two seconds cover
/// the coarsest time stamps that file systems have.
const RACY: Duration = Duration::from_secs(2);

/// Entries that no build has asked for during this time are dropped.
const FORGET: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a file's status says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// The digests known for one context.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    tmp: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: HashMap<(u64, u64), Entry>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    stat: FileStat,
    digest: Digest,
    /// Seconds since the epoch.
    used: u64,
}

impl From<&Metadata> for FileStat {
    fn from(m: &Metadata) -> Self {
        Self {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime: (m.mtime(), m.mtime_nsec() as u32),
            ctime: (m.ctime(), m.ctime_nsec() as u32),
        }
    }
}

impl FileStat {
    /// Tells whether the file changed so shortly before `seen` that it may change again without
    /// a trace.
    fn is_racy(&self, seen: SystemTime) -> bool {
        let changed = match u64::try_from(self.ctime.0) {
            Ok(seconds) => UNIX_EPOCH + Duration::new(seconds, self.ctime.1),
            Err(_) => return false,
        };
        // A time stamp ahead of the clock says nothing either.
        seen.duration_since(changed).map_or(true, |age| age <= RACY)
    }
}

impl StatCache {
    /// Reads the file; a missing or torn one is empty. Without `tmp` nothing can be saved.
    pub(super) fn load(path: PathBuf, tmp: Option<PathBuf>) -> Self {
        let entries = fs::read(&path).ok().and_then(|b| decode(&b));
        Self {
            path,
            tmp,
            inner: Mutex::new(Inner {
                entries: entries.unwrap_or_default(),
                changed: false,
            }),
        }
    }

    /// Finds the digest of a file with this status.
    pub fn lookup(&self, stat: &FileStat) -> Option<Digest> {
        let now = seconds(SystemTime::now());
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&(stat.dev, stat.ino))?;
        if entry.stat != *stat {
            return None;
        }
        // Writing the file only because of a newer time of use is not worth it every day.
        let stale = now.saturating_sub(entry.used) > 24 * 3600;
        let digest = entry.digest;
        if stale {
            entry.used = now;
            inner.changed = true;
        }
        Some(digest)
    }

    /// Remembers the digest of a file. `stat` is its status from before it was read, and the same
    /// afterwards; `seen` is the time at which that status was taken.
    pub fn insert(&self, stat: FileStat, digest: Digest, seen: SystemTime) {
        if stat.is_racy(seen) {
            return;
        }
        let mut inner = self.lock();
        inner.changed = true;
        inner.entries.insert(
            (stat.dev, stat.ino),
            Entry {
                stat,
                digest,
                used: seconds(seen),
            },
        );
    }

    /// Writes the file when something changed. Not synced: a torn file reads as empty.
    pub fn save(&self) -> Result<()> {
        let inner = self.lock();
        if !inner.changed {
            return Ok(());
        }
        let tmp = self
            .tmp
            .as_deref()
            .ok_or_else(|| needs_session("save file digests"))?;
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).op_path("create", parent)?;
        }
        let mut file = tempfile::Builder::new()
            .prefix("stat-")
            .tempfile_in(tmp)
            .op_path("create file in", tmp)?;
        let bytes = encode(&inner.entries, seconds(SystemTime::now()));
        file.write_all(&bytes).op_path("write", &self.path)?;
        file.persist(&self.path)
            .map_err(|e| e.error)
            .op_path("replace", &self.path)?;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A thread that panicked between two entries left a usable map.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn encode(entries: &HashMap<(u64, u64), Entry>, now: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.len() * ENTRY);
    let mut kept: Vec<&Entry> = entries
        .values()
        .filter(|e| now.saturating_sub(e.used) <= FORGET.as_secs())
        .collect();
    kept.sort_by_key(|e| (e.stat.dev, e.stat.ino));
    for Entry { stat, digest, used } in kept {
        for number in [
            stat.dev,
            stat.ino,
            stat.size,
            stat.mtime.0.cast_unsigned(),
            u64::from(stat.mtime.1),
            stat.ctime.0.cast_unsigned(),
            u64::from(stat.ctime.1),
            *used,
        ] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(digest.as_bytes());
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(Digest::of(&body).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Entry>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != sum {
        return None;
    }
    let (entries, []) = body.as_chunks::<ENTRY>() else {
        return None;
    };
    let mut map = HashMap::with_capacity(entries.len());
    for entry in entries {
        let (numbers, _) = entry.as_chunks::<8>();
        let number = |i: usize| u64::from_le_bytes(numbers[i]);
        let nanos = |i: usize| u32::try_from(number(i)).ok();
        let stat = FileStat {
            dev: number(0),
            ino: number(1),
            size: number(2),
            mtime: (number(3).cast_signed(), nanos(4)?),
            ctime: (number(5).cast_signed(), nanos(6)?),
        };
        let digest = Digest::from_bytes(entry[64..].try_into().ok()?);
        let used = number(7);
        map.insert((stat.dev, stat.ino), Entry { stat, digest, used });
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache() -> (tempfile::TempDir, StatCache) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = StatCache::load(dir.path().join("stat/x"), Some(dir.path().into()));
        (dir, cache)
    }

    fn stat(ino: u64, ctime: i64) -> FileStat {
        FileStat {
            dev: 1,
            ino,
            size: 3,
            mtime: (ctime, 0),
            ctime: (ctime, 0),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn recent_changes_are_not_trusted() {
        let (_dir, cache) = cache();
        let digest = Digest::of(b"abc");
        for (ctime, seen, kept) in [
            (100, 103, true),
            (100, 102, false),
            (100, 100, false),
            (100, 50, false),
            (-5, 50, true),
        ] {
            let stat = stat(seen, ctime);
            cache.insert(stat, digest, at(seen));
            assert_eq!(
                cache.lookup(&stat).is_some(),
                kept,
                "{ctime} seen at {seen}"
            );
        }
    }

    #[test]
    fn any_difference_in_the_status_misses() {
        let (_dir, cache) = cache();
        let known = stat(1, 100);
        cache.insert(known, Digest::of(b"abc"), at(200));
        assert!(cache.lookup(&known).is_some());
        for other in [
            FileStat { dev: 2, ..known },
            FileStat { size: 4, ..known },
            FileStat {
                mtime: (100, 1),
                ..known
            },
            FileStat {
                ctime: (100, 1),
                ..known
            },
        ] {
            assert_eq!(cache.lookup(&other), None);
        }
    }

    #[test]
    fn survives_saving_but_not_tearing() {
        let (_dir, cache) = cache();
        let now = SystemTime::now();
        let known = stat(1, 100);
        cache.insert(known, Digest::of(b"abc"), now);
        cache.insert(stat(2, 100), Digest::of(b"old"), at(200));
        cache.save().expect("save");
        let again = StatCache::load(cache.path.clone(), None);
        assert_eq!(again.lookup(&known), Some(Digest::of(b"abc")));
        assert_eq!(again.lookup(&stat(2, 100)), None, "unused for long");
        let bytes = fs::read(&cache.path).expect("read");
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn decodes_what_it_encodes(
            raw in prop::collection::vec(
                (any::<[u64; 3]>(), any::<(i64, u32)>(), any::<(i64, u32)>(), any::<[u8; 32]>()),
                0..20,
            ),
        ) {
            let mut entries = HashMap::new();
            for ([dev, ino, size], mtime, ctime, digest) in raw {
                let stat = FileStat { dev, ino, size, mtime, ctime };
                let digest = Digest::from_bytes(digest);
                entries.insert((dev, ino), Entry { stat, digest, used: 7 });
            }
            prop_assert_eq!(decode(&encode(&entries, 8)), Some(entries));
        }
    }
}
