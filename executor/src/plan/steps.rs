//! Steps: the instructions of one stage, expanded in order, with the config that results.
//!
//! Responsible for variables, config and history of a stage once its base is known. Invariant: all
//! words of one instruction see the variables from before it.

use std::cell::Cell;
use std::ops::Range;

use serde_json::Value;

use super::copy::Lookup;
use super::history;
use super::path;
use super::scope::{Scope, Variables};
use super::stages::Plan;
use super::step::{Op, StageIndex, Step};
use crate::diagnostics::Diagnostic;
use crate::dockerfile::ast::{ArgPair, Command, Instruction, Keyword, Kind, Pair};
use crate::dockerfile::text::Text;
use crate::dockerfile::words::{Expander, Expansion, Mode};
use crate::dockerfile::{parse_trigger, rules, values};
use crate::error::{Error, Result};
use crate::image::config::{ContainerConfig, ImageConfig};
use crate::image::reference::Reference;
use crate::redact;

/// PATH of an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// SHELL of an image that sets none.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// What a stage starts from, once that is known.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// `FROM scratch`.
    Scratch,
    /// An image, by its config.
    Image(&'a ImageConfig),
    /// An earlier stage, by its lowered form.
    Stage(&'a Lowered),
    /// An image that nobody has looked at: whatever depends on its variables is not judged.
    Unknown,
}

/// A stage, ready to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// What to do, in order. ONBUILD makes no step and no history, as in BuildKit.
    pub steps: Vec<Step>,
    /// MAINTAINER in force at the end.
    pub author: Option<String>,
    /// What deserves attention but stops nothing; without those of the [`Plan`].
    pub warnings: Vec<Diagnostic>,
    /// Stages that are copied from, each once. Triggers of a base image may need more than the
    /// stage's head says, also those that nothing else needs; all come before this stage.
    pub needs: Vec<StageIndex>,
    /// Images that are copied from, each once; see `needs`.
    pub images: Vec<Reference>,
    pub(super) scope: Scope,
    /// The config of the stage's image but for `env` and `labels`, which grow from stage to stage.
    pub(super) config: ContainerConfig,
    env: Variables,
    labels: Variables,
    /// Variables of `env` that an ARG has hidden; they count anew in a stage on this one.
    hidden: Vec<String>,
    has_workdir: bool,
    /// Whether there may be variables that are not in `scope`.
    unknown: bool,
}

impl Lowered {
    /// Returns the config of the stage's image; also right where there are no steps.
    pub fn config(&self) -> ContainerConfig {
        let labels = self.labels.pairs();
        ContainerConfig {
            env: self.env.entries().map(str::to_owned).collect(),
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            ..self.config.clone()
        }
    }
}

/// Expands the instructions of stage `index`, the triggers of its base first.
///
/// # Errors
/// All findings in the stage, as diagnostics of one error.
pub fn lower(plan: &Plan, index: StageIndex, origin: Origin<'_>) -> Result<Lowered> {
    let (lowered, errors) = lower_all(plan, index, origin);
    if errors.is_empty() {
        Ok(lowered)
    } else {
        Err(Error::with_diagnostics("invalid Dockerfile", errors))
    }
}

/// Expands as [`lower`] does, and leaves out the instructions that are wrong.
pub fn lower_all(plan: &Plan, index: StageIndex, origin: Origin<'_>) -> (Lowered, Vec<Diagnostic>) {
    let stage = &plan.file.stages[index];
    let mut lowering = Lowering::start(plan, index, origin);
    if let Origin::Image(image) = origin {
        lowering.check_platform(image);
    }
    let triggers = std::mem::take(&mut lowering.out.config.on_build);
    for trigger in &triggers {
        match parse_trigger(trigger, stage.span.clone()) {
            Ok(instruction) => {
                lowering.trigger = true;
                lowering.instruction(&instruction);
                lowering.trigger = false;
            }
            Err(errors) => lowering.errors.extend(errors.into_iter().map(|mut error| {
                error.message = format!("trigger `{trigger}` of the base: {}", error.message);
                error
            })),
        }
    }
    for instruction in stage.instructions.iter() {
        lowering.instruction(instruction);
    }
    let Lowering {
        mut out,
        mut errors,
        ..
    } = lowering;
    errors.sort_by_key(|e| e.span.start);
    out.warnings.sort_by_key(|w| w.span.start);
    plan.file.checks.keep(&mut out.warnings);
    (out, errors)
}

