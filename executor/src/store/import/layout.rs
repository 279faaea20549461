//! OCI layouts in directories: one image of them.
//!
//! Responsible for finding it by name, digest and platform, and for taking its blobs into the
//! store. Must not follow anything out of the directory. Invariant: what is stored has the digest
//! under which it is stored.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use runtime::path::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::oci::{MAX_DEPTH, blob_name, is_image};
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, MAX_PARTS, Manifest, media_type};
use crate::image::platform::Platform;
use crate::output::layout::{IMAGE_NAME, REF_NAME};
use crate::store::lock::Session;

/// A document in a layout may have this many bytes.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// The name of an image for which no name is asked.
const DEFAULT_TAG: &str = "latest";

/// Which image of a layout is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name in the layout.
    pub tag: Option<&'a str>,
    /// The digest of its manifest or index.
    pub digest: Option<&'a Digest>,
    /// What it has to run on.
    pub platform: &'a Platform,
}

/// Takes an image of the layout at `path` into the store; returns its manifest's digest.
///
/// # Errors
/// When it is no layout, has no such image, lacks a blob or has one that is not what its digest
/// says; cancellation.
pub fn take(session: &Session, path: &Path, wanted: Wanted<'_>, cancel: &Cancel) -> Result<Digest> {
    let layout = Layout::open_at(path)?;
    let found = layout.find(path, wanted)?;
    let (digest, bytes) = layout.manifest(&found, wanted.platform, 0)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, None)? else {
        return Err(Error::new(format!("{digest} is not an image")));
    };
    if !matches!(
        manifest.config.media_type.as_str(),
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
    ) {
        return Err(Error::new(format!(
            "{digest} is not an image but an artifact of type `{}`",
            manifest.config.media_type
        )));
    }
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        layout.store(session, descriptor, cancel)?;
    }
    session.blobs().put(&bytes)?;
    session.store().images().add(&digest, &[])?;
    Ok(digest)
}

/// Takes some blobs of the layout at `path` into the store.
///
/// # Errors
/// [`Kind::NotFound`] when it lacks one; when one is not what its digest says; cancellation.
pub fn take_blobs(
    session: &Session,
    path: &Path,
    blobs: &[Descriptor],
    cancel: &Cancel,
) -> Result<()> {
    let layout = Layout::open_at(path)?;
    blobs
        .iter()
        .try_for_each(|blob| layout.store(session, blob, cancel))
}

/// Reads the manifest of an artifact in the layout at `path`, or those of an index, each with the
/// document that it calls its config.
///
/// # Errors
/// When it is no layout, has no such artifact, or lacks a document.
pub fn documents(path: &Path, wanted: Wanted<'_>) -> Result<Vec<(Manifest, Vec<u8>)>> {
    let layout = Layout::open_at(path)?;
    let found = layout.find(path, wanted)?;
    let manifests = match Document::parse(&layout.document(&found)?, None)? {
        Document::Manifest(manifest) => vec![manifest],
        Document::Index(index) => {
            let parts = index.manifests.iter().filter(|d| is_image(d));
            parts
                .take(MAX_PARTS)
                .map(
                    |part| match Document::parse(&layout.document(&part.digest)?, None)? {
                        Document::Manifest(manifest) => Ok(manifest),
                        Document::Index(_) => Err(Error::new("an index within an index")),
                    },
                )
                .collect::<Result<_>>()?
        }
    };
    manifests
        .into_iter()
        .map(|manifest| {
            let config = layout.document(&manifest.config.digest)?;
            Ok((manifest, config))
        })
        .collect()
}

struct Layout {
    root: Root,
}

impl Layout {
    fn open_at(path: &Path) -> Result<Self> {
        let root = Root::open_host(path).map_err(|e| match e {
            Errno::NOENT => Error::new("OCI layout not found:")
                .path(path)
                .kind(Kind::NotFound),
            e => Error::new("open the OCI layout").path(path).source(e),
        })?;
        Ok(Self { root })
    }

