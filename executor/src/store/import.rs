//! Images from archives: what other tools have saved.
//!
//! Responsible for reading OCI and Docker archives, compressed or not, from a stream that is read
//! once. Must not trust them: names in an archive are keys, never paths, and every blob is hashed.
//! Invariant: an image is in the index only when all its blobs are in the store under digests
//! that were computed here.

mod docker;
pub mod layout;
mod oci;
mod spool;

use std::io::Read;

use crate::cancel::Cancel;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::layer::compress::sniff;
use crate::store::lock::Session;

use spool::Spool;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Names that the archive gave it.
    pub names: Vec<Reference>,
    /// Its id.
    pub id: Digest,
    /// Digest of its manifest.
    pub manifest: Digest,
}

/// Loads all images of an archive, gzip- or zstd-compressed or not.
///
/// # Errors
/// When it is no image archive, is truncated, lacks a blob or has one that is not what its
/// digest says; cancellation. No image is added then.
pub fn load(session: &Session, archive: impl Read + Send, cancel: &Cancel) -> Result<Vec<Loaded>> {
    let (_, tar) = sniff(archive).op("read archive")?;
    let mut spool = Spool::read(session, tar, cancel)?;
    let loaded = if spool.has("index.json") && spool.has("oci-layout") {
        oci::load(session, &mut spool)?
    } else if spool.has("manifest.json") {
        docker::load(session, &mut spool)?
    } else if spool.has("repositories") {
        return Err(Error::new(
            "unsupported image archive: it has no `manifest.json` (made before Docker 1.10)",
        ));
    } else {
        return Err(Error::new("not an image archive").hint(
            "`sandcrab load` reads what `docker save` and `skopeo copy … oci-archive:` write",
        ));
    };
    let images = session.store().images();
    for image in &loaded {
        images.add(&image.manifest, &image.names)?;
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests;
