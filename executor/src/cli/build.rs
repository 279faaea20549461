//! `sandcrab build`: the arguments, and what they mean together.
//!
//! Responsible for the command line that docker's, podman's and buildah's users know, and for
//! turning it into a [`Request`]. Must not read the context or build anything. Invariant: a
//! `Request` is free of contradictions that can be seen without looking at files.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::attesting::{self, AttestArgs};
use super::caches::{CacheArgs, CacheRequest};
use super::choices::{IsolationChoice, NetworkChoice, ProgressChoice};
use super::dates;
use super::environment::Environment;
use super::inputs::InputArgs;
use super::requests::{Call, RequestArgs};
use super::results::{ResultArgs, ResultOptions};
use super::secrets::{SecretArgs, SecretRequest};
use super::ssh::{SshArgs, SshRequest};
use super::steps::{StepArgs, StepOptions};
use super::{RegistryArgs, streams, warnings};
use crate::attest;
use crate::attest::options::Wanted;
use crate::build::base::PullPolicy;
use crate::context::location::{DockerfileLocation, Location, is_http};
use crate::error::{Error, Kind, Result};
use crate::image::annotations::Annotations;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::output::options::{self, Dest, ImageTarget, Output, Target};
use crate::plan::contexts::NamedContext;
use crate::plan::platform::SOURCE_DATE_EPOCH;
use crate::plan::step::Network;
use crate::progress::Mode;

const EXAMPLES: &str = "\
Examples:
  sandcrab build -t hello .
  sandcrab build -f docker/Dockerfile --target test --build-arg VERSION=1.2 .
  sandcrab build -t registry.example.com/app:1 --push .
  sandcrab build -o type=oci,dest=app.tar,compression=zstd .
  tar -c src Dockerfile | sandcrab build -t app -";

/// The command line of `build`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory with the files to build from, a git repository, or the URL of an archive; `-` for a
    /// tar archive or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT")]
    context: String,

    /// Dockerfile to use, or its URL; `-` for standard input [default: Dockerfile in the context,
    /// else Containerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Set a build argument; without a value it is taken from the environment. SOURCE_DATE_EPOCH,
    /// also without this option, is the date of the image and the latest one of files in its layers
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,

    /// Platforms to build for, with commas between, or `local`; several make an index. Steps for other
    /// processors need qemu-user-static
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// When to fetch base images: always, missing or never
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_value = "missing",
        default_missing_value = "always",
        hide_default_value = true
    )]
    pull: String,

    /// Name the image; can be given several times
    #[arg(
        short,
        long = "tag",
        value_name = "NAME[:TAG]",
        help_heading = "Result"
    )]
    tags: Vec<String>,

    /// Add a label to the image
    #[arg(long = "label", value_name = "NAME=VALUE", help_heading = "Result")]
    labels: Vec<String>,

    /// Also write the result elsewhere: type=oci|docker|tar|local|registry|image|none and, after
    /// commas, dest=PATH, compression=gzip|estargz|zstd|uncompressed, compression-level=N, name=NAME and
    /// more
    #[arg(short, long = "output", value_name = "OUTPUT", help_heading = "Result")]
    outputs: Vec<String>,

    /// Push the image to the registries of its names
    #[arg(long, help_heading = "Result")]
    push: bool,

    /// Accepted for docker's sake: the image is always kept in the store
    #[arg(long, help_heading = "Result")]
    load: bool,

    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    iidfile: Option<PathBuf>,

    /// Write digests and names of the result to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    metadata_file: Option<PathBuf>,

    /// Run every step again, whatever the cache has
    #[arg(long, help_heading = "Steps")]
    no_cache: bool,

    /// Network of RUN steps
    #[arg(
        long,
        value_enum,
        value_name = "NETWORK",
        default_value = "default",
        help_heading = "Steps"
    )]
    network: NetworkChoice,

    /// User ids of RUN steps; `sandcrab doctor` tells what there is to choose from
    #[arg(
        long,
        value_enum,
        value_name = "ISOLATION",
        default_value = "auto",
        help_heading = "Steps"
    )]
    isolation: IsolationChoice,

    /// How many steps run at the same time [default: one per processor]
    #[arg(short, long, value_name = "N", help_heading = "Steps")]
    jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    results: ResultArgs,

    #[command(flatten)]
    attests: AttestArgs,

    #[command(flatten)]
    inputs: InputArgs,

    #[command(flatten)]
    caches: CacheArgs,

    #[command(flatten)]
    steps: StepArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    ssh: SshArgs,

    #[command(flatten)]
    requests: RequestArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    /// How progress is shown [default: auto]
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        help_heading = "Display",
        hide_default_value = true
    )]
    progress: Option<ProgressChoice>,

    /// Show errors only, and print the image's id
    #[arg(short, long, help_heading = "Display")]
    quiet: bool,
}

