//! `WWW-Authenticate`: what a server wants to see.
//!
//! Responsible for parsing challenges (RFC 9110, section 11.6.1: several in one header, several
//! headers). Must not decide which one to answer. Invariant: any input gives some list; what is
//! malformed is skipped, never guessed.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `bearer`, `basic`, …
    pub(crate) scheme: String,
    /// The parameters, names in lower case.
    pub(crate) params: BTreeMap<String, String>,
}

impl Challenge {
    /// Returns a parameter that is there and not empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }
}

/// Returns all challenges of a reply, in order.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Parses one header's value.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    while let Some(first) = rest.chars().next() {
        if !is_token(first) {
            rest = match take_quoted(rest) {
                Some((_, after)) => after,
                None => &rest[first.len_utf8()..],
            };
            continue;
        }
        let (word, after) = take_token(rest);
        let spaced = after.trim_start();
        let Some(value) = spaced.strip_prefix('=').map(str::trim_start) else {
            rest = after;
            found.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                params: BTreeMap::new(),
            });
            continue;
        };
        let (value, after) = match take_quoted(value) {
            Some(quoted) => quoted,
            None => {
                let (word, after) = take_token(value);
                (word.to_owned(), after)
            }
        };
        if let Some(challenge) = found.last_mut() {
            challenge
                .params
                .entry(word.to_ascii_lowercase())
                .or_insert(value);
        }
        rest = after;
    }
    found
}

fn take_token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Takes a quoted string with its backslash escapes; one that never ends is taken whole.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    Some((value, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> Vec<String> {
        parse(header)
            .into_iter()
            .map(|c| format!("{} {:?}", c.scheme, c.params))
            .collect()
    }

    #[test]
    fn reads_what_registries_send() {
        for (header, wanted) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                &[
                    r#"bearer {"realm": "https://auth.docker.io/token", "scope": "repository:a/b:pull,push", "service": "registry.docker.io"}"#,
                ][..],
            ),
            (
                r#"Basic realm="Registry \"Realm\"""#,
                &[r#"basic {"realm": "Registry \"Realm\""}"#],
            ),
            (
                r#"Bearer realm=x , error=insufficient_scope,Basic realm="y", Digest nonce="1""#,
                &[
                    r#"bearer {"error": "insufficient_scope", "realm": "x"}"#,
                    r#"basic {"realm": "y"}"#,
                    r#"digest {"nonce": "1"}"#,
                ],
            ),
            ("BASIC", &["basic {}"]),
            ("", &[]),
            (r#"Basic realm="open"#, &[r#"basic {"realm": "open"}"#]),
        ] {
            assert_eq!(shown(header), wanted, "{header}");
        }
    }

    #[test]
    fn a_parameter_is_not_replaced_by_a_later_one() {
        let parsed = parse(r#"Bearer realm="https://a", realm="https://b""#);
        assert_eq!(parsed[0].param("realm"), Some("https://a"));
    }

    proptest! {
        #[test]
        fn never_panics(header in ".{0,200}") {
            parse(&header);
        }

        #[test]
        fn a_quoted_value_survives(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let parsed = parse(&format!("Bearer realm=\"{quoted}\", service=s"));
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(&parsed[0].params["realm"], &value);
            prop_assert_eq!(&parsed[0].params["service"], "s");
        }
    }
}
