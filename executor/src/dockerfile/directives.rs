//! Parser directives: `# key=value` lines at the very top.
//!
//! Responsible for `syntax`, `escape` and `check`. Must not read anything below the first line that
//! is no directive.

use std::ops::Range;

use super::checks::CheckOptions;
use super::source::PhysicalLines;
use crate::diagnostics::Diagnostic;

/// What the directives say.
#[derive(Debug)]
pub(super) struct Directives {
    /// Continues lines and escapes characters: a backslash or a backtick.
    pub(super) escape: u8,
    /// `check=`.
    pub(super) check: CheckOptions,
    /// Where they end.
    pub(super) end: usize,
}

/// Splits `# key = value`; the ranges are relative to the line.
fn split<'a>(line: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let rest = line.trim_start().strip_prefix(mark)?.trim_start();
    let (key, value) = rest.split_once('=')?;
    let key = key.trim_end();
    let valid = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric());
    let value = value.trim();
    (valid && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// Tells whether a frontend image is the standard one, whose language this is.
fn is_standard_frontend(image: &str) -> bool {
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    name.strip_prefix("docker/dockerfile")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@', '-']))
}

/// Warns of a frontend that is not the standard one.
fn check_frontend(value: &str, span: Range<usize>, found: &mut Vec<Diagnostic>) {
    let image = value.split_whitespace().next().unwrap_or(value);
    if !is_standard_frontend(image) {
        found.push(
            Diagnostic::warning(None, span, format!("the frontend `{image}` is not used"))
                .hint("the file is read as a standard Dockerfile (docker/dockerfile:1)"),
        );
    }
}

/// Finds `syntax` in the forms that other languages' files have it in: `// syntax=…` at the top,
/// or a JSON object with this key.
fn foreign_syntax(bytes: &[u8]) -> Option<(String, Range<usize>)> {
    for (number, range) in PhysicalLines::new(bytes).enumerate() {
        let line = std::str::from_utf8(&bytes[range.clone()]).ok()?;
        if number == 0 && line.starts_with("#!") {
            continue;
        }
        let Some((key, value)) = split(line, "//") else {
            break;
        };
        if key == "syntax" {
            return Some((value.to_owned(), range));
        }
    }
    let start = PhysicalLines::new(bytes).find(|l| !bytes[l.clone()].starts_with(b"#!"))?;
    let text = bytes[start.start..].trim_ascii_start();
    if !text.starts_with(b"{") {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    Some((object.get("syntax")?.as_str()?.to_owned(), start))
}

/// Reads the directives; findings are appended to `found`. `syntax` is the build argument that wins
/// over the directive of that name.
pub(super) fn read(bytes: &[u8], syntax: Option<&str>, found: &mut Vec<Diagnostic>) -> Directives {
    let mut directives = Directives {
        escape: b'\\',
        check: CheckOptions::default(),
        end: 0,
    };
    let mut seen: Vec<String> = Vec::new();
    let mut after_shebang = false;
    for (number, range) in PhysicalLines::new(bytes).enumerate() {
        let Ok(line) = std::str::from_utf8(&bytes[range.clone()]) else {
            break;
        };
        if number == 0 && line.starts_with("#!") {
            after_shebang = true;
            continue;
        }
        let Some((key, value)) = split(line, "#") else {
            break;
        };
        if !matches!(key.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        directives.end = range.end;
        let at = range.start + line.rfind(value).unwrap_or(0);
        let span: Range<usize> = at..at + value.len();
        if seen.contains(&key) {
            found.push(Diagnostic::error(
                range,
                format!("only one `{key}` parser directive can be used"),
            ));
            continue;
        }
        match key.as_str() {
            "escape" if after_shebang => found.push(
                Diagnostic::warning(None, span, "`escape` does not count after a `#!` line")
                    .hint("leave the `#!` line out"),
            ),
            "escape" => match value {
                "\\" | "`" => directives.escape = value.as_bytes()[0],
                _ => found.push(
                    Diagnostic::error(span, format!("invalid escape character `{value}`"))
                        .hint("use a backslash or a backtick"),
                ),
            },
            "check" => directives.check.read(value, &span, found),
            _ if syntax.is_none() => check_frontend(value, span, found),
            _ => {}
        }
        seen.push(key);
    }
    if let Some(value) = syntax {
        check_frontend(value, 0..0, found);
    } else if !seen.iter().any(|key| key == "syntax")
        && let Some((value, span)) = foreign_syntax(bytes)
    {
        check_frontend(&value, span, found);
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(source: &str) -> (u8, Vec<String>) {
        let mut found = Vec::new();
        let directives = read(source.as_bytes(), None, &mut found);
        (
            directives.escape,
            found.into_iter().map(|d| d.message).collect(),
        )
    }

    #[test]
    fn only_at_the_top() {
        for (source, escape) in [
            ("# escape=`\nFROM a", b'`'),
            ("#escape = `  \r\nFROM a", b'`'),
            ("# syntax=docker/dockerfile:1\n# ESCAPE=`\n", b'`'),
            ("\u{feff}# escape=`\n", b'`'),
            ("\n# escape=`\n", b'\\'),
            ("# a comment\n# escape=`\n", b'\\'),
            ("# other=1\n# escape=`\n", b'\\'),
            ("FROM a\n# escape=`\n", b'\\'),
            ("# escape=\n", b'\\'),
        ] {
            let (found, messages) = read_text(source);
            assert_eq!(found, escape, "{source:?}");
            assert!(messages.is_empty(), "{source:?} {messages:?}");
        }
    }

    #[test]
    fn complains() {
        for (source, message) in [
            ("# escape=x\n", "invalid escape character `x`"),
            (
                "# escape=`\n# escape=`\n",
                "only one `escape` parser directive can be used",
            ),
            (
                "# syntax=me/mine:1 x\n",
                "the frontend `me/mine:1` is not used",
            ),
            (
                "#!/usr/bin/env x\n# escape=`\n",
                "`escape` does not count after a `#!` line",
            ),
            (
                "#!/bin/x\n# syntax=me/mine\n",
                "the frontend `me/mine` is not used",
            ),
            (
                "// syntax=me/mine\n{}",
                "the frontend `me/mine` is not used",
            ),
            (
                "#!/bin/x\n{\"syntax\": \"me/mine\", \"more\": [1]}",
                "the frontend `me/mine` is not used",
            ),
            (
                "# syntax=docker/dockerfilex\n",
                "the frontend `docker/dockerfilex` is not used",
            ),
        ] {
            assert_eq!(read_text(source).1, [message], "{source:?}");
        }
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile-upstream:master",
        ] {
            assert!(read_text(&format!("# syntax={image}\n")).1.is_empty());
        }
    }
}
