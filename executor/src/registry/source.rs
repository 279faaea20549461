//! What is pushed, as something that can be read more than once.
//!
//! Responsible for opening a blob at any offset and for carrying it from disk to network with
//! bounded memory. Must not know registries. Invariant: a body has exactly the bytes of the range
//! that was asked for, or ends in an error.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream;
use reqwest::Body;
use tokio::sync::mpsc;

use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;

/// Size of the pieces that are read from a source, in bytes.
const PIECE: usize = 128 << 10;

/// Pieces that may wait between the disk and the network, for each blob.
const QUEUE: usize = 4;

/// Opens a blob at an offset in bytes.
pub type OpenAt = Arc<dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// A blob to push.
#[derive(Clone)]
pub struct BlobSource {
    /// Digest and size of what is sent, and its media type.
    pub descriptor: Descriptor,
    /// Opens it; called again for every further attempt.
    pub open: OpenAt,
    /// Repositories that are known to have it; those of the same registry are used to mount it
    /// instead of sending it.
    pub mount_from: Vec<Reference>,
}

impl BlobSource {
    /// A blob in a file.
    pub fn file(descriptor: Descriptor, path: PathBuf) -> Self {
        Self {
            descriptor,
            open: Arc::new(move |offset| {
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file))
            }),
            mount_from: Vec::new(),
        }
    }

    /// A small blob in memory.
    pub fn bytes(descriptor: Descriptor, bytes: Vec<u8>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        Self {
            descriptor,
            open: Arc::new(move |offset| {
                let mut cursor = io::Cursor::new(Arc::clone(&bytes));
                cursor.set_position(offset);
                Ok(Box::new(cursor))
            }),
            mount_from: Vec::new(),
        }
    }
}

impl fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobSource")
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}

/// An image to push.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Media type of the manifest.
    pub media_type: String,
    /// The manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// All blobs that the manifest names: config and layers, in any order.
    pub blobs: Vec<BlobSource>,
}

/// Reads a part of a source on a thread of its own, as fast as the network takes it. `sent` counts
/// the bytes that were taken; `broken` gets the reason when the source can't be read.
pub(super) fn stream_body(
    source: &BlobSource,
    range: Range<u64>,
    sent: &Arc<AtomicU64>,
    broken: &Arc<Mutex<Option<io::Error>>>,
) -> Body {
    let (pieces, queue) = mpsc::channel::<io::Result<Vec<u8>>>(QUEUE);
    let open = Arc::clone(&source.open);
    let broken = Arc::clone(broken);
    tokio::task::spawn_blocking(move || {
        if let Err(e) = read_pieces(&open, range, &pieces) {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            let stop = io::Error::other("the source can't be read");
            drop(pieces.blocking_send(Err(stop)));
        }
    });
    let sent = Arc::clone(sent);
    Body::wrap_stream(stream::unfold(queue, move |mut queue| {
        let sent = Arc::clone(&sent);
        async move {
            let piece = queue.recv().await?;
            if let Ok(piece) = &piece {
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Some((piece, queue))
        }
    }))
}

fn read_pieces(
    open: &OpenAt,
    range: Range<u64>,
    pieces: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut left = range.end - range.start;
    let mut reader = open(range.start)?;
    while left > 0 {
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let n = match reader.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        piece.truncate(n);
        left -= n as u64;
        if pieces.blocking_send(Ok(piece)).is_err() {
            // Nobody wants the rest: the connection has ended, which shows elsewhere.
            return Ok(());
        }
    }
    Ok(())
}
