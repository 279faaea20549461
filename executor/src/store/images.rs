//! Images: manifests with names.
//!
//! Responsible for finding an image by what a user types, and for giving and taking names. Must
//! not transfer or convert images. Invariant: an image in the index has its manifest and config
//! in the store, since both are stored before it is added and a collector keeps them.

use crate::error::{Error, Kind, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Document, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::store::blobs::Blobs;
use crate::store::index::Index;

pub use crate::store::index::Record;

/// Manifests larger than this many bytes are refused; registries refuse them too.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Configs larger than this many bytes are refused.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// The store's images.
#[derive(Debug, Clone)]
pub struct Images {
    index: Index,
    blobs: Blobs,
}

/// An image with its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Complete references with a tag; none for a dangling image.
    pub names: Vec<Reference>,
    /// Complete references with a digest under which registries know it.
    pub origins: Vec<Reference>,
    /// The manifest.
    pub manifest: Manifest,
    /// Its digest.
    pub manifest_digest: Digest,
    /// Its raw bytes.
    pub manifest_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// Its digest: the image's id.
    pub config_digest: Digest,
    /// Its raw bytes.
    pub config_bytes: Vec<u8>,
    /// The index that the names are of, when it is one part of several.
    pub index: Option<Digest>,
    /// Manifests of all parts of the index, in its order.
    pub parts: Vec<Digest>,
}

/// What [`Images::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// The id, when the image is not in the index any more.
    pub deleted: Option<Digest>,
}

impl Images {
    pub(crate) fn new(dir: std::path::PathBuf, blobs: Blobs) -> Self {
        Self {
            index: Index::new(dir),
            blobs,
        }
    }

    /// Lists all images, the latest added last.
    pub fn list(&self) -> Result<Vec<Record>> {
        self.index.read()
    }

    /// Adds an image whose blobs are in the store and gives it names, which other images lose.
    /// Without names it is dangling until it gets one.
    ///
    /// # Errors
    /// When manifest or config are missing or malformed, or a name has no tag.
    pub fn add(&self, manifest: &Digest, names: &[Reference]) -> Result<()> {
        let (_, document) = self.read_manifest(manifest)?;
        let config = document.config.digest;
        ImageConfig::parse(&self.blobs.read(&config, CONFIG_LIMIT)?)?;
        let names = names.iter().map(tagged).collect::<Result<Vec<_>>>()?;
        let record = Record {
            manifest: *manifest,
            config,
            names: Default::default(),
            origins: Default::default(),
            index: None,
            parts: Vec::new(),
        };
        self.update(|images| {
            take(images, record, &names);
            Ok(())
        })
    }

    /// Gives an image in the index a name, which another image loses.
    pub fn set_name(&self, name: &Reference, image: &Record) -> Result<()> {
        let name = tagged(name)?;
        self.update(|images| {
            take(images, image.clone(), std::slice::from_ref(&name));
            Ok(())
        })
    }

    /// Notes that a registry knows the image, or the index in the store, by this reference, which has
    /// a digest (of the manifest or of an index that leads to it).
    pub fn add_origin(&self, manifest: &Digest, origin: &Reference) -> Result<()> {
        let Some(digest) = origin.digest else {
            return Err(Error::new(format!("`{origin}` has no digest")).kind(Kind::Internal));
        };
        let text = format!("{}@{digest}", origin.name());
        self.update(|images| {
            let is_it = |r: &&mut Record| r.index.unwrap_or(r.manifest) == *manifest;
            for record in images.iter_mut().filter(is_it) {
                record.origins.insert(text.clone());
            }
            Ok(())
        })
    }

    /// Finds an image by name, `name@digest`, id, manifest digest, or a prefix of the id, with or
    /// without `sha256:`.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; or when a prefix fits several images.
    pub fn find(&self, text: &str) -> Result<Record> {
        find(&self.index.read()?, text)
    }

    /// Finds an image as [`Images::find`] does and reads its documents.
    pub fn get(&self, text: &str) -> Result<Image> {
        self.read(&self.find(text)?)
    }

    /// Finds the image that a complete reference names: by digest when it has one, which must
    /// then be right whatever the tag says.
    pub fn by_reference(&self, reference: &Reference) -> Result<Option<Image>> {
        match by_reference(&self.index.read()?, reference) {
            Some(record) => Ok(Some(self.read(record)?)),
            None => Ok(None),
        }
    }

