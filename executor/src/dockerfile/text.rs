//! Text that knows where it was written.
//!
//! Responsible for mapping positions in joined lines and in words back to the Dockerfile. Must not
//! know the language. Invariant: whatever range is asked for, the answer is a byte range of the
//! source.

use std::fmt;
use std::ops::Range;

/// A piece of text that is contiguous both here and in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Offset in the text.
    text: usize,
    /// Offset in the source.
    source: usize,
}

/// A string with the place in the Dockerfile that each of its bytes comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// In ascending order; empty when only the whole is located.
    pieces: Vec<Piece>,
    span: Range<usize>,
}

impl Text {
    /// Makes text that can only be located as a whole, such as a decoded JSON string.
    pub fn whole(text: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            text: text.into(),
            pieces: Vec::new(),
            span,
        }
    }

    /// Makes text from `(offset in the text, offset in the source)` pairs in ascending order.
    pub(super) fn joined(text: String, pieces: Vec<(usize, usize)>, span: Range<usize>) -> Self {
        let pieces = pieces
            .into_iter()
            .map(|(text, source)| Piece { text, source })
            .collect();
        Self { text, pieces, span }
    }

    /// Joins texts, which are parts of what `span` is.
    pub(super) fn concat(parts: impl IntoIterator<Item = Text>, span: Range<usize>) -> Self {
        let mut whole = Self::whole(String::new(), span);
        for part in parts {
            let at = whole.text.len();
            whole.pieces.extend(part.pieces.iter().map(|piece| Piece {
                text: at + piece.text,
                ..*piece
            }));
            whole.text.push_str(&part.text);
        }
        whole
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns where all of it is.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns where a range of the text is in the source.
    pub fn locate(&self, range: Range<usize>) -> Range<usize> {
        let start = range.start.min(self.text.len());
        let end = range.end.clamp(start, self.text.len());
        if self.pieces.is_empty() || (start == 0 && end == self.text.len()) {
            return self.span.clone();
        }
        let from = self.source_of(start);
        let to = if end > start {
            self.source_of(end - 1) + 1
        } else {
            from
        };
        from..to.max(from)
    }

    fn source_of(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|p| p.text <= at);
        match after.checked_sub(1).map(|i| self.pieces[i]) {
            Some(piece) => (piece.source + at - piece.text).min(self.span.end),
            None => self.span.start,
        }
    }

    /// Returns a part of the text; `range` must lie on character boundaries.
    pub fn slice(&self, range: Range<usize>) -> Text {
        let span = self.locate(range.clone());
        let mut pieces = Vec::new();
        if !self.pieces.is_empty() {
            let first = self
                .pieces
                .partition_point(|p| p.text <= range.start)
                .saturating_sub(1);
            pieces.extend(
                self.pieces[first..]
                    .iter()
                    .take_while(|p| p.text < range.end.max(range.start + 1))
                    .map(|p| Piece {
                        text: p.text.saturating_sub(range.start),
                        source: p.source + range.start.saturating_sub(p.text),
                    }),
            );
        }
        Text {
            text: self.text[range].to_owned(),
            pieces,
            span,
        }
    }

    /// Returns the text without white space at both ends.
    pub fn trim(&self) -> Text {
        let start = self.text.len() - self.text.trim_start().len();
        let end = start + self.text.trim().len();
        self.slice(start..end)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.text, self.span)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locates_across_pieces() {
        // "RUN a \⏎  bcd": the text is "RUN a   bcd".
        let text = Text::joined("RUN a   bcd".into(), vec![(0, 0), (6, 8)], 0..13);
        assert_eq!(text.locate(4..5), 4..5);
        assert_eq!(text.locate(8..11), 10..13);
        assert_eq!(text.locate(4..9), 4..11);
        let word = text.slice(8..11);
        assert_eq!(word, "bcd");
        assert_eq!(word.span(), 10..13);
        assert_eq!(word.locate(1..2), 11..12);
        assert_eq!(text.slice(5..9).trim().span(), 10..11);
    }

    #[test]
    fn whole_text_has_one_place() {
        let text = Text::whole("abc", 5..20);
        assert_eq!(text.locate(1..2), 5..20);
        assert_eq!(text.slice(1..2).span(), 5..20);
    }
}
