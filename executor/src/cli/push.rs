//! `sandcrab push`: an image from the store to registries.
//!
//! Responsible for the arguments, for bringing the image into the form in which it travels, and
//! for remembering where it went. Must not choose a display or handle signals: it is handed a
//! running progress.

use clap::ValueEnum;

use super::RegistryArgs;
use super::courier::{Courier, first_of_each};
use crate::build::fetch::Fetcher;
use crate::cancel::Cancel;
use crate::error::{Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::reference::Reference;
use crate::output::assemble::{self, PushPlan, prepare_push};
use crate::output::options::Form;
use crate::output::packing::Packing;
use crate::output::transcode::Watch;
use crate::progress::event::{Sender, Vertex};
use crate::registry::{Artifact, BlobSource, Registry};
use crate::store::images::Image;
use crate::store::lock::Session;

/// The command line of `push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Image to push: a name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to push it, if not to the registry of its name
    #[arg(value_name = "DESTINATION")]
    destinations: Vec<String>,

    /// Compression of layers that are not compressed yet
    #[arg(long, value_enum, value_name = "COMPRESSION", default_value = "gzip")]
    compression: CompressionChoice,

    /// Print the digest only
    #[arg(short, long)]
    pub(super) quiet: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// `--compression`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionChoice {
    /// What every tool reads
    Gzip,
    /// Smaller and quicker; for registries and tools of the last years
    Zstd,
    /// gzip of which single files can be read, for lazy pulling; it is another image, with another id
    Estargz,
    /// As they are
    Uncompressed,
}

impl Args {
    /// Returns the registry options.
    pub(super) fn registry(&self) -> &RegistryArgs {
        &self.registry
    }
}

/// Pushes an image and returns the digest of its manifest in the registries.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such image in the store; [`Kind::Denied`] when a registry
/// does not let it in.
pub(super) fn run(
    args: &Args,
    registry: &Registry,
    session: &Session,
    progress: &Sender,
    cancel: &Cancel,
) -> Result<Digest> {
    let texts = match args.destinations.as_slice() {
        [] => std::slice::from_ref(&args.image),
        destinations => destinations,
    };
    let references = texts
        .iter()
        .map(|text| text.parse::<Reference>().map_err(|e| e.kind(Kind::Usage)))
        .collect::<Result<Vec<_>>>()?;
    let images = session.store().images();
    let image = images.get(&args.image)?;
    let packing = match args.compression {
        CompressionChoice::Gzip => Packing::GZIP,
        CompressionChoice::Zstd => Packing::ZSTD,
        CompressionChoice::Estargz => Packing::ESTARGZ,
        CompressionChoice::Uncompressed => Packing::NONE,
    };
    let form = Form {
        compression: Some(packing),
        // A pulled image goes on in its own dialect, so that its digest stays.
        oci_media_types: image.manifest.media_type.as_deref() != Some(media_type::DOCKER_MANIFEST)
            || packing.is_oci_only(),
        ..Form::default()
    };
    let shown: Vec<String> = references.iter().map(Reference::familiar).collect();
    let fetcher = Fetcher::new(session, registry, progress, cancel);
    let vertex = progress.start(format!("push {}", shown.join(", ")));
    let pusher = Pusher {
        registry,
        session,
        fetcher: &fetcher,
        vertex: &vertex,
        cancel,
    };
    let pushed = pusher.push(&image, &references, &form);
    match &pushed {
        Ok(_) => vertex.done(),
        Err(error) => vertex.fail(error),
    }
    pushed
}

/// What pushing needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pusher<'a> {
    pub(super) registry: &'a Registry,
    pub(super) session: &'a Session,
    pub(super) fetcher: &'a Fetcher<'a>,
    pub(super) vertex: &'a Vertex,
    pub(super) cancel: &'a Cancel,
}

