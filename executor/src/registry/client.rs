//! One repository: its manifests and small blobs.
//!
//! Responsible for resolving a reference to one image for one platform, verified and parsed.
//! Must not know how layers are transferred. Invariant: what is returned or stored has the digest
//! that it was asked for by, and its bytes are the registry's, unchanged.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::Resolved;
use super::auth::Access;
use super::endpoint::{Call, Endpoint};
use super::retry::{Backoff, Failure, RetryPolicy};
use super::transport::read_body;
use crate::error::{Error, Kind, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, MAX_PARTS, Manifest, media_type};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::progress::event::{Stream, Vertex};
use crate::store::blobs::Blobs;

/// The kinds of manifest that we read, in order of preference.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The registry's own statement of what it sent (distribution-spec).
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A repository in the course of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repository<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// `library/debian`
    pub(crate) name: &'a str,
    pub(crate) policy: &'a RetryPolicy,
    /// Where retries and progress are told.
    pub(crate) vertex: &'a Vertex,
    /// The largest manifest or config, in bytes.
    pub(crate) document_limit: u64,
}

/// A manifest or index as received.
struct Fetched {
    bytes: Vec<u8>,
    declared: Option<String>,
    digest: Digest,
}

impl Repository<'_> {
    /// Returns `registry/repository`, for messages.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.endpoint.registry(), self.name)
    }

    pub(crate) fn url(&self, kind: &str, rest: &str) -> Url {
        self.endpoint
            .url(&format!("v2/{}/{kind}/{rest}", self.name))
    }

    /// Tells the user that an attempt did not work.
    pub(crate) fn note(&self, text: &str) {
        self.vertex.log(Stream::Stderr, text.as_bytes());
    }

    /// Repeats an attempt as the policy says.
    pub(crate) async fn retrying<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        let mut backoff = Backoff::new(self.policy);
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => backoff.pause(failure, |text| self.note(text)).await?,
            }
        }
    }

    /// Resolves a reference to the manifest and config of one image, both left in `blobs`. Asks
    /// the registry for no more than it must: nothing when a digest is here already, the head of
    /// a tag's manifest when that is.
    pub(crate) async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved> {
        let shown = reference.familiar();
        let root = self.root(reference, blobs).await?;
        let parse = |fetched: &Fetched| {
            Document::parse(&fetched.bytes, fetched.declared.as_deref())
                .map_err(|e| e.during(format!("read manifest of `{shown}`")))
        };
        let (index, image, manifest) = match parse(&root)? {
            Document::Manifest(manifest) => (None, root, manifest),
            Document::Index(index) => {
                let chosen = choose(&index, platform, &shown)?;
                let image = self.by_digest(&chosen.digest, blobs).await?;
                if image.bytes.len() as u64 != chosen.size {
                    return Err(Error::new(format!(
                        "manifest {} has {} bytes, its index says {}",
                        chosen.digest,
                        image.bytes.len(),
                        chosen.size
                    )));
                }
                match parse(&image)? {
                    Document::Manifest(manifest) => (Some(root), image, manifest),
                    Document::Index(_) => {
                        return Err(Error::new(format!(
                            "unsupported image `{shown}`: an index within an index"
                        )));
                    }
                }
            }
        };
        let config_bytes = self.small_blob(&manifest.config, blobs).await?;
        let config = parse_config(&manifest, &config_bytes, &shown)?;
        if index.is_none() && !platform.accepts(&config.platform) {
            self.vertex.warn(format!(
                "`{shown}` is an image for {}, wanted is one for {platform}",
                config.platform
            ));
        }
        for kept in index.iter().chain([&image]) {
            blobs.put(&kept.bytes)?;
        }
        let kind = manifest
            .media_type
            .as_deref()
            .or(image.declared.as_deref())
            .filter(|t| media_type::is_manifest(t))
            .unwrap_or(media_type::OCI_MANIFEST);
        Ok(Resolved {
            reference: reference.clone(),
            descriptor: Descriptor::new(kind, image.digest, image.bytes.len() as u64),
            index: index.map(|i| i.digest),
            manifest,
            manifest_bytes: image.bytes,
            config,
            config_bytes,
        })
    }

    /// Reads the manifest of a reference, or those of an index, with their configs, whatever these are.
    pub(crate) async fn documents(
        &self,
        reference: &Reference,
        blobs: &Blobs,
    ) -> Result<Vec<(Manifest, Vec<u8>)>> {
        let parse = |fetched: &Fetched| {
            Document::parse(&fetched.bytes, fetched.declared.as_deref())
                .map_err(|e| e.during(format!("read manifest of `{}`", reference.familiar())))
        };
        let root = self.root(reference, blobs).await?;
        let mut manifests = Vec::new();
        match parse(&root)? {
            Document::Manifest(manifest) => manifests.push(manifest),
            Document::Index(index) => {
                let unknown = |d: &&Descriptor| {
                    let platform = d.platform.as_ref();
                    platform.is_none_or(|p| p.os != "unknown" && p.architecture != "unknown")
                };
                for part in index.manifests.iter().filter(unknown).take(MAX_PARTS) {
                    let fetched = self.by_digest(&part.digest, blobs).await?;
                    if let Document::Manifest(manifest) = parse(&fetched)? {
                        blobs.put(&fetched.bytes)?;
                        manifests.push(manifest);
                    }
                }
            }
        }
        blobs.put(&root.bytes)?;
        let mut found = Vec::new();
        for manifest in manifests {
            let config = self.small_blob(&manifest.config, blobs).await?;
            found.push((manifest, config));
        }
        Ok(found)
    }

    async fn root(&self, reference: &Reference, blobs: &Blobs) -> Result<Fetched> {
        if let Some(digest) = &reference.digest {
            return self.by_digest(digest, blobs).await;
        }
        let tag = reference.tag.as_deref().unwrap_or("latest");
        match self.head(tag).await? {
            Some(digest) => self.by_digest(&digest, blobs).await,
            None => self.manifest(tag, None).await,
        }
    }

    async fn by_digest(&self, digest: &Digest, blobs: &Blobs) -> Result<Fetched> {
        if blobs.size(digest).is_some() {
            return Ok(Fetched {
                bytes: blobs.read(digest, self.document_limit)?,
                declared: None,
                digest: *digest,
            });
        }
        self.manifest(&digest.to_string(), Some(digest)).await
    }

    /// Asks what a tag points to; `None` when the registry does not say without being asked for
    /// the whole manifest.
    async fn head(&self, tag: &str) -> Result<Option<Digest>> {
        let access = Access::pull(self.name);
        let call = Call::new(Method::HEAD, self.url("manifests", tag))
            .header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        self.retrying(async || {
            let response = self.endpoint.call(&access, &call).await?;
            match response.status() {
                StatusCode::OK => Ok(stated_digest(response.headers())),
                // The reply to HEAD has no words in it; the one to GET tells why not.
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    Ok(None)
                }
                _ => Err(self.refuse_manifest(&access, response, tag).await),
            }
        })
        .await
    }

    async fn manifest(&self, tag: &str, wanted: Option<&Digest>) -> Result<Fetched> {
        let access = Access::pull(self.name);
        let call = Call::new(Method::GET, self.url("manifests", tag))
            .header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let limit = self.document_limit;
        self.retrying(async || {
            let mut response = self.endpoint.call(&access, &call).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refuse_manifest(&access, response, tag).await);
            }
            let bytes = read_body(&mut response, limit).await?.ok_or_else(|| {
                Error::new(format!(
                    "manifest `{tag}` of `{}` is larger than {limit} bytes",
                    self.full_name()
                ))
            })?;
            let digest = Digest::of(&bytes);
            let stated = stated_digest(response.headers());
            if let Some(wanted) = wanted.or(stated.as_ref())
                && *wanted != digest
            {
                return Err(Error::new(format!(
                    "digest mismatch: manifest `{tag}` of `{}` should be {wanted}, got {digest} \
                     ({} bytes)",
                    self.full_name(),
                    bytes.len()
                ))
                .into());
            }
            Ok(Fetched {
                bytes,
                declared: content_type(response.headers()),
                digest,
            })
        })
        .await
    }

    async fn refuse_manifest(&self, access: &Access, response: Response, tag: &str) -> Failure {
        let separator = if tag.contains(':') { '@' } else { ':' };
        let op = format!("get manifest of `{}{separator}{tag}`", self.full_name());
        self.endpoint.refuse(access, response, op).await
    }

    /// Fetches a config into the store, unless it is there, and returns its bytes.
    async fn small_blob(&self, wanted: &Descriptor, blobs: &Blobs) -> Result<Vec<u8>> {
        let digest = &wanted.digest;
        let limit = self.document_limit;
        if wanted.size > limit {
            return Err(Error::new(format!(
                "config {digest} is larger than {limit} bytes"
            )));
        }
        if blobs.size(digest).is_some() {
            return blobs.read(digest, limit);
        }
        let access = Access::pull(self.name);
        let call = Call::new(Method::GET, self.url("blobs", &digest.to_string()));
        let bytes = self
            .retrying(async || {
                let mut response = self.endpoint.call(&access, &call).await?;
                if response.status() != StatusCode::OK {
                    let op = format!("get config of `{}`", self.full_name());
                    return Err(self.endpoint.refuse(&access, response, op).await);
                }
                let bytes = read_body(&mut response, wanted.size).await?;
                match bytes {
                    Some(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
                    Some(bytes) => Err(Error::new(format!(
                        "digest mismatch: config should be {digest}, got {} ({} bytes)",
                        Digest::of(&bytes),
                        bytes.len()
                    ))
                    .into()),
                    None => Err(Error::new(format!(
                        "config {digest} is larger than the {} bytes that its manifest says",
                        wanted.size
                    ))
                    .into()),
                }
            })
            .await?;
        blobs.put(&bytes)?;
        Ok(bytes)
    }
}

