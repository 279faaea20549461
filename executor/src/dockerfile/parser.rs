//! The parser: bytes to a [`Dockerfile`] and every error in it.
//!
//! Responsible for the file as a whole: order of instructions, stages, and going on after an error.
//! Must not know the arguments of single instructions. Invariant: there is always a tree; what is
//! wrong with an instruction leaves it out, or the part of it that is wrong.

use std::ops::Range;
use std::sync::Arc;

use super::ast::{Dockerfile, Heredoc, Instruction, Keyword, Stage};
use super::checks::{self, CheckOptions, Checks};
use super::flags::Findings;
use super::instructions::{self, Line};
use super::lines::{LogicalLine, LogicalLines};
use super::text::Text;
use super::{directives, heredoc, json};
use crate::diagnostics::Diagnostic;

/// How many errors are reported; a file with more is no Dockerfile.
const MOST_ERRORS: usize = 100;

/// What was read: the tree, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// All that could be understood. Without errors it has at least one stage.
    pub file: Dockerfile,
    /// All errors, in order.
    pub errors: Vec<Diagnostic>,
}

/// Parses a Dockerfile.
///
/// # Errors
/// All errors in the file, in order, of which there is at least one.
pub fn parse(bytes: &[u8]) -> Result<Dockerfile, Vec<Diagnostic>> {
    let Parsed { file, errors } = read(bytes, &BuildArgs::default());
    if errors.is_empty() {
        Ok(file)
    } else {
        Err(errors)
    }
}

/// The build arguments that the parser obeys.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildArgs<'a> {
    /// `BUILDKIT_SYNTAX`, which wins over the directive.
    pub syntax: Option<&'a str>,
    /// `BUILDKIT_DOCKERFILE_CHECK`, which adds to the directive.
    pub check: Option<&'a str>,
}

/// Reads a Dockerfile, whatever it is.
pub fn read(bytes: &[u8], args: &BuildArgs<'_>) -> Parsed {
    let mut head = Vec::new();
    let mut directives = directives::read(bytes, args.syntax, &mut head);
    if let Some(check) = args.check {
        // It replaces the directive, and has no place in the file.
        directives.check = CheckOptions::default();
        directives.check.read(check, &(0..0), &mut head);
    }
    let mut parser = Parser {
        escape: char::from(directives.escape),
        found: Findings::default(),
        globals: Vec::new(),
        stages: Vec::new(),
        checks: Checks {
            file: directives.check,
            scoped: Vec::new(),
        },
        started: false,
        complained: false,
        empty: true,
    };
    parser.found.extend(head);
    let mut lines = LogicalLines::new(bytes, directives.escape).below(directives.end);
    while let Some(line) = lines.next() {
        parser.line(line, &mut lines);
    }
    parser.found.errors.append(&mut lines.errors);
    parser.finish()
}

/// Parses an ONBUILD trigger of a base image; all its spans are `span`.
///
/// # Errors
/// All errors in the trigger.
pub fn parse_trigger(text: &str, span: Range<usize>) -> Result<Instruction, Vec<Diagnostic>> {
    let not_one = || {
        vec![Diagnostic::error(
            span.clone(),
            "an ONBUILD trigger of the base must be one instruction",
        )]
    };
    let mut lines = LogicalLines::new(text.as_bytes(), b'\\');
    let line = lines.next().ok_or_else(not_one)?;
    let line_text = Text::whole(line.text.as_str(), span.clone());
    let mut found = Findings::default();
    let mut heredocs = heredocs(&line_text, &mut lines, &mut found);
    for heredoc in &mut heredocs {
        heredoc.body = Text::whole(heredoc.body.as_str(), span.clone());
    }
    if lines.next().is_some() {
        return Err(not_one());
    }
    let parsed = instructions::read(&line_text, heredocs, '\\', &mut found);
    match parsed {
        Some(Line::Instruction(instruction)) if found.errors.is_empty() => Ok(*instruction),
        _ if found.errors.is_empty() => Err(vec![Diagnostic::error(
            span.clone(),
            "an ONBUILD trigger of the base can't be FROM",
        )]),
        _ => Err(found.errors),
    }
}

