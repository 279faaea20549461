//! Writing layers and images for fixtures.
//!
//! Responsible for tar entries with exactly the owners, modes and attributes that are asked for,
//! and for an OCI layout around them. Must not check anything: hostile fixtures are made here, too.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::hash;

/// A layer tar in the making.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer")
    }
}

/// An architecture, and the layers of its image, bottom first.
pub type PlatformLayers = (&'static str, Vec<Vec<u8>>);

/// Who a file belongs to and what may be done with it.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

/// Returns root's ownership with this mode.
pub fn by_root(mode: u32) -> Meta {
    Meta {
        mode,
        uid: 0,
        gid: 0,
    }
}

/// Returns this ownership and mode.
pub fn owned(mode: u32, uid: u64, gid: u64) -> Meta {
    Meta { mode, uid, gid }
}

impl Layer {
    /// Makes an empty layer.
    pub fn empty() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
        }
    }

    /// Adds a GNU long name, for the entry that follows.
    fn long(&mut self, kind: EntryType, text: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(text.len() as u64 + 1);
        let fields = header.as_gnu_mut().expect("made as GNU");
        fields.name[..13].copy_from_slice(b"././@LongLink");
        header.set_cksum();
        let data = [text.as_bytes(), b"\0"].concat();
        self.tar.append(&header, &*data).expect("write to memory");
    }

    fn entry(&mut self, kind: EntryType, path: &str, link: &str, meta: Meta, data: &[u8]) {
        if path.len() > 100 {
            self.long(EntryType::GNULongName, path);
        }
        if link.len() > 100 {
            self.long(EntryType::GNULongLink, link);
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        // Byte by byte: the checked setters refuse the names that hostile fixtures need.
        let fields = header.as_gnu_mut().expect("made as GNU");
        let (name, target) = (path.len().min(100), link.len().min(100));
        fields.name[..name].copy_from_slice(&path.as_bytes()[..name]);
        fields.linkname[..target].copy_from_slice(&link.as_bytes()[..target]);
        header.set_cksum();
        self.tar.append(&header, data).expect("write to memory");
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(mut self, path: &str, meta: Meta) -> Self {
        self.entry(EntryType::Directory, path, "", meta, b"");
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, meta: Meta, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", meta, data);
        self
    }

    /// Adds a file with extended attributes.
    #[must_use]
    pub fn file_with(
        mut self,
        path: &str,
        meta: Meta,
        data: &[u8],
        xattrs: &[(&str, &[u8])],
    ) -> Self {
        let records: Vec<(String, &[u8])> = xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value))
            .collect();
        self.tar
            .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))
            .expect("write to memory");
        self.file(path, meta, data)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, by_root(0o777), b"");
        self
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hard_link(mut self, path: &str, target: &str, meta: Meta) -> Self {
        self.entry(EntryType::Link, path, target, meta, b"");
        self
    }

    /// Adds a named pipe.
    #[must_use]
    pub fn fifo(mut self, path: &str, meta: Meta) -> Self {
        self.entry(EntryType::Fifo, path, "", meta, b"");
        self
    }

    /// Adds the mark that removes `path` of lower layers.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(p, n)| (p, n));
        let separator = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{separator}.wh.{name}"), by_root(0), b"")
    }

    /// Adds the mark that hides what lower layers have in `directory`.
    #[must_use]
    pub fn opaque(self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), by_root(0), b"")
    }

    /// Returns the uncompressed tar.
    pub fn finish(self) -> Vec<u8> {
        self.tar.into_inner().expect("write to memory")
    }
}

/// Writes an OCI layout with one image: `layers` bottom first, gzipped, and `config` as the
/// config's `config` object.
///
/// # Panics
/// When it can't be written.
pub fn write_layout(directory: &Path, layers: &[Vec<u8>], config: &Value) {
    let descriptor = write_image(directory, layers, config, architecture());
    write_index(directory, &descriptor);
}

/// Writes an OCI layout with an index of images for several architectures.
///
/// # Panics
/// When it can't be written.
pub fn write_layout_of(directory: &Path, images: &[PlatformLayers], config: &Value) {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, layers)| {
            let mut descriptor = write_image(directory, layers, config, architecture);
            descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
            descriptor
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let (digest, size) = write_blob(directory, index.to_string().as_bytes());
    write_index(
        directory,
        &json!({"mediaType": media_type, "digest": digest, "size": size}),
    );
}

fn write_blob(directory: &Path, bytes: &[u8]) -> (String, usize) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("make the layout");
    let hash = hash::sha256(bytes);
    std::fs::write(blobs.join(&hash), bytes).expect("write a blob");
    (format!("sha256:{hash}"), bytes.len())
}

fn write_image(directory: &Path, layers: &[Vec<u8>], config: &Value, architecture: &str) -> Value {
    let write = |bytes: &[u8]| write_blob(directory, bytes);
    let mut diff_ids = Vec::new();
    let mut descriptors = Vec::new();
    for layer in layers {
        diff_ids.push(format!("sha256:{}", hash::sha256(layer)));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(layer).expect("write to memory");
        let (digest, size) = write(&gzip.finish().expect("write to memory"));
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest, "size": size,
        }));
    }
    let history: Vec<Value> = layers
        .iter()
        .map(|_| json!({"created_by": "fixture"}))
        .collect();
    let (config, config_size) = write(
        json!({
            "architecture": architecture, "os": "linux", "created": "2020-09-13T12:26:40Z",
            "config": config, "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .as_bytes(),
    );
    let (manifest, manifest_size) = write(
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config, "size": config_size},
            "layers": descriptors,
        })
        .to_string()
        .as_bytes(),
    );
    json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest, "size": manifest_size,
    })
}

/// Names one image, or an index of some, `fixture`.
fn write_index(directory: &Path, descriptor: &Value) {
    let mut descriptor = descriptor.clone();
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "fixture"});
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    std::fs::write(directory.join("index.json"), index.to_string()).expect("write the index");
    std::fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("write the layout file");
}

/// Returns this machine's architecture as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