/// What is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Where the files come from.
    pub context: Location,
    /// Where the Dockerfile comes from.
    pub dockerfile: DockerfileLocation,
    /// What stands for stages and images, by normalized name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Stage to build, by name or number.
    pub target: Option<String>,
    /// Build arguments that have a value; a later one wins.
    pub build_args: Vec<(String, String)>,
    /// What else holds for the result.
    pub result: ResultOptions,
    /// What is attested about the image.
    pub attests: Wanted,
    /// How much `metadata_file` tells of the making of the image.
    pub metadata_provenance: Option<attest::options::Mode>,
    /// Whether `metadata_file` has the findings about the Dockerfile.
    pub metadata_warnings: bool,
    /// Annotations of the image wherever it goes.
    pub annotations: Annotations,
    /// The date of the result in seconds, as far as the command line and the environment say; the
    /// Dockerfile may have a default.
    pub epoch: Option<i64>,
    /// Platform to build for.
    pub platform: Platform,
    /// All platforms to build for, `platform` being the first.
    pub platforms: Vec<Platform>,
    /// Whether the result is an index, as it is of several platforms and of attested images.
    pub index: bool,
    /// When base images are looked up.
    pub pull: PullPolicy,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// Labels in the order given.
    pub labels: Vec<(String, String)>,
    /// What else is made of the result; `--push` is one of them.
    pub outputs: Vec<Output>,
    /// File for the image's id.
    pub iidfile: Option<PathBuf>,
    /// File for the metadata.
    pub metadata_file: Option<PathBuf>,
    /// Whether cached results are left aside.
    pub no_cache: bool,
    /// Caches that are shared with others.
    pub caches: CacheRequest,
    /// Network of the steps that don't ask for one.
    pub network: Network,
    /// What else holds for RUN steps.
    pub steps: StepOptions,
    /// What steps may use of the caller's.
    pub secrets: SecretRequest,
    /// Which ssh agents they may use.
    pub ssh: SshRequest,
    /// What is asked instead of a build.
    pub call: Option<Call>,
    /// How progress is shown.
    pub progress: Mode,
    /// Whether the image's id is printed, and nothing else.
    pub quiet: bool,
}

impl Args {
    /// Returns the chosen isolation.
    pub(super) fn isolation(&self) -> IsolationChoice {
        self.isolation
    }

    /// Returns how many steps may run at once.
    pub(super) fn jobs(&self) -> Option<NonZeroUsize> {
        self.jobs
    }

    /// Returns the registry options.
    pub(super) fn registry(&self) -> &RegistryArgs {
        &self.registry
    }

