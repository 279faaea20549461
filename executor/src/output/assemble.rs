//! Images in the form in which they leave the store.
//!
//! Responsible for making the manifest that goes with a wanted compression, dialect and
//! annotations. Must not write archives or talk to registries. Invariant: an image that already
//! has the wanted form keeps its manifest byte for byte.

use std::path::PathBuf;

use crate::attest::statement::{self, REFERENCE_DIGEST};
use crate::error::{Error, Kind, Result};
use crate::image::annotations::Level;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, Manifest, media_type};
use crate::layer::compress::Format;
use crate::output::options::Form;
use crate::output::packing::Packing;
use crate::output::transcode::{self, Watch, format_of};
use crate::store::images::{Image, MANIFEST_LIMIT};
use crate::store::lock::Session;

/// A layer and where its blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// What the manifest says about it.
    pub descriptor: Descriptor,
    /// The blob's file; it may be missing where it is known from where it can be fetched.
    pub path: PathBuf,
    /// Whether its bytes are known to have the digest.
    pub hashed: bool,
}

/// All that a registry or an archive needs of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPlan {
    /// Describes the manifest, with its platform and annotations for an index.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// Describes the config; its digest is the image's id.
    pub config: Descriptor,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// The layers, bottom first.
    pub layers: Vec<LayerBlob>,
}

/// An index of images, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPlan {
    /// Describes the index.
    pub descriptor: Descriptor,
    /// The index's bytes.
    pub bytes: Vec<u8>,
    /// Its images, in order.
    pub parts: Vec<PushPlan>,
}

impl IndexPlan {
    /// Tells whether all but one of its parts are attestations.
    pub fn is_of_one_image(&self) -> bool {
        let nowhere = statement::nowhere();
        let images = self.parts.iter();
        let images = images.filter(|part| part.manifest.platform.as_ref() != Some(&nowhere));
        images.count() == 1
    }

    /// Makes the index of `parts` after the model of one in the store, of which they are the
    /// images in the same order. Where nothing has changed, its bytes stay.
    fn new(parts: Vec<PushPlan>, model: &Index, model_bytes: Vec<u8>, form: &Form) -> Self {
        let oci = parts
            .first()
            .is_none_or(|part| part.manifest.media_type != media_type::DOCKER_MANIFEST);
        let kind = if oci {
            media_type::OCI_INDEX
        } else {
            media_type::DOCKER_LIST
        };
        let mut index = model.clone();
        let renamed: Vec<(String, String)> = model
            .manifests
            .iter()
            .zip(&parts)
            .map(|(old, new)| (old.digest.to_string(), new.manifest.digest.to_string()))
            .collect();
        for (entry, part) in index.manifests.iter_mut().zip(&parts) {
            let mut descriptor = part.manifest.clone();
            // What an attestation is about may have become another manifest.
            for (key, value) in &mut entry.annotations {
                if let Some((_, new)) = renamed.iter().find(|(old, _)| old == value)
                    && key == REFERENCE_DIGEST
                {
                    value.clone_from(new);
                }
            }
            let own = std::mem::take(&mut descriptor.annotations);
            descriptor.annotations = std::mem::take(&mut entry.annotations);
            descriptor.annotations.extend(own);
            descriptor.platform = entry.platform.clone().or(descriptor.platform);
            descriptor.urls = std::mem::take(&mut entry.urls);
            *entry = descriptor;
        }
        index
            .annotations
            .extend(form.annotations.on_index(Level::Index));
        let named = model.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
        let bytes = if index == *model && named == kind {
            model_bytes
        } else {
            index.media_type = Some(kind.to_owned());
            serde_json::to_vec(&index).expect("an index has string keys only")
        };
        let mut descriptor = Descriptor::of(kind, &bytes);
        descriptor.annotations = form.annotations.on_index(Level::IndexDescriptor);
        Self {
            descriptor,
            bytes,
            parts,
        }
    }
}

/// Brings the index that an image stands for into the form in which it is pushed or exported;
/// `None` when it stands for none.
///
/// # Errors
/// As [`prepare_push`].
pub fn prepare_index(
    session: &Session,
    image: &Image,
    form: &Form,
    watch: Watch<'_>,
) -> Result<Option<IndexPlan>> {
    index_of(session, image, form, |part| {
        prepare_push(session, part, form, watch)
    })
}

/// Takes the index that an image stands for as it is in the store; `None` when it stands for none.
///
/// # Errors
/// When a document or a layer is missing.
pub fn verbatim_index(session: &Session, image: &Image) -> Result<Option<IndexPlan>> {
    index_of(session, image, &Form::default(), |part| {
        verbatim(session, part)
    })
}

