//! Stages: which are needed, from what they start, and in which order they come.
//!
//! Responsible for the global scope, FROM, `--target` and the graph that FROM and `COPY --from`
//! make. Invariant: each head of a [`Plan`] comes after all those it needs, which also have smaller
//! indices, so that there are no cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::contexts::{Contexts, NamedContext};
use super::entitlements::Entitlements;
use super::globals;
use super::scope::Variables;
use super::step::{Base, CopyFrom, StageHead, StageIndex};
use crate::diagnostics::Diagnostic;
use crate::dockerfile::ast::{Dockerfile, Kind, Stage};
use crate::dockerfile::checks::Checks;
use crate::dockerfile::text::Text;
use crate::dockerfile::words::Expansion;
use crate::dockerfile::{mounts, parse_trigger, suggest};
use crate::error::{Error, Result};
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// How many errors get a suggestion.
const MOST_HINTS: usize = 20;

/// What the caller asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--target`: a stage's name or index; the last stage without it.
    pub target: Option<String>,
    /// `--build-arg`, in order; `None` for a bare name that the environment does not have.
    pub build_args: Vec<(String, Option<String>)>,
    /// The platform to build for.
    pub platform: Platform,
    /// The platform that RUN steps run on.
    pub build_platform: Platform,
    /// What RUN steps may ask for.
    pub entitlements: Entitlements,
    /// `--build-context`, by [normalized](super::contexts::normalize) name; one for a platform
    /// only has that after `::`.
    pub contexts: BTreeMap<String, NamedContext>,
}

impl Options {
    /// Returns the build arguments that have a value; the last one counts.
    pub(super) fn given(&self) -> BTreeMap<String, String> {
        let args = self.build_args.iter();
        args.filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }
}

/// What has to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stages that the target needs, each after those it needs itself; the target is last.
    pub heads: Vec<StageHead>,
    /// The stage to build.
    pub target: StageIndex,
    /// Stages that the target does not need, as far as is known before bases are: their triggers
    /// may name one.
    pub spare: Vec<StageHead>,
    /// Why stages are not among `spare`.
    pub(super) broken: BTreeMap<StageIndex, Vec<Diagnostic>>,
    /// What deserves attention but stops nothing, those of the Dockerfile included.
    pub warnings: Vec<Diagnostic>,
    pub(super) file: Dockerfile,
    pub(super) globals: Variables,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) entitlements: Entitlements,
    pub(super) contexts: Contexts,
    /// Whether the tree has gaps, so that what is missing may be in one of them.
    pub(super) lenient: bool,
}

impl Plan {
    /// Returns which build checks are on.
    pub fn checks(&self) -> &Checks {
        &self.file.checks
    }

    /// Returns a stage's head, needed or not.
    pub(super) fn head(&self, index: StageIndex) -> Option<&StageHead> {
        let find = |heads: &'_ [StageHead]| heads.binary_search_by_key(&index, |h| h.index).ok();
        match find(&self.heads) {
            Some(at) => self.heads.get(at),
            None => self.spare.get(find(&self.spare)?),
        }
    }

    /// Returns what is wrong with the heads of a stage and of those that it needs.
    pub(super) fn broken(&self, index: StageIndex) -> Option<&Diagnostic> {
        if self.broken.is_empty() {
            return None;
        }
        // Many ways may lead to one stage: each is looked at once.
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![index]);
        while let Some(index) = ahead.pop() {
            if !seen.insert(index) {
                continue;
            }
            if let Some(wrong) = self.broken.get(&index) {
                return wrong.first();
            }
            // Later ones are an error of their own.
            let needs = self.head(index).map_or(&[][..], |head| &head.needs);
            ahead.extend(needs.iter().rev().filter(|needed| **needed < index));
        }
        None
    }

    /// Returns how many stages the Dockerfile has, needed or not.
    pub fn stage_count(&self) -> usize {
        self.file.stages.len()
    }
}

/// Finds what has to be built.
///
/// # Errors
/// All findings about FROM, `COPY --from` and `--target`, as diagnostics of one error.
pub fn resolve(file: &Dockerfile, options: &Options) -> Result<Plan> {
    let target = find_target(file, options.target.as_deref())?;
    let (plan, errors) = resolve_all(file, options, target, Extent::default());
    if errors.is_empty() {
        Ok(plan)
    } else {
        Err(Error::with_diagnostics("invalid Dockerfile", errors))
    }
}

