//! Findings about a Dockerfile, and how they are drawn.
//!
//! Responsible for one finding's data and its rendering with source line and caret. Must not know
//! the language's rules. Invariant: spans are byte ranges into the source they were made from; an
//! empty span means that the finding is about the file as a whole.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::redact;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build can't go on.
    Error,
    /// The build goes on; the finding is repeated at its end.
    Warning,
}

/// One finding, at a byte range of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Rule name as BuildKit's build checks have it (`JSONArgsRecommended`), if there is one.
    pub rule: Option<&'static str>,
    /// Lower-case text without a full stop.
    pub message: String,
    /// Byte range in the Dockerfile.
    pub span: Range<usize>,
    /// One thing that the user can do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            span,
            hint: None,
        }
    }

    /// Makes a warning; `rule` names the build check that it belongs to.
    pub fn warning(
        rule: Option<&'static str>,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            rule,
            message: message.into(),
            span,
            hint: None,
        }
    }

    /// Sets the one thing that the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Turns any bytes into text of the same length, so that byte spans stay valid; without passwords of
/// addresses.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        // A lone carriage return would overprint the line on a terminal.
        text.extend(
            chunk
                .valid()
                .chars()
                .map(|c| if c == '\r' { ' ' } else { c }),
        );
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    redact::starred(&text)
}

/// Returns the byte range of the line that contains `at`, without its line feed.
fn line_around(source: &[u8], at: usize) -> Range<usize> {
    let at = at.min(source.len());
    let start = source[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1);
    let end = source[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(source.len(), |i| at + i);
    start..end
}

/// Returns the number, from 1, of the line that contains `at`.
pub fn line_number(source: &[u8], at: usize) -> usize {
    1 + source[..at.min(source.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}

/// Draws findings in order, each with the first line of its span, a caret and its hint.
///
/// `file` is the name to print, `width` the columns of the output. The source may be any bytes.
pub fn render(
    diagnostics: &[Diagnostic],
    file: &str,
    source: &[u8],
    color: bool,
    width: usize,
) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
    .term_width(width.max(40));
    let mut out = String::new();
    for finding in diagnostics {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(finding.message.as_str());
        if let Some(rule) = finding.rule {
            title = title.id(rule);
        }
        let line = line_around(source, finding.span.start);
        let mut text = readable(&source[line.clone()]);
        text.truncate(text.trim_end().len());
        let mut group = annotate_snippets::Group::with_title(title);
        if !finding.span.is_empty() && !source.is_empty() {
            let start = text.floor_char_boundary(
                finding
                    .span
                    .start
                    .saturating_sub(line.start)
                    .min(text.len()),
            );
            let end = finding.span.end.min(line.end).saturating_sub(line.start);
            let end = text.ceil_char_boundary(end.clamp(start, text.len()));
            group = group.element(
                Snippet::source(text)
                    .line_start(line_number(source, line.start))
                    .path(file)
                    .annotation(AnnotationKind::Primary.span(start..end)),
            );
        }
        if let Some(hint) = &finding.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group]));
        out.push('\n');
    }
    out
}

/// Draws the lines of `span` with two lines of context as BuildKit does under a failed step:
/// numbered, the lines of the span marked with `>>>`.
pub fn excerpt(file: &str, source: &[u8], span: &Range<usize>) -> String {
    const CONTEXT: usize = 2;
    const RULE: &str = "--------------------\n";
    let ended = source.strip_suffix(b"\n").unwrap_or(source);
    let count = line_number(ended, ended.len());
    let first = line_number(source, span.start);
    let last = line_number(source, span.end.saturating_sub(1).max(span.start));
    let from = first.saturating_sub(CONTEXT).max(1);
    let to = (last + CONTEXT).min(count);
    let mut out = format!("{file}:{first}\n{RULE}");
    let lines = ended.split(|b| *b == b'\n').skip(from - 1);
    for (number, line) in (from..=to).zip(lines) {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let text = readable(line);
        let line = text.trim_end();
        // Writing to a string can't fail.
        let _ = writeln!(out, " {number:3} | {mark} {line}");
    }
    out.push_str(RULE);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn draws_line_caret_and_hint() {
        let source = b"FROM debian\nRUM make\n";
        let finding =
            Diagnostic::error(12..15, "unknown instruction `RUM`").hint("did you mean `RUN`?");
        let text = render(&[finding], "Dockerfile", source, false, 80);
        insta::assert_snapshot!(text, @r"
        error: unknown instruction `RUM`
         --> Dockerfile:2:1
          |
        2 | RUM make
          | ^^^
          |
          = hint: did you mean `RUN`?
        ");
    }

    #[test]
    fn a_finding_about_the_file_has_no_line() {
        let finding = Diagnostic::warning(None, 0..0, "one or more build-args were not consumed");
        let text = render(&[finding], "Dockerfile", b"FROM a\n", false, 80);
        insta::assert_snapshot!(text, @"warning: one or more build-args were not consumed");
    }

    #[test]
    fn a_rule_is_named() {
        let finding = Diagnostic::warning(Some("StageNameCasing"), 10..11, "should be lowercase");
        let text = render(&[finding], "f", b"FROM a AS B\r\n", false, 80);
        insta::assert_snapshot!(text, @r"
        warning[StageNameCasing]: should be lowercase
         --> f:1:11
          |
        1 | FROM a AS B
          |           ^
        ");
    }

    #[test]
    fn excerpt_marks_the_lines_of_the_span() {
        let source = b"FROM a\nENV a=1\nENV b=2\nRUN x \\\n  y\nCMD z\nUSER u\nUSER v\n";
        let text = excerpt("Dockerfile", source, &(23..34));
        insta::assert_snapshot!(text, @r"
        Dockerfile:4
        --------------------
           2 |     ENV a=1
           3 |     ENV b=2
           4 | >>> RUN x \
           5 | >>>   y
           6 |     CMD z
           7 |     USER u
        --------------------
        ");
    }

    proptest! {
        #[test]
        fn never_panics(
            source in proptest::collection::vec(any::<u8>(), 0..80),
            a in 0usize..100,
            b in 0usize..100,
        ) {
            let finding = Diagnostic::error(a.min(b)..a.max(b), "x");
            prop_assert!(!render(std::slice::from_ref(&finding), "f", &source, true, 10).is_empty());
            prop_assert!(!excerpt("f", &source, &finding.span).is_empty());
        }
    }
}