/// Makes the index of an image that stands for one, of its parts as `prepare` makes them.
///
/// # Errors
/// Those of `prepare`; when a document is missing.
pub fn index_of(
    session: &Session,
    image: &Image,
    form: &Form,
    prepare: impl Fn(&Image) -> Result<PushPlan>,
) -> Result<Option<IndexPlan>> {
    let Some(digest) = image.index else {
        return Ok(None);
    };
    let bytes = session.blobs().read(&digest, MANIFEST_LIMIT)?;
    let Document::Index(model) = Document::parse(&bytes, None)? else {
        return Err(Error::new(format!("{digest} is not an index of images")));
    };
    let parts = session.store().images().parts(image)?;
    if parts.len() != model.manifests.len() {
        return Err(
            Error::new(format!("the parts of {digest} are not its own")).kind(Kind::Internal)
        );
    }
    let mut parts = parts.iter().map(prepare).collect::<Result<Vec<_>>>()?;
    for n in 0..parts.len() {
        let about = model.manifests[n].annotations.get(REFERENCE_DIGEST);
        let about = model
            .manifests
            .iter()
            .position(|m| Some(&m.digest.to_string()) == about);
        if let Some(about) = about.filter(|about| *about != n) {
            let (old, new) = (model.manifests[about].digest, parts[about].manifest.digest);
            if old != new {
                retarget(session, &mut parts[n], &old, &new)?;
            }
        }
    }
    Ok(Some(IndexPlan::new(parts, &model, bytes, form)))
}

/// Makes an attestation be about the manifest that its image has become.
fn retarget(session: &Session, plan: &mut PushPlan, old: &Digest, new: &Digest) -> Result<()> {
    let blobs = session.blobs();
    let mut changed = Vec::new();
    for layer in &mut plan.layers {
        if layer.descriptor.media_type != statement::STATEMENT {
            continue;
        }
        let bytes = blobs.read(&layer.descriptor.digest, statement::MAX_STATEMENT)?;
        let Some(bytes) = statement::retarget(&bytes, old, new) else {
            continue;
        };
        let digest = blobs.put(&bytes)?;
        changed.push((layer.descriptor.digest, digest));
        layer.descriptor.digest = digest;
        layer.descriptor.size = bytes.len() as u64;
        layer.path = blobs.path(&digest);
        layer.hashed = true;
    }
    if changed.is_empty() {
        return Ok(());
    }
    let mut config = ImageConfig::parse(&plan.config_bytes)?;
    for diff_id in &mut config.rootfs.diff_ids {
        if let Some((_, new)) = changed.iter().find(|(old, _)| *old == diff_id.0) {
            diff_id.0 = *new;
        }
    }
    let Document::Manifest(mut manifest) = Document::parse(&plan.manifest_bytes, None)? else {
        return Err(Error::new("an attestation is no image").kind(Kind::Internal));
    };
    plan.config_bytes = config.to_bytes();
    let config = Descriptor::of(&manifest.config.media_type, &plan.config_bytes);
    (manifest.config.digest, manifest.config.size) = (config.digest, config.size);
    manifest.layers = plan.layers.iter().map(|l| l.descriptor.clone()).collect();
    plan.config = manifest.config.clone();
    plan.manifest_bytes = encode(&manifest);
    let described = Descriptor::of(&plan.manifest.media_type, &plan.manifest_bytes);
    (plan.manifest.digest, plan.manifest.size) = (described.digest, described.size);
    // An export to the store finds them there.
    blobs.put(&plan.config_bytes).map(drop)
}

/// Brings an image into the form in which it is pushed or exported; layers are compressed with
/// gzip unless `form` says otherwise. Layers that are elsewhere and go as they are may stay there.
///
/// # Errors
/// When a layer is missing or corrupt, or has no name in Docker's dialect.
pub fn prepare_push(
    session: &Session,
    image: &Image,
    form: &Form,
    watch: Watch<'_>,
) -> Result<PushPlan> {
    let diff_ids = &image.config.rootfs.diff_ids;
    if diff_ids.len() != image.manifest.layers.len() {
        return Err(Error::new(format!(
            "image {} has {} layers and {} diff ids",
            image.config_digest,
            image.manifest.layers.len(),
            diff_ids.len()
        )));
    }
    let pairs: Vec<_> = image
        .manifest
        .layers
        .iter()
        .cloned()
        .zip(diff_ids.iter().copied())
        .collect();
    let packing = form.compression.unwrap_or(Packing::GZIP);
    let layers = transcode::layers(session, &pairs, packing, form.force_compression, watch)?;
    let (layers, own): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    if own == *diff_ids {
        return plan(session, image, layers, form);
    }
    // They are other layers, and so it is another image.
    let mut config = image.config.clone();
    config.rootfs.diff_ids = own;
    let bytes = config.to_bytes();
    let digest = session.blobs().put(&bytes)?;
    let mut image = Image {
        config_digest: digest,
        config,
        ..image.clone()
    };
    (image.manifest.config.digest, image.manifest.config.size) = (digest, bytes.len() as u64);
    image.config_bytes = bytes;
    plan(session, &image, layers, form)
}

/// Returns the layers whose bytes [`prepare_push`] reads.
pub fn converted(session: &Session, image: &Image, form: &Form) -> Vec<Descriptor> {
    let diff_ids = image.config.rootfs.diff_ids.iter().copied();
    let pairs: Vec<_> = image
        .manifest
        .layers
        .iter()
        .cloned()
        .zip(diff_ids)
        .collect();
    let packing = form.compression.unwrap_or(Packing::GZIP);
    transcode::converted(session, &pairs, packing, form.force_compression)
}

