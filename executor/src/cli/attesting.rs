//! Attestations of a build: `--provenance`, `--sbom` and `--attest`, and what of the request they tell.
//!
//! Responsible for the options, for refusing outputs that can't hold an attestation, and for the facts
//! that only the request has. Must not write documents. Invariant: nothing is attested unless it is asked for.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::build::Request;
use super::environment::Environment;
use crate::attest::options::{self, Mode, ProvenanceOptions, Wanted};
use crate::attest::provenance::{self, Invocation};
use crate::attest::record::Record;
use crate::attest::sbom::{self, Package};
use crate::attest::statement::Predicate;
use crate::build::mounts::mask::Mask;
use crate::build::mounts::secrets::Secrets;
use crate::context::location::{DockerfileLocation, Location};
use crate::context::{Context, Origin};
use crate::error::{Error, Kind, Result};
use crate::output::options::{ArchiveFormat, Output, Target};
use crate::plan::contexts::NamedContext;
use crate::plan::step::Network;
use crate::redact;

/// The part of `build`'s command line that is about attestations.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Result")]
pub(super) struct AttestArgs {
    /// Say beside the image how it was made: mode=min|max and, after commas, builder-id=URI,
    /// reproducible=true, inline-only=true
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    provenance: Option<String>,

    /// List beside the image which packages it has (SPDX): those of dpkg, rpm and apk, and of lock files
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    sbom: Option<String>,

    /// The same in buildx's long form: type=provenance or type=sbom and, after commas, the options
    #[arg(long, value_name = "type=TYPE[,…]")]
    attest: Vec<String>,
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

impl AttestArgs {
    /// Works out what is attested.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is not understood, and for outputs that can't hold it.
    pub(super) fn wanted(&self, outputs: &[Output]) -> Result<Wanted> {
        let short = [("provenance", &self.provenance), ("sbom", &self.sbom)];
        let short = short.into_iter().filter_map(|(kind, value)| {
            let value = value.as_deref()?;
            (!value.is_empty()).then(|| options::canonical(kind, value))
        });
        let all: Vec<String> = self.attest.iter().cloned().chain(short).collect();
        let wanted = options::parse(all.iter().map(String::as_str))?;
        if wanted.any() {
            outputs.iter().try_for_each(can_hold)?;
            if !outputs.is_empty() && outputs.iter().all(|o| o.target == Target::None) {
                return Err(usage(
                    "output type=none makes no image, so there is nothing to attest",
                ));
            }
        }
        Ok(wanted)
    }
}

/// Refuses an output in whose form an attestation has no place.
fn can_hold(output: &Output) -> Result<()> {
    match &output.target {
        Target::Archive {
            format: ArchiveFormat::Docker,
            ..
        } => Err(usage("an archive of type=docker can't hold attestations")
            .hint("use type=oci, or leave out --provenance, --sbom and --attest")),
        Target::Archive { .. } | Target::Image(_) if !output.form.oci_media_types => Err(usage(
            "attestations with oci-mediatypes=false: Docker's manifests have none",
        )
        .hint("leave one out")),
        _ => Ok(()),
    }
}

/// Returns how much of a provenance `--metadata-file` gets; buildx's variable has a say.
pub(super) fn metadata_mode(environment: &Environment) -> Option<Mode> {
    let text = environment.get("BUILDX_METADATA_PROVENANCE");
    match text.as_deref().and_then(|text| text.to_str()) {
        Some("max") => Some(Mode::Max),
        Some("disabled" | "0" | "f" | "F" | "false" | "FALSE" | "False") => None,
        _ => Some(Mode::Min),
    }
}

/// What a provenance needs besides the record of its platform.
#[derive(Debug)]
pub(super) struct Attester {
    invocation: Invocation,
    mask: Mask,
}

impl Attester {
    /// Takes what is known when the build has ended.
    pub(super) fn new(
        request: &Request,
        secrets: &Secrets,
        context: &Context,
        dockerfile: (&str, &[u8], Option<&Origin>),
        span: (String, String),
        id: Option<String>,
    ) -> Self {
        let (name, text, origin) = dockerfile;
        let base = Path::new(name).file_name().unwrap_or_default();
        Self {
            invocation: Invocation {
                context: context.origin().cloned(),
                dockerfile: origin.cloned(),
                path: base.to_string_lossy().into_owned(),
                text: text.to_vec(),
                args: args(request),
                locals: locals(request),
                started: span.0,
                finished: span.1,
                id,
            },
            mask: Mask::new(secrets.ids().filter_map(|id| secrets.get(id))),
        }
    }

