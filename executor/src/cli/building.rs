//! Carries out `sandcrab build`.
//!
//! Responsible for the way from a request to a stored image and its outputs: Dockerfile, context,
//! plan, build, outputs, in that order. Must not know how any of them works. Invariant: whatever
//! happens, the session's unfinished work is removed and the display finished before the error
//! is shown.

use std::path::Path;
use std::sync::mpsc;

use super::ahead::{self, Ahead};
use super::attesting::Attester;
use super::build::{Args, Request};
use super::caches::Exporter;
use super::dates;
use super::desk::{self, Desk};
use super::environment::Environment;
use super::exit::{Failure, Source};
use super::input::Input;
use super::names::provided_files;
use super::outputs::Outputs;
use super::{Global, registries, requests, streams, units, warnings as found};
use crate::attest::record::Record;
use crate::attest::sbom::Package;
use crate::attest::statement::Predicate;
use crate::build::attested::{Wanted, scan};
use crate::build::base::Images;
use crate::build::contexts::{self, Contexts};
use crate::build::fetch::Fetcher;
use crate::build::imports::Imports;
use crate::build::mounts::secrets::Secrets;
use crate::build::once::Once;
use crate::build::sources::Sources;
use crate::build::squash::squash;
use crate::build::ssh::Agents;
use crate::build::state::State;
use crate::build::trees::Trees;
use crate::build::worker::Worker;
use crate::build::{self, Build, Told};
use crate::cache::exchange::format::{self, StepResult};
use crate::cancel::Cancel;
use crate::context::access::Access;
use crate::context::{self, Context, DockerfileText, OpenRequest, Origin};
use crate::diagnostics::{self, Diagnostic};
use crate::dockerfile;
use crate::dockerfile::checks::Checks;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::output::options::Target;
use crate::plan::{self, Extents, platform};
use crate::progress::Mode;
use crate::progress::event::Sender;
use crate::registry::Registry;
use crate::store::lock::Session;

/// The most that one layer of a base image may unpack to, in bytes.
pub(super) const MAX_LAYER: u64 = 1 << 40;

/// Host name in the sandboxes of a build.
const HOSTNAME: &str = "sandcrab";

/// Where ssh keeps the hosts that its user knows, in the home directory.
const KNOWN_HOSTS: &str = ".ssh/known_hosts";

/// Builds and returns the exit code.
pub(super) fn run(args: Args, global: &Global, environment: &Environment) -> Result<u8, Failure> {
    let settings = global.settings(environment, Some(args.registry()), args.jobs())?;
    let isolation = args.isolation();
    let request = args.request(environment)?;
    if let Some(call) = request.call {
        return requests::run(call, &request, environment);
    }
    let secrets = request.secrets.read(environment)?;
    let mut desk = Desk::start(settings, isolation)?;
    let worker = desk.worker()?;
    let session = desk.store()?.session()?;
    session.check_attributes()?;
    let registry = registries::client(&desk.settings, environment, &desk.cancel);
    let ssh = request.ssh.start(|| session.scratch().fresh("keys"))?;
    let access = access(&request, environment, &secrets, &ssh.agents, &desk.cancel);
    let mut source = None;
    let result = desk.show("Building", request.progress, environment, |progress| {
        let building = Building {
            request: &request,
            desk: &desk,
            worker: &worker,
            session: &session,
            registry: &registry,
            secrets: &secrets,
            agents: &ssh.agents,
            access: &access,
            progress,
        };
        building.run(&mut source)
    })?;
    let trimmed = trim(&request, &session, &worker);
    let cleared = desk::clear(&session, &worker);
    match result {
        Ok(finished) => {
            trimmed.and(cleared)?;
            tell(&request, environment, source.as_ref(), &finished)?;
            Ok(0)
        }
        Err(error) => {
            // Their processes end with the worker at the latest.
            drop(worker);
            // The build's error is the one that explains; a later build tries again.
            drop(request.steps.confinement.remove_abandoned_groups());
            Err(Failure {
                error: desk.cancel.settle(error),
                source,
            })
        }
    }
}

/// Removes cache mounts until those that stay take no more than was asked for.
fn trim(request: &Request, session: &Session, worker: &Worker) -> Result<()> {
    let Some(limit) = request.caches.mount_space else {
        return Ok(());
    };
    worker.cancel().check()?;
    let mounts = session.store().cache_mounts();
    let gone = mounts.trim(session, limit, &|paths| desk::measure(worker, paths))?;
    for (found, bytes) in gone {
        if !request.quiet {
            let (name, size) = (found.name, units::size(bytes));
            streams::complain(&format!(
                "note: cache mount `{name}` ({size}) was removed: --cache-mount-space\n"
            ));
        }
    }
    Ok(())
}

