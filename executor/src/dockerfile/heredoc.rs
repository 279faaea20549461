//! Finding heredocs: `<<EOF` as a word of RUN, COPY or ADD.
//!
//! Responsible for recognising them, so that their bodies are not taken for instructions. Must not
//! know what they are for.

use std::ops::Range;

/// One `<<NAME` on an instruction's line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The terminator, without its quotes.
    pub(super) name: String,
    /// The number before `<<`.
    pub(super) descriptor: Option<u32>,
    /// Whether no part of the name is quoted.
    pub(super) expand: bool,
    /// `<<-`: leading tabs don't count.
    pub(super) strip_tabs: bool,
    /// Where the word is in the line.
    pub(super) range: Range<usize>,
}

/// Splits at white space outside quotes; `None` when a quote stays open.
fn split(line: &str, escape: char) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            Some('"') if c == escape => drop(chars.next()),
            Some(_) => {}
            None if c.is_whitespace() => words.extend(start.take().map(|s| s..at)),
            None => {
                start.get_or_insert(at);
                if c == '\'' || c == '"' {
                    quote = Some(c);
                } else if c == escape {
                    chars.next();
                }
            }
        }
    }
    words.extend(start.map(|s| s..line.len()));
    quote.is_none().then_some(words)
}

/// Finds the heredocs of a line, in order.
pub(super) fn find(line: &str, escape: char) -> Vec<Mark> {
    // Most lines have none, and need not be split.
    let words = if line.contains("<<") {
        split(line, escape).unwrap_or_default()
    } else {
        Vec::new()
    };
    words
        .into_iter()
        .filter_map(|range| mark(&line[range.clone()], range))
        .collect()
}

/// Reads a word as `[fd]<<[-]NAME`.
fn mark(word: &str, range: Range<usize>) -> Option<Mark> {
    let (descriptor, rest) = word.split_once("<<")?;
    let descriptor = match descriptor {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let quoted = |c: char| matches!(c, '"' | '\'');
    let name: String = rest.chars().filter(|c| !quoted(*c)).collect();
    (!name.is_empty() && !name.contains('<')).then_some(Mark {
        name,
        descriptor,
        expand: !rest.contains(quoted),
        strip_tabs,
        range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_only_heredocs() {
        for (line, wanted) in [
            ("RUN <<EOF", &["EOF"][..]),
            ("RUN cat <<-'E F' 3<<X", &["E F", "X"]),
            ("COPY <<a.txt <<\"b\" /", &["a.txt", "b"]),
            ("RUN cat <<< x", &[]),
            ("RUN a << b", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN echo '<<EOF'", &[]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN a<<EOF", &[]),
        ] {
            let found = find(line, '\\');
            let names: Vec<&str> = found.iter().map(|h| h.name.as_str()).collect();
            assert_eq!(names, wanted, "{line}");
        }
        assert!(find("RUN <<-X", '\\')[0].strip_tabs);
    }
}
