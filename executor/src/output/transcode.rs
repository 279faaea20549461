//! Layers in another compression.
//!
//! Responsible for making a layer's compressed (or decompressed) blob once and finding it again.
//! Must not change a layer's content: the uncompressed bytes are checked against the diff id on
//! the way, unless this process has just written them. Invariants: what [`layers`] returns is in the
//! store; a layer has another diff id only in a packing that adds to its archive.

use std::fmt;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cancel::Cancel;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::{DiffId, Digest, HashingReader};
use crate::image::manifest::{Descriptor, media_type};
use crate::layer::compress::{Compression, Encoder, Format, decoder};
use crate::layer::estargz;
use crate::output::packing::Packing;
use crate::progress::event::Vertex;
use crate::store::lock::Session;

const CHUNK: usize = 512 * 1024;

/// What watches and may stop the work.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Ends the work early.
    pub cancel: &'a Cancel,
    /// Is told how far it is.
    pub vertex: Option<&'a Vertex>,
    /// Is told of each blob that is there, while others are made; of none where none has to be.
    pub ready: Option<&'a (dyn Fn(&Descriptor) + Sync)>,
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("vertex", &self.vertex)
            .finish_non_exhaustive()
    }
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

/// A blob and the digest of what it unpacks to.
pub type Layer = (Descriptor, DiffId);

/// Brings layers into a packing: those that are not compressed, and with `force` those that
/// are compressed otherwise. Several at a time, in the order given.
///
/// # Errors
/// When a layer is missing in the store or is not what its diff id says, or can't be packed like that;
/// cancellation.
pub fn layers(
    session: &Session,
    all: &[Layer],
    packing: Packing,
    force: bool,
    watch: Watch<'_>,
) -> Result<Vec<Layer>> {
    let done: Vec<Mutex<Option<Result<Layer>>>> = all.iter().map(|_| Mutex::new(None)).collect();
    let mut todo = Vec::new();
    let mut there = Vec::new();
    for (i, (descriptor, diff_id)) in all.iter().enumerate() {
        match kept(session, descriptor, *diff_id, packing, force) {
            Some(layer) => {
                there.push(layer.0.clone());
                set(&done[i], Ok(layer));
            }
            None => todo.push(i),
        }
    }
    let ready = |blob: &Descriptor| {
        if let Some(ready) = watch.ready {
            ready(blob);
        }
    };
    if !todo.is_empty() {
        let blobs = session.blobs();
        let here = |blob: &&Descriptor| blobs.size(&blob.digest) == Some(blob.size);
        there.iter().filter(here).for_each(ready);
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
                    let made = make(session, descriptor, *diff_id, packing, threads, watch);
                    if let Ok((blob, _)) = &made {
                        ready(blob);
                    }
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
    all: &[Layer],
    packing: Packing,
    force: bool,
) -> Vec<Descriptor> {
    let read = |(descriptor, diff_id): &&Layer| {
        kept(session, descriptor, *diff_id, packing, force).is_none()
    };
    let read = all.iter().filter(read);
    read.map(|(descriptor, _)| descriptor.clone()).collect()
}

/// Returns a layer's form where it need not be made.
fn kept(
    session: &Session,
    descriptor: &Descriptor,
    diff_id: DiffId,
    packing: Packing,
    force: bool,
) -> Option<Layer> {
    let keep = match (format_of(&descriptor.media_type), packing) {
        (None, _) => true,
        (Some(Format::None), _) => packing == Packing::NONE,
        (Some(_), _) if !force => true,
        (Some(Format::Gzip), Packing::Estargz { .. }) => is_estargz(session, descriptor),
        (Some(format), _) => format == packing.format(),
    };
    if keep {
        return Some((descriptor.clone(), diff_id));
    }
    find(session, diff_id, packing)
}

/// Tells whether a layer has a table of contents already. Where its blob is not here, it is believed.
fn is_estargz(session: &Session, descriptor: &Descriptor) -> bool {
    match session.blobs().open(&descriptor.digest) {
        Ok(blob) => estargz::toc_offset(&blob).is_ok_and(|offset| offset.is_some()),
        Err(_) => descriptor.annotations.contains_key(estargz::TOC_DIGEST),
    }
}

fn set<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value);
}