/// Reads the here-documents of an instruction that may have some.
fn heredocs(text: &Text, lines: &mut LogicalLines<'_>, found: &mut Findings) -> Vec<Heredoc> {
    let mut heredocs = Vec::new();
    for mark in marks(text) {
        let Some(body) = lines.heredoc_body(&mark.name, mark.strip_tabs) else {
            found.errors.push(
                Diagnostic::error(
                    text.locate(mark.range),
                    format!("the here-document is not ended by a line `{}`", mark.name),
                )
                .hint("nothing else may be on that line"),
            );
            break;
        };
        heredocs.push(Heredoc {
            name: mark.name,
            descriptor: mark.descriptor,
            strip_tabs: mark.strip_tabs,
            expand: mark.expand,
            body,
        });
    }
    heredocs
}

/// Finds where here-documents are announced, in an instruction that may have some.
fn marks(text: &Text) -> Vec<heredoc::Mark> {
    let mut rest = text.as_str();
    let mut word = || {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        Keyword::find(word)
    };
    let keyword = match word() {
        Some(Keyword::Onbuild) => word(),
        other => other,
    };
    let exec = json::form(rest) != json::Form::Shell;
    match keyword {
        Some(Keyword::Run | Keyword::Copy | Keyword::Add) if !exec => heredoc::find(text.as_str()),
        _ => Vec::new(),
    }
}

struct Parser {
    escape: char,
    found: Findings,
    globals: Vec<Instruction>,
    stages: Vec<Stage>,
    checks: Checks,
    /// Whether there was a FROM, right or wrong.
    started: bool,
    /// Whether a missing FROM was reported.
    complained: bool,
    /// Whether there was no instruction at all.
    empty: bool,
}

impl Parser {
    fn line(&mut self, line: LogicalLine, lines: &mut LogicalLines<'_>) {
        self.empty = false;
        let span = line.text.span();
        if let Some(empty) = line.empty_continuation {
            // An empty range could not be underlined.
            let at = empty.start.saturating_sub(1)..empty.start.max(1);
            self.found.warnings.push(
                Diagnostic::warning(Some("NoEmptyContinuation"), at, "Empty continuation line")
                    .hint("such lines will become errors in a future release of Docker"),
            );
        }
        for comment in &line.comments {
            if let Some(value) = checks::directive(comment) {
                let mut options = CheckOptions::default();
                let mut found = Vec::new();
                options.read(value, &span, &mut found);
                self.found.extend(found);
                self.checks.scoped.push((span.clone(), options));
            }
        }
        let heredocs = heredocs(&line.text, lines, &mut self.found);
        let is_from = instructions::meant(&line.text) == Some(Keyword::From);
        match instructions::read(&line.text, heredocs, self.escape, &mut self.found) {
            Some(Line::Stage(mut stage)) => {
                stage.comments = line.comments;
                self.stages.push(*stage);
            }
            Some(Line::Instruction(mut instruction)) => {
                instruction.comments = line.comments;
                self.instruction(*instruction);
            }
            None => {}
        }
        self.started |= is_from;
    }

    fn instruction(&mut self, instruction: Instruction) {
        if let Some(stage) = self.stages.last_mut() {
            Arc::make_mut(&mut stage.instructions).push(instruction);
        } else if instruction.keyword == Keyword::Arg {
            self.globals.push(instruction);
        } else if !self.started && !self.complained {
            self.complained = true;
            self.found.errors.push(
                Diagnostic::error(
                    instruction.keyword_span,
                    format!("{} comes before the first FROM", instruction.keyword.name()),
                )
                .hint("only ARG may come before FROM"),
            );
        }
    }

    fn finish(self) -> Parsed {
        let mut errors = self.found.errors;
        if errors.is_empty() && self.stages.is_empty() {
            errors.push(if self.empty {
                Diagnostic::error(0..0, "the Dockerfile is empty")
            } else {
                Diagnostic::error(0..0, "the Dockerfile has no stage to build")
                    .hint("begin it with FROM")
            });
        }
        errors.sort_by_key(|e| e.span.start);
        let more = errors.len().saturating_sub(MOST_ERRORS);
        errors.truncate(MOST_ERRORS);
        if more > 0 {
            errors.push(Diagnostic::error(0..0, format!("and {more} more errors")));
        }
        let mut file = Dockerfile {
            escape: self.escape,
            globals: self.globals,
            stages: self.stages,
            warnings: self.found.warnings,
            checks: self.checks,
        };
        let mut found = checks::run(&file);
        file.warnings.append(&mut found);
        file.warnings.sort_by_key(|w| w.span.start);
        let Dockerfile {
            warnings, checks, ..
        } = &mut file;
        checks.keep(warnings);
        Parsed { file, errors }
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
