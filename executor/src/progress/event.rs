//! What happens during a build, as data.
//!
//! Responsible for the events and the handles that send them. Must not know how they are drawn.
//! Invariant: a vertex that started ends exactly once, as done, cached or failed; a handle that is
//! dropped unfinished counts as cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use crate::error::Error;

/// Number of a vertex, unique in one build; the renderer gives out `#1`, `#2` … by first start.
pub type VertexId = u32;

/// Which stream of a step a piece of log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Work has begun; `name` as BuildKit's users know it: `[build 2/5] RUN make`.
    Started {
        /// Which vertex.
        vertex: VertexId,
        /// What is shown for it.
        name: String,
    },
    /// Raw output of the vertex, in order, cut anywhere.
    Log {
        /// Which vertex.
        vertex: VertexId,
        /// Which stream.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Progress of a part of the vertex, such as one blob's transfer.
    Status {
        /// Which vertex.
        vertex: VertexId,
        /// What is moving: `sha256:1234… `, `exporting layers`.
        id: String,
        /// Units done (bytes, unless `total` is `None`).
        current: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// Whether this part is finished.
        complete: bool,
    },
    /// The vertex made a layer, or had it in the cache.
    Layer {
        /// Which vertex.
        vertex: VertexId,
        /// Bytes of the layer's archive.
        size: u64,
    },
    /// The build has something to hand over.
    Result {
        /// What, and its digest.
        text: String,
    },
    /// Something was found in the Dockerfile.
    Finding {
        /// As BuildKit's clients read it (`client.VertexWarning`).
        document: serde_json::Value,
    },
    /// A warning about the vertex, shown again at the end.
    Warning {
        /// Which vertex.
        vertex: VertexId,
        /// Lower-case text.
        message: String,
    },
    /// The result was taken from the cache.
    Cached {
        /// Which vertex.
        vertex: VertexId,
    },
    /// Finished well.
    Done {
        /// Which vertex.
        vertex: VertexId,
    },
    /// Finished badly.
    Failed {
        /// Which vertex.
        vertex: VertexId,
        /// One line: why.
        message: String,
    },
    /// Given up because something else failed.
    Cancelled {
        /// Which vertex.
        vertex: VertexId,
    },
}

/// How many events may wait for the renderer. A terminal that is stopped stops the steps that
/// write to it, as a pipe would, instead of filling the memory.
const QUEUE: usize = 512;

/// The largest piece of log in one event, in bytes.
const PIECE: usize = 16 * 1024;

/// Where events go; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Sender {
    out: mpsc::SyncSender<Event>,
    next: Arc<AtomicU32>,
}

impl Sender {
    /// Makes a sender and the receiving end, which one renderer reads until all senders are gone.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (out, events) = mpsc::sync_channel(QUEUE);
        let next = Arc::new(AtomicU32::new(0));
        (Self { out, next }, events)
    }

    /// Reports what the build hands over, such as an image's names and digest.
    pub fn result(&self, text: impl Into<String>) {
        // A renderer that is gone is no reason to stop the build.
        drop(self.out.send(Event::Result { text: text.into() }));
    }

    /// Reports what was found in the Dockerfile, for displays that are read by programs.
    pub fn finding(&self, document: serde_json::Value) {
        // A renderer that is gone is no reason to stop the build.
        drop(self.out.send(Event::Finding { document }));
    }

    /// Starts a vertex.
    pub fn start(&self, name: impl Into<String>) -> Vertex {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let vertex = Vertex {
            id,
            out: self.out.clone(),
            ended: false,
        };
        vertex.send(Event::Started {
            vertex: id,
            name: name.into(),
        });
        vertex
    }
}

/// A piece of work that was started and has not ended.
#[derive(Debug)]
pub struct Vertex {
    id: VertexId,
    out: mpsc::SyncSender<Event>,
    ended: bool,
}

impl Vertex {
    fn send(&self, event: Event) {
        // A renderer that is gone is no reason to stop the build.
        drop(self.out.send(event));
    }

    /// Passes on output.
    pub fn log(&self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            self.send(Event::Log {
                vertex: self.id,
                stream,
                bytes: piece.to_vec(),
            });
        }
    }

    /// Reports how far a part of the work is. Never waits for the renderer unless `complete`:
    /// a later report makes up for one that is dropped.
    pub fn status(&self, id: &str, current: u64, total: Option<u64>, complete: bool) {
        let event = Event::Status {
            vertex: self.id,
            id: id.to_owned(),
            current,
            total,
            complete,
        };
        if complete {
            self.send(event);
        } else {
            drop(self.out.try_send(event));
        }
    }

    /// Reports something that the user should know.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning {
            vertex: self.id,
            message: message.into(),
        });
    }

    /// Reports how large its layer is, in bytes of the archive.
    pub fn layer(&self, size: u64) {
        self.send(Event::Layer {
            vertex: self.id,
            size,
        });
    }

    /// Ends it: taken from the cache.
    pub fn cached(mut self) {
        self.ended = true;
        self.send(Event::Cached { vertex: self.id });
    }

    /// Ends it well.
    pub fn done(mut self) {
        self.ended = true;
        self.send(Event::Done { vertex: self.id });
    }

    /// Ends it badly; as cancelled, if that is what the error says.
    pub fn fail(mut self, error: &Error) {
        if error.is_cancellation() {
            return;
        }
        self.ended = true;
        self.send(Event::Failed {
            vertex: self.id,
            message: error.chain(),
        });
    }
}

impl Drop for Vertex {
    fn drop(&mut self) {
        if !self.ended {
            self.send(Event::Cancelled { vertex: self.id });
        }
    }
}
