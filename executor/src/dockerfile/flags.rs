//! Flags of instructions: `--name=value` before the arguments.
//!
//! Responsible for splitting them off, and for which instruction has which. Must not know what
//! their values mean.

use std::ops::Range;

use super::ast::Keyword;
use super::suggest;
use super::text::Text;
use crate::diagnostics::{Diagnostic, Severity};

/// A flag that an instruction may have.
struct Flag {
    name: &'static str,
    kind: FlagKind,
}

enum FlagKind {
    /// Takes a value, once.
    Value,
    /// Takes a value, any number of times.
    Values,
    /// Is there or not; `=true` and `=false` may follow.
    Switch,
}

const fn value(name: &'static str) -> Flag {
    Flag {
        name,
        kind: FlagKind::Value,
    }
}

const fn values(name: &'static str) -> Flag {
    Flag {
        name,
        kind: FlagKind::Values,
    }
}

const fn switch(name: &'static str) -> Flag {
    Flag {
        name,
        kind: FlagKind::Switch,
    }
}

const ADD: &[Flag] = &[
    value("chown"),
    value("chmod"),
    value("checksum"),
    switch("link"),
    switch("keep-git-dir"),
    values("exclude"),
    switch("unpack"),
];
const COPY: &[Flag] = &[
    value("from"),
    value("chown"),
    value("chmod"),
    switch("link"),
    switch("parents"),
    values("exclude"),
];
const FROM: &[Flag] = &[value("platform")];
const HEALTHCHECK: &[Flag] = &[
    value("interval"),
    value("timeout"),
    value("start-period"),
    value("start-interval"),
    value("retries"),
];
const RUN: &[Flag] = &[
    values("mount"),
    value("network"),
    value("security"),
    values("device"),
];

fn flags_of(keyword: Keyword) -> &'static [Flag] {
    match keyword {
        Keyword::Add => ADD,
        Keyword::Copy => COPY,
        Keyword::From => FROM,
        Keyword::Healthcheck => HEALTHCHECK,
        Keyword::Run => RUN,
        _ => &[],
    }
}

/// What was found in an instruction besides its parts.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong.
    pub(super) errors: Vec<Diagnostic>,
    /// What stops nothing.
    pub(super) warnings: Vec<Diagnostic>,
}

impl Findings {
    /// Adds findings of both kinds.
    pub(super) fn extend(&mut self, found: Vec<Diagnostic>) {
        for finding in found {
            match finding.severity {
                Severity::Error => self.errors.push(finding),
                Severity::Warning => self.warnings.push(finding),
            }
        }
    }
}

/// The flags that were given, by name.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<(&'static str, Text)>,
    switched: Vec<(&'static str, bool)>,
}

impl Flags {
    /// Takes a flag's value.
    pub(super) fn take(&mut self, name: &str) -> Option<Text> {
        let at = self.given.iter().position(|(n, _)| *n == name)?;
        Some(self.given.remove(at).1)
    }

    /// Takes all values of a flag that may be repeated, in order.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<Text> {
        std::iter::from_fn(|| self.take(name)).collect()
    }

    /// Returns how a switch was set, if it was given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        let found = self.switched.iter().find(|(n, _)| *n == name);
        found.map(|(_, on)| *on)
    }
}

/// Splits flags off the arguments; returns them, with quotes removed, and what follows.
fn split(args: &Text) -> (Vec<Text>, Text) {
    let text = args.as_str();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (words, args.slice(at..text.len()));
        }
        let (word, end) = unquote(text, at);
        if word == "--" {
            return (words, args.slice(end..text.len()).trim());
        }
        let raw = at..end;
        words.push(if word == text[raw.clone()] {
            args.slice(raw)
        } else {
            Text::whole(word, args.locate(raw))
        });
        at = end;
    }
}

/// Reads one word from `start`; the escape is always a backslash here, as in BuildKit.
fn unquote(text: &str, start: usize) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text[start..].char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c.is_whitespace() => return (word, start + at),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ if c == '\\' => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

