//! Snapshots: unpacked layers, one directory for each chain of layers and identity.
//!
//! Responsible for finding them, and for renaming finished ones into place. Must not know how a
//! layer is unpacked, nor enter the trees, whose files belong to other ids. Invariant: a snapshot
//! that [`Snapshots::get`] returns is complete. Its files were not synced one by one, so after a
//! power cut it may not be: a snapshot of an earlier boot counts only when it was synced.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use runtime::identity::Identity;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::image::digest::ChainId;
use crate::store::lock::Session;
use crate::store::{lock_error, make_dir, record};

const KIND: &str = "sandcrab-snapshot-1";

/// Whose snapshots there may be; a directory of any other name is of an older version.
const IDENTITIES: [Identity; 3] = [Identity::Subids, Identity::Emulated, Identity::Host];

/// The store's snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
}

/// What is recorded about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The boot in which it was made (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Whether its files were synced after it was made.
    pub synced: bool,
    /// Size of its files in bytes, as its maker counted them.
    pub size: u64,
}

/// A snapshot in the making: a directory of the session with `fs` in it.
///
/// `fs` belongs to the caller with mode 0755 until a job makes it belong to container root. The
/// work directory of an overlay may be made beside it; it stays there and goes with the snapshot,
/// because deleting its directories can take longer than a short step. Dropped, all of it stays in
/// the session's directory until that is cleared.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
}

/// A snapshot found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The wrapper directory, the caller's own.
    pub dir: PathBuf,
    /// The directory of the identity and the chain's hexadecimal digits.
    pub identity: String,
    /// The chain that it stands for; `None` for a name that is no digest.
    pub chain: Option<ChainId>,
    /// Size in bytes; `None` when it is not to be trusted.
    pub size: Option<u64>,
}

impl Staging {
    /// Returns the session's directory that holds it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory for the layer's files.
    pub fn fs(&self) -> PathBuf {
        self.dir.join("fs")
    }
}

impl Snapshots {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Finds a layer's directory (overlay form, `user.overlay.*` attributes).
    pub fn get(&self, identity: Identity, chain: ChainId) -> Option<PathBuf> {
        let dir = self.path(identity, chain);
        trusted(&dir, boot_id().ok()?)?;
        Some(dir.join("fs"))
    }

    /// Returns the size in bytes of a chain's top layer when some identity has it unpacked.
    pub fn size(&self, chain: ChainId) -> Option<u64> {
        let boot = boot_id().ok()?;
        IDENTITIES
            .into_iter()
            .find_map(|identity| trusted(&self.path(identity, chain), boot))
            .map(|meta| meta.size)
    }

    /// Starts a snapshot in the session's directory.
    pub fn staging(&self, session: &Session) -> Result<Staging> {
        let staging = Staging {
            dir: session.scratch().fresh("snapshot"),
        };
        make_dir(&staging.dir)?;
        let dir = staging.fs();
        fs::create_dir(&dir).op_path("create", &dir)?;
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&dir, mode).op_path("protect", &dir)?;
        Ok(staging)
    }

    /// Puts a finished snapshot in place and returns its `fs`. Nothing is mounted on it any more.
    /// When another process was quicker, its result is returned and this one is dropped, since
    /// both stand for the same chain.
    ///
    /// `size` is the sum of its files' sizes in bytes.
    pub fn commit(
        &self,
        session: &Session,
        staging: Staging,
        identity: Identity,
        chain: ChainId,
        size: u64,
    ) -> Result<PathBuf> {
        let boot_id = boot_id()?;
        let target = self.path(identity, chain);
        let parent = self.dir.join(identity.name());
        make_dir(&parent)?;
        let meta = Meta {
            boot_id: boot_id.to_owned(),
            synced: false,
            size,
        };
        record::write(
            session.scratch().dir(),
            &staging.dir.join("meta"),
            KIND,
            &meta,
        )?;
        // Replacing a snapshot of an earlier boot takes two renames, which two processes must
        // not mix.
        let _replacing = self.lock()?;
        if trusted(&target, &meta.boot_id).is_none() {
            match fs::rename(&target, session.scratch().fresh("stale")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new("move").path(&target).source(e));
                }
                _ => {}
            }
            fs::rename(&staging.dir, &target).op_path("store snapshot", &target)?;
        }
        Ok(target.join("fs"))
    }

    /// Writes all snapshots of this boot to disk, so that they count after the next one too.
    /// Slow after large writes: the whole file system is synced.
    pub fn sync(&self, session: &Session) -> Result<()> {
        let boot = boot_id()?;
        let mut fresh = Vec::new();
        for found in self.list()? {
            if let Some(meta) = trusted(&found.dir, boot).filter(|m| !m.synced) {
                fresh.push((found.dir, meta));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let dir = File::open(&self.dir).op_path("open", &self.dir)?;
        rustix::fs::syncfs(&dir).op_path("sync", &self.dir)?;
        let _replacing = self.lock()?;
        for (dir, meta) in fresh {
            let synced = Meta {
                synced: true,
                ..meta
            };
            record::write(session.scratch().dir(), &dir.join("meta"), KIND, &synced)?;
        }
        Ok(())
    }

    /// Lists all snapshots, also those that are not to be trusted.
    pub fn list(&self) -> Result<Vec<Found>> {
        let boot = boot_id()?;
        let mut all = Vec::new();
        for identity in read_dir(&self.dir)? {
            if !identity.is_dir() {
                continue;
            }
            let name = file_name(&identity);
            let known = IDENTITIES.iter().any(|identity| identity.name() == name);
            all.extend(record::side_by_side(read_dir(&identity)?, |dir| Found {
                chain: format!("sha256:{}", file_name(&dir))
                    .parse()
                    .ok()
                    .map(ChainId),
                identity: name.clone(),
                size: trusted(&dir, boot).filter(|_| known).map(|meta| meta.size),
                dir,
            }));
        }
        all.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(all)
    }

    fn path(&self, identity: Identity, chain: ChainId) -> PathBuf {
        self.dir.join(identity.name()).join(chain.0.hex())
    }

    fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .op_path("open", &path)?;
        file.lock().map_err(|e| lock_error(&path, e))?;
        Ok(file)
    }
}