    /// Works out what is to be built.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming what is wrong or not supported yet.
    pub(super) fn request(self, environment: &Environment) -> Result<Request> {
        let context = Location::parse(&self.context)?;
        let dockerfile = match self.file {
            None => DockerfileLocation::Default,
            Some(path) if path.as_os_str() == "-" => DockerfileLocation::Stdin,
            Some(path) => match path.to_str().filter(|text| is_http(text)) {
                Some(url) => DockerfileLocation::Url(url.to_owned()),
                None => DockerfileLocation::Path(path),
            },
        };
        if context == Location::Stdin && dockerfile == DockerfileLocation::Stdin {
            return Err(
                usage("context and Dockerfile can't both come from standard input").hint(
                    "a bare Dockerfile on standard input needs no -f: `sandcrab build - < FILE`",
                ),
            );
        }
        let tags = self
            .tags
            .iter()
            .map(|tag| parse_tag(tag))
            .collect::<Result<Vec<_>>>()?;
        let mut outputs = outputs_of(&self.outputs, self.push, &tags)?;
        if self.quiet && outputs.iter().any(|o| goes_to_stdout(&o.target)) {
            return Err(usage("--quiet prints the id where the output should go")
                .hint("write the output to a file, or leave --quiet out"));
        }
        let from_environment = match self.progress {
            None | Some(ProgressChoice::Auto) => environment.progress()?,
            Some(_) => None,
        };
        let chosen = self.progress.map_or(Mode::Auto, Mode::from);
        let from_files = self.inputs.arguments(environment)?;
        let build_args = build_args(from_files, &self.build_args, environment)?;
        let progress = match (self.quiet, chosen) {
            (true, Mode::Auto) => Mode::Quiet,
            (_, chosen) => streams::settle(from_environment.unwrap_or(chosen), environment),
        };
        let platforms = platforms(self.platform.as_deref())?;
        let attests = self.attests.wanted(&outputs)?;
        let index = is_index(&platforms, &build_args) || attests.any();
        let result = self.results.options()?;
        let annotations = self.results.annotate(&mut outputs, &platforms, index)?;
        nothing_of_none(&outputs, &tags, &self.iidfile, &self.metadata_file)?;
        Ok(Request {
            context,
            dockerfile,
            contexts: self.inputs.contexts()?,
            target: self.target,
            epoch: self.results.date(dates::epoch(&build_args)?, &outputs)?,
            annotations,
            attests,
            metadata_provenance: attesting::metadata_mode(environment),
            metadata_warnings: warnings::wanted(environment),
            result,
            build_args,
            platform: platforms.first().cloned().unwrap_or_else(Platform::host),
            index,
            platforms,
            pull: pull_policy(&self.pull)?,
            tags,
            labels: labels(&self.labels)?,
            outputs,
            iidfile: self.iidfile,
            metadata_file: self.metadata_file,
            no_cache: self.no_cache,
            caches: self.caches.request(environment)?,
            network: self.network.network(),
            steps: self.steps.options(self.network)?,
            secrets: self.secrets.request(environment)?,
            ssh: self.ssh.request(environment)?,
            call: self.requests.call()?,
            progress,
            quiet: self.quiet,
        })
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

fn parse_tag(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
    if reference.digest.is_some() {
        return Err(usage(format!(
            "a name for the result can't have a digest: `{text}`"
        )));
    }
    Ok(reference)
}

fn outputs_of(texts: &[String], push: bool, tags: &[Reference]) -> Result<Vec<Output>> {
    let mut outputs = texts
        .iter()
        .map(|text| options::parse(text))
        .collect::<Result<Vec<_>>>()?;
    if push {
        let mut found = false;
        for output in &mut outputs {
            if let Target::Image(target) = &mut output.target {
                (target.push, found) = (true, true);
            }
        }
        if !found {
            outputs.push(Output::of(Target::Image(ImageTarget::PUSH)));
        }
    }
    let pushed = |o: &Output| matches!(o.target, Target::Image(ImageTarget { push: true, .. }));
    let nameless = |o: &Output| pushed(o) && o.names.is_empty();
    if tags.is_empty() && outputs.iter().any(nameless) {
        return Err(usage("an image without a name can't be pushed").hint("name it with -t NAME"));
    }
    if outputs.iter().filter(|o| goes_to_stdout(&o.target)).count() > 1 {
        return Err(usage("only one output can go to standard output"));
    }
    let mut taken: Vec<&Path> = Vec::new();
    for path in outputs.iter().filter_map(|o| destination(&o.target)) {
        if taken.contains(&path) && !path.starts_with("/dev") {
            return Err(usage(format!("two outputs go to `{}`", path.display()))
                .hint("give each its own dest=PATH"));
        }
        taken.push(path);
    }
    Ok(outputs)
}

/// Refuses what an image is needed for when none is made.
fn nothing_of_none(
    outputs: &[Output],
    tags: &[Reference],
    iidfile: &Option<PathBuf>,
    metadata_file: &Option<PathBuf>,
) -> Result<()> {
    if outputs.is_empty() || outputs.iter().any(|o| o.target != Target::None) {
        return Ok(());
    }
    let wanted = [
        ("--tag", !tags.is_empty()),
        ("--iidfile", iidfile.is_some()),
        ("--metadata-file", metadata_file.is_some()),
    ];
    match wanted.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(usage(format!(
            "output type=none makes no image, so `{flag}` has nothing to be of"
        ))),
        None => Ok(()),
    }
}

/// Returns the file or directory that an output makes.
fn destination(target: &Target) -> Option<&Path> {
    match target {
        Target::Local { dest, .. } => Some(dest),
        Target::Tar(Dest::Path(path))
        | Target::Archive {
            dest: Dest::Path(path),
            ..
        } => Some(path),
        _ => None,
    }
}

fn goes_to_stdout(target: &Target) -> bool {
    matches!(
        target,
        Target::Tar(Dest::Stdout)
            | Target::Archive {
                dest: Dest::Stdout,
                ..
            }
    )
}

/// Resolves `NAME=VALUE`, and `NAME` from the environment: one that is not set there stays unset.
/// They win over those of files, of which the last counts.
fn build_args(
    from_files: Vec<(String, String)>,
    given: &[String],
    environment: &Environment,
) -> Result<Vec<(String, String)>> {
    let mut args: Vec<(String, String)> = Vec::new();
    for (name, value) in from_files {
        args.retain(|(known, _)| *known != name);
        args.push((name, value));
    }
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), from_environment(text, environment)?),
        };
        if name.is_empty() {
            return Err(usage(format!("build argument without a name: `{text}`")));
        }
        if let Some(value) = value {
            args.retain(|(known, _)| known != name);
            args.push((name.to_owned(), value));
        }
    }
    // As buildx does it: what holds for a whole shell holds for the Dockerfiles built in it.
    if !args.iter().any(|(known, _)| known == SOURCE_DATE_EPOCH)
        && let Some(value) = from_environment(SOURCE_DATE_EPOCH, environment)?
    {
        args.push((SOURCE_DATE_EPOCH.to_owned(), value));
    }
    Ok(args)
}

