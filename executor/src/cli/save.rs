//! `sandcrab save`: writes images to an archive, as they are in the store.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use clap::ValueEnum;

use super::{RegistryArgs, streams};
use crate::build::fetch::Fetcher;
use crate::error::Result;
use crate::image::reference::Reference;
use crate::output::archive::Sink;
use crate::output::assemble::{IndexPlan, verbatim, verbatim_index};
use crate::output::destination::Destination;
use crate::output::layout::{self, Export};
use crate::output::options::{ArchiveFormat, Dest};
use crate::store::lock::Session;

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<String>,
    /// File to write; standard output without it
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Format of the archive
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub(super) format: Format,

    #[command(flatten)]
    pub(super) registry: RegistryArgs,
}

/// Tells whether the store has all layers of the images.
///
/// # Errors
/// When an image does not exist.
pub(super) fn is_complete(args: &Args, session: &Session) -> Result<bool> {
    let (images, blobs) = (session.store().images(), session.blobs());
    for text in &args.images {
        for part in images.parts(&images.get(text)?)? {
            let mut layers = part.manifest.layers.iter();
            if !layers.all(|l| blobs.size(&l.digest).is_some()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Fetches what the images have elsewhere.
///
/// # Errors
/// When an image does not exist, or a layer can't be fetched.
pub(super) fn complete(args: &Args, session: &Session, fetcher: &Fetcher<'_>) -> Result<()> {
    let images = session.store().images();
    for text in &args.images {
        for part in images.parts(&images.get(text)?)? {
            fetcher.bring(&part.manifest.layers, text)?;
        }
    }
    Ok(())
}

/// Formats of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For docker load and everything that reads OCI archives
    DockerArchive,
    /// An OCI image layout
    OciArchive,
}

/// Runs the command; `stdout` takes the archive when no file is named.
///
/// # Errors
/// When an image or one of its blobs does not exist; no archive appears then.
pub(super) fn run(args: &Args, session: &Session, stdout: BorrowedFd<'_>) -> Result<()> {
    let store = session.store();
    let mut exports: Vec<Export> = Vec::new();
    for text in &args.images {
        let image = store.images().get(text)?;
        // By name, the archive has that name only; by id, it has none.
        let names: Vec<Reference> = text
            .parse::<Reference>()
            .into_iter()
            .filter(|name| image.names.contains(name))
            .collect();
        let mut index = verbatim_index(session, &image)?;
        let attested = index.as_ref().is_some_and(IndexPlan::is_of_one_image);
        if attested && args.format == Format::DockerArchive {
            streams::complain(&format!(
                "warning: a docker archive can't hold the attestations of `{text}`, which are left out\n\
                 hint: use --format oci-archive\n"
            ));
            index = None;
        }
        let same = |e: &&mut Export| {
            e.plan.manifest.digest == image.manifest_digest && e.index.is_some() == index.is_some()
        };
        if let Some(export) = exports.iter_mut().find(same) {
            let new = names.into_iter().filter(|n| !export.names.contains(n));
            let new: Vec<_> = new.collect();
            export.names.extend(new);
        } else {
            let plan = verbatim(session, &image)?;
            exports.push(Export { plan, names, index });
        }
    }
    let dest = match &args.output {
        Some(path) if path.as_os_str() != "-" => Dest::Path(path.clone()),
        _ => Dest::Stdout,
    };
    let format = match args.format {
        Format::DockerArchive => ArchiveFormat::Docker,
        Format::OciArchive => ArchiveFormat::Oci,
    };
    let sink = Sink::tar(Destination::open(&dest, stdout)?);
    layout::write(&exports, format, sink)
}
