//! Answers about a Dockerfile, in the form that buildx and its callers know.
//!
//! Responsible for the fields of the JSON documents, which are BuildKit's subrequests `lint`,
//! `outline` and `targets`, and for the text. Must not read anything but what it is given.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::exit::Source;
use crate::diagnostics::{Diagnostic, excerpt, line_number};
use crate::dockerfile::ast::{ArgPair, Dockerfile, Instruction, Kind, Stage};
use crate::dockerfile::rules;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::plan::Survey;

#[derive(Serialize)]
struct Position {
    line: usize,
}

#[derive(Serialize)]
struct Lines {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Location {
    ranges: Vec<Lines>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning {
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    location: Location,
}

#[derive(Serialize)]
struct SourceInfo<'a> {
    filename: &'a str,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

#[derive(Serialize)]
struct Lint<'a> {
    warnings: Vec<Warning>,
    sources: Vec<SourceInfo<'a>>,
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<BuildError>,
}

#[derive(Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Location,
}

#[derive(Serialize)]
struct Targets {
    targets: Vec<Target>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

#[derive(Serialize)]
struct Wanted {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct CacheMount {
    #[serde(rename = "ID")]
    id: String,
    location: Location,
}

#[derive(Serialize, Default)]
struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Wanted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Wanted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<CacheMount>,
    sources: [String; 1],
}

/// Returns the lines that a span covers, from 1.
fn location(source: &Source, span: &Range<usize>) -> Location {
    let line = |at| Position {
        line: line_number(&source.text, at),
    };
    Location {
        ranges: vec![Lines {
            start: line(span.start),
            end: line(span.end.saturating_sub(1).max(span.start)),
        }],
    }
}

/// Returns the instruction in which a finding is: BuildKit knows no smaller places.
pub(super) fn instruction(file: &Dockerfile, finding: &Diagnostic) -> Range<usize> {
    let at = finding.span.start;
    let stages = file.stages.iter().map(|stage| &stage.span);
    let all = file.globals.iter().chain(inside(file)).map(|i| &i.span);
    let found = all.chain(stages).find(|span| span.contains(&at));
    match found {
        // BuildKit notices when the instruction ends.
        Some(span) if finding.rule == Some("NoEmptyContinuation") => {
            span.end.saturating_sub(1)..span.end
        }
        Some(span) => span.clone(),
        None => finding.span.clone(),
    }
}

fn inside(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    file.stages
        .iter()
        .flat_map(|stage| stage.instructions.iter())
}

fn json(answer: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(answer)
        .map_err(|e| Error::new("write JSON").source(e).kind(ErrorKind::Internal))?;
    Ok(text + "\n")
}

/// Returns a finding's text with the suggestion that BuildKit writes behind it.
pub(super) fn detail(finding: &Diagnostic) -> String {
    let near = finding
        .hint
        .as_deref()
        .and_then(|hint| hint.strip_prefix("did you mean `")?.strip_suffix("`?"));
    match (finding.rule, near) {
        (Some("UndefinedVar"), Some(near)) => {
            format!("{} (did you mean {near}?)", finding.message)
        }
        (Some("UndefinedArgInFrom"), Some(near)) => format!(
            "{} (did you mean {}?)",
            finding.message,
            near.trim_start_matches('$')
        ),
        _ => finding.message.clone(),
    }
}

/// Answers what the build checks find.
pub(super) fn check(
    source: &Source,
    file: &Dockerfile,
    survey: &Survey,
    found: &[Diagnostic],
    as_json: bool,
) -> Result<String> {
    let found = found
        .iter()
        .filter_map(|finding| Some((finding, rules::find(finding.rule?)?)));
    if as_json {
        let error = survey.errors.first().map(|error| BuildError {
            message: error.message.clone(),
            location: location(source, &instruction(file, error)),
        });
        let warnings = found.map(|(finding, rule)| Warning {
            rule_name: rule.name,
            description: rule.description,
            url: rule.url(),
            detail: detail(finding),
            location: location(source, &instruction(file, finding)),
        });
        return json(&Lint {
            warnings: warnings.collect(),
            sources: vec![SourceInfo {
                filename: &source.name,
                language: "Dockerfile",
                data: STANDARD.encode(&source.text),
            }],
            error,
        });
    }
    let mut text = String::new();
    let mut count = 0;
    for (finding, rule) in found {
        count += 1;
        text.push_str(&format!("\nWARNING: {}", rule.name));
        if let Some(url) = rule.url() {
            text.push_str(&format!(" - {url}"));
        }
        text.push_str(&format!("\n{}\n", detail(finding)));
        let place = instruction(file, finding);
        text.push_str(&excerpt(&source.name, &source.text, &place));
    }
    let head = match count {
        0 => "no warnings found.".to_owned(),
        1 => "1 warning has been found!".to_owned(),
        n => format!("{n} warnings have been found!"),
    };
    Ok(format!("Check complete, {head}\n{text}"))
}

/// Returns the description of `name` in the comments above an instruction: `# name description`.
fn description(comments: &[String], name: &str) -> String {
    let found = comments.iter().find_map(|comment| {
        let rest = comment.strip_prefix(name)?.strip_prefix(' ')?;
        (!name.is_empty()).then(|| rest.to_owned())
    });
    found.unwrap_or_default()
}

/// Lays out rows in columns that are three blanks apart.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count() + 3;
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Answers which stages there are.
pub(super) fn targets(source: &Source, file: &Dockerfile, as_json: bool) -> Result<String> {
    let last = file.stages.len().saturating_sub(1);
    let targets: Vec<Target> = file
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let name = stage.name.clone().unwrap_or_default();
            Target {
                description: description(&stage.comments, &name),
                default: index == last,
                base: stage.base.as_str().to_owned(),
                platform: stage
                    .platform
                    .as_ref()
                    .map_or_else(String::new, |p| p.as_str().to_owned()),
                location: location(source, &stage.span),
                name,
            }
        })
        .collect();
    if as_json {
        return json(&Targets {
            targets,
            sources: [STANDARD.encode(&source.text)],
        });
    }
    let mut rows = vec![row(&["TARGET", "DESCRIPTION"])];
    for target in &targets {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push(vec![name, target.description.clone()]);
    }
    Ok(table(&rows))
}

