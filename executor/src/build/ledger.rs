//! Results of steps on their way to the disk, while the next steps run.
//!
//! Responsible for the order that makes a result worth remembering: the layer's bytes are synced,
//! then it gets its name among the blobs, then the record that leads to it is written. Must not
//! run steps. Invariant: a record is never written before its blob is in place, and when
//! [`Ledger::close`] succeeds, all that was entered is in the store.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tempfile::NamedTempFile;

use crate::build::state::Layer;
use crate::cache::steps::{CacheRecord, Steps};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::Digest;
use crate::store::blobs::Blobs;
use crate::store::claims::Claim;

/// How many results wait before a step waits for the disk; each holds a descriptor.
const WAITING: usize = 16;

/// A step's result.
#[derive(Debug)]
pub(super) struct Entry {
    /// The step's keys; none for a result that must not be found again.
    pub(super) keys: Vec<Digest>,
    /// What is remembered.
    pub(super) record: CacheRecord,
    /// The layer's archive and its digest; `None` when the step made no layer.
    pub(super) blob: Option<(NamedTempFile, Digest)>,
    /// What keeps other processes from running the step until its result is in the store.
    pub(super) claim: Option<Claim>,
    /// A layer of the result, which is told of when it is in the store.
    pub(super) told: Option<Told>,
}

/// A layer of the result that is in the store.
#[derive(Debug, Clone)]
pub struct Told {
    /// The layer.
    pub layer: Layer,
    /// Whether this build has made it.
    pub fresh: bool,
}

/// Takes results and writes them in the background; usable from any thread.
#[derive(Debug)]
pub(super) struct Ledger {
    blobs: Blobs,
    steps: Steps,
    /// Records that are not in the cache yet.
    pending: Arc<Mutex<HashMap<Digest, CacheRecord>>>,
    /// Who is told of the result's layers.
    listener: Option<Sender<Told>>,
    writer: Mutex<Option<Writer>>,
}

/// The thread that waits for the disk.
#[derive(Debug)]
struct Writer {
    entries: SyncSender<Entry>,
    thread: JoinHandle<Result<()>>,
}

impl Ledger {
    /// Starts a ledger; its thread is started with the first entry.
    pub(super) fn new(blobs: Blobs, steps: Steps, listener: Option<Sender<Told>>) -> Self {
        Self {
            blobs,
            steps,
            pending: Arc::default(),
            listener,
            writer: Mutex::new(None),
        }
    }

    /// Takes a result.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn enter(&self, entry: Entry) -> Result<()> {
        for key in &entry.keys {
            lock(&self.pending).insert(*key, entry.record.clone());
        }
        let mut writer = lock(&self.writer);
        let entries = match &*writer {
            Some(writer) => writer.entries.clone(),
            None => writer.insert(self.start()?).entries.clone(),
        };
        drop(writer);
        entries.send(entry).map_err(|_| gone())
    }

    /// Tells of a layer of the result that was made earlier.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn tell(&self, layer: &Layer, record: &CacheRecord) -> Result<()> {
        if self.listener.is_none() {
            return Ok(());
        }
        // It may be on its way to the store just now.
        self.enter(Entry {
            keys: Vec::new(),
            record: record.clone(),
            blob: None,
            claim: None,
            told: Some(Told {
                layer: layer.clone(),
                fresh: false,
            }),
        })
    }

    /// Finds what a step with this key made, and notes that it was used.
    pub(super) fn recall(&self, key: &Digest) -> Option<CacheRecord> {
        let pending = lock(&self.pending).get(key).cloned();
        pending.or_else(|| self.steps.get(key))
    }

    /// Waits until everything is in the store.
    ///
    /// # Errors
    /// The first of writing; results that came later were written if they could be.
    pub(super) fn close(&self) -> Result<()> {
        let Some(Writer { entries, thread }) = lock(&self.writer).take() else {
            return Ok(());
        };
        drop(entries);
        thread.join().unwrap_or_else(|_| Err(gone()))
    }

    fn start(&self) -> Result<Writer> {
        let (entries, received) = sync_channel(WAITING);
        let (blobs, steps) = (self.blobs.clone(), self.steps.clone());
        let pending = Arc::clone(&self.pending);
        let listener = self.listener.clone();
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || {
                write_all(&received, &blobs, &steps, &pending, |told| {
                    // An output that does without is no reason to stop.
                    listener.iter().for_each(|l| drop(l.send(told.clone())));
                })
            })
            .op("start thread")?;
        Ok(Writer { entries, thread })
    }
}

