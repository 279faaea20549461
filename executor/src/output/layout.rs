//! The OCI image layout, with or without what `docker load` reads.
//!
//! Responsible for the files of the layout (OCI image-spec, "image-layout") and for
//! `manifest.json` and `repositories` (Docker's image specification 1.2). Must not convert
//! layers. Invariant: `index.json` is written after all that it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, media_type};
use crate::image::reference::Reference;
use crate::output::archive::Sink;
use crate::output::assemble::{IndexPlan, LayerBlob, PushPlan};
use crate::output::options::ArchiveFormat;

/// Annotation with an image's tag (OCI image-spec, "annotations").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with an image's complete name, as containerd and BuildKit write it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Content of the file `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image for an archive, with the names that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The image; of an index, the part that stands for it.
    pub plan: PushPlan,
    /// The index, where the names are of one.
    pub index: Option<IndexPlan>,
    /// Complete references with a tag.
    pub names: Vec<Reference>,
}

impl Export {
    /// Returns all images.
    fn parts(&self) -> &[PushPlan] {
        let own = std::slice::from_ref(&self.plan);
        self.index.as_ref().map_or(own, |index| &index.parts)
    }

    /// Describes what the names are of.
    pub fn descriptor(&self) -> &Descriptor {
        let index = self.index.as_ref();
        index.map_or(&self.plan.manifest, |index| &index.descriptor)
    }
}

/// One image in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the config in the archive.
    pub config: String,
    /// Names as a user writes them.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers, bottom first.
    pub layers: Vec<String>,
}

/// Writes images into a sink and finishes it.
///
/// # Errors
/// Those of the destination; when a blob is not what its digest says.
pub fn write(exports: &[Export], format: ArchiveFormat, mut sink: Sink) -> Result<()> {
    let mut blobs: BTreeMap<Digest, Source<'_>> = BTreeMap::new();
    let several = exports.iter().find(|e| {
        let parts = e.index.as_ref().map_or(1, |index| index.parts.len());
        parts > 1 && format == ArchiveFormat::Docker
    });
    if several.is_some() {
        return Err(Error::new(
            "a docker archive holds images for one platform only, not an index of several",
        )
        .hint("use an OCI archive: type=oci"));
    }
    for index in exports.iter().filter_map(|e| e.index.as_ref()) {
        blobs.insert(index.descriptor.digest, Source::Bytes(&index.bytes));
    }
    for plan in exports.iter().flat_map(Export::parts) {
        blobs.insert(plan.manifest.digest, Source::Bytes(&plan.manifest_bytes));
        blobs.insert(plan.config.digest, Source::Bytes(&plan.config_bytes));
        for layer in &plan.layers {
            blobs.insert(layer.descriptor.digest, Source::Layer(layer));
        }
    }
    for (digest, source) in &blobs {
        let name = blob_name(digest);
        match source {
            Source::Bytes(bytes) => sink.put(&name, bytes)?,
            Source::Layer(layer) => sink.copy(&name, layer)?,
        }
    }
    let mut index = index(exports);
    if let (Sink::Dir(dir), ArchiveFormat::Oci) = (&sink, format) {
        merge(&mut index, dir)?;
    }
    // A reader takes index.json as the sign that the directory is a layout.
    sink.put("oci-layout", LAYOUT)?;
    if format == ArchiveFormat::Docker {
        sink.put("manifest.json", &encode(&docker_images(exports)))?;
        sink.put("repositories", &encode(&repositories(exports)))?;
    }
    sink.put("index.json", &encode(&index))?;
    sink.finish()
}

enum Source<'a> {
    Bytes(&'a [u8]),
    Layer(&'a LayerBlob),
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents have string keys only")
}

fn index(exports: &[Export]) -> Index {
    let mut tags: BTreeMap<&str, BTreeSet<Digest>> = BTreeMap::new();
    for export in exports {
        for tag in export.names.iter().filter_map(|n| n.tag.as_deref()) {
            let same = tags.entry(tag).or_default();
            same.insert(export.descriptor().digest);
        }
    }
    let mut manifests = Vec::new();
    for export in exports {
        if export.names.is_empty() {
            manifests.push(export.descriptor().clone());
        }
        for name in &export.names {
            let mut descriptor = export.descriptor().clone();
            let tag = name.tag.clone().unwrap_or_default();
            // A tag that several images share would not tell them apart.
            let reference = match tags.get(tag.as_str()).map(BTreeSet::len) {
                Some(1) => tag,
                _ => name.to_string(),
            };
            let annotations = &mut descriptor.annotations;
            annotations.insert(REF_NAME.to_owned(), reference);
            annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            manifests.push(descriptor);
        }
    }
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests,
        annotations: BTreeMap::new(),
    }
}

