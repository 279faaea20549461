//! Layers from a registry into the store.
//!
//! Responsible for downloading several blobs at a time with bounded memory, for going on where a
//! broken connection stopped, and for verifying size and digest. Must not know what the bytes
//! mean. Invariant: the store gets whole, verified blobs or nothing.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::auth::Access;
use super::client::Repository;
use super::endpoint::Call;
use super::retry::{Backoff, Failure};
use super::transport::next_chunk;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::progress::event::Vertex;
use crate::store::blobs::{BlobWriter, Blobs};

/// Pieces that may wait between the network and the disk, for each blob.
const QUEUE: usize = 4;

/// Bytes after which an attempt counts as progress, so that a line that breaks now and then does
/// not use up the attempts, and one that gives a byte at a time does.
const PROGRESS: u64 = 1 << 20;

/// Shortest time between two progress events of one blob.
const REPORT: Duration = Duration::from_millis(100);

/// What all transfers of a process share: how many there are at a time, and which blobs are on
/// their way.
#[derive(Debug)]
pub(crate) struct Traffic {
    slots: Arc<Semaphore>,
    size: u32,
    under_way: Mutex<Vec<(Digest, Weak<tokio::sync::Mutex<()>>)>>,
}

impl Traffic {
    pub(crate) fn new(size: u32) -> Self {
        let size = size.max(1);
        Self {
            slots: Arc::new(Semaphore::new(size as usize)),
            size,
            under_way: Mutex::default(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    /// Waits for a turn. The permit lives until the transfer's files are closed.
    pub(crate) async fn slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Waits until no transfer has a file open.
    pub(crate) async fn settle(&self) {
        drop(self.slots.acquire_many(self.size).await);
    }

    /// Returns the lock of a blob: two stages that need the same one fetch it once.
    fn lock_of(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|(_, lock)| lock.strong_count() > 0);
        if let Some(lock) = under_way
            .iter()
            .find(|(d, _)| d == digest)
            .and_then(|(_, lock)| lock.upgrade())
        {
            return lock;
        }
        let lock = Arc::default();
        under_way.push((*digest, Arc::downgrade(&lock)));
        lock
    }
}

/// Tells the renderer about one blob, not too often.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    vertex: &'a Vertex,
    id: String,
    total: u64,
    last: Option<Instant>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(vertex: &'a Vertex, digest: &Digest, total: u64) -> Self {
        Self {
            vertex,
            id: digest.to_string(),
            total,
            last: None,
        }
    }

    pub(crate) fn at(&mut self, current: u64) {
        if self.last.is_none_or(|last| last.elapsed() >= REPORT) {
            self.last = Some(Instant::now());
            self.vertex
                .status(&self.id, current, Some(self.total), false);
        }
    }

    pub(crate) fn complete(self) {
        self.vertex
            .status(&self.id, self.total, Some(self.total), true);
    }
}

/// The thread's end of a download: writes and hashes aside from the network.
struct Sink {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<Result<()>>,
}

enum Piece {
    Bytes(Box<dyn AsRef<[u8]> + Send>, usize),
    End,
}

impl Sink {
    /// Starts the thread, which keeps `held` until its file is stored or gone.
    fn start(writer: BlobWriter, digest: Digest, held: impl Send + 'static) -> Self {
        let (pieces, mut queue) = mpsc::channel(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            let written = write_pieces(writer, &digest, &mut queue);
            drop(held);
            written
        });
        Self { pieces, thread }
    }

    /// Hands a piece over; `false` when the thread has given up.
    async fn push(&self, bytes: impl AsRef<[u8]> + Send + 'static, from: usize) -> bool {
        let piece = Piece::Bytes(Box::new(bytes), from);
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits for the thread to verify and store the blob, or for the reason why it gave up.
    async fn finish(self) -> Result<()> {
        // A thread that has given up tells why in its result.
        drop(self.pieces.send(Piece::End).await);
        drop(self.pieces);
        self.thread
            .await
            .map_err(|e| Error::new("write blob").source(e).kind(Kind::Internal))?
    }
}

fn write_pieces(
    mut writer: BlobWriter,
    digest: &Digest,
    queue: &mut mpsc::Receiver<Piece>,
) -> Result<()> {
    use std::io::Write;
    loop {
        match queue.blocking_recv() {
            Some(Piece::Bytes(bytes, from)) => writer
                .write_all(&(*bytes).as_ref()[from..])
                .map_err(|e| Error::new(format!("write blob {digest}")).source(e))?,
            Some(Piece::End) => {
                writer.commit(Some(digest))?;
                return Ok(());
            }
            // The download was given up.
            None => return Err(Error::new("interrupted")),
        }
    }
}

impl Repository<'_> {
    /// Fetches the layers that the store does not have.
    pub(crate) async fn fetch_layers(
        &self,
        layers: &[Descriptor],
        blobs: &Blobs,
        traffic: &Traffic,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let distinct = layers.iter().filter(|l| seen.insert(l.digest));
        let (open, mut closed) = mpsc::channel(1);
        let fetched = stream::iter(distinct)
            .map(|layer| self.fetch_layer(layer, blobs, traffic, &open))
            .buffer_unordered(traffic.size())
            .try_collect()
            .await;
        // One that failed has ended the others; their files are to be gone when this returns.
        drop(open);
        closed.recv().await;
        fetched
    }