/// Answers what the target takes.
pub(super) fn outline(
    source: &Source,
    file: &Dockerfile,
    survey: &Survey,
    as_json: bool,
) -> Result<String> {
    let mut outline = Outline {
        sources: [STANDARD.encode(&source.text)],
        ..Outline::default()
    };
    if let Some(plan) = &survey.plan
        && let Some(stage) = file.stages.get(plan.target)
    {
        outline.name = stage.name.clone().unwrap_or_default();
        outline.description = description(&stage.comments, &outline.name);
        let mut collector = Collector {
            source,
            file,
            survey,
            outline: &mut outline,
            seen: BTreeSet::new(),
        };
        for head in &plan.heads {
            collector.stage(&file.stages[head.index], head.index);
        }
    }
    outline
        .args
        .sort_by_key(|a| a.location.ranges[0].start.line);
    if as_json {
        return json(&outline);
    }
    let mut parts = Vec::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let mut rows = vec![row(&["TARGET:", &outline.name])];
        if !outline.description.is_empty() {
            rows.push(row(&["DESCRIPTION:", &outline.description]));
        }
        parts.push(table(&rows));
    }
    if !outline.args.is_empty() {
        let mut rows = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
        for arg in &outline.args {
            rows.push(row(&[&arg.name, &arg.value, &arg.description]));
        }
        parts.push(table(&rows));
    }
    for (title, wanted) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !wanted.is_empty() {
            let mut rows = vec![row(&[title, "REQUIRED"])];
            for one in wanted {
                rows.push(row(&[&one.name, if one.required { "true" } else { "" }]));
            }
            parts.push(table(&rows));
        }
    }
    if !outline.cache.is_empty() {
        let mut rows = vec![row(&["CACHE"])];
        rows.extend(outline.cache.iter().map(|cache| row(&[&cache.id])));
        parts.push(table(&rows));
    }
    Ok(parts.join("\n"))
}

struct Collector<'a> {
    source: &'a Source,
    file: &'a Dockerfile,
    survey: &'a Survey,
    outline: &'a mut Outline,
    /// Kind and name of what is listed.
    seen: BTreeSet<(&'static str, String)>,
}