/// Looks up a variable that the user named.
pub(super) fn from_environment(name: &str, environment: &Environment) -> Result<Option<String>> {
    environment
        .verbatim(name)
        .map(|value| {
            value
                .into_string()
                .map_err(|_| usage(format!("environment variable `{name}` is not valid UTF-8")))
        })
        .transpose()
}

fn labels(given: &[String]) -> Result<Vec<(String, String)>> {
    given
        .iter()
        .map(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            if name.is_empty() {
                return Err(usage(format!("label without a name: `{text}`")));
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Reads `--platform`: one or several, each once.
fn platforms(given: Option<&str>) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for text in given.unwrap_or("local").split(',') {
        let platform = match text.trim() {
            "local" => Platform::host(),
            text => text.parse().map_err(|e: Error| e.kind(Kind::Usage))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Tells whether the result is an index: of several platforms, or as BUILDKIT_MULTI_PLATFORM asks.
fn is_index(platforms: &[Platform], build_args: &[(String, String)]) -> bool {
    let asked = build_args
        .iter()
        .find(|(name, _)| name == "BUILDKIT_MULTI_PLATFORM");
    platforms.len() > 1 || asked.is_some_and(|(_, value)| matches!(value.as_str(), "1" | "true"))
}

/// Parses `--pull`: docker's boolean or podman's word.
pub(super) fn pull_policy(text: &str) -> Result<PullPolicy> {
    match text {
        "always" | "true" => Ok(PullPolicy::Always),
        "missing" | "false" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(usage(format!("--pull can't be `{other}`"))
            .hint("it is one of always, missing and never")),
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