/// Applies `--label` to the config of the target; later ones win.
pub fn apply_labels(config: &mut ContainerConfig, labels: &[(String, String)]) {
    config.labels.extend(labels.iter().cloned());
}

/// A stage on its way to [`Lowered`].
pub(super) struct Lowering<'a> {
    pub(super) plan: &'a Plan,
    pub(super) index: StageIndex,
    pub(super) out: Lowered,
    errors: Vec<Diagnostic>,
    has_cmd: bool,
    /// Whether the instruction comes from the base.
    pub(super) trigger: bool,
    /// Whether the instruction names a variable that only an unknown base can have.
    guessed: bool,
    /// Where the last CMD, ENTRYPOINT and HEALTHCHECK were.
    once: [Option<Range<usize>>; 3],
}

impl<'a> Lowering<'a> {
    fn start(plan: &'a Plan, index: StageIndex, origin: Origin<'_>) -> Self {
        let unknown = match origin {
            Origin::Unknown => true,
            Origin::Stage(parent) => parent.unknown,
            Origin::Scratch | Origin::Image(_) => plan.lenient,
        };
        let mut out = Lowered {
            steps: Vec::new(),
            author: None,
            warnings: Vec::new(),
            needs: Vec::new(),
            images: Vec::new(),
            scope: Scope::default(),
            config: ContainerConfig::default(),
            env: Variables::default(),
            labels: Variables::default(),
            hidden: Vec::new(),
            has_workdir: false,
            unknown,
        };
        match origin {
            Origin::Scratch | Origin::Unknown => out.config.working_dir = "/".into(),
            Origin::Image(image) => {
                out.config = image.config.clone();
                out.env = Variables::of_image(&std::mem::take(&mut out.config.env));
                for (name, value) in std::mem::take(&mut out.config.labels) {
                    out.labels.set(&name, &value);
                }
                out.scope.variables.extend_env(out.env.entries());
                out.author.clone_from(&image.author);
            }
            Origin::Stage(parent) => {
                out.config = parent.config.clone();
                out.env = parent.env.clone();
                out.labels = parent.labels.clone();
                out.author.clone_from(&parent.author);
                out.scope = parent.scope.clone();
                for name in &parent.hidden {
                    let value = out.env.get(name).unwrap_or_default();
                    out.scope.variables.set(name, value);
                }
                out.has_workdir = parent.has_workdir;
            }
        }
        if out.env.get("PATH").is_none() {
            out.env.set("PATH", DEFAULT_PATH);
            out.scope.variables.set("PATH", DEFAULT_PATH);
        }
        if !out.config.working_dir.is_empty() {
            out.config.working_dir = path::join("/", &out.config.working_dir);
        }
        Self {
            plan,
            index,
            out,
            errors: Vec::new(),
            has_cmd: false,
            trigger: false,
            guessed: false,
            once: [None, None, None],
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        self.guessed = false;
        if let Err(error) = self.dispatch(instruction)
            && !self.guessed
        {
            self.errors.push(error);
        }
    }

    /// InvalidBaseImagePlatform.
    fn check_platform(&mut self, image: &ImageConfig) {
        let stage = &self.plan.file.stages[self.index];
        let Some(head) = self.plan.head(self.index) else {
            return;
        };
        let (wanted, actual) = (&head.platform, &image.platform);
        // Old images say nothing.
        if actual.os.is_empty()
            || (wanted.os == actual.os && wanted.architecture == actual.architecture)
        {
            return;
        }
        let name = stage.base.as_str();
        self.warn(
            "InvalidBaseImagePlatform",
            stage.base.span(),
            format!(
                "Base image {name} was pulled with platform \"{actual}\", expected \"{wanted}\" \
                 for current build"
            ),
        );
    }

    /// MultipleInstructionsDisallowed: only the last one of these counts.
    fn check_once(&mut self, instruction: &Instruction) {
        let slot = match instruction.kind {
            Kind::Cmd(_) => 0,
            Kind::Entrypoint(_) => 1,
            Kind::Healthcheck(_) => 2,
            _ => return,
        };
        if let Some(before) = self.once[slot].replace(instruction.span.clone()) {
            self.warn(
                "MultipleInstructionsDisallowed",
                before,
                format!(
                    "Multiple {} instructions should not be used in the same stage because only \
                     the last one will be used",
                    instruction.written_keyword()
                ),
            );
        }
    }

    /// SecretsUsedInArgOrEnv.
    fn check_secret(&mut self, keyword: &str, written: &Text, name: &str) {
        if rules::is_secret_name(name) {
            self.warn(
                "SecretsUsedInArgOrEnv",
                written.span(),
                format!(
                    "Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")"
                ),
            );
        }
    }