/// How much of a Dockerfile is resolved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    /// Also the stages that the target does not need.
    pub(super) every_stage: bool,
    /// The tree has gaps: what could be in one of them is not missed.
    pub(super) lenient: bool,
}

/// Resolves what can be resolved, and returns what is wrong with the rest.
pub(super) fn resolve_all(
    file: &Dockerfile,
    options: &Options,
    target: StageIndex,
    extent: Extent,
) -> (Plan, Vec<Diagnostic>) {
    let mut replaced = file.clone();
    let mut resolver = Resolver {
        file,
        options,
        extent,
        globals: Variables::default(),
        build_args: options.given(),
        errors: Vec::new(),
        warnings: file.warnings.clone(),
        broken: BTreeMap::new(),
        contexts: Contexts::default(),
    };
    resolver.globals = globals::collect(
        file,
        options,
        &resolver.build_args,
        target,
        &mut resolver.errors,
    );
    if !options.contexts.is_empty() {
        let platforms = file
            .stages
            .iter()
            .map(|stage| resolver.likely_platform(stage));
        let contexts = Contexts::new(options.contexts.clone(), platforms.collect());
        contexts.replace(&mut replaced);
        resolver.contexts = contexts;
    }
    resolver.file = &replaced;
    let (heads, spare) = resolver.heads(target);
    resolver.check_froms();
    resolver.warn_args();
    let Resolver {
        globals,
        build_args,
        mut errors,
        mut warnings,
        contexts,
        broken,
        ..
    } = resolver;
    errors.sort_by_key(|e| e.span.start);
    file.checks.keep(&mut warnings);
    warnings.sort_by_key(|w| w.span.start);
    let plan = Plan {
        heads,
        target,
        spare,
        broken,
        warnings,
        file: replaced,
        globals,
        build_args,
        entitlements: options.entitlements.clone(),
        contexts,
        lenient: extent.lenient,
    };
    (plan, errors)
}

pub(super) fn find_target(file: &Dockerfile, target: Option<&str>) -> Result<StageIndex> {
    let Some(target) = target else {
        return Ok(file.stages.len() - 1);
    };
    let name = target.to_lowercase();
    let found = file
        .stages
        .iter()
        .rposition(|s| s.name.as_deref() == Some(name.as_str()))
        .or_else(|| target.parse().ok().filter(|i| *i < file.stages.len()));
    found.ok_or_else(|| {
        let error = Error::new(format!("the target stage `{target}` could not be found"));
        let names: Vec<&str> = stage_names(file).collect();
        match suggest::hint(target, names.iter().copied()) {
            Some(hint) => error.hint(hint),
            None if names.is_empty() => error.hint("no stage has a name: `FROM image AS name`"),
            None => error.hint(format!("the stages are: {}", names.join(", "))),
        }
    })
}

pub(super) fn stage_names(file: &Dockerfile) -> impl Iterator<Item = &str> {
    file.stages.iter().filter_map(|s| s.name.as_deref())
}

/// What `--from` means in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A stage before this one, or an image.
    Found(CopyFrom),
    /// This stage or a later one.
    NotYet(StageIndex),
}

