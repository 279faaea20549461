//! Caches in the form in which they leave the store.
//!
//! Responsible for choosing the layers that go with the steps of a build, for the manifest, and for
//! layouts in directories. Must not talk to registries: a cache is pushed as an image is. Invariant:
//! the same steps in the same form give the same manifest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use crate::cache::exchange::format::{self, CONFIG_TYPE, StepResult};
use crate::error::{Result, ResultExt};
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::{Descriptor, Index, Manifest, media_type};
use crate::output::archive::Sink;
use crate::output::assemble::{PushPlan, layer_blobs};
use crate::output::destination::write_file;
use crate::output::layout::{self, Export, REF_NAME};
use crate::output::options::{ArchiveFormat, Form};
use crate::output::packing::Packing;
use crate::output::transcode::{self, Watch};
use crate::store::lock::Session;

/// The steps of a build, and which of their layers a cache carries.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The steps, in an order that is always the same.
    pub steps: Vec<StepResult>,
    /// Blobs and what they unpack to, each once.
    pub layers: Vec<(Descriptor, DiffId)>,
}

impl Contents {
    /// Takes all layers of these steps, or those of the `result` only.
    pub fn new(steps: Vec<StepResult>, result: Option<&HashSet<DiffId>>) -> Self {
        let mut seen = HashSet::new();
        let made = steps.iter().filter_map(|step| step.layer.as_ref());
        let carried = made.filter(|made| result.is_none_or(|all| all.contains(&made.diff_id)));
        let layers = carried
            .filter_map(|made| Some((made.blob.clone()?, made.diff_id)))
            .filter(|(_, diff_id)| seen.insert(*diff_id))
            .collect();
        Self { steps, layers }
    }

    /// Returns the layers whose bytes [`Contents::plan`] reads.
    pub fn converted(&self, session: &Session, form: &Form) -> Vec<Descriptor> {
        let packing = form.compression.unwrap_or(Packing::GZIP);
        transcode::converted(session, &self.layers, packing, form.force_compression)
    }

    /// Makes the manifest and brings the layers into the form that is wanted.
    ///
    /// # Errors
    /// When a layer is missing or corrupt; cancellation.
    pub fn plan(&self, session: &Session, form: &Form, watch: Watch<'_>) -> Result<PushPlan> {
        let packing = form.compression.unwrap_or(Packing::GZIP);
        let force = form.force_compression;
        let layers = transcode::layers(session, &self.layers, packing, force, watch)?;
        let layers: Vec<Descriptor> = layers.into_iter().map(|(blob, _)| blob).collect();
        // Whatever they are packed with, they are known by what the steps made.
        let diff_ids: Vec<DiffId> = self.layers.iter().map(|(_, id)| *id).collect();
        let config_bytes = format::write(&self.steps, &diff_ids);
        let config = Descriptor::of(CONFIG_TYPE, &config_bytes);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: config.clone(),
            layers: layers.clone(),
            annotations: Default::default(),
        };
        let manifest_bytes =
            serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        Ok(PushPlan {
            manifest: Descriptor::of(media_type::OCI_MANIFEST, &manifest_bytes),
            manifest_bytes,
            config,
            config_bytes,
            layers: layer_blobs(session, layers)?,
        })
    }
}

/// Writes a cache into the layout at `dest`, which is made when it is missing, under a name; with
/// `reset` it is the only thing in there afterwards. Writers of one layout wait for each other.
///
/// # Errors
/// Those of the file system; when the directory holds something else than a layout.
pub fn write_layout(mut plan: PushPlan, dest: &Path, tag: &str, reset: bool) -> Result<()> {
    let sink = Sink::dir(dest)?;
    let lock = File::open(dest).op_path("open", dest)?;
    lock.lock().op_path("lock", dest)?;
    let mut keep: HashSet<Digest> = plan.layers.iter().map(|l| l.descriptor.digest).collect();
    keep.extend([plan.manifest.digest, plan.config.digest]);
    let named = &mut plan.manifest.annotations;
    named.insert(REF_NAME.to_owned(), tag.to_owned());
    let descriptor = plan.manifest.clone();
    let export = Export {
        plan,
        index: None,
        names: Vec::new(),
    };
    layout::write(&[export], ArchiveFormat::Oci, sink)?;
    if reset {
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests: vec![descriptor],
            annotations: Default::default(),
        };
        let index = serde_json::to_vec(&index).expect("an index has string keys only");
        write_file(&dest.join("index.json"), &index)?;
        sweep(&dest.join("blobs/sha256"), &keep)?;
    }
    Ok(())
}

/// Removes the blobs that are not to be kept.
fn sweep(dir: &Path, keep: &HashSet<Digest>) -> Result<()> {
    for entry in fs::read_dir(dir).op_path("read", dir)? {
        let entry = entry.op_path("read", dir)?;
        let name = entry.file_name();
        let digest = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
        if digest.is_ok_and(|digest| !keep.contains(&digest)) {
            fs::remove_file(entry.path()).op_path("remove", entry.path())?;
        }
    }
    Ok(())
}