    /// Makes the documents about the image of a platform, whose `packages` are known where they are wanted.
    pub(super) fn predicates(
        &self,
        wanted: &Wanted,
        record: &Record,
        packages: &[Package],
        name: &str,
    ) -> Vec<Predicate> {
        let sbom = wanted.sbom.as_ref().map(|file| {
            let document = sbom::document(name, &self.invocation.finished, packages);
            sbom::predicate(file, &document)
        });
        let provenance = wanted.provenance.as_ref().map(|options| {
            let body = self.provenance(options, record);
            provenance::document(options, &body)
        });
        provenance.into_iter().chain(sbom).collect()
    }

    /// Makes what `--metadata-file` tells of the making; as buildx writes it, the lesser one has no times.
    pub(super) fn for_metadata(&self, mode: Mode, record: &Record) -> Value {
        let options = ProvenanceOptions {
            mode,
            ..ProvenanceOptions::default()
        };
        let mut body = self.provenance(&options, record);
        if mode == Mode::Min
            && let Some(details) = body["runDetails"].as_object_mut()
        {
            details.remove("metadata");
        }
        body
    }

    fn provenance(&self, options: &ProvenanceOptions, record: &Record) -> Value {
        let hide = |text: &str| self.mask.text(text);
        provenance::predicate(options, &self.invocation, record, &hide)
    }
}

/// Returns the options of a build by the names that BuildKit's frontend has for them.
fn args(request: &Request) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (name, value) in &request.build_args {
        args.insert(format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &request.labels {
        args.insert(format!("label:{name}"), value.clone());
    }
    if let Some(target) = &request.target {
        args.insert("target".to_owned(), target.clone());
    }
    if request.no_cache {
        args.insert("no-cache".to_owned(), String::new());
    } else if !request.result.no_cache_filter.is_empty() {
        let stages = request.result.no_cache_filter.join(",");
        args.insert("no-cache".to_owned(), stages);
    }
    if request.network == Network::None {
        args.insert("force-network-mode".to_owned(), "none".to_owned());
    }
    for (name, context) in &request.contexts {
        let address = match context {
            NamedContext::Files(Location::Directory(_) | Location::Stdin) => {
                format!("local:{name}")
            }
            NamedContext::Files(Location::Url(url)) => redact::text(url),
            NamedContext::Files(Location::Git(url)) => url.shown(),
            NamedContext::Image(reference) => format!("docker-image://{reference}"),
            NamedContext::Layout(_) => format!("oci-layout://{name}"),
        };
        args.insert(format!("context:{name}"), address);
    }
    args
}

/// Returns which files of the caller's a build takes, by the names that BuildKit's frontend has for them.
fn locals(request: &Request) -> Vec<String> {
    let is_local =
        |location: &Location| matches!(location, Location::Directory(_) | Location::Stdin);
    let mut locals = Vec::new();
    if is_local(&request.context) {
        locals.push("context".to_owned());
    }
    let dockerfile = match &request.dockerfile {
        DockerfileLocation::Url(_) => false,
        DockerfileLocation::Stdin => true,
        DockerfileLocation::Default | DockerfileLocation::Path(_) => is_local(&request.context),
    };
    if dockerfile {
        locals.push("dockerfile".to_owned());
    }
    for (name, context) in &request.contexts {
        if matches!(context, NamedContext::Files(location) if is_local(location)) {
            locals.push(name.clone());
        }
    }
    locals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::options as outputs;

    fn wanted(provenance: Option<&str>, output: &str) -> Result<Wanted> {
        let args = AttestArgs {
            provenance: provenance.map(str::to_owned),
            ..AttestArgs::default()
        };
        args.wanted(&[outputs::parse(output).expect("output")])
    }

    #[test]
    fn outputs_that_hold_none_are_refused() {
        for output in [
            "type=docker,dest=x",
            "type=none",
            "type=oci,dest=x,oci-mediatypes=false",
        ] {
            let error = wanted(Some("true"), output).expect_err(output);
            assert_eq!(error.get_kind(), Kind::Usage, "{output}");
            assert!(!wanted(Some("false"), output).expect(output).any());
        }
        for output in [
            "type=oci,dest=x",
            "type=image",
            "type=local,dest=x",
            "type=tar,dest=x",
        ] {
            assert!(wanted(Some("true"), output).expect(output).any());
        }
        assert!(!wanted(None, "type=image").expect("default").any());
    }

    #[test]
    fn metadata_has_as_much_as_buildx_would_write() {
        let of = |value| metadata_mode(&Environment::of(&[("BUILDX_METADATA_PROVENANCE", value)]));
        assert_eq!(metadata_mode(&Environment::of(&[])), Some(Mode::Min));
        assert_eq!(of("min"), Some(Mode::Min));
        assert_eq!(of("max"), Some(Mode::Max));
        assert_eq!(of("disabled"), None);
        assert_eq!(of("false"), None);
    }
}