    /// Reads an image's documents.
    pub fn read(&self, record: &Record) -> Result<Image> {
        let (manifest_bytes, manifest) = self.read_manifest(&record.manifest)?;
        let config_bytes = self.blobs.read(&record.config, CONFIG_LIMIT)?;
        let references = |texts: &std::collections::BTreeSet<String>| {
            texts
                .iter()
                .map(|t| t.parse())
                .collect::<Result<Vec<Reference>>>()
        };
        Ok(Image {
            names: references(&record.names)?,
            origins: references(&record.origins)?,
            manifest,
            manifest_digest: record.manifest,
            manifest_bytes,
            config: ImageConfig::parse(&config_bytes)?,
            config_digest: record.config,
            config_bytes,
            index: record.index,
            parts: record.parts.clone(),
        })
    }

    /// Adds an index whose manifests and their blobs are in the store, and gives it names, which
    /// other images lose. The part for `host`, or else the first, stands for it.
    ///
    /// # Errors
    /// When a document is missing or malformed, or a name has no tag.
    pub fn add_index(&self, index: &Digest, host: &Platform, names: &[Reference]) -> Result<()> {
        let Document::Index(document) =
            Document::parse(&self.blobs.read(index, MANIFEST_LIMIT)?, None)?
        else {
            return Err(Error::new(format!("{index} is not an index of images")));
        };
        let chosen = document
            .select(host)
            .or_else(|| document.manifests.first())
            .ok_or_else(|| Error::new(format!("the index {index} is empty")))?
            .digest;
        let (_, manifest) = self.read_manifest(&chosen)?;
        let names = names.iter().map(tagged).collect::<Result<Vec<_>>>()?;
        let record = Record {
            manifest: chosen,
            config: manifest.config.digest,
            names: Default::default(),
            origins: Default::default(),
            index: Some(*index),
            parts: document.manifests.iter().map(|d| d.digest).collect(),
        };
        self.update(|images| {
            take(images, record, &names);
            Ok(())
        })
    }

    /// Reads all parts of the index that an image stands for; the image alone, when there is none.
    pub fn parts(&self, image: &Image) -> Result<Vec<Image>> {
        if image.index.is_none() {
            return Ok(vec![image.clone()]);
        }
        image.parts.iter().map(|part| self.part(part)).collect()
    }

    /// Reads a part of an index.
    fn part(&self, manifest: &Digest) -> Result<Image> {
        let (_, document) = self.read_manifest(manifest)?;
        self.read(&Record {
            manifest: *manifest,
            config: document.config.digest,
            names: Default::default(),
            origins: Default::default(),
            index: None,
            parts: Vec::new(),
        })
    }

    /// Takes a name away, or removes the image when `text` names it by id. The last name takes
    /// the image with it. Blobs stay for a collector.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; or when an id stands for an image with several names and `force` is
    /// not set.
    pub fn remove(&self, text: &str, force: bool) -> Result<Removed> {
        self.update(|images| {
            let record = find(images, text)?;
            let name = text
                .parse::<Reference>()
                .ok()
                .map(|r| r.to_string())
                .filter(|name| record.names.contains(name));
            if name.is_none() && record.names.len() > 1 && !force {
                return Err(Error::new(format!(
                    "image {} has several names: {}",
                    short(&record.config),
                    familiar(&record.names).join(", ")
                ))
                .hint("remove the names one by one, or use -f"));
            }
            let at = images
                .iter()
                .position(|r| r.manifest == record.manifest && r.index == record.index)
                .ok_or_else(|| Error::new("image vanished").kind(Kind::Internal))?;
            let untagged = match name {
                Some(name) => vec![name],
                None => images[at].names.iter().cloned().collect(),
            };
            images[at].names.retain(|n| !untagged.contains(n));
            let deleted = images[at]
                .names
                .is_empty()
                .then(|| images.remove(at).config);
            Ok(Removed { untagged, deleted })
        })
    }

    /// Removes the images without names that `keep` does not want, and returns the others.
    pub(crate) fn retain(&self, keep: impl Fn(&Record) -> bool) -> Result<Vec<Record>> {
        self.update(|images| {
            images.retain(|record| !record.names.is_empty() || keep(record));
            Ok(images.clone())
        })
    }

    /// Changes the index; what it names from then on is on disk.
    fn update<T>(&self, change: impl FnOnce(&mut Vec<Record>) -> Result<T>) -> Result<T> {
        self.index.update(change, || self.blobs.settle())
    }

    fn read_manifest(&self, digest: &Digest) -> Result<(Vec<u8>, Manifest)> {
        let bytes = self.blobs.read(digest, MANIFEST_LIMIT)?;
        match Document::parse(&bytes, None)? {
            Document::Manifest(manifest) => Ok((bytes, manifest)),
            Document::Index(_) => Err(Error::new(format!(
                "{digest} is an index of images, not an image"
            ))),
        }
    }
}

