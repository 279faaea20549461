//! Logical lines: comments dropped, continuations joined.
//!
//! Responsible for the shape of the file as BuildKit's scanner sees it: which physical lines make
//! one instruction. Must not know instructions. Invariant: the text of a logical line maps back to
//! the bytes it came from.

use std::ops::Range;

use super::source::PhysicalLines;
use super::text::Text;
use crate::diagnostics::Diagnostic;

/// One instruction's line.
#[derive(Debug)]
pub(super) struct LogicalLine {
    /// The joined text, without white space at both ends; never empty.
    pub(super) text: Text,
    /// Comment lines directly above, without `#` and white space.
    pub(super) comments: Vec<String>,
    /// The first empty line between continued lines.
    pub(super) empty_continuation: Option<Range<usize>>,
}

/// Iterates over the logical lines of a Dockerfile.
#[derive(Debug)]
pub(super) struct LogicalLines<'a> {
    bytes: &'a [u8],
    physical: PhysicalLines<'a>,
    escape: u8,
    /// Where the parser directives end, which are no comments.
    head: usize,
    /// Findings about bytes that are not text.
    pub(super) errors: Vec<Diagnostic>,
}

/// Joins the physical lines of one instruction.
#[derive(Debug, Default)]
struct Joiner {
    text: Vec<u8>,
    pieces: Vec<(usize, usize)>,
}

impl Joiner {
    fn push(&mut self, bytes: &[u8], at: usize) {
        if !bytes.is_empty() {
            self.pieces.push((self.text.len(), at));
            self.text.extend_from_slice(bytes);
        }
    }

    /// Returns the offset in the source of an offset in the text.
    fn locate(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|(text, _)| *text <= at);
        let (text, source) = self.pieces[after.saturating_sub(1)];
        source + at - text
    }
}

/// Counts leading white space as Unicode has it, as far as the bytes are text.
fn leading_space(line: &[u8]) -> usize {
    let text = line.utf8_chunks().next().map_or("", |c| c.valid());
    text.len() - text.trim_start().len()
}

/// Tells whether the first thing on a line is `#`.
fn is_comment(line: &[u8]) -> bool {
    line.get(leading_space(line)) == Some(&b'#')
}

impl<'a> LogicalLines<'a> {
    /// Starts at the beginning of the file; `escape` also continues lines.
    pub(super) fn new(bytes: &'a [u8], escape: u8) -> Self {
        Self {
            bytes,
            physical: PhysicalLines::new(bytes),
            escape,
            head: 0,
            errors: Vec::new(),
        }
    }

    /// Says where the parser directives end.
    pub(super) fn below(self, head: usize) -> Self {
        Self { head, ..self }
    }

    /// Splits off the continuation character: the last one but blanks, unless it is itself escaped.
    fn continued(&self, line: &Range<usize>) -> Option<Range<usize>> {
        let content = &self.bytes[line.clone()];
        let end = content.trim_suffix_blanks().len();
        let at = end.checked_sub(1)?;
        let escaped = at > 0 && content[at - 1] == self.escape;
        (content[at] == self.escape && !escaped).then_some(line.start..line.start + at)
    }

    /// Reads the body of a here-document; `None` when its terminator is missing.
    pub(super) fn heredoc_body(&mut self, name: &str, strip_tabs: bool) -> Option<Text> {
        let mut body = Joiner::default();
        let start = self.physical.offset();
        while let Some(line) = self.physical.next() {
            let mut content = &self.bytes[line.clone()];
            while strip_tabs && let Some(rest) = content.strip_prefix(b"\t") {
                content = rest;
            }
            if content == name.as_bytes() {
                if body.text.is_empty() {
                    return Some(Text::whole("", start..start));
                }
                return self
                    .text(body)
                    .or_else(|| Some(Text::whole("", start..start)));
            }
            body.push(&self.bytes[line.clone()], line.start);
            body.push(b"\n", line.end);
        }
        None
    }

    /// Makes the text of lines, or notes that they are none.
    fn text(&mut self, joined: Joiner) -> Option<Text> {
        let span = joined.locate(0)..joined.locate(joined.text.len() - 1) + 1;
        match String::from_utf8(joined.text) {
            Ok(text) => Some(Text::joined(text, joined.pieces, span)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let broken = Joiner {
                    text: error.into_bytes(),
                    pieces: joined.pieces,
                };
                let at = broken.locate(valid);
                self.errors.push(
                    Diagnostic::error(at..at + 1, "the instruction is not valid UTF-8")
                        .hint("save the Dockerfile in the encoding UTF-8"),
                );
                None
            }
        }
    }
}