/// Takes an image as it is in the store.
///
/// # Errors
/// When a layer is missing.
pub fn verbatim(session: &Session, image: &Image) -> Result<PushPlan> {
    let form = Form {
        oci_media_types: !is_docker(&image.manifest),
        ..Form::default()
    };
    plan(session, image, image.manifest.layers.clone(), &form)
}

/// Makes the manifest of an image from its config's bytes and its layers, bottom first.
pub fn manifest(config: &[u8], layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let config = Descriptor::of(media_type::OCI_CONFIG, config);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config,
        layers: translate(layers, true)?,
        annotations: Default::default(),
    };
    Ok(encode(&manifest))
}

fn plan(
    session: &Session,
    image: &Image,
    layers: Vec<Descriptor>,
    form: &Form,
) -> Result<PushPlan> {
    let oci = form.oci_media_types;
    let layers = translate(layers, oci)?;
    let mut wanted = image.manifest.clone();
    wanted.layers = layers;
    let platform = &image.config.platform;
    // An attestation is no image of the result.
    let annotations = |level| match platform.os.as_str() {
        "unknown" => Default::default(),
        _ => form.annotations.on(level, platform),
    };
    wanted.annotations.extend(annotations(Level::Manifest));
    let (manifest_type, config_type) = dialect(oci);
    let manifest_bytes = if wanted == image.manifest && is_docker(&image.manifest) != oci {
        image.manifest_bytes.clone()
    } else {
        wanted.media_type = Some(manifest_type.to_owned());
        wanted.config.media_type = config_type.to_owned();
        if !oci {
            wanted.annotations.clear();
        }
        encode(&wanted)
    };
    let mut manifest = Descriptor::of(manifest_type, &manifest_bytes);
    manifest.platform = Some(image.config.platform.clone());
    manifest.annotations = annotations(Level::ManifestDescriptor);
    let layers = layer_blobs(session, wanted.layers)?;
    Ok(PushPlan {
        manifest,
        manifest_bytes,
        config: wanted.config,
        config_bytes: image.config_bytes.clone(),
        layers,
    })
}

/// Finds the files of layers.
///
/// # Errors
/// When one is neither in the store nor known to be elsewhere.
pub(crate) fn layer_blobs(session: &Session, layers: Vec<Descriptor>) -> Result<Vec<LayerBlob>> {
    let (blobs, remotes) = (session.blobs(), session.cache().remotes());
    layers
        .into_iter()
        .map(|descriptor| match blobs.size(&descriptor.digest) {
            found if found == Some(descriptor.size) || remotes.get(&descriptor).is_some() => {
                Ok(LayerBlob {
                    path: blobs.path(&descriptor.digest),
                    hashed: blobs.has_written(&descriptor.digest),
                    descriptor,
                })
            }
            found => Err(missing(&descriptor, found)),
        })
        .collect()
}

fn missing(descriptor: &Descriptor, found: Option<u64>) -> Error {
    let digest = descriptor.digest;
    match found {
        None => Error::new(format!("layer {digest} is not in the store"))
            .kind(Kind::NotFound)
            .hint("pull or build the image again"),
        Some(size) => Error::new(format!(
            "layer {digest} has {size} bytes in the store instead of {}",
            descriptor.size
        ))
        .hint("remove the blob, and pull or build the image again"),
    }
}

/// Tells whether a manifest is in Docker's dialect.
fn is_docker(manifest: &Manifest) -> bool {
    match manifest.media_type.as_deref() {
        Some(own) => own == media_type::DOCKER_MANIFEST,
        None => manifest.config.media_type == media_type::DOCKER_CONFIG,
    }
}

fn dialect(oci: bool) -> (&'static str, &'static str) {
    if oci {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    } else {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
    }
}

/// Gives layers the media types of a dialect; a type that neither has stays in OCI's.
fn translate(mut layers: Vec<Descriptor>, oci: bool) -> Result<Vec<Descriptor>> {
    for layer in &mut layers {
        let Some(format) = format_of(&layer.media_type) else {
            if oci {
                continue;
            }
            return Err(no_docker_type(&layer.media_type));
        };
        layer.media_type = match (format, oci) {
            (Format::None, true) => media_type::OCI_LAYER,
            (Format::Gzip, true) => media_type::OCI_LAYER_GZIP,
            (Format::Zstd, true) => media_type::OCI_LAYER_ZSTD,
            (Format::None, false) => media_type::DOCKER_LAYER,
            (Format::Gzip, false) => media_type::DOCKER_LAYER_GZIP,
            (Format::Zstd, false) => return Err(no_docker_type(&layer.media_type)),
        }
        .to_owned();
    }
    Ok(layers)
}

fn no_docker_type(media_type: &str) -> Error {
    Error::new(format!(
        "layers of type `{media_type}` have no media type of Docker's"
    ))
    .hint("use force-compression=true, or leave out oci-mediatypes=false")
}

fn encode(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("a manifest has string keys only")
}