/// What the build of all platforms has made.
struct Built {
    states: Vec<State>,
    records: Vec<Record>,
    steps: Vec<StepResult>,
    warnings: Vec<Diagnostic>,
}

/// What is left to say when everything is done.
struct Finished {
    id: Option<String>,
    warnings: Vec<Diagnostic>,
}

fn tell(
    request: &Request,
    environment: &Environment,
    source: Option<&Source>,
    finished: &Finished,
) -> Result<()> {
    if request.quiet {
        let id = finished.id.iter().map(|id| format!("{id}\n"));
        return streams::write_data(id.collect::<String>().as_bytes());
    }
    if let (Some(source), false, false) = (
        source,
        finished.warnings.is_empty(),
        matches!(request.progress, Mode::Quiet | Mode::RawJson),
    ) {
        let colour = streams::colour(environment);
        streams::complain(&diagnostics::render(
            &finished.warnings,
            &source.name,
            &source.text,
            colour,
            streams::columns(),
        ));
    }
    Ok(())
}

/// Reads the Dockerfile with the build arguments that control how.
pub(super) fn parse(request: &Request, text: &[u8]) -> dockerfile::Parsed {
    dockerfile::read(
        text,
        &dockerfile::BuildArgs {
            syntax: given(request, platform::SYNTAX),
            check: given(request, platform::DOCKERFILE_CHECK),
        },
    )
}

/// Returns a build argument's value.
fn given<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request.build_args.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// Returns what the planner has to know.
pub(super) fn options(request: &Request) -> plan::Options {
    let args = request.build_args.iter();
    plan::Options {
        target: request.target.clone(),
        build_args: args.map(|(n, v)| (n.clone(), Some(v.clone()))).collect(),
        platform: request.platform.clone(),
        build_platform: crate::image::platform::Platform::host(),
        entitlements: request.steps.entitlements.clone(),
        contexts: request.contexts.clone(),
    }
}

/// Returns how what is elsewhere is fetched. As in BuildKit, repositories that are contexts come without
/// `.git` unless an argument asks for it.
pub(super) fn access(
    request: &Request,
    environment: &Environment,
    secrets: &Secrets,
    agents: &Agents,
    cancel: &Cancel,
) -> Access {
    let keep = given(request, platform::KEEP_GIT_DIR);
    let secrets = secrets.ids().filter_map(|id| Some((id, secrets.get(id)?)));
    let mut access = Access::new(secrets);
    access.ssh_agent = agents.for_git().map(Path::to_path_buf);
    access.known_hosts = (environment.get("HOME")).map(|home| Path::new(&home).join(KNOWN_HOSTS));
    access.keep_git_dir =
        keep.is_some_and(|v| matches!(v, "1" | "true" | "t" | "T" | "TRUE" | "True"));
    access.cancel = cancel.clone();
    access
}

/// Ends the build when `check=error=true` says that findings do.
fn refuse(checks: &Checks, found: &[Diagnostic]) -> Result<()> {
    let rules = checks.failed(found);
    if rules.is_empty() {
        return Ok(());
    }
    let error = Error::with_diagnostics(
        format!("lint violation found for rules: {}", rules.join(", ")),
        found.iter().filter(|d| d.rule.is_some()).cloned().collect(),
    );
    Err(error.hint("mend what they name, or leave `error=true` out of the `check` directive"))
}

struct Building<'a> {
    request: &'a Request,
    desk: &'a Desk,
    worker: &'a Worker,
    session: &'a Session,
    registry: &'a Registry,
    secrets: &'a Secrets,
    agents: &'a Agents,
    access: &'a Access,
    progress: &'a Sender,
}