    async fn fetch_layer(
        &self,
        layer: &Descriptor,
        blobs: &Blobs,
        traffic: &Traffic,
        open: &mpsc::Sender<Infallible>,
    ) -> Result<()> {
        if self.is_here(layer, blobs)? {
            return Ok(());
        }
        let kind = layer.media_type.as_str();
        if !layer.urls.is_empty() || kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(Error::new(format!(
                "layer {} of `{}` is foreign: its registry does not distribute it (type `{}`)",
                layer.digest,
                self.full_name(),
                kind.escape_debug()
            )));
        }
        let lock = traffic.lock_of(&layer.digest);
        let _turn = lock.lock().await;
        if self.is_here(layer, blobs)? {
            return Ok(());
        }
        let slot = traffic.slot().await;
        let sink = Sink::start(blobs.writer()?, layer.digest, (slot, open.clone()));
        let mut meter = Meter::new(self.vertex, &layer.digest, layer.size);
        self.download(layer, &sink, &mut meter).await?;
        sink.finish().await.map_err(|e| {
            e.during(format!(
                "get layer {} of `{}`",
                layer.digest,
                self.full_name()
            ))
        })?;
        meter.complete();
        Ok(())
    }

    fn is_here(&self, layer: &Descriptor, blobs: &Blobs) -> Result<bool> {
        match blobs.size(&layer.digest) {
            None => Ok(false),
            Some(size) if size == layer.size => Ok(true),
            // Either our copy is damaged, and gone now, or the manifest is wrong about it.
            Some(_) if blobs.verify(&layer.digest).is_err() => Ok(false),
            Some(size) => Err(Error::new(format!(
                "layer {} has {size} bytes, the manifest of `{}` says {}",
                layer.digest,
                self.full_name(),
                layer.size
            ))),
        }
    }

    /// Feeds a whole blob to the sink, over as many connections as it takes.
    async fn download(&self, layer: &Descriptor, sink: &Sink, meter: &mut Meter<'_>) -> Result<()> {
        let mut backoff = Backoff::new(self.policy);
        let mut done = 0;
        loop {
            let before = done;
            match self.download_from(layer, sink, meter, &mut done).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    if done - before >= PROGRESS {
                        backoff.progressed();
                    }
                    let failure = failure.map(|e| {
                        e.during(format!(
                            "get layer {} of `{}`",
                            layer.digest,
                            self.full_name()
                        ))
                    });
                    backoff.pause(failure, |text| self.note(text)).await?;
                }
            }
        }
    }

    /// One connection's worth: `done` counts what the sink has of the blob.
    async fn download_from(
        &self,
        layer: &Descriptor,
        sink: &Sink,
        meter: &mut Meter<'_>,
        done: &mut u64,
    ) -> Result<(), Failure> {
        let access = Access::pull(self.name);
        let url = self.url("blobs", &layer.digest.to_string());
        let mut call = Call::new(Method::GET, url)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if *done > 0 {
            let range = HeaderValue::from_str(&format!("bytes={done}-"))
                .expect("digits are valid in a header");
            call = call.header(RANGE, range);
        }
        let mut response = self.endpoint.call(&access, &call).await?;
        // What to skip of the reply, when the server does not know ranges.
        let mut skip = match response.status() {
            StatusCode::OK => *done,
            StatusCode::PARTIAL_CONTENT if range_start(response.headers()) == Some(*done) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(Error::new("the registry sent another range than asked for").into());
            }
            _ => {
                let failure = self.endpoint.refuse(&access, response, "transfer".into());
                return Err(failure.await);
            }
        };
        if let Some(length) = response.content_length()
            && *done - skip + length != layer.size
        {
            return Err(Error::new(format!(
                "the registry has {} bytes, the manifest says {}",
                *done - skip + length,
                layer.size
            ))
            .into());
        }
        while let Some(chunk) = next_chunk(&mut response).await? {
            let length = chunk.as_ref().len() as u64;
            let known = skip.min(length);
            skip -= known;
            if *done + (length - known) > layer.size {
                return Err(Error::new(format!(
                    "the registry sends more than the {} bytes that the manifest says",
                    layer.size
                ))
                .into());
            }
            if length > known {
                if !sink.push(chunk, known as usize).await {
                    // The reason comes out of the sink's end.
                    return Ok(());
                }
                *done += length - known;
                meter.at(*done);
            }
        }
        if *done < layer.size {
            return Err(Failure::transient(Error::new(format!(
                "the connection ended after {done} of {} bytes",
                layer.size
            ))));
        }
        Ok(())
    }
}

/// Reads where a partial reply begins: `bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = text.strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}