/// Annotation of a recorded variant with its own diff id, as BuildKit calls it.
const UNPACKED: &str = "containerd.io/uncompressed";

fn find(session: &Session, diff_id: DiffId, packing: Packing) -> Option<Layer> {
    if packing == Packing::NONE {
        // An uncompressed layer is found under its diff id.
        let size = session.blobs().size(&diff_id.0)?;
        return Some((
            Descriptor::new(media_type::OCI_LAYER, diff_id.0, size),
            diff_id,
        ));
    }
    let mut found = session.cache().variants().get(diff_id, &packing.label())?;
    let own = match (packing, found.annotations.remove(UNPACKED)) {
        (Packing::Stream(_), _) => diff_id,
        (Packing::Estargz { .. }, own) => DiffId(own?.parse().ok()?),
    };
    Some((found, own))
}

fn make(
    session: &Session,
    source: &Descriptor,
    diff_id: DiffId,
    packing: Packing,
    threads: usize,
    watch: Watch<'_>,
) -> Result<Layer> {
    let blobs = session.blobs();
    let format = format_of(&source.media_type).unwrap_or(Format::None);
    let input = decoder(blobs.open(&source.digest)?, format)
        .map_err(|e| Error::new(format!("convert layer {}", source.digest)).source(e))?;
    let job = Job {
        session,
        source,
        diff_id,
        threads,
    };
    let mut input = Watched {
        inner: input,
        watch,
        id: format!("compressing {}", short(diff_id)),
        count: 0,
        total: (format == Format::None).then_some(source.size),
    };
    let (mut descriptor, own) = match packing {
        Packing::Stream(compression) => job.stream(&mut input, compression)?,
        Packing::Estargz { level } => job.estargz(&mut input, level)?,
    };
    if let Some(vertex) = watch.vertex {
        vertex.status(&input.id, input.count, Some(input.count), true);
    }
    descriptor.media_type = packing.media_type().to_owned();
    if packing != Packing::NONE {
        let mut recorded = descriptor.clone();
        if own != diff_id {
            let annotations = &mut recorded.annotations;
            annotations.insert(UNPACKED.to_owned(), own.to_string());
        }
        session
            .cache()
            .variants()
            .put(diff_id, &packing.label(), &recorded)?;
    }
    Ok((descriptor, own))
}

/// A layer that is being converted.
struct Job<'a> {
    session: &'a Session,
    source: &'a Descriptor,
    diff_id: DiffId,
    threads: usize,
}

impl Job<'_> {
    /// Tells whether this process has just written the bytes, so that they need no check.
    fn is_known(&self) -> bool {
        let blobs = self.session.blobs();
        self.diff_id.0 == self.source.digest && blobs.has_written(&self.source.digest)
    }

    fn stream<R: Read>(
        &self,
        input: &mut Watched<'_, R>,
        compression: Compression,
    ) -> Result<Layer> {
        let blobs = self.session.blobs();
        let watch = input.watch;
        let mut input = if self.is_known() {
            Input::Known(input)
        } else {
            Input::Hashed(HashingReader::new(input))
        };
        let mut out =
            Encoder::new(blobs.writer()?, compression, self.threads).op("start compression")?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => out.write_all(&buffer[..n]).op("write blob")?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let what = format!("convert layer {}", self.source.digest);
                    watch.cancel.check()?;
                    return Err(Error::new(what).source(e));
                }
            }
        }
        if let Some(digest) = input.digest() {
            self.check(digest)?;
        }
        let (digest, size) = out.finish().op("write blob")?.commit(None)?;
        Ok((Descriptor::new("", digest, size), self.diff_id))
    }

    fn estargz<R: Read>(&self, input: &mut Watched<'_, R>, level: u32) -> Result<Layer> {
        let blobs = self.session.blobs();
        let watch = input.watch;
        let sealed = match estargz::write(input, blobs.writer()?, level, self.threads) {
            Ok(sealed) => sealed,
            Err(error) => {
                watch.cancel.check()?;
                if !self.is_known() {
                    blobs.verify(&self.source.digest)?;
                }
                return Err(error.during(format!("make eStargz of layer {}", self.source.digest)));
            }
        };
        if !self.is_known() {
            self.check(sealed.archive)?;
        }
        let (digest, size) = sealed.out.commit(None)?;
        let mut descriptor = Descriptor::new("", digest, size);
        descriptor.annotations.extend([
            (estargz::TOC_DIGEST.to_owned(), sealed.toc.to_string()),
            (
                estargz::UNCOMPRESSED_SIZE.to_owned(),
                sealed.size.to_string(),
            ),
        ]);
        Ok((descriptor, DiffId(sealed.unpacked)))
    }

    /// Compares the digest of what the layer unpacks to.
    fn check(&self, digest: Digest) -> Result<()> {
        if digest == self.diff_id.0 {
            return Ok(());
        }
        // Either our copy is damaged, or it was never what the image's config says.
        self.session.blobs().verify(&self.source.digest)?;
        Err(Error::new(format!(
            "layer {} unpacks to {digest}, but the image's config says {}",
            self.source.digest, self.diff_id
        )))
    }
}

