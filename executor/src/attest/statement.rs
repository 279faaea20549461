//! In-toto statements, and the manifest that they travel in.
//!
//! Responsible for the statement (in-toto, spec/v0.1.0) and for BuildKit's way of putting several
//! beside an image in its index (docs/attestations/attestation-storage.md). Must not know what they
//! state. Invariant: a statement is about the very manifest that its descriptor names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::{Descriptor, Manifest, media_type};
use crate::image::platform::Platform;
use crate::image::reference::Reference;

use super::purl;

/// Media type of a statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";
/// Annotation of a statement's descriptor: what kind of predicate it has.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Annotation of an attestation's descriptor: the manifest that it is about.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// Annotation that tells an attestation from an image.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// What that annotation says.
pub const ATTESTATION: &str = "attestation-manifest";

/// The largest statement that is read, in bytes.
pub const MAX_STATEMENT: u64 = 64 << 20;

/// A document about an image, not yet bound to it.
#[derive(Debug, Clone)]
pub struct Predicate {
    /// Its type.
    pub kind: &'static str,
    /// Name of the file that it becomes beside files.
    pub file: String,
    /// Whether it goes with images only.
    pub inline_only: bool,
    /// Its content.
    pub body: Box<RawValue>,
}

/// Something that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// Makes one of a SHA-256 digest.
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        Self {
            name: name.into(),
            digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]),
        }
    }
}

/// A statement.
#[derive(Debug, Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
    predicate: Box<RawValue>,
}

/// Makes the statement that a predicate holds for these subjects.
fn statement(predicate: &Predicate, subjects: &[Subject]) -> Statement {
    Statement {
        kind: "https://in-toto.io/Statement/v0.1".to_owned(),
        predicate_type: predicate.kind.to_owned(),
        subject: subjects.to_vec(),
        predicate: predicate.body.clone(),
    }
}

/// Makes a statement about files for people and their tools: on several lines.
///
/// # Errors
/// A predicate that is not JSON, which none of ours is.
pub fn pretty(predicate: &Predicate, subjects: &[Subject]) -> Result<Vec<u8>> {
    let malformed = |e| Error::new("write statement").source(e);
    let bytes = encode(&statement(predicate, subjects));
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(malformed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("statements and manifests have string keys only")
}

/// The documents of an attestation, as they go into a store.
#[derive(Debug)]
pub struct Carrier {
    /// Describes the manifest in the image's index.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config, which says that it is none of an image.
    pub config: Vec<u8>,
    /// The statements.
    pub statements: Vec<Vec<u8>>,
}

/// The platform that no machine has.
pub fn nowhere() -> Platform {
    Platform {
        os: "unknown".into(),
        architecture: "unknown".into(),
        variant: None,
    }
}

/// Makes the attestation that predicates hold for an image under these names.
pub fn carrier(
    predicates: &[Predicate],
    manifest: &Digest,
    names: &[Reference],
    platform: &Platform,
) -> Carrier {
    let named = names.iter().map(|name| purl::image(name, platform));
    let mut subjects: Vec<Subject> = named.map(|name| Subject::new(name, manifest)).collect();
    if subjects.is_empty() {
        // What in-toto has for a subject whose name means nothing.
        subjects.push(Subject::new("_", manifest));
    }
    let mut layers = Vec::new();
    let mut statements = Vec::new();
    for predicate in predicates {
        let bytes = encode(&statement(predicate, &subjects));
        let mut layer = Descriptor::of(STATEMENT, &bytes);
        let kind = predicate.kind.to_owned();
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), kind);
        layers.push(layer);
        statements.push(bytes);
    }
    let mut config = ImageConfig::scratch(nowhere());
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId(layer.digest)).collect();
    let config = config.to_bytes();
    let bytes = encode(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers,
        annotations: BTreeMap::new(),
    });
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    descriptor.platform = Some(nowhere());
    descriptor.annotations = BTreeMap::from([
        (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
        (REFERENCE_DIGEST.to_owned(), manifest.to_string()),
    ]);
    Carrier {
        descriptor,
        manifest: bytes,
        config,
        statements,
    }
}

/// Rewrites a statement about one manifest to be about another, which the image has become; `None` when it is
/// about something else, or is no statement.
pub fn retarget(bytes: &[u8], old: &Digest, new: &Digest) -> Option<Vec<u8>> {
    let mut statement: Statement = serde_json::from_slice(bytes).ok()?;
    let (old, new) = (old.hex(), new.hex());
    let mut changed = false;
    for subject in &mut statement.subject {
        if let Some(digest) = subject.digest.get_mut("sha256")
            && *digest == old
        {
            digest.clone_from(&new);
            changed = true;
        }
    }
    changed.then(|| encode(&statement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicate(kind: &'static str) -> Predicate {
        Predicate {
            kind,
            file: "x.json".into(),
            inline_only: false,
            body: RawValue::from_string("{\"b\":1,\"a\":[]}".into()).expect("json"),
        }
    }

    #[test]
    fn stored_as_buildkit_stores_them() {
        let manifest = Digest::of(b"manifest");
        let platform: Platform = "linux/amd64".parse().expect("platform");
        let names = ["app:1".parse().expect("name")];
        let all = [predicate("https://a"), predicate("https://b")];
        let carrier = carrier(&all, &manifest, &names, &platform);
        let value: serde_json::Value = serde_json::from_slice(&carrier.manifest).expect("json");
        assert_eq!(
            value["layers"][1]["annotations"][PREDICATE_TYPE],
            "https://b"
        );
        assert_eq!(value["layers"][0]["mediaType"], STATEMENT);
        let config = ImageConfig::parse(&carrier.config).expect("config");
        assert_eq!(config.platform, nowhere());
        let digests: Vec<Digest> = config.rootfs.diff_ids.iter().map(|id| id.0).collect();
        let stated: Vec<Digest> = carrier.statements.iter().map(|s| Digest::of(s)).collect();
        assert_eq!(digests, stated);
        assert_eq!(
            carrier.descriptor.annotations[REFERENCE_DIGEST],
            manifest.to_string()
        );
        let text = String::from_utf8(carrier.statements[0].clone()).expect("utf-8");
        assert_eq!(
            text,
            format!(
                "{{\"_type\":\"https://in-toto.io/Statement/v0.1\",\"predicateType\":\"https://a\",\
                 \"subject\":[{{\"name\":\"pkg:docker/app@1?platform=linux%2Famd64\",\
                 \"digest\":{{\"sha256\":\"{}\"}}}}],\"predicate\":{{\"b\":1,\"a\":[]}}}}",
                manifest.hex()
            )
        );
    }

    #[test]
    fn statements_follow_what_they_are_about() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let platform: Platform = "linux/amd64".parse().expect("platform");
        let of = |digest| carrier(&[predicate("https://a")], digest, &[], &platform);
        let moved = retarget(&of(&old).statements[0], &old, &new);
        assert_eq!(moved.as_deref(), Some(&of(&new).statements[0][..]));
        assert_eq!(retarget(&of(&old).statements[0], &new, &old), None);
        assert_eq!(retarget(b"{}", &old, &new), None);
        assert_eq!(retarget(b"\xff", &old, &new), None);
    }
}