/// Blanks as the continuation rule has them: spaces and tabs only.
trait TrimBlanks {
    fn trim_suffix_blanks(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    fn trim_suffix_blanks(&self) -> &[u8] {
        let end = self.iter().rposition(|b| !matches!(b, b' ' | b'\t'));
        &self[..end.map_or(0, |i| i + 1)]
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = LogicalLine;

    fn next(&mut self) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        loop {
            let mut line = self.physical.next()?;
            line.start += leading_space(&self.bytes[line.clone()]);
            let content = &self.bytes[line.clone()];
            if let Some(comment) = content.strip_prefix(b"#") {
                if line.start < self.head {
                    continue;
                }
                let comment = String::from_utf8_lossy(comment).trim().to_owned();
                if comment.is_empty() {
                    comments.clear();
                } else {
                    comments.push(comment);
                }
                continue;
            }
            if content.is_empty() {
                continue;
            }
            let mut joined = Joiner::default();
            let mut empty_continuation = None;
            let mut next = self.continued(&line);
            let first = next.clone().unwrap_or(line);
            joined.push(&self.bytes[first.clone()], first.start);
            while next.is_some() {
                let Some(line) = self.physical.next() else {
                    break;
                };
                let content = &self.bytes[line.clone()];
                if is_comment(content) {
                    continue;
                }
                if leading_space(content) == content.len() {
                    empty_continuation.get_or_insert(line);
                    continue;
                }
                next = self.continued(&line);
                let part = next.clone().unwrap_or(line);
                joined.push(&self.bytes[part.clone()], part.start);
            }
            let blank = leading_space(&joined.text) == joined.text.len();
            if !blank && let Some(text) = self.text(joined).map(|text| text.trim()) {
                return Some(LogicalLine {
                    text,
                    comments,
                    empty_continuation,
                });
            }
            comments.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &str) -> Vec<String> {
        LogicalLines::new(source.as_bytes(), b'\\')
            .map(|l| l.text.as_str().to_owned())
            .collect()
    }

    #[test]
    fn joins_and_drops_as_buildkit_does() {
        for (source, wanted) in [
            ("FROM a\nRUN b", &["FROM a", "RUN b"][..]),
            ("  FROM a  \n\n\t\n", &["FROM a"]),
            ("RUN a \\\n  b", &["RUN a   b"]),
            ("RUN a \\  \t\n  b", &["RUN a   b"]),
            ("RUN a \\\n# no\n  # nor this\n  b", &["RUN a   b"]),
            ("RUN a \\\n\n  b\nRUN c", &["RUN a   b", "RUN c"]),
            ("RUN a # b", &["RUN a # b"]),
            ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
            ("RUN a \\", &["RUN a"]),
            ("RUN a \\\r\n b\r\n", &["RUN a  b"]),
            ("RUN \\\n\\\n a", &["RUN  a"]),
            ("\\\nFROM a", &["FROM a"]),
            ("\\\n", &[]),
            ("# a\n#b\n", &[]),
        ] {
            assert_eq!(lines(source), wanted, "{source:?}");
        }
    }

    #[test]
    fn keeps_the_comments_above() {
        let source = b"# a\n#\n# b\n#c\nFROM x\nRUN y\n";
        let lines: Vec<_> = LogicalLines::new(source, b'\\').collect();
        assert_eq!(lines[0].comments, ["b", "c"]);
        assert!(lines[1].comments.is_empty());
    }

    #[test]
    fn spans_reach_from_first_to_last_byte() {
        let source = b"FROM x\n  RUN a \\\n  b \nCMD";
        let lines: Vec<_> = LogicalLines::new(source, b'\\').collect();
        assert_eq!(&source[lines[1].text.span()], b"RUN a \\\n  b");
    }

    #[test]
    fn notes_where_an_empty_line_is() {
        let source = b"RUN a \\\n\n\n b\n";
        let mut lines = LogicalLines::new(source, b'\\');
        assert_eq!(lines.next().and_then(|l| l.empty_continuation), Some(8..8));
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let source = b"FROM a\nENV a=\xff\nRUN b\n";
        let mut lines = LogicalLines::new(source, b'\\');
        let count = lines.by_ref().count();
        assert_eq!(count, 2);
        assert_eq!(lines.errors[0].span, 13..14);
    }
}
