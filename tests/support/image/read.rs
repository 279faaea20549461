//! Opening an image: OCI layout directory, OCI archive, or docker archive.
//!
//! Responsible for finding the manifest, the config and the layers, and for checking each layer
//! against its diff id. Must not know what is in a layer. Invariant: an [`Image`] whose layers have
//! been read to their ends agrees with its own digests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::tape;
use crate::hash::hex;

/// An image that can be read more than once.
#[derive(Debug)]
pub struct Image {
    /// The image config document.
    pub config: Value,
    /// The manifest document; for a docker archive, the image's entry in `manifest.json`.
    pub manifest: Value,
    /// Names of the layers' files, bottom first.
    layers: Vec<String>,
    diff_ids: Vec<String>,
    files: Files,
}

impl Image {
    /// Opens `PATH`, `PATH#TAG` or `PATH#sha256:…`. Without a choice, the first image counts; of
    /// an image index, the first entry for a real platform.
    ///
    /// # Errors
    /// When the path holds no image, or its documents don't fit together.
    pub fn open(spec: &str) -> Result<Self> {
        let (path, choice) = match spec.split_once('#') {
            Some((path, choice)) => (path, Some(choice)),
            None => (spec, None),
        };
        Self::from_files(Files::open(Path::new(path))?, choice)
            .with_context(|| format!("read image `{path}`"))
    }

    fn from_files(files: Files, choice: Option<&str>) -> Result<Self> {
        let (manifest, config, layers) = if files.has("index.json") {
            let manifest = oci_manifest(&files, choice)?;
            let config = files.json(&blob_name(text(&manifest, "/config/digest")?))?;
            let layers = array(&manifest, "/layers")?
                .iter()
                .map(|layer| Ok(blob_name(text(layer, "/digest")?)))
                .collect::<Result<Vec<_>>>()?;
            (manifest, config, layers)
        } else if files.has("manifest.json") {
            let list = files.json("manifest.json")?;
            let list = list.as_array().context("manifest.json is not a list")?;
            let entry = list
                .iter()
                .find(|entry| match choice {
                    None => true,
                    Some(tag) => entry["RepoTags"]
                        .as_array()
                        .is_some_and(|tags| tags.iter().any(|t| t == tag)),
                })
                .context("no such image in the archive")?
                .clone();
            let config = files.json(text(&entry, "/Config")?)?;
            let layers = array(&entry, "/Layers")?
                .iter()
                .map(|layer| Ok(layer.as_str().context("a layer without a name")?.to_owned()))
                .collect::<Result<Vec<_>>>()?;
            (entry, config, layers)
        } else {
            bail!("neither an OCI layout nor a docker archive");
        };
        let diff_ids = array(&config, "/rootfs/diff_ids")?
            .iter()
            .map(|id| Ok(id.as_str().context("a diff id that is no text")?.to_owned()))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            diff_ids.len() == layers.len(),
            "{} layers, but {} diff ids",
            layers.len(),
            diff_ids.len()
        );
        Ok(Self {
            config,
            manifest,
            layers,
            diff_ids,
            files,
        })
    }

    /// Returns how many layers there are.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Returns the digest of the config document's bytes: the image's id. Only an OCI manifest
    /// tells it.
    pub fn id(&self) -> Option<&str> {
        self.manifest.pointer("/config/digest")?.as_str()
    }

    /// Returns the names in layer `index`, as they stand in the archive.
    ///
    /// # Panics
    /// When the layer can't be read.
    pub fn layer_names(&self, index: usize) -> Vec<String> {
        self.layer(index, |tar| {
            let mut names = Vec::new();
            tape::entries(tar, |entry, _| {
                names.push(String::from_utf8_lossy(&entry.path).into_owned());
                Ok(())
            })?;
            Ok(names)
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Gives the uncompressed tar of layer `index` to `read`, and checks its digest afterwards.
    ///
    /// # Errors
    /// When it can't be read, `read` says so, or the bytes don't hash to the diff id.
    pub fn layer<T>(
        &self,
        index: usize,
        read: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let file = self.files.reader(&self.layers[index])?;
        let mut hashed = Hashing {
            inner: decompress(file)?,
            hash: Sha256::new(),
        };
        let value = read(&mut hashed)?;
        // The tar reader stops at the end marker; padding after it is part of the layer.
        io::copy(&mut hashed, &mut io::sink())?;
        let found = format!("sha256:{}", hex(&hashed.hash.finalize()));
        ensure!(
            found == self.diff_ids[index],
            "diff id {}, but the layer hashes to {found}",
            self.diff_ids[index]
        );
        Ok(value)
    }
}

fn oci_manifest(files: &Files, choice: Option<&str>) -> Result<Value> {
    let index = files.json("index.json")?;
    let entry = array(&index, "/manifests")?
        .iter()
        .find(|entry| match choice {
            None => true,
            Some(choice) => {
                entry["digest"] == choice
                    || entry["annotations"]["org.opencontainers.image.ref.name"] == choice
            }
        })
        .context("no such image in the layout")?;
    let mut document = files.json(&blob_name(text(entry, "/digest")?))?;
    while document.get("manifests").is_some() {
        let real = array(&document, "/manifests")?
            .iter()
            .find(|entry| entry["platform"]["os"] != "unknown")
            .context("an index of no platform")?;
        document = files.json(&blob_name(text(real, "/digest")?))?;
    }
    Ok(document)
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn text<'a>(document: &'a Value, pointer: &str) -> Result<&'a str> {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at `{pointer}`"))
}

fn array<'a>(document: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    document
        .pointer(pointer)
        .and_then(Value::as_array)
        .with_context(|| format!("no list at `{pointer}`"))
}