/// A layer's uncompressed bytes, of which the display is told; reading them ends when the work is
/// cancelled.
struct Watched<'a, R> {
    inner: R,
    watch: Watch<'a>,
    id: String,
    count: u64,
    total: Option<u64>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Whoever reads asks again why.
        (self.watch.cancel.check()).map_err(|_| io::Error::other("cancelled"))?;
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        if let Some(vertex) = self.watch.vertex {
            vertex.status(&self.id, self.count, self.total, false);
        }
        Ok(n)
    }
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
    use crate::layer::entry::{Entry, EntryKind};
    use crate::layer::tar_write::TarWriter;
    use crate::store::fixture::session;

    fn layer(session: &Session, bytes: &[u8]) -> (Descriptor, DiffId) {
        let digest = session.blobs().put(bytes).expect("blob");
        let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
        (descriptor, DiffId(digest))
    }

    fn convert(
        session: &Session,
        all: &[Layer],
        packing: Packing,
        force: bool,
    ) -> Result<Vec<Layer>> {
        let cancel = Cancel::new();
        let watch = Watch {
            cancel: &cancel,
            vertex: None,
            ready: None,
        };
        layers(session, all, packing, force, watch)
    }

    #[test]
    fn compresses_once_and_back() {
        let (_dir, session) = session();
        let plain: Vec<_> = (0..5u8).map(|n| layer(&session, &[n; 5000])).collect();
        let packed = convert(&session, &plain, Packing::GZIP, false).expect("gzip");
        assert!(packed.iter().all(|(d, _)| d.size < 5000));
        let blobs = std::fs::read_dir(session.store().root().join("blobs/sha256"))
            .expect("list")
            .count();
        assert_eq!(blobs, 10);
        assert_eq!(
            convert(&session, &plain, Packing::GZIP, false).expect("again"),
            packed
        );
        let kept = convert(&session, &packed, Packing::ZSTD, false).expect("kept");
        assert_eq!(kept, packed);
        std::fs::remove_file(session.blobs().path(&plain[0].0.digest)).expect("remove");
        let back = convert(&session, &packed, Packing::NONE, true).expect("back");
        assert_eq!(back, plain);
    }

    /// An archive with one file.
    fn archive(name: &str) -> Vec<u8> {
        let entry = Entry {
            size: 3,
            ..Entry::new(name, EntryKind::File, 0o644)
        };
        let mut tar = TarWriter::new(Vec::new());
        tar.append_reader(&entry, &mut &b"abc"[..]).expect("append");
        tar.finish().expect("finish")
    }

    #[test]
    fn estargz_makes_other_layers() {
        let (_dir, session) = session();
        let plain = [
            layer(&session, &archive("a")),
            layer(&session, &archive("b")),
        ];
        let made = convert(&session, &plain, Packing::ESTARGZ, false).expect("made");
        for ((descriptor, own), (_, before)) in made.iter().zip(&plain) {
            assert_ne!(own, before);
            assert_eq!(descriptor.media_type, media_type::OCI_LAYER_GZIP);
            let keys: Vec<_> = descriptor.annotations.keys().collect();
            assert_eq!(keys, [estargz::TOC_DIGEST, estargz::UNCOMPRESSED_SIZE]);
            let blob = session.blobs().open(&descriptor.digest).expect("blob");
            let mut unpacked = HashingReader::new(decoder(blob, Format::Gzip).expect("gzip"));
            io::copy(&mut unpacked, &mut io::sink()).expect("whole");
            let (_, digest, size) = unpacked.finish();
            assert_eq!(DiffId(digest), *own);
            assert_eq!(
                descriptor.annotations[estargz::UNCOMPRESSED_SIZE],
                size.to_string()
            );
        }
        // Once made, they are found again, and they are what they are.
        let (gone, _) = &plain[0];
        std::fs::remove_file(session.blobs().path(&gone.digest)).expect("remove");
        for all in [&plain[..], &made[..]] {
            let again = convert(&session, all, Packing::ESTARGZ, true).expect("found");
            assert_eq!(again, made);
        }
        assert!(converted(&session, &made, Packing::ESTARGZ, true).is_empty());
        assert_eq!(
            convert(&session, &made, Packing::GZIP, true).expect("kept"),
            made
        );
        // In another compression they keep what they unpack to.
        let zstd = convert(&session, &made, Packing::ZSTD, true).expect("zstd");
        let ids = |all: &[Layer]| all.iter().map(|(_, id)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&zstd), ids(&made));
        assert!(zstd.iter().all(|(layer, _)| layer.annotations.is_empty()));
    }

    #[test]
    fn a_compressed_layer_becomes_estargz_when_forced() {
        let (_dir, session) = session();
        let plain = [layer(&session, &archive("a"))];
        let made = convert(&session, &plain, Packing::ESTARGZ, false).expect("made");
        for packing in [Packing::GZIP, Packing::ZSTD] {
            let packed = convert(&session, &plain, packing, false).expect("packed");
            let kept = convert(&session, &packed, Packing::ESTARGZ, false).expect("kept");
            assert_eq!(kept, packed);
            let cache = session.store().root().join("cache");
            for record in walk(&cache, "estargz") {
                std::fs::remove_file(record).expect("remove");
            }
            assert_eq!(
                converted(&session, &packed, Packing::ESTARGZ, true),
                [packed[0].0.clone()]
            );
            let forced = convert(&session, &packed, Packing::ESTARGZ, true).expect("forced");
            assert_eq!(forced, made);
        }
    }

    /// Finds files whose names end like this.
    fn walk(dir: &std::path::Path, end: &str) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).expect("list").flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(walk(&path, end));
            } else if path.to_string_lossy().contains(end) {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn what_is_no_layer_of_ours_names_the_trouble() {
        let (_dir, session) = session();
        let table = layer(&session, &archive("stargz.index.json"));
        let error = convert(&session, &[table], Packing::ESTARGZ, false).expect_err("a table");
        assert!(error.chain().to_string().contains("stargz.index.json"));
        // A config that lies, and a copy that is damaged.
        let bytes = archive("a");
        let (descriptor, _) = layer(&session, &bytes);
        let other = DiffId(Digest::of(b"other"));
        let error = convert(
            &session,
            &[(descriptor.clone(), other)],
            Packing::ESTARGZ,
            false,
        );
        let error = error.expect_err("another layer");
        assert!(error.to_string().contains("config says"), "{error}");
        let session = session.store().session().expect("a later session");
        std::fs::write(session.blobs().path(&descriptor.digest), &bytes[..600]).expect("write");
        let all = [(descriptor.clone(), DiffId(descriptor.digest))];
        let error = convert(&session, &all, Packing::ESTARGZ, false).expect_err("corrupt");
        assert!(error.to_string().contains("corrupt"), "{error}");
    }

    #[test]
    fn a_corrupt_layer_is_noticed_and_nothing_is_stored() {
        let (_dir, session) = session();
        let (descriptor, id) = layer(&session, b"content");
        let session = session.store().session().expect("a later session");
        std::fs::write(session.blobs().path(&id.0), b"changed").expect("write");
        let error =
            convert(&session, &[(descriptor, id)], Packing::GZIP, false).expect_err("corrupt");
        assert!(error.to_string().contains("corrupt"), "{error}");
        assert!(
            session
                .cache()
                .variants()
                .get(id, &Packing::GZIP.label())
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
            ready: None,
        };
        for packing in [Packing::GZIP, Packing::ESTARGZ] {
            let error = layers(&session, &all, packing, false, watch).expect_err("stopped");
            assert_eq!(error.get_kind(), Kind::Interrupted(2));
        }
    }
}