/// Reads a snapshot's record when the snapshot is known to be whole, as far as it shows from outside.
fn trusted(dir: &Path, boot: &str) -> Option<Meta> {
    let meta = record::read::<Meta>(&dir.join("meta"), KIND)?;
    ((meta.synced || meta.boot_id == boot) && dir.join("fs").is_dir()).then_some(meta)
}

/// Returns the identity of this boot (proc_sys_kernel(5), random).
fn boot_id() -> Result<&'static str> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).op_path("read", path)?;
    Ok(KNOWN.get_or_init(|| text.trim().to_owned()))
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)
        .op_path("read", dir)?
        .map(|entry| entry.map(|e| e.path()).op_path("read", dir))
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::store::fixture::session;

    fn put(session: &Session, text: &str) -> PathBuf {
        let snapshots = session.store().snapshots();
        let staging = snapshots.staging(session).expect("staging");
        fs::write(staging.fs().join("file"), text).expect("write");
        snapshots
            .commit(session, staging, Identity::Emulated, chain(), 7)
            .expect("commit")
    }

    fn chain() -> ChainId {
        ChainId(Digest::of(b"chain"))
    }

    #[test]
    fn the_first_commit_wins() {
        let (_dir, session) = session();
        let snapshots = session.store().snapshots();
        assert_eq!(snapshots.get(Identity::Emulated, chain()), None);
        let first = put(&session, "first");
        assert_eq!(put(&session, "second"), first);
        assert_eq!(
            fs::read_to_string(first.join("file")).expect("read"),
            "first"
        );
        assert_eq!(snapshots.get(Identity::Emulated, chain()), Some(first));
        assert_eq!(snapshots.get(Identity::Subids, chain()), None);
        assert_eq!(snapshots.size(chain()), Some(7));
    }

    #[test]
    fn an_earlier_boot_counts_only_when_synced() {
        let (_dir, session) = session();
        let snapshots = session.store().snapshots();
        let fs_dir = put(&session, "old");
        let meta_path = fs_dir.parent().expect("wrapper").join("meta");
        let mut meta: Meta = record::read(&meta_path, KIND).expect("meta");
        meta.boot_id = "earlier".into();
        record::write(session.scratch().dir(), &meta_path, KIND, &meta).expect("write");
        assert_eq!(snapshots.get(Identity::Emulated, chain()), None);
        assert_eq!(snapshots.list().expect("list")[0].size, None);
        put(&session, "new");
        let text = fs::read_to_string(fs_dir.join("file")).expect("read");
        assert_eq!(text, "new");
        snapshots.sync(&session).expect("sync");
        meta = record::read(&meta_path, KIND).expect("meta");
        assert!(meta.synced);
        meta.boot_id = "earlier".into();
        record::write(session.scratch().dir(), &meta_path, KIND, &meta).expect("write");
        assert!(snapshots.get(Identity::Emulated, chain()).is_some());
    }

    #[test]
    fn a_torn_record_is_no_snapshot() {
        let (_dir, session) = session();
        let fs_dir = put(&session, "x");
        fs::write(fs_dir.parent().expect("wrapper").join("meta"), "").expect("write");
        let snapshots = session.store().snapshots();
        assert_eq!(snapshots.get(Identity::Emulated, chain()), None);
    }

    #[test]
    fn a_tree_that_is_gone_is_made_again() {
        let (_dir, session) = session();
        let fs_dir = put(&session, "first");
        fs::remove_dir_all(&fs_dir).expect("remove");
        let snapshots = session.store().snapshots();
        assert_eq!(snapshots.get(Identity::Emulated, chain()), None);
        assert_eq!(put(&session, "second"), fs_dir);
        let text = fs::read_to_string(fs_dir.join("file")).expect("read");
        assert_eq!(text, "second");
    }

    #[test]
    fn racing_commits_leave_one_whole_snapshot() {
        let (_dir, session) = session();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let session = &session;
                scope.spawn(move || put(session, &n.to_string()));
            }
        });
        let snapshots = session.store().snapshots();
        assert!(snapshots.get(Identity::Emulated, chain()).is_some());
        assert_eq!(snapshots.list().expect("list").len(), 1);
    }
}