/// The files of an image: in a directory, or as ranges of a tar.
#[derive(Debug)]
enum Files {
    Directory(PathBuf),
    Archive {
        path: PathBuf,
        members: BTreeMap<PathBuf, Member>,
    },
}

#[derive(Debug)]
enum Member {
    Range { offset: u64, size: u64 },
    Link(PathBuf),
}

impl Files {
    fn open(path: &Path) -> Result<Self> {
        let open = || format!("open `{}`", path.display());
        if std::fs::metadata(path).with_context(open)?.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut archive = tar::Archive::new(File::open(path).with_context(open)?);
        let mut members = BTreeMap::new();
        for entry in archive.entries_with_seek().with_context(open)? {
            let entry = entry.with_context(open)?;
            let name = normal(&entry.path()?);
            let kind = entry.header().entry_type();
            if kind.is_symlink() {
                let link = entry.link_name()?.context("a link without a target")?;
                let base = name.parent().unwrap_or_else(|| Path::new(""));
                members.insert(name.clone(), Member::Link(normal(&base.join(link))));
            } else if kind.is_hard_link() {
                let link = entry.link_name()?.context("a link without a target")?;
                members.insert(name, Member::Link(normal(&link)));
            } else if !kind.is_dir() {
                members.insert(
                    name,
                    Member::Range {
                        offset: entry.raw_file_position(),
                        size: entry.size(),
                    },
                );
            }
        }
        Ok(Self::Archive {
            path: path.to_owned(),
            members,
        })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).exists(),
            Self::Archive { members, .. } => members.contains_key(&normal(Path::new(name))),
        }
    }

    fn reader(&self, name: &str) -> Result<Box<dyn Read>> {
        let open = || format!("open `{name}` of the image");
        match self {
            Self::Directory(path) => Ok(Box::new(File::open(path.join(name)).with_context(open)?)),
            Self::Archive { path, members } => {
                let mut at = normal(Path::new(name));
                // As deep as the kernel would go before it calls it a loop.
                for _ in 0..40 {
                    match members.get(&at) {
                        Some(Member::Range { offset, size }) => {
                            let mut file = File::open(path)?;
                            file.seek(SeekFrom::Start(*offset))?;
                            return Ok(Box::new(file.take(*size)));
                        }
                        Some(Member::Link(target)) => at.clone_from(target),
                        None => break,
                    }
                }
                bail!("no `{name}` in the image")
            }
        }
    }

    fn json(&self, name: &str) -> Result<Value> {
        let mut bytes = Vec::new();
        self.reader(name)?.read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).with_context(|| format!("parse `{name}`"))
    }
}

/// Resolves `.` and `..` lexically and drops a leading slash.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn decompress(mut file: Box<dyn Read>) -> Result<Box<dyn Read>> {
    let mut magic = Vec::new();
    file.as_mut().take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
