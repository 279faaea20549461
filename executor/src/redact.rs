//! What of an address is not shown: passwords, and queries, in which tokens are.
//!
//! Responsible for finding addresses in any text. Must not know where they come from. Invariant: nothing
//! that is not part of an address is changed.

use std::ops::Range;

/// Something that is hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hidden {
    /// User and password of http, where a user can be a token; before the `@`.
    User(Range<usize>),
    /// Another protocol's password, after the `:`.
    Password(Range<usize>),
    /// What comes after the `?`. Queries of repositories stay: they say which commit.
    Query(Range<usize>),
}

/// Returns a text without what its addresses hide, for progress, history and messages.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for hidden in find(text) {
        // One character on either side separates it from what is shown.
        let (range, left) = match hidden {
            Hidden::User(range) => (range.start..range.end + 1, ""),
            Hidden::Password(range) => (range.start - 1..range.end, ""),
            Hidden::Query(range) => (range, "..."),
        };
        out.push_str(&text[at..range.start]);
        out.push_str(left);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Returns a text of the same length, in which what its addresses hide is starred. What has variables
/// says nothing yet, and stays.
pub fn starred(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for hidden in find(text) {
        let range = hidden.range().clone();
        if text[range.clone()].contains('$') {
            continue;
        }
        out.push_str(&text[at..range.start]);
        out.push_str(&"*".repeat(range.len()));
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

impl Hidden {
    fn range(&self) -> &Range<usize> {
        let (Self::User(range) | Self::Password(range) | Self::Query(range)) = self;
        range
    }
}

/// Finds what is hidden, in order; of an address within another, too.
fn find(text: &str) -> Vec<Hidden> {
    let mut found = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let before = text[..at].bytes().rev();
        let scheme = before.take_while(|b| b.is_ascii_alphanumeric() || *b == b'+');
        let scheme = text[at - scheme.count()..at].to_ascii_lowercase();
        let start = at + separator.len();
        let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>".contains(c);
        let url = &text[start..];
        let url = &url[..url.find(ends).unwrap_or(url.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        let is_http = matches!(scheme.as_str(), "http" | "https");
        if let Some(end) = authority.rfind('@') {
            match authority[..end].find(':') {
                _ if is_http => found.push(Hidden::User(start..start + end)),
                Some(colon) => found.push(Hidden::Password(start + colon + 1..start + end)),
                None => {}
            }
        }
        let whole = &url[..url.find('#').unwrap_or(url.len())];
        if let Some((path, query)) = whole.split_once('?')
            && is_http
            && !query.is_empty()
            && !path.ends_with(".git")
        {
            let query = start + path.len() + 1..start + whole.len();
            found.push(Hidden::Query(query));
        }
    }
    found.sort_by_key(|hidden| hidden.range().start);
    let mut end = 0;
    found.retain(|hidden| {
        let range = hidden.range();
        let is_new = range.start >= end;
        end = end.max(range.end);
        is_new
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_shown() {
        for (given, shown, stars) in [
            ("http://h/f", "http://h/f", "http://h/f"),
            ("HTTPS://u:p@h/f", "HTTPS://h/f", "HTTPS://***@h/f"),
            ("https://token@h", "https://h", "https://*****@h"),
            (
                "https://a@b:p@h:8/@x",
                "https://h:8/@x",
                "https://*****@h:8/@x",
            ),
            (
                "https://h/f?sig=1#x",
                "https://h/f?...#x",
                "https://h/f?*****#x",
            ),
            (
                "https://h/r.git?ref=v1#a",
                "https://h/r.git?ref=v1#a",
                "https://h/r.git?ref=v1#a",
            ),
            ("https://h/f?", "https://h/f?", "https://h/f?"),
            ("ssh://git@h/r", "ssh://git@h/r", "ssh://git@h/r"),
            ("ssh://git:p@h/r", "ssh://git@h/r", "ssh://git:*@h/r"),
            ("git+ssh://g:päss@h", "git+ssh://g@h", "git+ssh://g:*****@h"),
            ("git@h:a/b", "git@h:a/b", "git@h:a/b"),
            ("a@b ://c:d@e", "a@b ://c@e", "a@b ://c:*@e"),
            (
                r#"ADD ["http://u:p@h/f", "http://h/g?x", "/d"]"#,
                r#"ADD ["http://h/f", "http://h/g?...", "/d"]"#,
                r#"ADD ["http://***@h/f", "http://h/g?*", "/d"]"#,
            ),
            (
                "http://h/http://u:p@h/?q=https://a:b@c",
                "http://h/http://h/?...",
                "http://h/http://***@h/?***************",
            ),
            ("http://u:$P@h/f", "http://h/f", "http://u:$P@h/f"),
        ] {
            assert_eq!(text(given), shown);
            assert_eq!(starred(given), stars);
            assert_eq!(text(shown), shown);
        }
    }

    proptest! {
        #[test]
        fn any_text(given in "(https?://|[a-z@:/?#\" é*])*") {
            prop_assert_eq!(starred(&given).len(), given.len());
            prop_assert!(text(&given).len() <= given.len() + 3 * given.matches('?').count());
        }
    }
}
