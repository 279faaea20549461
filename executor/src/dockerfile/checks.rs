//! Build checks: which are on, and those that need only the syntax tree.
//!
//! Responsible for the `check` directive (`skip=…;error=…`), also as a comment above one
//! instruction, and for the rules on names and casing. The names are BuildKit's.

use std::collections::HashSet;
use std::ops::Range;

use super::ast::{Dockerfile, Instruction, Kind};
use super::{rules, suggest};
use crate::diagnostics::{Diagnostic, Severity};

/// What a `check` directive says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// `skip=`: which rules are off.
    pub skip: Names,
    /// `experimental=`: which experimental rules are on.
    pub experimental: Names,
    /// `error=true`: a finding ends the build.
    pub error: bool,
}

/// Names of rules, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn has(&self, rule: &str) -> bool {
        self.all || self.names.iter().any(|name| name == rule)
    }

    fn read(value: &str, span: &Range<usize>, found: &mut Vec<Diagnostic>) -> Self {
        if value == "all" {
            return Self {
                all: true,
                names: Vec::new(),
            };
        }
        let names: Vec<String> = value.split(',').map(|n| n.trim().to_owned()).collect();
        for name in &names {
            if rules::find(name).is_none() {
                let mut finding = Diagnostic::warning(
                    None,
                    span.clone(),
                    format!("no build check is called `{name}`"),
                );
                finding.hint = suggest::hint(name, rules::RULES.iter().map(|r| r.name));
                found.push(finding);
            }
        }
        Self { all: false, names }
    }
}