impl Collector<'_> {
    fn stage(&mut self, stage: &Stage, index: usize) {
        let words = [Some(&stage.base), stage.platform.as_ref()];
        for word in words.into_iter().flatten() {
            self.used_by(word.as_str());
        }
        for instruction in stage.instructions.iter() {
            match &instruction.kind {
                Kind::Arg(pairs) => {
                    for pair in pairs {
                        self.declared(instruction, pair, index);
                    }
                }
                Kind::Run(run) => {
                    for mount in &run.mounts {
                        self.mount(instruction, mount.as_str());
                    }
                }
                _ => {}
            }
        }
    }

    fn global(&self, name: &str) -> Option<(&Instruction, &ArgPair)> {
        self.file.globals.iter().rev().find_map(|instruction| {
            let Kind::Arg(pairs) = &instruction.kind else {
                return None;
            };
            let pair = pairs.iter().find(|pair| pair.name == name)?;
            Some((instruction, pair))
        })
    }

    /// Lists the global arguments that a word of FROM or a default names.
    fn used_by(&mut self, word: &str) {
        let mut names: Vec<String> = Vec::new();
        let name = |c: char| c.is_alphanumeric() || c == '_';
        for part in word.split('$').skip(1) {
            let part = part.strip_prefix('{').unwrap_or(part);
            names.push(part.chars().take_while(|c| name(*c)).collect());
        }
        for name in names {
            let Some((instruction, pair)) = self.global(&name) else {
                continue;
            };
            let (instruction, pair) = (instruction.clone(), pair.clone());
            if self.list(&instruction, &name, self.survey.global(&name))
                && let Some(default) = &pair.value
            {
                self.used_by(default.as_str());
            }
        }
    }

    fn declared(&mut self, instruction: &Instruction, pair: &ArgPair, index: usize) {
        let name = pair.name.as_str();
        let inherited = pair.value.is_none().then(|| self.global(name)).flatten();
        if inherited.is_some() {
            self.used_by(&format!("${name}"));
            return;
        }
        let value = self.survey.argument(index, name);
        self.list(instruction, name, value);
    }

    /// Lists an argument, once; tells whether it is new.
    fn list(&mut self, instruction: &Instruction, name: &str, value: Option<String>) -> bool {
        let new = self.seen.insert(("arg", name.to_owned()));
        if new {
            self.outline.args.push(Argument {
                name: name.to_owned(),
                description: description(&instruction.comments, name),
                value: value.unwrap_or_default(),
                location: location(self.source, &instruction.span),
            });
        }
        new
    }

    fn mount(&mut self, instruction: &Instruction, options: &str) {
        let option = |names: &[&str]| {
            options.split(',').find_map(|option| {
                let (name, value) = option.split_once('=').unwrap_or((option, "true"));
                names
                    .contains(&name.trim())
                    .then(|| value.trim().to_owned())
            })
        };
        let kind = option(&["type"]).unwrap_or_default();
        let target = option(&["target", "dst", "destination"]);
        let required = option(&["required"]).is_some_and(|v| v == "true" || v == "1");
        let id = option(&["id"]);
        let location = location(self.source, &instruction.span);
        match kind.as_str() {
            "secret" => {
                let id = id.or_else(|| option(&["source", "src"])).or_else(|| {
                    let target = target.or_else(|| option(&["env"]))?;
                    Some(target.rsplit('/').next().unwrap_or_default().to_owned())
                });
                let name = id.unwrap_or_default();
                if self.seen.insert(("secret", name.clone())) {
                    self.outline.secrets.push(Wanted {
                        name,
                        required,
                        location,
                    });
                }
            }
            "ssh" => {
                let name = id.unwrap_or_else(|| "default".into());
                if self.seen.insert(("ssh", name.clone())) {
                    self.outline.ssh.push(Wanted {
                        name,
                        required,
                        location,
                    });
                }
            }
            "cache" => {
                let id = id.or(target).unwrap_or_default();
                if self.seen.insert(("cache", id.clone())) {
                    self.outline.cache.push(CacheMount { id, location });
                }
            }
            _ => {}
        }
    }
}