impl Drop for Ledger {
    /// A build that ends early keeps what it has finished.
    fn drop(&mut self) {
        // Whoever wants to know has closed it.
        drop(self.close());
    }
}

fn write_all(
    entries: &Receiver<Entry>,
    blobs: &Blobs,
    steps: &Steps,
    pending: &Mutex<HashMap<Digest, CacheRecord>>,
    tell: impl Fn(&Told),
) -> Result<()> {
    let mut result = Ok(());
    for entry in entries {
        let Entry {
            keys,
            record,
            blob,
            claim,
            told,
        } = entry;
        let written = match blob {
            Some((file, digest)) => blobs.adopt(file, &digest),
            None => Ok(()),
        }
        .and_then(|()| keys.iter().try_for_each(|key| steps.put(key, &record)));
        for key in &keys {
            lock(pending).remove(key);
        }
        drop(claim);
        if written.is_ok() {
            told.iter().for_each(&tell);
        }
        let written =
            written.map_err(|e| e.during(format!("store the result of `{}`", record.name)));
        result = result.and(written);
    }
    result
}

/// Locks; a thread that panicked left complete values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> Error {
    Error::new("the ledger's thread has ended early").kind(Kind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::DiffId;
    use crate::store::fixture::session;
    use crate::store::lock::Session;
    use std::io::Write;

    fn ledger(session: &Session) -> Ledger {
        Ledger::new(session.blobs(), session.cache().steps(), None)
    }

    fn entry(session: &Session, content: &[u8]) -> Entry {
        let mut file = session.blobs().file().expect("file");
        file.write_all(content).expect("write");
        let digest = Digest::of(content);
        Entry {
            keys: vec![Digest::of(&[content, b"key"].concat())],
            record: CacheRecord {
                diff_id: Some(DiffId(digest)),
                size: content.len() as u64,
                chain: None,
                created: "2026-01-01T00:00:00Z".into(),
                name: "RUN".into(),
                blob: None,
                bases: Vec::new(),
                content: None,
            },
            blob: Some((file, digest)),
            claim: None,
            told: None,
        }
    }

    #[test]
    fn what_was_entered_is_found_at_once_and_in_the_store_afterwards() {
        let (_dir, session) = session();
        let ledger = ledger(&session);
        let mut keys = Vec::new();
        for n in 0..40_u8 {
            let entry = entry(&session, &[n; 10]);
            let key = entry.keys[0];
            let record = entry.record.clone();
            ledger.enter(entry).expect("enter");
            assert_eq!(ledger.recall(&key), Some(record));
            keys.push(key);
        }
        ledger.close().expect("close");
        for (key, n) in keys.iter().zip(0..) {
            assert!(session.cache().steps().get(key).is_some());
            let digest = Digest::of(&[n; 10]);
            assert_eq!(session.blobs().read(&digest, 10).expect("blob"), [n; 10]);
        }
    }

    #[test]
    fn a_layer_that_cannot_be_stored_is_an_error_and_leaves_no_record() {
        let (_dir, session) = session();
        let ledger = ledger(&session);
        let (first, second) = (entry(&session, b"first"), entry(&session, b"second"));
        let keys = [first.keys[0], second.keys[0]];
        // A directory in the place of a blob stands for any error.
        let place = session.blobs().path(&Digest::of(b"first"));
        std::fs::create_dir(place).expect("mkdir");
        ledger.enter(first).expect("enter");
        ledger.enter(second).expect("enter");
        assert!(ledger.close().is_err());
        assert_eq!(session.cache().steps().get(&keys[0]), None);
        assert_eq!(ledger.recall(&keys[0]), None);
        assert!(session.cache().steps().get(&keys[1]).is_some());
    }

    #[test]
    fn results_without_a_key_or_a_layer() {
        let (_dir, session) = session();
        let ledger = ledger(&session);
        let mut secret = entry(&session, b"changed while it was read");
        let key = secret.keys.remove(0);
        let mut empty = entry(&session, b"");
        empty.blob = None;
        empty.record.diff_id = None;
        let empty_key = empty.keys[0];
        ledger.enter(secret).expect("enter");
        ledger.enter(empty).expect("enter");
        assert_eq!(ledger.recall(&key), None);
        drop(ledger);
        assert!(session.cache().steps().get(&empty_key).is_some());
        let digest = Digest::of(b"changed while it was read");
        assert!(session.blobs().size(&digest).is_some());
    }
}