/// Returns the value of a `check` directive in a comment.
pub(super) fn directive(comment: &str) -> Option<&str> {
    let (key, value) = comment.split_once('=')?;
    key.trim_end()
        .eq_ignore_ascii_case("check")
        .then(|| value.trim())
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true`; findings about it are appended.
    pub(super) fn read(&mut self, value: &str, span: &Range<usize>, found: &mut Vec<Diagnostic>) {
        for option in value.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key.trim(), value.trim()) {
                ("skip", names) if !names.is_empty() => {
                    self.skip = Names::read(names, span, found);
                }
                ("experimental", names) if !names.is_empty() => {
                    self.experimental = Names::read(names, span, found);
                }
                // As strconv.ParseBool has it.
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => self.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => self.error = false,
                _ => found.push(
                    Diagnostic::error(span.clone(), format!("invalid check option `{option}`"))
                        .hint("write it as `skip=RULE,RULE`, `skip=all` or `error=true`"),
                ),
            }
        }
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
    /// Drops the findings of rules that are off where they were found.
    pub fn keep(&self, found: &mut Vec<Diagnostic>) {
        found.retain(|finding| {
            let Some(rule) = finding.rule else {
                return true;
            };
            let mut options = std::iter::once(&self.file).chain(self.at(finding.span.start));
            if rules::find(rule).is_some_and(|rule| rule.experimental) {
                options.any(|options| options.experimental.has(rule))
            } else {
                !options.any(|options| options.skip.has(rule))
            }
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

    /// Returns the rules among these findings when they end the build (`check=error=true`), each
    /// once.
    pub fn failed(&self, found: &[Diagnostic]) -> Vec<&'static str> {
        let mut rules: Vec<&'static str> = Vec::new();
        if self.file.error {
            for finding in found.iter().filter(|d| d.severity == Severity::Warning) {
                rules.extend(finding.rule.filter(|rule| !rules.contains(rule)));
            }
        }
        rules
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
    check_descriptions(file, &mut found);
    for stage in &file.stages {
        for instruction in stage.instructions.iter() {
            check_instruction(instruction, &mut found);
        }
    }
    found.sort_by_key(|d| d.span.start);
    found
}

/// ConsistentInstructionCasing.
fn check_casing(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    // ARGs before the first FROM don't count, as in BuildKit.
    let keywords: Vec<(&str, Range<usize>)> = file
        .stages
        .iter()
        .flat_map(|s| s.instructions.iter())
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
                    "Command '{keyword}' should match the case of the command majority ({name})"
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
                format!("Stage name '{}' should be lowercase", alias.as_str()),
            );
        }
        if !seen.insert(name) {
            warn(
                "DuplicateStageName",
                alias.span(),
                format!("Duplicate stage name \"{name}\", stage names should be unique"),
            );
        }
        if matches!(name, "scratch" | "context") {
            warn(
                "ReservedStageName",
                alias.span(),
                format!("Stage name should not use the same name as reserved stage \"{name}\""),
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
                        "'{}' and '{from}' keywords' casing do not match",
                        keyword.as_str()
                    ),
                );
            }
        }
    }
}

/// InvalidDefinitionDescription: a comment above ARG or a named stage describes it.
fn check_descriptions(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut check = |keyword: &str, names: &[&str], comments: &[String], span: &Range<usize>| {
        let Some(comment) = comments.iter().rfind(|c| directive(c).is_none()) else {
            return;
        };
        let first = comment.split(' ').next().unwrap_or_default();
        let name = match names {
            [] => return,
            names if names.contains(&first) => return,
            [name] => name,
            _ => "<arg_key>",
        };
        found.push(Diagnostic::warning(
            Some("InvalidDefinitionDescription"),
            span.clone(),
            format!("Comment for {keyword} should follow the format: `# {name} <description>`"),
        ));
    };
    for stage in &file.stages {
        if let Some(name) = &stage.name {
            check("FROM", &[name], &stage.comments, &stage.span);
        }
    }
    let all = file
        .globals
        .iter()
        .chain(file.stages.iter().flat_map(|s| s.instructions.iter()));
    for instruction in all {
        if let Kind::Arg(pairs) = &instruction.kind {
            let names: Vec<&str> = pairs.iter().map(|p| p.name.as_str()).collect();
            check("ARG", &names, &instruction.comments, &instruction.span);
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
                "Maintainer instruction is deprecated in favor of using label",
            )
            .hint("write `LABEL org.opencontainers.image.authors=…` instead"),
        ),
        Kind::Env(pairs) | Kind::Label(pairs) if pairs.iter().any(|p| p.legacy) => {
            let name = instruction.written_keyword();
            found.push(Diagnostic::warning(
                Some("LegacyKeyValueFormat"),
                instruction.span.clone(),
                format!(
                    "\"{name} key=value\" should be used instead of legacy \"{name} key value\" \
                     format"
                ),
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
            ("arg x\nFROM a\nRUN b\n", &[]),
            ("FROM a\nMAINTAINER me\n", &["MaintainerDeprecated"]),
            ("FROM a\nENV a b\n", &["LegacyKeyValueFormat"]),
            ("FROM a\nRUN b \\\n\n c\n", &["NoEmptyContinuation"]),
        ] {
            assert_eq!(rules(source), wanted, "{source:?}");
        }
    }

    #[test]
    fn descriptions_are_checked_when_asked_for() {
        let source = "# wrong\nARG a=1\n# a right\nARG a\n# nothing\n#\nARG b\n\
                      # wrong\nFROM a AS c\n# no name, no rule\nFROM c\n# wrong\nARG d e\n";
        assert!(rules(source).is_empty());
        let head = "# check=experimental=all\n# syntax=docker/dockerfile:1\n";
        assert!(
            rules(&format!("{head}FROM a AS b\n")).is_empty(),
            "directives"
        );
        let file = parse(format!("{head}{source}").as_bytes()).expect("valid");
        let found: Vec<&str> = file.warnings.iter().map(|w| w.message.as_str()).collect();
        assert_eq!(
            found,
            [
                "Comment for ARG should follow the format: `# a <description>`",
                "Comment for FROM should follow the format: `# c <description>`",
                "Comment for ARG should follow the format: `# <arg_key> <description>`",
            ]
        );
    }

    #[test]
    fn rules_can_be_switched_off() {
        assert!(rules("# check=skip=all\nFROM a AS B\n").is_empty());
        assert!(rules("# check=skip=StageNameCasing, X ;error=true\nFROM a AS B\n").is_empty());
        assert_eq!(
            rules("FROM a\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n").len(),
            1
        );
        let file = parse(b"# check=error=true\nFROM a AS B\n").expect("valid");
        assert_eq!(file.checks.failed(&file.warnings), ["StageNameCasing"]);
        let file = parse(b"# check=skip=StageNameCasnig\nFROM a AS b\n").expect("valid");
        assert_eq!(
            file.warnings[0].hint.as_deref(),
            Some("did you mean `StageNameCasing`?")
        );
        let error = parse(b"# check=frob=1\nFROM a\n").expect_err("unknown option");
        assert_eq!(error[0].message, "invalid check option `frob=1`");
    }
}