impl Building<'_> {
    fn run(&self, source: &mut Option<Source>) -> Result<Finished> {
        let (context, dockerfile) = self.open_context()?;
        let file = source.insert(Source {
            name: dockerfile.name,
            text: dockerfile.bytes,
        });
        let origin = dockerfile.origin;
        let request = &Request {
            epoch: dates::settle(self.request, &file.text)?,
            ..self.request.clone()
        };
        Building { request, ..*self }.build(&context, file, origin.as_ref())
    }

    fn build(&self, context: &Context, file: &Source, origin: Option<&Origin>) -> Result<Finished> {
        let request = self.request;
        let started = self.now();
        let identity = contexts::identity(&request.context);
        let known = self.session.cache().stats(identity.as_bytes());
        let access = self.access;
        let contexts = Contexts::new(&request.contexts, self.session, self.progress, access);
        let (session, progress) = (self.session, self.progress);
        let sources = Sources::new(context, known, &contexts, session, progress, access);
        let cancel = &self.desk.cancel;
        let fetcher = Fetcher::new(self.session, self.registry, self.progress, cancel);
        let trees = Trees::new(
            self.session,
            self.worker,
            self.progress,
            &fetcher,
            MAX_LAYER,
        );
        let caches = &request.caches;
        let imports = Imports::new(session, self.registry, progress, &fetcher, &caches.sources);
        let images = Images::new(self.session, self.registry, self.progress, request.pull);
        let hostname = given(request, platform::SANDBOX_HOSTNAME)
            .filter(|name| !name.is_empty())
            .unwrap_or(HOSTNAME);
        let settings = build::Settings {
            no_cache: request.no_cache,
            no_cache_filter: request.result.no_cache_filter.clone(),
            several: request.platforms.len() > 1,
            network: request.network,
            files: provided_files(hostname, &request.steps.names),
            hostname: hostname.into(),
            hosts: request.steps.host_names(hostname, HOSTNAME),
            secrets: self.secrets.clone(),
            agents: self.agents.clone(),
            confinement: request.steps.confinement.clone(),
            devices: request.steps.device_directories.clone(),
            entitlements: request.steps.entitlements.clone(),
            now: self.now(),
            epoch: request.epoch,
            without_user: request.result.without_user,
        };
        let once = Once::default();
        let attempt = |layers: Option<&mpsc::Sender<Told>>| -> Result<Built> {
            let mut states = Vec::new();
            let mut records = Vec::new();
            let mut steps = Vec::new();
            let mut warnings: Vec<Diagnostic> = Vec::new();
            // One after the other: what they share, the later ones find in the cache.
            for platform in &request.platforms {
                let plan = self.plan(&file.text, context, platform)?;
                let mut built = Build {
                    plan: &plan,
                    session: self.session,
                    worker: self.worker,
                    progress: self.progress,
                    trees: &trees,
                    images: &images,
                    sources: &sources,
                    contexts: &contexts,
                    imports: &imports,
                    fetcher: &fetcher,
                    once: &once,
                    settings: &settings,
                    jobs: self.desk.settings.jobs.get(),
                    layers,
                    labels: &request.labels,
                }
                .run()?;
                refuse(plan.checks(), &built.warnings)?;
                for warning in built.warnings {
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
                format::strip(&mut built.state.config);
                if caches.is_inline() {
                    format::embed(&mut built.state.config, &built.steps);
                }
                states.push(built.state);
                records.push(built.record);
                steps.append(&mut built.steps);
            }
            self.need(&states, &trees, &fetcher)?;
            Ok(Built {
                states,
                records,
                steps,
                warnings,
            })
        };
        let ahead = Ahead {
            session,
            registry: self.registry,
            progress,
            cancel,
            wanted: ahead::wanted(request),
        };
        let built =
            ahead.during(|layers| self.without_lost(&imports, &fetcher, || attempt(layers)));
        let saved = sources.save();
        // On a full disk both fail, and the build's own error is the one that explains.
        let Built {
            states,
            records,
            steps,
            warnings,
        } = built?;
        saved?;
        let parsed = parse(request, &file.text);
        let documents = found::documents(file, &parsed.file, &warnings);
        for document in &documents {
            self.progress.finding(document.clone());
        }
        // Caches have the layers as they were made.
        let mut results = states.clone();
        for state in &mut results {
            if request.result.squash {
                let (session, worker) = (self.session, self.worker);
                squash(state, session, worker, &trees, self.progress, request.epoch)?;
            }
            if request.result.omit_history {
                state.config.history.clear();
            }
        }
        let attester = Attester::new(
            request,
            self.secrets,
            context,
            (&file.name, &file.text, origin),
            (started, self.now()),
            request.epoch.is_none().then(|| self.invocation()),
        );
        let records = records.iter();
        let packages = self.packages(&results, &trees)?;
        let predicates: Vec<Vec<Predicate>> = records
            .clone()
            .zip(&packages)
            .map(|(record, packages)| {
                attester.predicates(&request.attests, record, packages, &self.title())
            })
            .collect();
        let metadata_mode = request
            .metadata_provenance
            .filter(|_| request.metadata_file.is_some());
        let told = metadata_mode.map(|mode| {
            let told = records.map(|record| attester.for_metadata(mode, record));
            told.collect()
        });
        let outputs = Outputs {
            request,
            desk: self.desk,
            worker: self.worker,
            session: self.session,
            registry: self.registry,
            progress: self.progress,
            fetcher: &fetcher,
            trees: &trees,
            states: &results,
            predicates: &predicates,
            provenance: told.unwrap_or_default(),
            warnings: if request.metadata_warnings {
                &documents
            } else {
                &[]
            },
        };
        let id = outputs.make()?.map(|id| id.to_string());
        let exporter = Exporter {
            registry: self.registry,
            session,
            fetcher: &fetcher,
            progress,
            cancel,
        };
        for target in &caches.targets {
            exporter.write(target, &steps, &states)?;
        }
        Ok(Finished { id, warnings })
    }

    /// Builds; again where a cache has promised what is lost by now, without it.
    fn without_lost(
        &self,
        imports: &Imports<'_>,
        fetcher: &Fetcher<'_>,
        attempt: impl Fn() -> Result<Built>,
    ) -> Result<Built> {
        loop {
            let error = match attempt() {
                Ok(built) => return Ok(built),
                Err(error) => error,
            };
            let lost = fetcher.take_lost();
            if lost.is_empty() {
                return Err(error);
            }
            self.desk.cancel.forgive();
            self.desk.cancel.check()?;
            imports.distrust(lost);
        }
    }

    /// Has the layers that outputs read in the store; of the others it is at least known where they
    /// are.
    fn need(&self, states: &[State], trees: &Trees<'_>, fetcher: &Fetcher<'_>) -> Result<()> {
        let outputs = || self.request.outputs.iter().map(|output| &output.target);
        let whole = outputs().any(|target| matches!(target, Target::Archive { .. }));
        let files = outputs().any(|target| matches!(target, Target::Local { .. } | Target::Tar(_)));
        for state in states {
            let layers = state.layers.iter().map(|layer| &layer.blob);
            let unknown = layers.clone().filter(|blob| !fetcher.is_known(blob));
            fetcher.bring(unknown, "the result")?;
            if whole {
                fetcher.bring(layers, "the result")?;
            }
            if files {
                trees.lowers(&state.layers, "the result")?;
            }
        }
        Ok(())
    }

    fn open_context(&self) -> Result<(Context, DockerfileText)> {
        let name = "[internal] load build definition and context";
        let vertex = self.progress.start(name);
        let opened = context::open(OpenRequest {
            location: &self.request.context,
            dockerfile: &self.request.dockerfile,
            stdin: &mut Input::standard(&self.desk.cancel)?,
            tmp: self.session.scratch().dir(),
            access: self.access,
        });
        let opened = opened.map_err(|error| self.desk.cancel.settle(error));
        match &opened {
            Ok(_) => vertex.done(),
            Err(error) => vertex.fail(error),
        }
        opened
    }

    /// Finds what has to be built, or everything that is wrong as far as it shows by now.
    fn plan(&self, text: &[u8], context: &Context, platform: &Platform) -> Result<plan::Plan> {
        let parsed = parse(self.request, text);
        self.request.result.check_stages(&parsed.file)?;
        let options = plan::Options {
            platform: platform.clone(),
            ..options(self.request)
        };
        let excluded = |path: &str| context.excludes(std::path::Path::new(path));
        let mut found = plan::survey(&parsed, &options, Extents::Target, &excluded);
        if let Some(error) = found.error() {
            return Err(error);
        }
        let mut plan = plan::resolve(&parsed.file, &options)?;
        // What a base that is not known yet may make right is judged when it is known.
        found.warnings.retain(|w| w.rule != Some("UndefinedVar"));
        refuse(plan.checks(), &found.warnings)?;
        found.warnings.retain(|w| w.rule == Some("CopyIgnoredFile"));
        plan.warnings.append(&mut found.warnings);
        Ok(plan)
    }

    /// Lists the packages of each image, where that is wanted.
    fn packages(&self, states: &[State], trees: &Trees<'_>) -> Result<Vec<Vec<Package>>> {
        if self.request.attests.sbom.is_none() {
            return Ok(vec![Vec::new(); states.len()]);
        }
        let list = |state: &State| {
            let vertex = self.progress.start("[internal] list packages");
            match scan(state, self.session, self.worker, trees, Wanted::Packages) {
                Ok(found) => {
                    found.notes.into_iter().for_each(|note| vertex.warn(note));
                    vertex.done();
                    Ok(found.packages)
                }
                Err(error) => {
                    vertex.fail(&error);
                    Err(error)
                }
            }
        };
        states.iter().map(list).collect()
    }

    /// Returns what an SBOM calls the image.
    fn title(&self) -> String {
        let outputs = self.request.outputs.iter().flat_map(|output| &output.names);
        let mut names = self.request.tags.iter().chain(outputs);
        names
            .next()
            .map_or_else(|| "image".to_owned(), Reference::familiar)
    }

    /// Returns a name for what is done now that nothing else has.
    fn invocation(&self) -> String {
        let scratch = self.session.scratch().dir().display().to_string();
        let text = format!("{scratch} {}", jiff::Timestamp::now());
        Digest::of(text.as_bytes()).hex()[..32].to_owned()
    }

    /// Returns the date of what is built now, as RFC 3339.
    fn now(&self) -> String {
        let fixed = self
            .request
            .epoch
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        fixed.unwrap_or_else(jiff::Timestamp::now).to_string()
    }
}
