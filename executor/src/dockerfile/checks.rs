//! Build checks: which are on, and those that need only the syntax tree.
//!
//! Responsible for the `check` directive (`skip=…;error=…`), also as a comment above one
//! instruction, and for the rules on names and casing. The names are BuildKit's.

use std::collections::HashSet;
use std::ops::Range;

use super::ast::{Dockerfile, Instruction, Kind};
use crate::diagnostics::{Diagnostic, Severity};

/// What a `check` directive says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// `skip=all`.
    pub skip_all: bool,
    /// Names of rules that are off, as written.
    pub skip: Vec<String>,
    /// `error=true`: a finding ends the build.
    pub error: bool,
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true`; findings about it are appended.
    pub(super) fn read(&mut self, value: &str, span: &Range<usize>, found: &mut Vec<Diagnostic>) {
        for option in value.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key.trim().to_ascii_lowercase().as_str(), value.trim()) {
                ("skip", "all") => self.skip_all = true,
                ("skip", names) if !names.is_empty() => self
                    .skip
                    .extend(names.split(',').map(|n| n.trim().to_owned())),
                // No rule here is experimental, so that there is nothing to switch on.
                ("experimental", names) if !names.is_empty() => {}
                ("error", "true" | "1") => self.error = true,
                ("error", "false" | "0") => self.error = false,
                _ => found.push(
                    Diagnostic::error(span.clone(), format!("invalid check option `{option}`"))
                        .hint("write it as `skip=RULE,RULE`, `skip=all` or `error=true`"),
                ),
            }
        }
    }

    fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skip.iter().any(|name| name.eq_ignore_ascii_case(rule))
    }
}

/// The check options of a file and of single instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// From the directive at the top.
    pub file: CheckOptions,
    /// From comments above instructions, in order: the instruction's span and its options.
    pub scoped: Vec<(Range<usize>, CheckOptions)>,
}

impl Checks {
    /// Drops the findings of rules that are switched off where they were found.
    pub fn keep(&self, found: &mut Vec<Diagnostic>) {
        found.retain(|finding| {
            let Some(rule) = finding.rule else {
                return true;
            };
            !self.file.skips(rule)
                && !self
                    .at(finding.span.start)
                    .any(|options| options.skips(rule))
        });
    }

    /// Returns the options above the instruction that contains a place.
    fn at(&self, place: usize) -> impl Iterator<Item = &CheckOptions> {
        let before = self.scoped.partition_point(|(span, _)| span.start <= place);
        self.scoped[..before]
            .iter()
            .rev()
            .take_while(move |(span, _)| place < span.end)
            .map(|(_, options)| options)
    }

    /// Tells whether any of these findings ends the build (`check=error=true`).
    pub fn fails(&self, found: &[Diagnostic]) -> bool {
        self.file.error
            && found
                .iter()
                .any(|d| d.severity == Severity::Warning && d.rule.is_some())
    }
}

/// The casing that a keyword has.
fn casing(keyword: &str) -> Option<Casing> {
    if keyword.bytes().all(|b| b.is_ascii_uppercase()) {
        Some(Casing::Upper)
    } else if keyword.bytes().all(|b| b.is_ascii_lowercase()) {
        Some(Casing::Lower)
    } else {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Casing {
    Upper,
    Lower,
}

/// Runs the rules that need nothing but the tree.
pub(super) fn run(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    check_casing(file, &mut found);
    check_stage_names(file, &mut found);
    for stage in &file.stages {
        check_repetition(&stage.instructions, &mut found);
        for instruction in &stage.instructions {
            check_instruction(instruction, &mut found);
        }
    }
    found.sort_by_key(|d| d.span.start);
    found
}

/// ConsistentInstructionCasing.
fn check_casing(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let keywords: Vec<(&str, Range<usize>)> = file
        .globals
        .iter()
        .chain(file.stages.iter().flat_map(|s| &s.instructions))
        .map(|i| (i.written_keyword(), i.keyword_span.clone()))
        .chain(file.stages.iter().map(|s| {
            let end = s.text.find(char::is_whitespace).unwrap_or(s.text.len());
            (&s.text[..end], s.keyword_span.clone())
        }))
        .collect();
    let count = |wanted| {
        keywords
            .iter()
            .filter(|(k, _)| casing(k) == Some(wanted))
            .count()
    };
    let (majority, name) = if count(Casing::Lower) > count(Casing::Upper) {
        (Casing::Lower, "lowercase")
    } else {
        (Casing::Upper, "uppercase")
    };
    for (keyword, span) in keywords {
        if casing(keyword) != Some(majority) {
            found.push(Diagnostic::warning(
                Some("ConsistentInstructionCasing"),
                span,
                format!(
                    "command `{keyword}` should match the case of the command majority ({name})"
                ),
            ));
        }
    }
}

/// StageNameCasing, FromAsCasing, DuplicateStageName, ReservedStageName.
fn check_stage_names(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for stage in &file.stages {
        let Some(alias) = &stage.alias else {
            continue;
        };
        let name = stage.name.as_deref().unwrap_or_default();
        let mut warn = |rule, span, message| {
            found.push(Diagnostic::warning(Some(rule), span, message));
        };
        if alias.as_str() != name {
            warn(
                "StageNameCasing",
                alias.span(),
                format!("stage name `{}` should be lowercase", alias.as_str()),
            );
        }
        if !seen.insert(name) {
            warn(
                "DuplicateStageName",
                alias.span(),
                format!("duplicate stage name `{name}`, stage names should be unique"),
            );
        }
        if matches!(name, "scratch" | "context") {
            warn(
                "ReservedStageName",
                alias.span(),
                format!("stage name should not use reserved name `{name}`"),
            );
        }
        if let Some(keyword) = &stage.as_keyword {
            let end = stage
                .text
                .find(char::is_whitespace)
                .unwrap_or(stage.text.len());
            let from = &stage.text[..end];
            if casing(from).is_some() && casing(from) != casing(keyword.as_str()) {
                warn(
                    "FromAsCasing",
                    keyword.span(),
                    format!(
                        "`{}` and `{from}` keywords' casing do not match",
                        keyword.as_str()
                    ),
                );
            }
        }
    }
}

/// MultipleInstructionsDisallowed: only the last one of these counts.
fn check_repetition(instructions: &[Instruction], found: &mut Vec<Diagnostic>) {
    let mut last: [Option<&Instruction>; 3] = [None; 3];
    for instruction in instructions {
        let slot = match instruction.kind {
            Kind::Cmd(_) => 0,
            Kind::Entrypoint(_) => 1,
            Kind::Healthcheck(_) => 2,
            _ => continue,
        };
        if let Some(before) = last[slot].replace(instruction) {
            found.push(Diagnostic::warning(
                Some("MultipleInstructionsDisallowed"),
                before.span.clone(),
                format!(
                    "multiple {} instructions should not be used in the same stage because only \
                     the last one will be used",
                    instruction.keyword.name()
                ),
            ));
        }
    }
}

/// MaintainerDeprecated, LegacyKeyValueFormat.
fn check_instruction(instruction: &Instruction, found: &mut Vec<Diagnostic>) {
    match &instruction.kind {
        Kind::Maintainer(_) => found.push(
            Diagnostic::warning(
                Some("MaintainerDeprecated"),
                instruction.keyword_span.clone(),
                "MAINTAINER is deprecated in favor of using a label",
            )
            .hint("write `LABEL org.opencontainers.image.authors=…` instead"),
        ),
        Kind::Env(pairs) | Kind::Label(pairs) if pairs.iter().any(|p| p.legacy) => {
            let name = instruction.keyword.name();
            found.push(Diagnostic::warning(
                Some("LegacyKeyValueFormat"),
                instruction.span.clone(),
                format!("`{name} key=value` should be used instead of legacy `{name} key value`"),
            ));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn rules(source: &str) -> Vec<&'static str> {
        let file = parse(source.as_bytes()).expect(source);
        file.warnings.iter().filter_map(|w| w.rule).collect()
    }

    #[test]
    fn rules_fire() {
        for (source, wanted) in [
            ("FROM a AS b\nRUN c\nCOPY d e\n", &[][..]),
            ("FROM a AS B\n", &["StageNameCasing"]),
            ("FROM a as b\n", &["FromAsCasing"]),
            ("from a as b\n", &[]),
            ("FROM a AS x\nFROM a AS x\n", &["DuplicateStageName"]),
            ("FROM a AS context\n", &["ReservedStageName"]),
            (
                "FROM a\nrun b\nRun c\nRUN d\n",
                &["ConsistentInstructionCasing", "ConsistentInstructionCasing"],
            ),
            (
                "FROM a\nCMD [\"b\"]\nCMD [\"c\"]\n",
                &["MultipleInstructionsDisallowed"],
            ),
            ("FROM a\nMAINTAINER me\n", &["MaintainerDeprecated"]),
            ("FROM a\nENV a b\n", &["LegacyKeyValueFormat"]),
            ("FROM a\nRUN b \\\n\n c\n", &["NoEmptyContinuation"]),
        ] {
            assert_eq!(rules(source), wanted, "{source:?}");
        }
    }

    #[test]
    fn rules_can_be_switched_off() {
        assert!(rules("# check=skip=all\nFROM a AS B\n").is_empty());
        assert!(rules("# check=skip=stagenamecasing,X;error=true\nFROM a AS B\n").is_empty());
        assert_eq!(
            rules("FROM a\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n").len(),
            1
        );
        let file = parse(b"# check=error=true\nFROM a AS B\n").expect("valid");
        assert!(file.checks.fails(&file.warnings));
        let error = parse(b"# check=frob=1\nFROM a\n").expect_err("unknown option");
        assert_eq!(error[0].message, "invalid check option `frob=1`");
    }
}