    /// ExposeProtoCasing, ExposeInvalidFormat.
    fn check_port(&mut self, written: &Text, port: &str) {
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol.bytes().any(|b| b.is_ascii_uppercase()) {
            self.warn(
                "ExposeProtoCasing",
                written.span(),
                format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase"),
            );
        }
        // Nothing before the colon is no address and no other port.
        if !matches!(port.rsplit_once(':'), None | Some(("", _))) {
            self.warn(
                "ExposeInvalidFormat",
                written.span(),
                format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, \
                     found '{port}'"
                ),
            );
        }
    }

    fn dispatch(&mut self, instruction: &Instruction) -> Lookup<()> {
        let name = self.display(instruction);
        self.check_once(instruction);
        let (created_by, op) = match &instruction.kind {
            Kind::Add(args) | Kind::Copy(args) => self.copy(instruction, args)?,
            Kind::Arg(pairs) => (self.arg(pairs)?, Op::Config),
            Kind::Cmd(command) => (self.cmd(instruction, command), Op::Config),
            Kind::Entrypoint(command) => (self.entrypoint(instruction, command), Op::Config),
            Kind::Env(pairs) => (self.env(pairs)?, Op::Config),
            Kind::Expose(ports) => (self.expose(ports)?, Op::Config),
            Kind::Healthcheck(check) => {
                self.out.config.healthcheck = Some((**check).clone());
                let text = history::healthcheck(check);
                (format!("HEALTHCHECK {text}"), Op::Config)
            }
            Kind::Label(pairs) => (self.label(pairs)?, Op::Config),
            Kind::Maintainer(author) => {
                self.out.author = Some(author.as_str().to_owned());
                (format!("MAINTAINER {}", author.as_str()), Op::Config)
            }
            Kind::Onbuild(trigger) => {
                self.out.config.on_build.push(trigger.as_str().to_owned());
                return Ok(());
            }
            Kind::Run(args) => self.run(instruction, args)?,
            Kind::Shell(words) => {
                self.out.config.shell = Some(words.clone());
                let text = history::plain_list(words);
                (format!("SHELL {text}"), Op::Config)
            }
            Kind::Stopsignal(signal) => {
                let text = self.expand(signal)?;
                values::check_signal(&text).map_err(|m| Diagnostic::error(signal.span(), m))?;
                self.out.config.stop_signal = Some(text.clone());
                (format!("STOPSIGNAL {text}"), Op::Config)
            }
            Kind::User(user) => {
                let text = self.expand(user)?;
                self.out.config.user.clone_from(&text);
                (format!("USER {text}"), Op::Config)
            }
            Kind::Volume(paths) => (self.volume(paths)?, Op::Config),
            Kind::Workdir(path) => self.workdir(path)?,
        };
        self.out.steps.push(Step {
            span: instruction.span.clone(),
            name,
            created_by,
            author: self.out.author.clone(),
            op,
        });
        Ok(())
    }

    /// Returns the instruction as the progress display has it: on one line, keyword in capitals,
    /// variables replaced. In RUN, where the shell does that, quotes stay and so do unknown ones.
    fn display(&self, instruction: &Instruction) -> String {
        let mode = if instruction.keyword == Keyword::Run {
            Mode::Display
        } else {
            Mode::Plain
        };
        let secrets = match &instruction.kind {
            Kind::Run(args) => super::mounts::secret_variables(&args.mounts),
            _ => Vec::new(),
        };
        let lookup = |name: &str| {
            if secrets.iter().any(|secret| secret == name) {
                return Some("****".to_owned());
            }
            self.lookup(name)
        };
        let text = self
            .expander(mode, &lookup)
            .expand(&instruction.text)
            .map_or_else(|_| instruction.text.clone(), |e| e.text);
        let text = match instruction.keyword {
            Keyword::Add => redact::text(&text),
            _ => text,
        };
        let rest = text.split_once(char::is_whitespace).map_or("", |(_, r)| r);
        let onbuild = if self.trigger { "ONBUILD " } else { "" };
        let keyword = instruction.keyword.name();
        let mut line = String::with_capacity(onbuild.len() + keyword.len() + 1 + rest.len());
        line.push_str(onbuild);
        line.push_str(keyword);
        line.push(' ');
        line.extend(rest.chars().map(|c| if c.is_control() { ' ' } else { c }));
        line.truncate(line.trim_end().len());
        line
    }

    fn lookup(&self, name: &str) -> Option<String> {
        self.out.scope.variables.get(name).map(str::to_owned)
    }

    fn expander<'b>(&self, mode: Mode, lookup: &'b dyn Fn(&str) -> Option<String>) -> Expander<'b> {
        Expander {
            escape: self.plan.file.escape,
            mode,
            lookup,
        }
    }

    fn expand_words(&mut self, text: &Text) -> Lookup<Expansion> {
        self.expand_as(Mode::Plain, self.plan.file.escape, text)
    }

    /// Expands the lines of a here-document, in which quotes are text and the escaping character
    /// is always the backslash.
    pub(super) fn expand_document(&mut self, text: &Text) -> Lookup<String> {
        Ok(self.expand_as(Mode::Document, '\\', text)?.text)
    }

    fn expand_as(&mut self, mode: Mode, escape: char, text: &Text) -> Lookup<Expansion> {
        let missed = Cell::new(false);
        let lookup = |name: &str| {
            let found = self.lookup(name);
            missed.set(missed.get() || found.is_none());
            found
        };
        let expander = Expander {
            escape,
            mode,
            lookup: &lookup,
        };
        let expansion = expander
            .expand(text.as_str())
            .map_err(|e| Diagnostic::error(text.locate(e.range), e.message));
        self.guessed |= self.out.unknown && missed.get();
        let expansion = expansion?;
        for (name, range) in &expansion.undefined {
            let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if is_name && !self.out.scope.is_declared(name) {
                let hint = self.out.scope.variables.suggest(name);
                // A base that nobody has looked at may have it, unless it looks like a slip.
                if self.out.unknown && hint.is_none() {
                    continue;
                }
                let mut warning = Diagnostic::warning(
                    Some("UndefinedVar"),
                    text.locate(range.clone()),
                    format!("Usage of undefined variable '${name}'"),
                );
                warning.hint = hint;
                self.out.warnings.push(warning);
            }
        }
        Ok(expansion)
    }

    /// Expands one word in which quotes are data.
    pub(super) fn expand_raw(&mut self, text: &Text) -> Lookup<String> {
        Ok(self
            .expand_as(Mode::Document, self.plan.file.escape, text)?
            .text)
    }

    /// Expands one word.
    pub(super) fn expand(&mut self, text: &Text) -> Lookup<String> {
        Ok(self.expand_words(text)?.text)
    }

    fn warn(&mut self, rule: &'static str, span: Range<usize>, message: String) {
        self.out
            .warnings
            .push(Diagnostic::warning(Some(rule), span, message));
    }

    fn arg(&mut self, pairs: &[ArgPair]) -> Lookup<String> {
        let mut text = String::from("ARG");
        for pair in pairs {
            let name = &self.expand(&pair.name)?;
            if name.is_empty() {
                let message = "ARG names can't be blank";
                return Err(Diagnostic::error(pair.name.span(), message));
            }
            self.check_secret("ARG", &pair.name, name);
            // A default is not even expanded when it does not count, so that `${x:?}` may stand
            // for "must be given".
            let value = match (self.plan.build_args.get(name), &pair.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.plan.globals.get(name).map(str::to_owned),
            };
            if value.is_some() && self.out.env.get(name).is_some() {
                self.out.hidden.push(name.to_owned());
            }
            self.out.scope.declare(name, value.as_deref());
            text.push(' ');
            text.push_str(name);
            if let Some(value) = value {
                text.push('=');
                text.push_str(&value);
            }
        }
        Ok(text)
    }

    /// Expands names and values, all with the variables from before the instruction.
    fn pairs(&mut self, keyword: Keyword, pairs: &[Pair]) -> Lookup<Vec<(String, String)>> {
        pairs
            .iter()
            .map(|pair| {
                let name = self.expand(&pair.name)?;
                if name.is_empty() {
                    let message = format!("{} names can't be blank", keyword.name());
                    return Err(Diagnostic::error(pair.name.span(), message));
                }
                Ok((name, self.expand(&pair.value)?))
            })
            .collect()
    }

    fn env(&mut self, pairs: &[Pair]) -> Lookup<String> {
        let mut text = String::from("ENV");
        let expanded = self.pairs(Keyword::Env, pairs)?;
        for (pair, (name, value)) in pairs.iter().zip(expanded) {
            self.check_secret("ENV", &pair.name, &name);
            self.out.env.set(&name, &value);
            text.push_str(&format!(" {name}={value}"));
            self.out.scope.variables.set(&name, &value);
        }
        Ok(text)
    }

    fn label(&mut self, pairs: &[Pair]) -> Lookup<String> {
        let mut text = String::from("LABEL");
        for (name, value) in self.pairs(Keyword::Label, pairs)? {
            text.push_str(&format!(" {name}={value}"));
            self.out.labels.set(&name, &value);
        }
        Ok(text)
    }

    fn expose(&mut self, words: &[Text]) -> Lookup<String> {
        let mut all = Vec::new();
        for word in words {
            let Expansion { text, words, .. } = self.expand_words(word)?;
            for port in words.into_iter().map(|range| &text[range]) {
                let ports = values::parse_ports(port)
                    .map_err(|message| Diagnostic::error(word.span(), message))?;
                self.check_port(word, port);
                all.extend(ports);
            }
        }
        let ports = &mut self.out.config.exposed_ports;
        ports.extend(all.iter().map(|p| (p.clone(), serde_json::Map::new())));
        Ok(format!("EXPOSE {}", history::plain_list(&all)))
    }

    fn volume(&mut self, words: &[Text]) -> Lookup<String> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(word)?;
            if path.is_empty() {
                return Err(Diagnostic::error(
                    word.span(),
                    "a VOLUME can't be an empty string",
                ));
            }
            paths.push(path);
        }
        let volumes = &mut self.out.config.volumes;
        volumes.extend(paths.iter().map(|p| (p.clone(), serde_json::Map::new())));
        Ok(format!("VOLUME {}", history::plain_list(&paths)))
    }

    fn workdir(&mut self, written: &Text) -> Lookup<(String, Op)> {
        let text = self.expand(written)?;
        if !self.out.has_workdir && !text.starts_with('/') {
            self.warn(
                "WorkdirRelativePath",
                written.span(),
                format!(
                    "Relative workdir \"{text}\" can have unexpected results if the base image \
                     changes"
                ),
            );
        }
        self.out.has_workdir = true;
        let path = path::join(&self.out.config.working_dir, &text);
        self.out.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        let op = if path == "/" {
            Op::Config
        } else {
            let user = self.out.config.user.clone();
            Op::Workdir { path, user }
        };
        Ok((created_by, op))
    }

    /// Returns the argument vector of a command; the shell form goes behind SHELL.
    pub(super) fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => {
                let shell = self.out.config.shell.clone().filter(|s| !s.is_empty());
                let mut argv = shell.unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec());
                argv.push(line.clone());
                argv
            }
        }
    }

    fn recommend_json(&mut self, instruction: &Instruction, command: &Command) {
        let has_shell = self
            .out
            .config
            .shell
            .as_ref()
            .is_some_and(|s| !s.is_empty());
        if matches!(command, Command::Shell(_)) && !has_shell {
            self.warn(
                "JSONArgsRecommended",
                instruction.span.clone(),
                format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to \
                     OS signals",
                    instruction.written_keyword()
                ),
            );
        }
    }

    fn cmd(&mut self, instruction: &Instruction, command: &Command) -> String {
        self.recommend_json(instruction, command);
        let argv = self.argv(command);
        let created_by = format!("CMD {}", history::quoted_list(&argv));
        self.out.config.cmd = Some(argv).filter(|a| !a.is_empty());
        // Docker's extension key, which BuildKit sets with each CMD.
        let extra = &mut self.out.config.extra;
        extra.insert("ArgsEscaped".into(), Value::Bool(true));
        self.has_cmd = true;
        created_by
    }

    fn entrypoint(&mut self, instruction: &Instruction, command: &Command) -> String {
        self.recommend_json(instruction, command);
        let argv = self.argv(command);
        let created_by = format!("ENTRYPOINT {}", history::quoted_list(&argv));
        self.out.config.entrypoint = Some(argv).filter(|a| !a.is_empty());
        // An inherited CMD was made for another program.
        if !self.has_cmd {
            self.out.config.cmd = None;
        }
        created_by
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