/// Returns an id's first twelve digits, as Docker shows it.
pub fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// Returns names as a user would write them.
pub fn familiar<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let short = |n: &String| n.parse::<Reference>().map(|r| r.familiar());
    names
        .into_iter()
        .map(|n| short(n).unwrap_or_else(|_| n.clone()))
        .collect()
}

fn tagged(name: &Reference) -> Result<String> {
    match (&name.tag, name.digest) {
        (Some(_), None) => Ok(name.to_string()),
        _ => Err(
            Error::new(format!("`{}` cannot be an image's name", name.familiar()))
                .kind(Kind::Usage)
                .hint("a name has a tag and no digest, such as app:1.0"),
        ),
    }
}

/// Gives an image its names. One that has them all stays where it is, so that nothing changes.
fn take(images: &mut Vec<Record>, new: Record, names: &[String]) {
    let (manifest, index) = (new.manifest, new.index);
    let same = |r: &Record| r.manifest == manifest && r.index == index;
    let has_all = |r: &Record| same(r) && names.iter().all(|n| r.names.contains(n));
    if images.iter().any(has_all) {
        return;
    }
    for record in images.iter_mut() {
        record.names.retain(|n| !names.contains(n));
    }
    let mut record = match images.iter().position(same) {
        Some(at) => images.remove(at),
        None => new,
    };
    record.names.extend(names.iter().cloned());
    images.push(record);
}

fn by_reference<'a>(images: &'a [Record], reference: &Reference) -> Option<&'a Record> {
    let Some(digest) = reference.digest else {
        let name = reference.to_string();
        return images.iter().find(|r| r.names.contains(&name));
    };
    let origin = format!("{}@{digest}", reference.name());
    let repository = format!("{}:", reference.name());
    images.iter().find(|r| {
        r.origins.contains(&origin)
            || (r.index.unwrap_or(r.manifest) == digest
                && r.names.iter().any(|n| n.starts_with(&repository)))
    })
}