impl Pusher<'_> {
    /// Pushes an image under several names, in the form that is wanted, and notes where it went.
    pub(super) fn push(
        &self,
        image: &Image,
        references: &[Reference],
        form: &Form,
    ) -> Result<Digest> {
        let prepare = |part: &Image| {
            let read = assemble::converted(self.session, part, form);
            self.fetcher.bring(&read, "the image")?;
            self.sending(references, &image.origins, |watch| {
                prepare_push(self.session, part, form, watch)
            })
        };
        let digest = match assemble::index_of(self.session, image, form, prepare)? {
            None => self.send(prepare(image)?, references, &image.origins)?,
            Some(index) => {
                let unnamed: Vec<Reference> = references
                    .iter()
                    .map(|r| Reference {
                        tag: None,
                        ..r.clone()
                    })
                    .collect();
                for part in index.parts {
                    self.send(part, &unnamed, &image.origins)?;
                }
                let artifact = Artifact {
                    media_type: index.descriptor.media_type,
                    manifest: index.bytes,
                    blobs: Vec::new(),
                };
                self.registry.push(references, &artifact, self.vertex)?
            }
        };
        for reference in references {
            let origin = Reference {
                tag: None,
                digest: Some(digest),
                ..reference.clone()
            };
            self.session
                .store()
                .images()
                .add_origin(&image.index.unwrap_or(image.manifest_digest), &origin)?;
        }
        Ok(digest)
    }

    /// Does `prepare` and sends the layers that it makes, each as soon as it is there.
    pub(super) fn sending(
        &self,
        references: &[Reference],
        origins: &[Reference],
        prepare: impl FnOnce(Watch<'_>) -> Result<PushPlan>,
    ) -> Result<PushPlan> {
        let courier = Courier {
            session: self.session,
            registry: self.registry,
            origins,
        };
        let to = first_of_each(references);
        let stopped = || self.cancel.check().is_err();
        let (plan, trouble) = courier.during(&stopped, &|| self.vertex, |post| {
            let ready = |blob: &Descriptor| {
                for to in &to {
                    // Somebody listens until this ends.
                    drop(post.send((to, blob.clone())));
                }
            };
            prepare(Watch {
                cancel: self.cancel,
                vertex: Some(self.vertex),
                ready: Some(&ready),
            })
        });
        match (plan, trouble) {
            (Ok(_), Some(error)) => Err(error),
            (plan, _) => plan,
        }
    }

    /// Sends one manifest and what it names. Of the layers that are elsewhere, those are fetched that
    /// the registry neither has nor can be told to take from another repository.
    pub(super) fn send(
        &self,
        plan: PushPlan,
        references: &[Reference],
        origins: &[Reference],
    ) -> Result<Digest> {
        let absent: Vec<Descriptor> = (plan.layers.iter())
            .map(|layer| layer.descriptor.clone())
            .filter(|descriptor| !self.fetcher.is_here(descriptor))
            .collect();
        let artifact = artifact(self.session, plan, origins);
        if !absent.is_empty() {
            let is_absent = |s: &&BlobSource| absent.contains(&s.descriptor);
            let sources: Vec<_> = artifact.blobs.iter().filter(is_absent).cloned().collect();
            for reference in references {
                let lacking = self.registry.lacking(reference, &sources, self.vertex)?;
                let wanted = absent.iter().filter(|d| lacking.contains(&d.digest));
                self.fetcher.bring(wanted, "the image")?;
            }
        }
        self.registry.push(references, &artifact, self.vertex)
    }
}

/// Joins what is pushed with the repositories that may have parts of it already.
fn artifact(session: &Session, plan: PushPlan, origins: &[Reference]) -> Artifact {
    let config = BlobSource::bytes(plan.config, plan.config_bytes);
    let remotes = session.cache().remotes();
    let layers = plan.layers.into_iter().map(|layer| {
        let mut mount_from = remotes.repositories(&layer.descriptor);
        mount_from.extend_from_slice(origins);
        BlobSource {
            mount_from,
            ..BlobSource::file(layer.descriptor, layer.path)
        }
    });
    Artifact {
        media_type: plan.manifest.media_type,
        manifest: plan.manifest_bytes,
        blobs: std::iter::once(config).chain(layers).collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::pull;
    use super::*;
    use crate::registry::RegistryOptions;
    use crate::registry::testing::DockerRegistry;
    use crate::store::fixture;

    #[derive(Debug, Parser)]
    struct Push {
        #[command(flatten)]
        args: Args,
    }

    #[derive(Debug, Parser)]
    struct Pull {
        #[command(flatten)]
        args: pull::Args,
    }

    fn client() -> Registry {
        Registry::new(RegistryOptions::default())
    }

    fn push_it(session: &Session, line: &[&str]) -> Result<Digest> {
        let line = std::iter::once(&"push").chain(line);
        let args = Push::try_parse_from(line).expect("arguments").args;
        let (progress, _events) = Sender::new();
        run(&args, &client(), session, &progress, &Cancel::new())
    }

    fn pull_it(session: &Session, name: &str) -> Result<Vec<Digest>> {
        let parsed = Pull::try_parse_from(["pull", name]).expect("arguments");
        let (progress, _events) = Sender::new();
        pull::run(&parsed.args, &client(), session, &progress)
    }

    #[test]
    fn an_image_goes_to_a_registry_and_comes_back() {
        let Some(peer) = DockerRegistry::start("", |_| ()) else {
            return;
        };
        let (_dir, here) = fixture::session();
        let image = fixture::image(&here, &["one", "two"], &["app:1"]);
        let name = format!("{}/team/app:1", peer.address);
        for compression in ["gzip", "zstd", "uncompressed"] {
            let flag = format!("--compression={compression}");
            let digest = push_it(&here, &["app:1", &name, &flag]).expect("push");

            let (_dir, there) = fixture::session();
            let ids = pull_it(&there, &name).expect("pull");
            assert_eq!(ids, [image.config_digest]);
            let images = there.store().images();
            let pulled = images.get(&name).expect("by its name");
            assert_eq!(pulled.manifest_digest, digest);
            assert_eq!(pulled.origins.len(), 1);
            let kind = &pulled.manifest.layers[0].media_type;
            assert_eq!(kind.contains("+gzip"), compression == "gzip", "{kind}");

            let pinned = format!("{}/team/app@{digest}", peer.address);
            images.get(&pinned).expect("by its digest");
            // It goes on to another repository as it is.
            let other = format!("{}/team/copy:1", peer.address);
            assert_eq!(
                push_it(&there, &[&name, &other, &flag]).expect("push"),
                digest
            );
        }
    }

    #[test]
    fn what_is_not_in_the_store_is_not_pushed() {
        let (_dir, session) = fixture::session();
        let error = push_it(&session, &["localhost:1/absent"]).expect_err("absent");
        assert_eq!(error.get_kind(), Kind::NotFound);
        let error = pull_it(&session, "UPPER").expect_err("malformed");
        assert_eq!(error.get_kind(), Kind::Usage);
    }
}
