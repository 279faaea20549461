//! The client against scripted and real registries.

mod auth;
mod pull;
mod push;
mod real;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::credentials::{AuthFile, CredentialSources, Secret};
use super::testing::{Mock, Reply, Seen};
use super::{Artifact, BlobSource, Registry, RegistryOptions, RetryPolicy};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::progress::event::{Event, Sender, Vertex};
use crate::store::blobs::Blobs;

/// A store and a vertex for one test.
struct Bench {
    dir: tempfile::TempDir,
    blobs: Blobs,
    vertex: Vertex,
    events: std::sync::mpsc::Receiver<Event>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (blobs, tmp) = (dir.path().join("blobs"), dir.path().join("tmp"));
        std::fs::create_dir(&blobs).expect("mkdir");
        std::fs::create_dir(&tmp).expect("mkdir");
        let (sender, events) = Sender::new();
        Self {
            blobs: Blobs::new(blobs, tmp),
            vertex: sender.start("test"),
            events,
            dir,
        }
    }

    /// Names in the store's directories: blobs, unfinished files.
    fn left(&self) -> (usize, usize) {
        let count = |d: &str| {
            let dir = std::fs::read_dir(self.dir.path().join(d)).expect("list");
            dir.count()
        };
        (count("blobs"), count("tmp"))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("write");
        path
    }

    fn messages(&self) -> String {
        let text = |event| match event {
            Event::Log { bytes, .. } => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Event::Warning { message, .. } => Some(message),
            _ => None,
        };
        self.events.try_iter().filter_map(text).collect()
    }
}

fn options() -> RegistryOptions {
    RegistryOptions {
        retry: RetryPolicy {
            attempts: 3,
            base: Duration::from_millis(1),
            ..RetryPolicy::default()
        },
        ..RegistryOptions::default()
    }
}

fn registry() -> Registry {
    Registry::new(options())
}

fn registry_with(registry: &str, user: &str) -> Registry {
    let auth = STANDARD.encode(user);
    Registry::new(RegistryOptions {
        credentials: CredentialSources {
            inline: Some(Secret::new(
                json!({"auths": {registry: {"auth": auth}}}).to_string(),
            )),
            files: vec![AuthFile {
                path: "/nonexistent".into(),
                required: false,
            }],
            ..CredentialSources::default()
        },
        ..options()
    })
}

fn amd64() -> Platform {
    "linux/amd64".parse().expect("platform")
}

fn reference(mock: &str, rest: &str) -> Reference {
    format!("{mock}/{rest}").parse().expect("reference")
}

/// An image with one layer.
#[derive(Clone)]
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn new(layer: &[u8]) -> Self {
        Self::described(layer, Descriptor::of(media_type::OCI_LAYER, layer))
    }

    /// An image whose manifest says this of its layer.
    fn described(layer: &[u8], descriptor: Descriptor) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}});
        let config = serde_json::to_vec(&config).expect("json");
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, &config), "layers": [descriptor]});
        Self {
            layer: layer.to_vec(),
            config,
            manifest: serde_json::to_vec(&manifest).expect("json"),
        }
    }

    fn layer_path(&self) -> String {
        format!("/v2/a/b/blobs/{}", Digest::of(&self.layer))
    }

    /// Serves the image as `a/b:t`, as a registry without quirks.
    fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path.as_str();
        let by_digest = format!("/v2/a/b/manifests/{}", Digest::of(&self.manifest));
        if path == "/v2/" {
            Reply::new(200)
        } else if path == "/v2/a/b/manifests/t" || path == by_digest {
            Reply::new(200)
                .header("Content-Type", media_type::OCI_MANIFEST)
                .header("Docker-Content-Digest", Digest::of(&self.manifest))
                .body(&self.manifest)
        } else if path == self.layer_path() {
            Reply::new(200).body(&self.layer)
        } else if path == format!("/v2/a/b/blobs/{}", Digest::of(&self.config)) {
            Reply::new(200).body(&self.config)
        } else {
            Reply::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}"#)
        }
    }

    fn artifact(&self) -> Artifact {
        let config = Descriptor::of(media_type::OCI_CONFIG, &self.config);
        let layer = Descriptor::of(media_type::OCI_LAYER, &self.layer);
        Artifact {
            media_type: media_type::OCI_MANIFEST.into(),
            manifest: self.manifest.clone(),
            blobs: vec![
                BlobSource::bytes(config, self.config.clone()),
                BlobSource::bytes(layer, self.layer.clone()),
            ],
        }
    }
}

/// Bytes that no one else has.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}
