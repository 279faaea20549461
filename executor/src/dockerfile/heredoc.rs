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

/// Finds the heredocs of a line, in order.
pub(super) fn find(line: &str) -> Vec<Mark> {
    // Most lines have none, and need not be split.
    if !line.contains("<<") {
        return Vec::new();
    }
    words(line)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|range| mark(&line[range.clone()], range))
        .collect()
}

/// Tells whether a heredoc is all that there is, so that its body is the command.
pub fn is_alone(command: &str) -> bool {
    mark(command, 0..command.len()).is_some()
}

/// Splits at white space outside quotes; `None` when a quote stays open. The escape character is
/// the backslash here, whatever the file's is, as in BuildKit.
fn words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            Some('"') if c == '\\' => drop(chars.next()),
            Some(_) => {}
            None if c.is_whitespace() => words.extend(start.take().map(|s| s..at)),
            None => {
                start.get_or_insert(at);
                if c == '\'' || c == '"' {
                    quote = Some(c);
                } else if c == '\\' {
                    chars.next();
                }
            }
        }
    }
    words.extend(start.map(|s| s..line.len()));
    quote.is_none().then_some(words)
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
    if rest.contains('<') || words(rest)?.len() != 1 {
        return None;
    }
    let name = unquote(rest.trim());
    let expand = name == rest;
    (!name.is_empty()).then_some(Mark {
        name,
        descriptor,
        expand,
        strip_tabs,
        range,
    })
}

/// Takes quotes and escapes off a word that is known to be whole.
fn unquote(word: &str) -> String {
    let mut name = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '\\') => name.extend(chars.next()),
            (Some('"'), '\\') => match chars.next() {
                Some(c @ ('"' | '$' | '\\')) => name.push(c),
                other => name.extend(std::iter::once('\\').chain(other)),
            },
            (_, c) => name.push(c),
        }
    }
    name
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
            ("RUN << EOF", &[]),
            ("RUN <<E\\ F", &["E F"]),
            ("RUN <<'a'\"b\"c", &["abc"]),
            ("RUN <<\"\"", &[]),
            ("RUN <<'E", &[]),
            ("RUN <<$x", &["$x"]),
        ] {
            let found = find(line);
            let names: Vec<&str> = found.iter().map(|h| h.name.as_str()).collect();
            assert_eq!(names, wanted, "{line}");
        }
        assert!(find("RUN <<-X")[0].strip_tabs);
    }

    #[test]
    fn quotes_decide_what_is_expanded() {
        for (word, name, expand) in [
            ("<<EOF", "EOF", true),
            ("<<'EOF'", "EOF", false),
            ("<<\"E F\"", "E F", false),
            ("3<<E\"O\"F", "EOF", false),
            ("<<-\\EOF", "EOF", false),
        ] {
            let found = &find(&format!("RUN {word}"))[0];
            assert_eq!(
                (found.name.as_str(), found.expand),
                (name, expand),
                "{word}"
            );
            assert!(is_alone(word), "{word}");
        }
        assert_eq!(find("RUN 3<<X")[0].descriptor, Some(3));
        for command in ["<<A <<B", "cat <<A", "<<A cat", "<<", "<<<A", "<<'A"] {
            assert!(!is_alone(command), "{command:?}");
        }
    }
}