    fn open(&self, name: &str) -> Result<File> {
        // Without O_NONBLOCK, a FIFO would block for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self
            .root
            .open(Path::new(name), flags, Mode::empty())
            .map_err(|e| match e {
                Errno::NOENT => Error::new("the OCI layout lacks")
                    .path(name)
                    .kind(Kind::NotFound),
                e => Error::new("open").path(name).source(e),
            })?;
        let stat = rustix::fs::fstat(&fd).op_path("stat", name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new("not a regular file:").path(name));
        }
        Ok(File::from(fd))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .op_path("read", name)?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::new(format!("larger than {DOCUMENT_LIMIT} bytes:")).path(name));
        }
        Ok(bytes)
    }

    /// Reads a document blob and checks its digest.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.read(&name)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::new(format!("file in the OCI layout is {found}")).path(name));
        }
        Ok(bytes)
    }

    /// Finds what is asked for in `index.json`.
    fn find(&self, path: &Path, wanted: Wanted<'_>) -> Result<Digest> {
        self.open("oci-layout")
            .map_err(|e| e.during(format!("open `{}` as an OCI layout", path.display())))?;
        let index = self.read("index.json")?;
        let Document::Index(index) = Document::parse(&index, Some(media_type::OCI_INDEX))? else {
            return Err(Error::new("`index.json` of the OCI layout is not an index"));
        };
        let named: Vec<&Descriptor> = match wanted.tag {
            Some(tag) => entries(&index, tag),
            None => Vec::new(),
        };
        if let Some(digest) = wanted.digest {
            if wanted.tag.is_some() && !named.iter().any(|d| d.digest == *digest) {
                return Err(missing(&index, wanted.tag, Some(digest)));
            }
            return Ok(*digest);
        }
        let found = match wanted.tag {
            Some(_) => named,
            None => {
                let latest = entries(&index, DEFAULT_TAG);
                if latest.is_empty() {
                    index.manifests.iter().filter(|d| is_image(d)).collect()
                } else {
                    latest
                }
            }
        };
        let fits = |d: &&&Descriptor| {
            let own = d.platform.as_ref();
            own.is_some_and(|own| wanted.platform.accepts(own))
        };
        match found[..] {
            [only] => Ok(only.digest),
            _ => {
                let fitting: Vec<&&Descriptor> = found.iter().filter(fits).collect();
                match fitting[..] {
                    [only] => Ok(only.digest),
                    _ => Err(missing(&index, wanted.tag, None)),
                }
            }
        }
    }

    /// Follows a digest to the manifest for a platform.
    fn manifest(
        &self,
        digest: &Digest,
        platform: &Platform,
        depth: usize,
    ) -> Result<(Digest, Vec<u8>)> {
        let bytes = self.document(digest)?;
        let Document::Index(index) = Document::parse(&bytes, None)? else {
            return Ok((*digest, bytes));
        };
        if depth >= MAX_DEPTH {
            return Err(Error::new("the OCI layout nests its indexes too deeply"));
        }
        match index.select(platform) {
            Some(descriptor) => self.manifest(&descriptor.digest, platform, depth + 1),
            None => {
                let platforms: Vec<String> = (index.manifests.iter().filter(|d| is_image(d)))
                    .filter_map(|d| d.platform.as_ref().map(Platform::to_string))
                    .collect();
                Err(Error::new(format!(
                    "the OCI layout has nothing for {platform}, only for: {}",
                    platforms.join(", ")
                )))
            }
        }
    }

    fn store(&self, session: &Session, descriptor: &Descriptor, cancel: &Cancel) -> Result<()> {
        let blobs = session.blobs();
        if blobs.size(&descriptor.digest) == Some(descriptor.size) {
            return Ok(());
        }
        let name = blob_name(&descriptor.digest);
        let mut from = self.open(&name)?;
        let mut to = blobs.writer()?;
        let mut chunk = vec![0; 1 << 16];
        loop {
            cancel.check()?;
            let length = from.read(&mut chunk).op_path("read", &name)?;
            if length == 0 {
                break;
            }
            if to.len() + length as u64 > descriptor.size {
                return Err(Error::new(format!(
                    "file in the OCI layout has more than {} bytes:",
                    descriptor.size
                ))
                .path(&name));
            }
            std::io::Write::write_all(&mut to, &chunk[..length]).op("write blob")?;
        }
        to.commit(Some(&descriptor.digest))
            .map(|_| ())
            .map_err(|e| e.during(format!("take `{name}` from the OCI layout")))
    }
}

/// Returns the images that have a name, as OCI's annotation or as containerd's.
fn entries<'i>(index: &'i Index, tag: &str) -> Vec<&'i Descriptor> {
    let has = |d: &&Descriptor| {
        let by = |key: &str| d.annotations.get(key).map(String::as_str);
        by(REF_NAME) == Some(tag)
            || by(IMAGE_NAME) == Some(tag)
            || by(IMAGE_NAME).is_some_and(|name| {
                name.rsplit(['/'])
                    .next()
                    .is_some_and(|last| last.split_once(':').is_some_and(|(_, own)| own == tag))
            })
    };
    let images = index.manifests.iter().filter(|d| is_image(d));
    images.filter(has).collect()
}

fn missing(index: &Index, tag: Option<&str>, digest: Option<&Digest>) -> Error {
    let names: Vec<&str> = (index.manifests.iter())
        .filter_map(|d| d.annotations.get(REF_NAME).map(String::as_str))
        .collect();
    let error = match (tag, digest) {
        (Some(tag), Some(digest)) => {
            format!("the OCI layout has no image `{tag}` that is {digest}")
        }
        (Some(tag), None) => format!("the OCI layout has no image `{tag}`"),
        (None, _) => "the OCI layout has not exactly one image".to_owned(),
    };
    let error = Error::new(error).kind(Kind::NotFound);
    if names.is_empty() {
        error.hint("name one by its digest: `oci-layout://DIR@sha256:…`")
    } else {
        error.hint(format!("its images are: {}", names.join(", ")))
    }
}
