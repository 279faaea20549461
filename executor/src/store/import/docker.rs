//! Docker archives: `manifest.json`, configs and layers under names of its own.
//!
//! Responsible for making a manifest, which these archives don't have (Docker's image
//! specification 1.2). Invariant: each layer was hashed uncompressed and is what the config says.

use std::io;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::config::ImageConfig;
use crate::image::digest::{DiffId, HashingReader};
use crate::image::manifest::{Descriptor, media_type};
use crate::image::reference::Reference;
use crate::layer::compress::{Format, sniff};
use crate::output::assemble;
use crate::output::layout::DockerImage;
use crate::store::import::Loaded;
use crate::store::import::spool::Spool;
use crate::store::lock::Session;

/// Reads `manifest.json`.
pub(super) fn images(spool: &Spool) -> Result<Vec<DockerImage>> {
    serde_json::from_slice(&spool.document("manifest.json")?)
        .op_path("parse image archive's", "manifest.json")
}

/// Returns the names that the archive gives an image.
pub(super) fn names(image: &DockerImage) -> Result<Vec<Reference>> {
    image
        .repo_tags
        .iter()
        .flatten()
        .map(|name| name.parse())
        .collect()
}

pub(super) fn load(session: &Session, spool: &mut Spool) -> Result<Vec<Loaded>> {
    let mut loaded = Vec::new();
    for image in images(spool)? {
        let bytes = spool.document(&image.config)?;
        let config = ImageConfig::parse(&bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::new(format!(
                "image archive has {} layers where the config has {}",
                image.layers.len(),
                diff_ids.len()
            ))
            .path(&image.config));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let media_type = check(spool, name, *diff_id)?;
            let (digest, size) = spool.store(name)?;
            layers.push(Descriptor::new(media_type, digest, size));
        }
        let (id, _) = spool.store(&image.config)?;
        let manifest = session.blobs().put(&assemble::manifest(&bytes, layers)?)?;
        loaded.push(Loaded {
            names: names(&image)?,
            id,
            manifest,
        });
    }
    if loaded.is_empty() {
        return Err(Error::new("image archive has no images").kind(Kind::NotFound));
    }
    Ok(loaded)
}

/// Checks a layer's content and returns its media type.
fn check(spool: &Spool, name: &str, diff_id: DiffId) -> Result<&'static str> {
    let (digest, _) = spool.identity(name)?;
    if digest == diff_id.0 {
        return Ok(media_type::OCI_LAYER);
    }
    let (format, reader) = sniff(spool.open(name)?).op_path("read", name)?;
    let media_type = match format {
        Format::None => media_type::OCI_LAYER,
        Format::Gzip => media_type::OCI_LAYER_GZIP,
        Format::Zstd => media_type::OCI_LAYER_ZSTD,
    };
    let mut reader = HashingReader::new(reader);
    io::copy(&mut reader, &mut io::sink()).op_path("read", name)?;
    let (_, found, _) = reader.finish();
    if found != diff_id.0 {
        return Err(Error::new(format!(
            "layer in the archive is {found} where the config has {diff_id}"
        ))
        .path(name));
    }
    Ok(media_type)
}