/// Reads and checks the flags of an instruction; returns what follows them too.
pub(super) fn read(keyword: Keyword, args: &Text, found: &mut Findings) -> (Flags, Text) {
    let (words, rest) = split(args);
    let mut flags = Flags::default();
    let mut seen: Vec<&'static str> = Vec::new();
    for word in words {
        let text = word.as_str();
        let equals = text.find('=');
        let name = &text[2..equals.unwrap_or(text.len())];
        let span: Range<usize> = word.locate(0..2 + name.len());
        let known = flags_of(keyword);
        let Some(flag) = known.iter().find(|f| f.name == name) else {
            let mut error = Diagnostic::error(
                span,
                format!("unknown flag `--{name}` for {}", keyword.name()),
            );
            error.hint = suggest::hint(name, known.iter().map(|f| f.name))
                .map(|hint| hint.replacen('`', "`--", 1));
            if error.hint.is_none() && known.is_empty() {
                error.hint = Some(format!("{} has no flags", keyword.name()));
            }
            found.errors.push(error);
            continue;
        };
        if seen.contains(&flag.name) && !matches!(flag.kind, FlagKind::Values) {
            found.errors.push(Diagnostic::error(
                span,
                format!("flag `--{name}` is given twice"),
            ));
            continue;
        }
        match (&flag.kind, equals) {
            (FlagKind::Switch, None) => flags.switched.push((flag.name, true)),
            (FlagKind::Switch, Some(at)) => match text[at + 1..].to_ascii_lowercase().as_str() {
                "true" => flags.switched.push((flag.name, true)),
                "false" => flags.switched.push((flag.name, false)),
                other => found.errors.push(
                    Diagnostic::error(
                        word.locate(at + 1..text.len()),
                        format!("flag `--{name}` can't be `{other}`"),
                    )
                    .hint("write `true` or `false`, or the flag alone"),
                ),
            },
            (FlagKind::Value | FlagKind::Values, Some(at)) => flags
                .given
                .push((flag.name, word.slice(at + 1..text.len()))),
            (FlagKind::Value | FlagKind::Values, None) => found.errors.push(
                Diagnostic::error(span, format!("flag `--{name}` needs a value"))
                    .hint(format!("write `--{name}=VALUE`")),
            ),
        }
        seen.push(flag.name);
    }
    (flags, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(keyword: Keyword, args: &str) -> (Vec<String>, String) {
        let text = Text::joined(args.to_owned(), vec![(0, 0)], 0..args.len());
        let mut found = Findings::default();
        let (_, rest) = read(keyword, &text, &mut found);
        let all = found.errors.into_iter();
        (all.map(|d| d.message).collect(), rest.as_str().to_owned())
    }

    #[test]
    fn splits_off_flags() {
        for (args, wanted) in [
            ("--chown=a --chmod=1 b c", "b c"),
            ("--chown=\"a b\" c", "c"),
            ("-- --chown=a", "--chown=a"),
            ("b --chown=a", "b --chown=a"),
            ("--link=false b", "b"),
            ("--link=True b", "b"),
        ] {
            let (messages, rest) = messages(Keyword::Copy, args);
            assert!(messages.is_empty(), "{args} {messages:?}");
            assert_eq!(rest, wanted, "{args}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for (keyword, args, message) in [
            (
                Keyword::Copy,
                "--chwon=a b c",
                "unknown flag `--chwon` for COPY",
            ),
            (Keyword::Copy, "--chown b c", "flag `--chown` needs a value"),
            (
                Keyword::Copy,
                "--chown=a --chown=b c d",
                "flag `--chown` is given twice",
            ),
            (
                Keyword::Copy,
                "--link=yes b c",
                "flag `--link` can't be `yes`",
            ),
            (Keyword::Run, "--mount y", "flag `--mount` needs a value"),
            (Keyword::Env, "--a=b", "unknown flag `--a` for ENV"),
        ] {
            assert_eq!(messages(keyword, args).0, [message], "{args}");
        }
    }

    #[test]
    fn values_keep_their_place() {
        let args = "--chown=a:b --chmod='7 5'";
        let text = Text::joined(args.to_owned(), vec![(0, 100)], 100..125);
        let (mut flags, _) = read(Keyword::Copy, &text, &mut Findings::default());
        let chown = flags.take("chown").expect("given");
        assert_eq!((chown.as_str(), chown.span()), ("a:b", 108..111));
        let chmod = flags.take("chmod").expect("given");
        assert_eq!((chmod.as_str(), chmod.span()), ("7 5", 112..125));
        assert!(flags.take("from").is_none());
    }
}
