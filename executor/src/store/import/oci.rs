//! OCI archives: an image layout in a tar.
//!
//! Responsible for following `index.json` (OCI image-spec, "image-layout"). Manifests and configs
//! are stored byte for byte. Must not load attestations and other artifacts.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, media_type};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::output::layout::{IMAGE_NAME, REF_NAME};
use crate::store::import::spool::Spool;
use crate::store::import::{Loaded, docker};
use crate::store::lock::Session;

/// Annotation that BuildKit's attestation manifests have.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// An index in an index in an index is nobody's honest work.
pub(super) const MAX_DEPTH: usize = 3;

pub(super) fn load(session: &Session, spool: &mut Spool) -> Result<Vec<Loaded>> {
    let index = spool.document("index.json")?;
    let Document::Index(index) = Document::parse(&index, Some(media_type::OCI_INDEX))? else {
        return Err(Error::new("`index.json` of the archive is not an index"));
    };
    // Where two images have one name, the last one keeps it; that is to be the host's.
    let host = Platform::host();
    let mut entries: Vec<&Descriptor> = index.manifests.iter().filter(|d| is_image(d)).collect();
    entries.sort_by_key(|d| d.platform.as_ref().is_some_and(|p| host.accepts(p)));
    let mut loaded: Vec<Loaded> = Vec::new();
    for entry in entries {
        let digest = choose(spool, entry, &host, 0)?;
        let (id, manifest) = image(session, spool, &digest)?;
        let names = names(spool, entry, &id)?;
        for other in &mut loaded {
            other.names.retain(|n| !names.contains(n));
        }
        match loaded.iter_mut().find(|l| l.manifest == manifest) {
            Some(same) => same.names.extend(names),
            None => loaded.push(Loaded {
                names,
                id,
                manifest,
            }),
        }
    }
    if loaded.is_empty() {
        return Err(Error::new("image archive has no images").kind(Kind::NotFound));
    }
    Ok(loaded)
}

pub(super) fn is_image(descriptor: &Descriptor) -> bool {
    let unknown = |p: &Platform| p.os == "unknown" || p.architecture == "unknown";
    !descriptor.annotations.contains_key(REFERENCE_TYPE)
        && !descriptor.platform.as_ref().is_some_and(unknown)
}

pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a document blob and checks its digest.
fn document(spool: &Spool, digest: &Digest) -> Result<Vec<u8>> {
    let name = blob_name(digest);
    let found = spool.identity(&name)?.0;
    if found != *digest {
        return Err(Error::new(format!("file in the archive is {found}")).path(name));
    }
    spool.document(&name)
}

/// Follows a descriptor to one image's manifest.
fn choose(spool: &Spool, entry: &Descriptor, host: &Platform, depth: usize) -> Result<Digest> {
    let bytes = document(spool, &entry.digest)?;
    let index = match Document::parse(&bytes, Some(&entry.media_type))? {
        Document::Manifest(_) => return Ok(entry.digest),
        Document::Index(index) => index,
    };
    if depth >= MAX_DEPTH {
        return Err(Error::new("image archive nests its indexes too deeply"));
    }
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|d| is_image(d)).collect();
    let chosen = match images[..] {
        [only] => Some(only),
        _ => index.select(host),
    };
    match chosen {
        Some(descriptor) => choose(spool, descriptor, host, depth + 1),
        None => {
            let platforms: Vec<String> = images
                .iter()
                .filter_map(|d| d.platform.as_ref().map(Platform::to_string))
                .collect();
            Err(Error::new(format!(
                "image archive has nothing for {host}, only for: {}",
                platforms.join(", ")
            )))
        }
    }
}

/// Stores an image's blobs; returns its id and its manifest's digest.
fn image(session: &Session, spool: &mut Spool, digest: &Digest) -> Result<(Digest, Digest)> {
    let bytes = document(spool, digest)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, None)? else {
        return Err(Error::new(format!("{digest} is not an image")));
    };
    let config = &manifest.config;
    if !matches!(
        config.media_type.as_str(),
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
    ) {
        return Err(Error::new(format!(
            "{digest} is not an image but an artifact of type `{}`",
            config.media_type
        )));
    }
    for descriptor in manifest.layers.iter().chain([config]) {
        let name = blob_name(&descriptor.digest);
        if !spool.has(&name) && session.blobs().size(&descriptor.digest) == Some(descriptor.size) {
            continue;
        }
        let (found, size) = spool.identity(&name)?;
        if (found, size) != (descriptor.digest, descriptor.size) {
            return Err(Error::new(format!(
                "file in the archive is {found} with {size} bytes, where the manifest has {}",
                descriptor.size
            ))
            .path(name));
        }
        spool.store(&name)?;
    }
    let (manifest_digest, _) = spool.store(&blob_name(digest))?;
    Ok((config.digest, manifest_digest))
}

/// Finds an image's names: as containerd and BuildKit write them, else as an image reference in
/// OCI's own annotation (which is often a tag alone), else as `docker save` does.
fn names(spool: &Spool, entry: &Descriptor, id: &Digest) -> Result<Vec<Reference>> {
    if let Some(name) = entry.annotations.get(IMAGE_NAME) {
        return Ok(vec![name.parse()?]);
    }
    if let Some(name) = entry.annotations.get(REF_NAME)
        && name.contains([':', '/'])
    {
        return Ok(vec![name.parse()?]);
    }
    if spool.has("manifest.json") {
        for image in docker::images(spool)? {
            if spool.identity(&image.config)?.0 == *id {
                return docker::names(&image);
            }
        }
    }
    Ok(Vec::new())
}
