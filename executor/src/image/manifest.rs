//! Manifests, indexes and descriptors, in OCI's and Docker's dialects.
//!
//! Responsible for reading and making the documents (OCI image-spec 1.1; Docker image manifest
//! version 2, schema 2). Must not hash what it re-serialises: a pulled document keeps its raw
//! bytes, and only documents that we make are written from these structs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::platform::Platform;

/// Media types, by dialect.
pub mod media_type {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, uncompressed tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Tells whether a media type names a list of manifests.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }

    /// Tells whether a media type names one image's manifest.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// A pointer to content (OCI image-spec, "descriptor").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the raw bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Set in an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where a foreign layer may be fetched from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Makes a descriptor of bytes in hand.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Makes a descriptor of content with a known digest and size in bytes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }
}

/// One image: its config and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the manifest itself; some registries leave it out of OCI manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the index itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How many manifests of an index are looked at where all are wanted.
pub const MAX_PARTS: usize = 32;

/// A parsed manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list.
    Index(Index),
}

impl Document {
    /// Parses raw bytes. The dialect is told by the document's own `mediaType`, else by
    /// `declared` (a Content-Type), else by its fields. Schema 1 is refused by name.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: Option<u32>,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let malformed = |e: serde_json::Error| Error::new("parse image manifest").source(e);
        let probe: Probe = serde_json::from_slice(bytes).map_err(malformed)?;
        if probe.schema_version == Some(1) {
            return Err(Error::new("unsupported image manifest: Docker schema 1")
                .hint("push the image again with a current tool"));
        }
        if probe.schema_version != Some(2) {
            return Err(Error::new(
                "unsupported image manifest: `schemaVersion` is not 2",
            ));
        }
        // A document that is both could mean one thing to us and another to the next reader
        // (the OCI advisory GHSA-mc8v-mgrf-8f4m).
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(Error::new(
                "ambiguous image manifest: it has `manifests` and `layers`",
            ));
        }
        let named = probe.media_type.as_deref().or(declared).unwrap_or_default();
        let index = if media_type::is_index(named) {
            true
        } else if media_type::is_manifest(named) {
            false
        } else {
            probe.manifests.is_some()
        };
        if index {
            serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(malformed)
        } else {
            serde_json::from_slice(bytes)
                .map(Self::Manifest)
                .map_err(malformed)
        }
    }
}

impl Index {
    /// Picks the manifest that serves `platform` best: an exact variant before an unspecified
    /// one; attestation entries (platform `unknown/unknown`) never.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| platform.accepts(p));
        let exact = |d: &&Descriptor| d.platform.as_ref() == Some(platform);
        let mut candidates = self.manifests.iter().filter(fits);
        self.manifests
            .iter()
            .find(exact)
            .or_else(|| candidates.next())
            .or_else(|| match &self.manifests[..] {
                [only] if only.platform.is_none() => Some(only),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_an_ambiguous_document() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(Document::parse(both, None).is_err());
    }

    #[test]
    fn tells_an_index_by_its_fields() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(
            Document::parse(index, None),
            Ok(Document::Index(_))
        ));
    }

    #[test]
    fn refuses_schema_1_by_name() {
        let error = Document::parse(br#"{"schemaVersion":1}"#, None).expect_err("schema 1");
        assert!(error.to_string().contains("schema 1"));
    }
}