/// Keeps what a directory already has under other names.
fn merge(index: &mut Index, dir: &Path) -> Result<()> {
    let path = dir.join("index.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::new("read").path(path).source(e)),
    };
    let Document::Index(old) = Document::parse(&bytes, Some(media_type::OCI_INDEX))? else {
        return Err(Error::new("not an OCI image layout").path(dir));
    };
    let replaces = |new: &Descriptor, old: &Descriptor| match old.annotations.get(REF_NAME) {
        Some(name) => new.annotations.get(REF_NAME) == Some(name),
        None => new.digest == old.digest,
    };
    let mut manifests = old.manifests;
    manifests.retain(|old| !index.manifests.iter().any(|new| replaces(new, old)));
    manifests.append(&mut index.manifests);
    index.manifests = manifests;
    Ok(())
}

fn docker_images(exports: &[Export]) -> Vec<DockerImage> {
    exports
        .iter()
        .map(|Export { plan, names, .. }| DockerImage {
            config: blob_name(&plan.config.digest),
            repo_tags: Some(names.iter().map(Reference::familiar).collect()),
            layers: plan
                .layers
                .iter()
                .map(|l| blob_name(&l.descriptor.digest))
                .collect(),
        })
        .collect()
}

/// Repository to tag to top layer: what Docker read before `manifest.json` existed.
fn repositories(exports: &[Export]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Export { plan, names, .. } in exports {
        let Some(top) = plan.layers.last() else {
            continue;
        };
        for name in names {
            let tag = name.tag.clone().unwrap_or_default();
            let familiar = name.familiar();
            let repository = familiar.strip_suffix(&format!(":{tag}"));
            all.entry(repository.unwrap_or(&familiar).to_owned())
                .or_default()
                .insert(tag, top.descriptor.digest.hex());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::output::assemble::{prepare_push, verbatim};
    use crate::output::destination::Destination;
    use crate::output::options::{Dest, Form};
    use crate::output::packing::Packing;
    use crate::output::transcode::Watch;
    use crate::store::fixture;
    use crate::store::lock::Session;
    use std::os::fd::AsFd;
    use std::process::Command;

    fn export(session: &Session, name: &str, form: &Form) -> Export {
        let image = session.store().images().get(name).expect("image");
        let cancel = Cancel::new();
        let watch = Watch {
            cancel: &cancel,
            vertex: None,
            ready: None,
        };
        Export {
            plan: prepare_push(session, &image, form, watch).expect("plan"),
            names: image.names,
            index: None,
        }
    }

    fn tar(exports: &[Export], format: ArchiveFormat, path: &Path) {
        let null = fs::File::open("/dev/null").expect("null");
        let dest = Dest::Path(path.to_path_buf());
        let out = Destination::open(&dest, null.as_fd()).expect("open");
        write(exports, format, Sink::tar(out)).expect("write");
    }

    /// Runs a tool of others; `None` when it is not installed.
    fn run(argv: &[&str]) -> Option<String> {
        let Ok(output) = Command::new(argv[0]).args(&argv[1..]).output() else {
            println!("SKIP: {} is not installed", argv[0]);
            return None;
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{argv:?}: {stderr}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let archive = || {
            let (dir, session) = fixture::session();
            fixture::image(&session, &["a", "b", "a"], &["app:1", "other:2"]);
            let path = dir.path().join("x.tar");
            let export = export(&session, "app:1", &Form::default());
            tar(&[export], ArchiveFormat::Docker, &path);
            fs::read(path).expect("read")
        };
        assert!(archive() == archive());
    }

    #[test]
    fn skopeo_and_umoci_read_it() {
        let (dir, session) = fixture::session();
        let image = fixture::image(&session, &["a", "b", "a"], &["app:1"]);
        let id = image.config_digest.to_string();
        let with = |compression, oci_media_types| Form {
            compression: Some(compression),
            oci_media_types,
            ..Form::default()
        };
        let forms = [
            with(Packing::GZIP, true),
            with(Packing::ZSTD, true),
            with(Packing::NONE, true),
            with(Packing::GZIP, false),
        ];
        for (n, form) in forms.iter().enumerate() {
            let oci = dir.path().join(format!("oci-{n}.tar"));
            let docker = dir.path().join(format!("docker-{n}.tar"));
            let copy = dir.path().join(format!("copy-{n}"));
            let exports = [export(&session, "app:1", form)];
            tar(&exports, ArchiveFormat::Oci, &oci);
            tar(&exports, ArchiveFormat::Docker, &docker);
            let docker = format!("docker-archive:{}:app:1", docker.display());
            let mut sources = vec![docker];
            // Most readers of layouts look for OCI's own media types only.
            if form.oci_media_types {
                let oci = format!("oci-archive:{}:1", oci.display());
                let Some(raw) = run(&["skopeo", "inspect", "--raw", &oci]) else {
                    return;
                };
                assert_eq!(Digest::of(raw.as_bytes()), exports[0].plan.manifest.digest);
                sources.push(oci);
            }
            for source in sources {
                let to = format!("dir:{}", copy.display());
                run(&["skopeo", "--insecure-policy", "copy", "-q", &source, &to]);
                let manifest = fs::read(copy.join("manifest.json")).expect("manifest");
                assert!(String::from_utf8_lossy(&manifest).contains(&id), "{source}");
                fs::remove_dir_all(&copy).expect("remove");
            }
        }
    }

    #[test]
    fn a_directory_keeps_other_images_and_umoci_unpacks_it() {
        let (dir, session) = fixture::session();
        fixture::image(&session, &["a"], &["app:1"]);
        fixture::image(&session, &["b"], &["app:2"]);
        fixture::image(&session, &["c"], &["app:3"]);
        let path = dir.path().join("layout");
        for name in ["app:1", "app:2", "app:2"] {
            let sink = Sink::dir(&path).expect("directory");
            let export = export(&session, name, &Form::default());
            write(&[export], ArchiveFormat::Oci, sink).expect("write");
        }
        let index = fs::read(path.join("index.json")).expect("read");
        let index: Index = serde_json::from_slice(&index).expect("index");
        assert_eq!(index.manifests.len(), 2);
        let bundle = dir.path().join("bundle");
        let image = format!("{}:2", path.display());
        let bundle_text = bundle.display().to_string();
        if run(&[
            "umoci",
            "unpack",
            "--rootless",
            "--image",
            &image,
            &bundle_text,
        ])
        .is_some()
        {
            let text = fs::read_to_string(bundle.join("rootfs/file")).expect("read");
            assert_eq!(text, "b");
        }
    }

    #[test]
    fn an_unchanged_image_keeps_its_manifest() {
        let (_dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &["app:1"]);
        let plan = verbatim(&session, &image).expect("plan");
        assert_eq!(plan.manifest_bytes, image.manifest_bytes);
        let packed = export(&session, "app:1", &Form::default()).plan;
        assert_ne!(packed.manifest.digest, image.manifest_digest);
        assert_eq!(packed.config.digest, image.config_digest);
    }

    #[test]
    fn a_corrupt_or_missing_blob_leaves_no_archive() {
        let (dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &["app:1"]);
        let session = session.store().session().expect("a later session");
        let plan = verbatim(&session, &image).expect("plan");
        let blob = plan.layers[0].path.clone();
        let mut bytes = fs::read(&blob).expect("read");
        bytes[0] ^= 1;
        let export = Export {
            plan,
            names: image.names.clone(),
            index: None,
        };
        let path = dir.path().join("x.tar");
        let null = fs::File::open("/dev/null").expect("null");
        let open = || Destination::open(&Dest::Path(path.clone()), null.as_fd()).expect("open");
        let exports = [export];
        let sinks = [
            Sink::tar(open()),
            Sink::dir(&dir.path().join("layout")).expect("directory"),
        ];
        for sink in sinks {
            // Whoever finds it damaged removes it.
            fs::write(&blob, &bytes).expect("write");
            let error = write(&exports, ArchiveFormat::Oci, sink).expect_err("corrupt");
            assert!(error.to_string().contains("corrupt"), "{error}");
        }
        assert!(!path.exists());
        assert!(!dir.path().join("layout/index.json").exists());
        fs::write(&blob, b"short").expect("write");
        assert!(write(&exports, ArchiveFormat::Oci, Sink::tar(open())).is_err());
        assert!(verbatim(&session, &image).is_err());
    }
}
