//! Layers in another compression.
//!
//! Responsible for making a layer's compressed (or decompressed) blob once and finding it again.
//! Must not change a layer's content: the uncompressed bytes are checked against the diff id on
//! the way, unless this process has just written them. Invariant: what [`layers`] returns is in the store.

use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cancel::Cancel;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{DiffId, Digest, HashingReader};
use crate::image::manifest::{Descriptor, media_type};
use crate::layer::compress::{Compression, Encoder, Format, decoder};
use crate::progress::event::Vertex;
use crate::store::lock::Session;

const CHUNK: usize = 512 * 1024;

/// What watches and may stop the work.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    /// Ends the work early.
    pub cancel: &'a Cancel,
    /// Is told how far it is.
    pub vertex: Option<&'a Vertex>,
}

/// Tells a layer's format from its media type; `None` for one that is left as it is.
pub fn format_of(media_type: &str) -> Option<Format> {
    match media_type {
        media_type::OCI_LAYER | media_type::DOCKER_LAYER => Some(Format::None),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Format::Gzip),
        media_type::OCI_LAYER_ZSTD => Some(Format::Zstd),
        _ => None,
    }
}

/// Brings layers into a compression: those that are not compressed, and with `force` those that
/// are compressed otherwise. Several at a time, in the order given.
///
/// # Errors
/// When a layer is missing in the store or is not what its diff id says; cancellation.
pub fn layers(
    session: &Session,
    all: &[(Descriptor, DiffId)],
    compression: Compression,
    force: bool,
    watch: Watch<'_>,
) -> Result<Vec<Descriptor>> {
    let done: Vec<Mutex<Option<Result<Descriptor>>>> =
        all.iter().map(|_| Mutex::new(None)).collect();
    let mut todo = Vec::new();
    for (i, (descriptor, diff_id)) in all.iter().enumerate() {
        match kept(session, descriptor, *diff_id, compression, force) {
            Some(descriptor) => set(&done[i], Ok(descriptor)),
            None => todo.push(i),
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = cores.min(todo.len());
    let threads = cores.div_ceil(workers.max(1));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (descriptor, diff_id) = &all[*i];
                    let made = make(session, descriptor, *diff_id, compression, threads, watch);
                    set(&done[*i], made);
                }
            });
        }
    });
    done.into_iter()
        .map(|slot| {
            slot.into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .unwrap_or_else(|| Err(Error::new("layer was not converted")))
        })
        .collect()
}

/// Returns the layers whose bytes [`layers`] reads.
pub fn converted(
    session: &Session,
    all: &[(Descriptor, DiffId)],
    compression: Compression,
    force: bool,
) -> Vec<Descriptor> {
    let read = |(descriptor, diff_id): &&(Descriptor, DiffId)| {
        kept(session, descriptor, *diff_id, compression, force).is_none()
    };
    let read = all.iter().filter(read);
    read.map(|(descriptor, _)| descriptor.clone()).collect()
}

/// Returns a layer's form where it need not be made.
fn kept(
    session: &Session,
    descriptor: &Descriptor,
    diff_id: DiffId,
    compression: Compression,
    force: bool,
) -> Option<Descriptor> {
    let keep = match format_of(&descriptor.media_type) {
        None => true,
        Some(format) => format == compression.format() || (format != Format::None && !force),
    };
    if keep {
        return Some(descriptor.clone());
    }
    find(session, diff_id, compression)
}

fn set<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value);
}

/// Returns the name of a compression among a layer's variants.
fn label(compression: Compression) -> String {
    match compression {
        Compression::None => "uncompressed".to_owned(),
        Compression::Gzip { level } => format!("gzip-{level}"),
        Compression::Zstd { level } => format!("zstd-{level}"),
    }
}

fn find(session: &Session, diff_id: DiffId, compression: Compression) -> Option<Descriptor> {
    match compression {
        // An uncompressed layer is found under its diff id.
        Compression::None => session
            .blobs()
            .size(&diff_id.0)
            .map(|size| Descriptor::new(media_type::OCI_LAYER, diff_id.0, size)),
        _ => session.cache().variants().get(diff_id, &label(compression)),
    }
}