fn find(images: &[Record], text: &str) -> Result<Record> {
    let reference = text.parse::<Reference>();
    if let Ok(reference) = &reference
        && let Some(record) = by_reference(images, reference)
    {
        return Ok(record.clone());
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = !hex.is_empty()
        && hex.len() <= 64
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex {
        if let Some(record) = images
            .iter()
            .find(|r| r.index.unwrap_or(r.manifest).hex() == hex)
        {
            return Ok(record.clone());
        }
        let mut fits: Vec<&Record> = images
            .iter()
            .filter(|r| r.config.hex().starts_with(hex))
            .collect();
        // One id may have several manifests, such as one with compressed layers; a name decides.
        fits.sort_by_key(|r| (r.config, r.names.is_empty()));
        fits.dedup_by_key(|r| r.config);
        match fits[..] {
            [] => {}
            [only] => return Ok(only.clone()),
            _ => {
                let ids: Vec<String> = fits.iter().map(|r| short(&r.config)).collect();
                return Err(Error::new(format!(
                    "`{text}` fits several images: {}",
                    ids.join(", ")
                )));
            }
        }
    } else if let Err(error) = reference {
        return Err(error.kind(Kind::Usage));
    }
    let error = Error::new(format!("no image `{text}` in the store")).kind(Kind::NotFound);
    Err(match near(images, text) {
        Some(name) => error.hint(format!("there is `{name}`")),
        None => error,
    })
}

/// Finds a name with the same repository, or one that has the text as its last component.
fn near(images: &[Record], text: &str) -> Option<String> {
    let wanted: Reference = text.parse().ok()?;
    let last = |r: &Reference| r.repository.rsplit('/').next().map(str::to_owned);
    images
        .iter()
        .flat_map(|r| &r.names)
        .filter_map(|n| n.parse::<Reference>().ok())
        .find(|r| r.name() == wanted.name() || last(r) == last(&wanted))
        .map(|r| r.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::{Descriptor, media_type};
    use crate::image::platform::Platform;
    use crate::store::fixture::session;
    use crate::store::lock::Session;

    fn image(session: &Session, author: &str) -> (Digest, Digest) {
        let mut config = ImageConfig::scratch(Platform::host());
        config.author = Some(author.into());
        let config = config.to_bytes();
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: Vec::new(),
            annotations: Default::default(),
        };
        let blobs = session.blobs();
        let id = blobs.put(&config).expect("config");
        let bytes = serde_json::to_vec(&manifest).expect("json");
        (blobs.put(&bytes).expect("manifest"), id)
    }

    fn name(text: &str) -> Reference {
        text.parse().expect("reference")
    }

    #[test]
    fn is_found_by_everything_that_names_it() {
        let (_dir, session) = session();
        let images = session.store().images();
        let (manifest, id) = image(&session, "a");
        images.add(&manifest, &[name("app:1")]).expect("add");
        let origin = format!("registry.test/app@{}", Digest::of(b"index"));
        images
            .add_origin(&manifest, &name(&origin))
            .expect("origin");
        for text in [
            "app:1".to_owned(),
            "docker.io/library/app:1".into(),
            id.to_string(),
            id.hex(),
            id.hex()[..6].to_owned(),
            format!("sha256:{}", &id.hex()[..6]),
            manifest.to_string(),
            manifest.hex(),
            format!("app@{manifest}"),
            origin,
        ] {
            assert_eq!(images.get(&text).expect(&text).config_digest, id, "{text}");
        }
        for text in ["app", "app:2", "0123456789ab", "other@sha256:00"] {
            assert!(images.find(text).is_err(), "{text}");
        }
        let error = images.find("app").expect_err("no such tag");
        assert_eq!(error.get_kind(), Kind::NotFound);
        assert!(error.hints()[0].contains("app:1"));
    }

    #[test]
    fn nothing_is_written_when_nothing_changes() {
        let (_dir, session) = session();
        let images = session.store().images();
        let (first, _) = image(&session, "first");
        let (second, _) = image(&session, "second");
        images.add(&first, &[name("a"), name("b")]).expect("add");
        images.add(&second, &[]).expect("add");
        let path = session.store().root().join("images/index.json");
        let inode =
            || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).expect("stat"));
        let before = (images.list().expect("list"), inode());
        images.add(&first, &[name("a")]).expect("add");
        images.add(&second, &[]).expect("add");
        assert_eq!((images.list().expect("list"), inode()), before);
        images.add(&second, &[name("a")]).expect("add");
        assert_ne!(inode(), before.1);
    }

    #[test]
    fn a_name_moves_and_leaves_a_dangling_image() {
        let (_dir, session) = session();
        let images = session.store().images();
        let (first, _) = image(&session, "a");
        let (second, id) = image(&session, "b");
        images.add(&first, &[name("app")]).expect("add");
        images.add(&second, &[name("app")]).expect("add");
        assert_eq!(images.get("app").expect("get").config_digest, id);
        assert_eq!(images.list().expect("list").len(), 2);
        images.retain(|record| record.config == id).expect("retain");
        assert_eq!(images.list().expect("list").len(), 1);
    }

    #[test]
    fn removes_names_and_images_as_docker_does() {
        let (_dir, session) = session();
        let images = session.store().images();
        let (manifest, id) = image(&session, "a");
        let names = [name("app:1"), name("app:2"), name("app:3")];
        images.add(&manifest, &names).expect("add");
        let removed = images.remove("app:1", false).expect("untag");
        assert_eq!(removed.untagged, ["docker.io/library/app:1"]);
        assert_eq!(removed.deleted, None);
        assert!(images.remove(&id.hex(), false).is_err());
        let removed = images.remove(&id.hex(), true).expect("force");
        assert_eq!((removed.untagged.len(), removed.deleted), (2, Some(id)));
        assert!(images.list().expect("list").is_empty());
    }

    #[test]
    fn a_corrupt_index_is_named() {
        let (_dir, session) = session();
        let path = session.store().root().join("images/index.json");
        std::fs::write(&path, "{\"version\":1,").expect("write");
        let error = session.store().images().list().expect_err("corrupt");
        assert!(error.to_string().contains("index.json"), "{error}");
    }

    #[test]
    fn concurrent_writers_lose_nothing() {
        let (_dir, session) = session();
        let (manifest, _) = image(&session, "a");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (session, manifest) = (&session, &manifest);
                scope.spawn(move || {
                    let images = session.store().images();
                    images
                        .add(manifest, &[name(&format!("app:{n}"))])
                        .expect("add");
                });
            }
        });
        let list = session.store().images().list().expect("list");
        assert_eq!(list[0].names.len(), 8);
    }

    #[test]
    fn a_digest_is_no_name() {
        let (_dir, session) = session();
        let (manifest, _) = image(&session, "a");
        let pinned = name(&format!("app@{manifest}"));
        assert!(session.store().images().add(&manifest, &[pinned]).is_err());
    }
}
