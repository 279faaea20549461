//! Splitting an instruction's arguments into words before expansion.

use std::ops::Range;

use crate::dockerfile::text::Text;

/// Splits at white space outside quotes; quotes and escapes stay, for the expansion to handle.
/// An escape character at the very end is dropped.
pub(in crate::dockerfile) fn split_words(text: &Text, escape: char) -> Vec<Text> {
    split(text.as_str(), escape)
        .into_iter()
        .map(|range| text.slice(range))
        .collect()
}

fn split(text: &str, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut end = text.len();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|s| s..at));
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.filter(|s| *s < end).map(|s| s..end));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_buildkit_does() {
        for (text, wanted) in [
            ("a b  c", &["a", "b", "c"][..]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("a='b\\' c", &["a='b\\'", "c"]),
            ("'' b", &["''", "b"]),
            ("a \\", &["a"]),
            ("a\\", &["a"]),
            ("a='b c", &["a='b c"]),
            ("", &[]),
            ("  ", &[]),
        ] {
            let found: Vec<&str> = split(text, '\\').into_iter().map(|r| &text[r]).collect();
            assert_eq!(found, wanted, "{text:?}");
        }
        let found: Vec<_> = split("a=b` c \\ d", '`');
        assert_eq!(found.len(), 3);
    }
}