fn make(
    session: &Session,
    source: &Descriptor,
    diff_id: DiffId,
    compression: Compression,
    threads: usize,
    watch: Watch<'_>,
) -> Result<Descriptor> {
    let what = || format!("convert layer {}", source.digest);
    let blobs = session.blobs();
    let format = format_of(&source.media_type).unwrap_or(Format::None);
    let input =
        decoder(blobs.open(&source.digest)?, format).map_err(|e| Error::new(what()).source(e))?;
    let known = diff_id.0 == source.digest && blobs.has_written(&source.digest);
    let mut input = if known {
        Input::Known(input)
    } else {
        Input::Hashed(HashingReader::new(input))
    };
    let mut out = Encoder::new(blobs.writer()?, compression, threads).op("start compression")?;
    let id = format!("compressing {}", short(diff_id));
    let total = (format == Format::None).then_some(source.size);
    let mut count = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        watch.cancel.check()?;
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::new(what()).source(e)),
        };
        out.write_all(&buffer[..n]).op("write blob")?;
        count += n as u64;
        if let Some(vertex) = watch.vertex {
            vertex.status(&id, count, total, false);
        }
    }
    if let Some(digest) = input.digest()
        && digest != diff_id.0
    {
        // Either our copy is damaged, or it was never what the image's config says.
        blobs.verify(&source.digest)?;
        return Err(Error::new(format!(
            "layer {} unpacks to {digest}, but the image's config says {diff_id}",
            source.digest
        )));
    }
    let (digest, size) = out.finish().op("write blob")?.commit(None)?;
    if let Some(vertex) = watch.vertex {
        vertex.status(&id, count, Some(count), true);
    }
    let media_type = match compression {
        Compression::None => media_type::OCI_LAYER,
        Compression::Gzip { .. } => media_type::OCI_LAYER_GZIP,
        Compression::Zstd { .. } => media_type::OCI_LAYER_ZSTD,
    };
    let descriptor = Descriptor::new(media_type, digest, size);
    if compression != Compression::None {
        session
            .cache()
            .variants()
            .put(diff_id, &label(compression), &descriptor)?;
    }
    Ok(descriptor)
}

/// A layer's uncompressed bytes.
enum Input<R> {
    /// Their digest is known to be right.
    Known(R),
    Hashed(HashingReader<R>),
}

impl<R: Read> Input<R> {
    /// Returns the digest of what was read, unless it is known already.
    fn digest(self) -> Option<Digest> {
        match self {
            Self::Known(_) => None,
            Self::Hashed(reader) => Some(reader.finish().1),
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Known(reader) => reader.read(buf),
            Self::Hashed(reader) => reader.read(buf),
        }
    }
}

fn short(diff_id: DiffId) -> String {
    format!("sha256:{}", &diff_id.0.hex()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::Store;

    fn session() -> (tempfile::TempDir, Session) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("open");
        (dir, store.session().expect("session"))
    }

    fn layer(session: &Session, bytes: &[u8]) -> (Descriptor, DiffId) {
        let digest = session.blobs().put(bytes).expect("blob");
        let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
        (descriptor, DiffId(digest))
    }

    fn convert(
        session: &Session,
        all: &[(Descriptor, DiffId)],
        compression: Compression,
        force: bool,
    ) -> Result<Vec<Descriptor>> {
        let cancel = Cancel::new();
        let watch = Watch {
            cancel: &cancel,
            vertex: None,
        };
        layers(session, all, compression, force, watch)
    }

    #[test]
    fn compresses_once_and_back() {
        let (_dir, session) = session();
        let plain: Vec<_> = (0..5u8).map(|n| layer(&session, &[n; 5000])).collect();
        let packed = convert(&session, &plain, Compression::GZIP, false).expect("gzip");
        assert!(packed.iter().all(|d| d.size < 5000));
        let blobs = std::fs::read_dir(session.store().root().join("blobs/sha256"))
            .expect("list")
            .count();
        assert_eq!(blobs, 10);
        assert_eq!(
            convert(&session, &plain, Compression::GZIP, false).expect("again"),
            packed
        );
        let both: Vec<_> = packed
            .iter()
            .cloned()
            .zip(plain.iter().map(|(_, id)| *id))
            .collect();
        let kept = convert(&session, &both, Compression::ZSTD, false).expect("kept");
        assert_eq!(kept, packed);
        std::fs::remove_file(session.blobs().path(&plain[0].0.digest)).expect("remove");
        let back = convert(&session, &both, Compression::None, true).expect("back");
        let digests = |d: &[Descriptor]| d.iter().map(|d| d.digest).collect::<Vec<_>>();
        assert_eq!(
            digests(&back),
            plain.iter().map(|(d, _)| d.digest).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_corrupt_layer_is_noticed_and_nothing_is_stored() {
        let (_dir, session) = session();
        let (descriptor, id) = layer(&session, b"content");
        let session = session.store().session().expect("a later session");
        std::fs::write(session.blobs().path(&id.0), b"changed").expect("write");
        let error =
            convert(&session, &[(descriptor, id)], Compression::GZIP, false).expect_err("corrupt");
        assert!(error.to_string().contains("corrupt"), "{error}");
        assert!(
            session
                .cache()
                .variants()
                .get(id, &label(Compression::GZIP))
                .is_none()
        );
    }

    #[test]
    fn stops_when_cancelled() {
        let (_dir, session) = session();
        let all = [layer(&session, b"content")];
        let cancel = Cancel::new();
        cancel.raise(crate::cancel::Cause::Signal(2));
        let watch = Watch {
            cancel: &cancel,
            vertex: None,
        };
        let error = layers(&session, &all, Compression::GZIP, false, watch).expect_err("stopped");
        assert_eq!(error.get_kind(), Kind::Interrupted(2));
    }
}
