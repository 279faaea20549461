//! `sandcrab pull`: images from registries into the store.
//!
//! Responsible for the arguments and for naming what was pulled. Must not choose a display or
//! handle signals: it is handed a running progress.

use super::RegistryArgs;
use crate::error::{Kind, Result};
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::progress::event::{Sender, Vertex};
use crate::registry::Registry;
use crate::store::lock::Session;

/// The command line of `pull`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images to pull
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Platform of the image [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    /// Print the image's id only
    #[arg(short, long)]
    pub(super) quiet: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

impl Args {
    /// Returns the registry options.
    pub(super) fn registry(&self) -> &RegistryArgs {
        &self.registry
    }
}

/// Pulls all images and returns their ids, in order. What is given twice is pulled twice, as the
/// second costs nothing.
///
/// # Errors
/// [`Kind::Usage`] for a malformed name, before anything is pulled; else the first image's that
/// can't be pulled.
pub(super) fn run(
    args: &Args,
    registry: &Registry,
    session: &Session,
    progress: &Sender,
) -> Result<Vec<Digest>> {
    let usage = |e: crate::error::Error| e.kind(Kind::Usage);
    let platform = match &args.platform {
        Some(text) => text.parse().map_err(usage)?,
        None => Platform::host(),
    };
    let references = args
        .images
        .iter()
        .map(|text| text.parse().map_err(usage))
        .collect::<Result<Vec<Reference>>>()?;
    references
        .iter()
        .map(|reference| {
            let vertex = progress.start(format!("pull {}", reference.familiar()));
            let pulled = pull(registry, session, reference, &platform, &vertex);
            match &pulled {
                Ok(_) => vertex.done(),
                Err(error) => vertex.fail(error),
            }
            pulled
        })
        .collect()
}

/// Pulls one image, adds it to the store's images and returns its id.
fn pull(
    registry: &Registry,
    session: &Session,
    reference: &Reference,
    platform: &Platform,
    vertex: &Vertex,
) -> Result<Digest> {
    let pulled = registry.pull(reference, platform, &session.blobs(), vertex)?;
    let images = session.store().images();
    // An image that is asked for by digest gets no name, as with docker.
    let names: &[Reference] = match reference.digest {
        None => std::slice::from_ref(reference),
        Some(_) => &[],
    };
    images.add(&pulled.descriptor.digest, names)?;
    for origin in pulled.origins() {
        images.add_origin(&pulled.descriptor.digest, &origin)?;
    }
    Ok(pulled.manifest.config.digest)
}