/// Finds what `--from` means in stage `index`; the error says why it means nothing.
pub(super) fn find_source(
    file: &Dockerfile,
    contexts: &Contexts,
    index: StageIndex,
    from: &Text,
) -> Result<Source, Diagnostic> {
    let text = from.as_str();
    let place = |found: StageIndex| {
        if found < index {
            Source::Found(CopyFrom::Stage(found))
        } else {
            Source::NotYet(found)
        }
    };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<usize>() {
            Ok(number) if number < file.stages.len() => {
                // What a context replaces is there from the beginning.
                let name = file.stages[number]
                    .name
                    .as_deref()
                    .filter(|_| number >= index);
                let replaced = name.and_then(|name| contexts.source(number, name));
                Ok(replaced.map_or_else(|| place(number), Source::Found))
            }
            _ => Err(
                Diagnostic::error(from.span(), format!("there is no stage number {text}"))
                    .hint(format!("the last one is {}", file.stages.len() - 1)),
            ),
        };
    }
    let name = text.to_lowercase();
    let is_it = |s: &Stage| s.name.as_deref() == Some(name.as_str());
    if let Some(found) = file.stages[..index].iter().rposition(is_it) {
        return Ok(place(found));
    }
    if let Some(found) = contexts.source(index, text) {
        return Ok(Source::Found(found));
    }
    if let Some(found) = file.stages.iter().position(is_it) {
        return Ok(place(found));
    }
    if name == "scratch" {
        return Err(Diagnostic::error(
            from.span(),
            "there is nothing in `scratch` to copy",
        ));
    }
    match text.parse::<Reference>() {
        Ok(reference) => Ok(Source::Found(CopyFrom::Image(reference))),
        Err(error) => {
            let mut finding = Diagnostic::error(from.span(), error.chain());
            finding.hint = suggest::hint(&name, stage_names(file));
            Err(finding)
        }
    }
}

pub(super) struct Resolver<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) options: &'a Options,
    extent: Extent,
    pub(super) globals: Variables,
    pub(super) build_args: BTreeMap<String, String>,
    errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    broken: BTreeMap<StageIndex, Vec<Diagnostic>>,
    contexts: Contexts,
}

/// A stage's needs, and where in the Dockerfile each is stated.
#[derive(Debug, Default)]
struct Needs {
    stages: BTreeMap<StageIndex, Range<usize>>,
    images: BTreeSet<Reference>,
}

