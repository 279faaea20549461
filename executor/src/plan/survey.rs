//! Surveys: everything that can be said about a Dockerfile before anything is fetched or run.
//!
//! Responsible for errors of the parser, of the stages and of all steps in one list, and for the
//! build checks. Must not look at images or files: a base that is not known is not judged.
//! Invariant: it never panics, whatever the tree.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::path;
use super::stages::{Extent, Options, Plan, find_target, resolve_all};
use super::step::{Base, Copy, CopyFrom, Op, StageIndex};
use super::steps::{Lowered, Origin, lower_all};
use crate::diagnostics::Diagnostic;
use crate::dockerfile::Parsed;
use crate::dockerfile::ast::Keyword;
use crate::dockerfile::values::{self, SourceKind};
use crate::error::Error;

/// How many errors are reported.
const MOST_ERRORS: usize = 100;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extents {
    /// The stages that the target needs.
    Target,
    /// These when a target is named, else every stage.
    All,
}

/// What was found.
#[derive(Debug)]
pub struct Survey {
    /// The plan; without a stage there is none. It may have gaps when there are errors.
    pub plan: Option<Plan>,
    /// The stages, as far as they are right.
    pub stages: BTreeMap<StageIndex, Lowered>,
    /// All errors, in order.
    pub errors: Vec<Diagnostic>,
    /// All warnings, in order.
    pub warnings: Vec<Diagnostic>,
    /// Why the target is none.
    pub target: Option<Error>,
}

impl Survey {
    /// Returns the errors as one, if there are any.
    pub fn error(&mut self) -> Option<Error> {
        if self.errors.is_empty() {
            return self.target.take();
        }
        let errors = std::mem::take(&mut self.errors);
        let mut error = Error::with_diagnostics("invalid Dockerfile", errors);
        if let Some(target) = self.target.take() {
            error = error.diagnostic(Diagnostic::error(0..0, target.chain()));
        }
        Some(error)
    }
}

impl Survey {
    /// Returns the value of an argument in the global scope.
    pub fn global(&self, name: &str) -> Option<String> {
        let plan = self.plan.as_ref()?;
        plan.globals.get(name).map(str::to_owned)
    }

    /// Returns the value of an argument at the end of a stage.
    pub fn argument(&self, stage: StageIndex, name: &str) -> Option<String> {
        let lowered = self.stages.get(&stage)?;
        lowered.scope.variables.get(name).map(str::to_owned)
    }
}

/// Looks at a Dockerfile. `excluded` tells whether an ignore file leaves out a path.
pub fn survey(
    parsed: &Parsed,
    options: &Options,
    extents: Extents,
    excluded: &dyn Fn(&str) -> bool,
) -> Survey {
    let file = &parsed.file;
    let mut survey = Survey {
        plan: None,
        stages: BTreeMap::new(),
        errors: parsed.errors.clone(),
        warnings: Vec::new(),
        target: None,
    };
    let Some(last) = file.stages.len().checked_sub(1) else {
        survey.warnings.clone_from(&file.warnings);
        return survey;
    };
    let target = find_target(file, options.target.as_deref()).unwrap_or_else(|error| {
        survey.target = Some(error);
        last
    });
    let extent = Extent {
        every_stage: extents == Extents::All && options.target.is_none(),
        lenient: !parsed.errors.is_empty(),
    };
    let (plan, mut errors) = resolve_all(file, options, target, extent);
    errors.retain(|new| parsed.errors.iter().all(|known| known.span != new.span));
    survey.warnings.clone_from(&plan.warnings);
    let mut found = Vec::new();
    for head in &plan.heads {
        let origin = match &head.base {
            Base::Scratch => Origin::Scratch,
            Base::Stage(parent) => survey
                .stages
                .get(parent)
                .map_or(Origin::Unknown, Origin::Stage),
            _ => Origin::Unknown,
        };
        let (lowered, mut wrong) = lower_all(&plan, head.index, origin);
        // What is wrong with a place is said once.
        let known = parsed.errors.iter().chain(&errors).map(|e| &e.span);
        let known: HashSet<&Range<usize>> = known.collect();
        wrong.retain(|new| !known.contains(&new.span));
        drop(known);
        errors.append(&mut wrong);
        found.extend(lowered.warnings.iter().cloned());
        for step in &lowered.steps {
            if let Op::Copy(copy) = &step.op {
                check_ignored(copy, excluded, &mut found);
            }
        }
        survey.stages.insert(head.index, lowered);
    }
    plan.checks().keep(&mut found);
    survey.warnings.append(&mut found);
    survey.warnings.sort_by_key(|w| w.span.start);
    survey.warnings.dedup();
    survey.errors.append(&mut errors);
    // What is about the whole file comes last.
    survey
        .errors
        .sort_by_key(|e| (e.span.is_empty(), e.span.start));
    survey.errors.dedup();
    let more = survey.errors.len().saturating_sub(MOST_ERRORS);
    if more > 0 {
        survey.errors.truncate(MOST_ERRORS);
        let text = format!("and {more} more errors");
        survey.errors.push(Diagnostic::error(0..0, text));
    }
    survey.plan = Some(plan);
    survey
}

/// CopyIgnoredFile.
fn check_ignored(copy: &Copy, excluded: &dyn Fn(&str) -> bool, found: &mut Vec<Diagnostic>) {
    if copy.from != CopyFrom::Context {
        return;
    }
    for source in &copy.sources {
        let super::step::CopySourceKind::Word(word) = &source.kind else {
            continue;
        };
        let cleaned = path::clean(word);
        // Both are the whole context.
        let path = match cleaned.trim_start_matches('/') {
            "" => ".",
            path => path,
        };
        if values::source_kind(word) != SourceKind::Local || !excluded(path) {
            continue;
        }
        let (verb, keyword) = if copy.add {
            ("Add", Keyword::Add)
        } else {
            ("Copy", Keyword::Copy)
        };
        let hint = match path {
            "." => "re-include what it is to take with lines that begin with `!`".to_owned(),
            path => {
                let keyword = keyword.name();
                format!("re-include it with a line `!{path}`, or leave the {keyword} out")
            }
        };
        found.push(
            Diagnostic::warning(
                Some("CopyIgnoredFile"),
                source.span.clone(),
                format!(
                    "Attempting to {verb} file \"{cleaned}\" that is excluded by .dockerignore"
                ),
            )
            .hint(hint),
        );
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