/// Picks the platform's manifest; otherwise tells which platforms there are.
fn choose<'a>(index: &'a Index, platform: &Platform, shown: &str) -> Result<&'a Descriptor> {
    if let Some(chosen) = index.select(platform) {
        return Ok(chosen);
    }
    let mut there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    there.sort();
    there.dedup();
    let there = if there.is_empty() {
        "it has no image at all".to_owned()
    } else {
        format!("it has {}", there.join(", "))
    };
    Err(Error::new(format!("`{shown}` has no image for {platform}; {there}")).kind(Kind::NotFound))
}

fn parse_config(manifest: &Manifest, bytes: &[u8], shown: &str) -> Result<ImageConfig> {
    let kind = manifest.config.media_type.as_str();
    let config = ImageConfig::parse(bytes).map_err(|e| {
        if matches!(kind, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
            e.during(format!("read config of `{shown}`"))
        } else {
            Error::new(format!(
                "`{shown}` is not a container image: its config is of type `{}`",
                kind.escape_debug()
            ))
        }
    })?;
    let (layers, ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(Error::new(format!(
            "`{shown}` contradicts itself: {layers} layers in its manifest, {ids} in its config"
        )));
    }
    Ok(config)
}

/// Returns the digest that the registry states, if it is one that we can check.
pub(crate) fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default().trim();
    Some(kind.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        Index {
            schema_version: 2,
            media_type: None,
            manifests: platforms
                .iter()
                .map(|p| {
                    let (os, architecture) = p.split_once('/').expect("os/architecture");
                    let mut d = Descriptor::of(media_type::OCI_MANIFEST, p.as_bytes());
                    d.platform = Some(Platform {
                        os: os.into(),
                        architecture: architecture.into(),
                        variant: None,
                    });
                    d
                })
                .collect(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn a_missing_platform_is_answered_with_those_there_are() {
        let index = index(&["linux/s390x", "unknown/unknown", "linux/386", "linux/386"]);
        let wanted: Platform = "linux/riscv64".parse().expect("platform");
        let error = choose(&index, &wanted, "debian:12").expect_err("not there");
        assert_eq!(
            error.to_string(),
            "`debian:12` has no image for linux/riscv64; it has linux/386, linux/s390x"
        );
        assert_eq!(error.get_kind(), Kind::NotFound);
    }
}