impl Resolver<'_> {
    fn expand(&mut self, text: &Text) -> Option<Expansion> {
        globals::expand(self.file, &self.globals, text)
            .map_err(|error| self.errors.push(error))
            .ok()
    }

    /// Expands a word of FROM and warns of variables that the global scope does not have.
    fn expand_from(&mut self, text: &Text) -> Option<Expansion> {
        let expansion = self.expand(text)?;
        for (name, range) in &expansion.undefined {
            if !globals::declares(self.file, name) {
                let mut warning = Diagnostic::warning(
                    Some("UndefinedArgInFrom"),
                    text.locate(range.clone()),
                    format!("FROM argument '{name}' is not declared"),
                );
                warning.hint = self.globals.suggest(name);
                self.warnings.push(warning);
            }
        }
        Some(expansion)
    }

    /// Says how to give a variable of FROM the value that it lacks.
    fn missing(&self, undefined: &[(String, Range<usize>)]) -> Option<String> {
        let (name, _) = undefined.first()?;
        self.globals.suggest(name).or_else(|| {
            Some(format!(
                "`{name}` has no value: pass `--build-arg {name}=…`, or give it a default before \
                 FROM"
            ))
        })
    }

    fn heads(&mut self, target: StageIndex) -> (Vec<StageHead>, Vec<StageHead>) {
        let file = self.file;
        let mut bases = Vec::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let base = self.base(index, stage);
            bases.push(base);
        }
        let all: Vec<Needs> = bases
            .iter()
            .enumerate()
            .map(|(index, base)| self.needs(index, base.as_ref().map(|(base, _)| base)))
            .collect();
        let wanted = if self.extent.every_stage {
            (0..file.stages.len()).collect()
        } else {
            reachable(&all, target)
        };
        let (mut heads, mut spare) = (Vec::new(), Vec::new());
        for (index, base) in bases.into_iter().enumerate() {
            let Some(base) = base else {
                continue;
            };
            if wanted.contains(&index) {
                heads.extend(self.head(index, base, &all));
                continue;
            }
            // What is wrong with it matters only if it turns out to be needed.
            let (errors, warnings) = (self.errors.len(), self.warnings.len());
            let head = self.head(index, base, &all);
            self.warnings.truncate(warnings);
            let wrong = self.errors.split_off(errors);
            match head {
                Some(head) if wrong.is_empty() => spare.push(head),
                _ => drop(self.broken.insert(index, wrong)),
            }
        }
        (heads, spare)
    }

    fn head(
        &mut self,
        index: StageIndex,
        (base, text): (Base, String),
        all: &[Needs],
    ) -> Option<StageHead> {
        let stage = &self.file.stages[index];
        let needs = &all[index];
        for (found, span) in needs.stages.range(index..) {
            let findings = self.not_yet(all, index, *found, span.clone());
            self.errors.extend(findings);
        }
        let platform = self.platform(stage)?;
        let alias = stage
            .alias
            .as_ref()
            .map_or_else(String::new, |a| format!(" AS {}", a.as_str()));
        Some(StageHead {
            index,
            name: stage.name.clone(),
            base,
            platform,
            span: stage.span.clone(),
            display: format!("FROM {text}{alias}"),
            needs: needs.stages.keys().copied().collect(),
            images: needs.images.iter().cloned().collect(),
        })
    }

    /// Returns what a stage starts from, and that name expanded.
    fn base(&mut self, index: StageIndex, stage: &Stage) -> Option<(Base, String)> {
        if let Some(name) = &stage.name
            && let Some(base) = self.contexts.base(index, name)
        {
            return Some((base, name.clone()));
        }
        let expansion = self.expand_from(&stage.base)?;
        let text = &expansion.text;
        if self.extent.lenient && !expansion.undefined.is_empty() {
            return None;
        }
        if text.is_empty() {
            let mut error = Diagnostic::error(
                stage.base.span(),
                format!("the base name `{}` is empty", stage.base.as_str()),
            );
            error.hint = self.missing(&expansion.undefined);
            self.errors.push(error);
            return None;
        }
        let name = text.to_lowercase();
        let earlier = self.file.stages[..index]
            .iter()
            .rposition(|s| s.name.as_deref() == Some(name.as_str()));
        let named = match earlier {
            Some(_) => None,
            None if text == "scratch" => None,
            None => self.contexts.base(index, text),
        };
        let base = match (earlier, named) {
            (Some(found), _) => Base::Stage(found),
            (None, Some(named)) => named,
            (None, None) if text == "scratch" => Base::Scratch,
            (None, None) => match text.parse::<Reference>() {
                Ok(reference) => Base::Image(reference),
                Err(error) => {
                    let mut finding = Diagnostic::error(stage.base.span(), error.chain());
                    // Comparing each with all others takes long where all are wrong.
                    if self.errors.len() < MOST_HINTS {
                        finding.hint = self
                            .missing(&expansion.undefined)
                            .or_else(|| suggest::hint(&name, stage_names(self.file)));
                    }
                    self.errors.push(finding);
                    return None;
                }
            },
        };
        Some((base, expansion.text))
    }

    fn needs(&mut self, index: StageIndex, base: Option<&Base>) -> Needs {
        let mut needs = Needs::default();
        let file = self.file;
        let stage = &file.stages[index];
        if let Some(Base::Stage(parent)) = base {
            needs.stages.insert(*parent, stage.base.span());
            // The triggers of a stage's base stage run in it, so that what they need it needs.
            for instruction in file.stages[*parent].instructions.iter() {
                if let Kind::Onbuild(trigger) = &instruction.kind {
                    match parse_trigger(trigger.as_str(), trigger.span()) {
                        Ok(instruction) => self.copy_needs(index, &instruction.kind, &mut needs),
                        Err(mut errors) => self.errors.append(&mut errors),
                    }
                }
            }
        }
        for instruction in stage.instructions.iter() {
            self.copy_needs(index, &instruction.kind, &mut needs);
        }
        needs
    }

    fn copy_needs(&mut self, index: StageIndex, kind: &Kind, needs: &mut Needs) {
        match kind {
            Kind::Copy(copy) => {
                if let Some(from) = &copy.from {
                    self.source_needs(index, from, needs);
                }
            }
            Kind::Run(run) => {
                for mount in &run.mounts {
                    match mounts::parse(mount) {
                        Ok(fields) => {
                            if let Some(from) = mounts::from_of(&fields) {
                                self.source_needs(index, from, needs);
                            }
                        }
                        Err(error) => self.errors.push(error),
                    }
                }
            }
            _ => {}
        }
    }

    fn source_needs(&mut self, index: StageIndex, from: &Text, needs: &mut Needs) {
        match find_source(self.file, &self.contexts, index, from) {
            Ok(Source::NotYet(stage) | Source::Found(CopyFrom::Stage(stage))) => {
                needs.stages.entry(stage).or_insert_with(|| from.span());
            }
            Ok(Source::Found(CopyFrom::Image(reference))) => {
                let named = self.contexts.source(index, from.as_str()).is_some();
                let near = suggest::hint(from.as_str(), stage_names(self.file));
                if let Some(hint) = near.filter(|_| !named) {
                    self.warnings.push(
                        Diagnostic::warning(
                            None,
                            from.span(),
                            format!("`{}` is no stage: taking it as an image", from.as_str()),
                        )
                        .hint(hint),
                    );
                }
                needs.images.insert(reference);
            }
            Ok(Source::Found(CopyFrom::Context | CopyFrom::Named(_))) => {}
            Err(error) => self.errors.push(error),
        }
    }

    fn label(&self, index: StageIndex) -> String {
        match &self.file.stages[index].name {
            Some(name) => name.clone(),
            None => format!("number {index}"),
        }
    }

    /// Says why stage `index` can't copy from `found`, which does not come before it; of a circle,
    /// also where its other parts are.
    fn not_yet(
        &self,
        all: &[Needs],
        index: StageIndex,
        found: StageIndex,
        span: Range<usize>,
    ) -> Vec<Diagnostic> {
        let label = self.label(found);
        if found == index {
            let message = format!("stage `{label}` can't copy from itself");
            return vec![Diagnostic::error(span, message)];
        }
        let Some(path) = path_between(all, found, index) else {
            let message = format!("stage `{label}` is used before it is defined");
            return vec![Diagnostic::error(span, message).hint("move it before this stage")];
        };
        let names: Vec<String> = std::iter::once(&index)
            .chain(&path)
            .map(|i| format!("`{}`", self.label(*i)))
            .collect();
        let whole = format!("the stages need each other: {}", names.join(" needs "));
        let others = path
            .windows(2)
            .zip(names[1..].windows(2))
            .map(|(pair, names)| {
                let place = all[pair[0]].stages[&pair[1]].clone();
                Diagnostic::error(
                    place,
                    format!("of the same circle: {}", names.join(" needs ")),
                )
            });
        std::iter::once(Diagnostic::error(span, whole))
            .chain(others)
            .collect()
    }

    /// Returns a stage's platform, or what is taken for it where that is wrong.
    fn likely_platform(&self, stage: &Stage) -> Platform {
        let expanded = stage.platform.as_ref().and_then(|written| {
            let expansion = globals::expand(self.file, &self.globals, written).ok()?;
            expansion.text.parse().ok()
        });
        expanded.unwrap_or_else(|| self.options.platform.clone())
    }

    fn platform(&mut self, stage: &Stage) -> Option<Platform> {
        let Some(written) = &stage.platform else {
            return Some(self.options.platform.clone());
        };
        let expansion = self.expand_from(written)?;
        if self.extent.lenient && !expansion.undefined.is_empty() {
            return None;
        }
        if expansion.text.is_empty() {
            let mut error = Diagnostic::error(
                written.span(),
                format!("the platform `{}` is empty", written.as_str()),
            );
            error.hint = self.missing(&expansion.undefined);
            self.errors.push(error);
            return None;
        }
        let platform: Platform = match expansion.text.parse() {
            Ok(platform) => platform,
            Err(error) => {
                self.errors
                    .push(Diagnostic::error(written.span(), error.chain()));
                return None;
            }
        };
        Some(platform)
    }
}

/// Returns the stages that one needs, itself included.
fn reachable(all: &[Needs], target: StageIndex) -> BTreeSet<StageIndex> {
    let mut found = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if found.insert(index) {
            open.extend(all[index].stages.keys());
        }
    }
    found
}

/// Returns a way from one stage to another along their needs, both included.
fn path_between(all: &[Needs], from: StageIndex, to: StageIndex) -> Option<Vec<StageIndex>> {
    let mut came_from: BTreeMap<StageIndex, StageIndex> = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([from]);
    while let Some(index) = open.pop_front() {
        if index == to {
            let mut path = vec![to];
            while let Some(before) = came_from.get(path.last()?) {
                path.push(*before);
            }
            path.reverse();
            return Some(path);
        }
        for next in all[index].stages.keys() {
            if *next != from && !came_from.contains_key(next) {
                came_from.insert(*next, index);
                open.push_back(*next);
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
