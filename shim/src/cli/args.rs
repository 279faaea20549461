//! The grammar of the command line and its parser.
//!
//! Responsible for taking words apart by a table of flags. Must not know what a flag means nor
//! print anything. Invariant: a word is an option that the table names, an argument, or an error
//! that names it; nothing is dropped.
//!
//! Accepted are `--flag value`, `--flag=value`, `-f value`, `-fvalue`, `-f=value`, clusters of
//! short switches, and, as Go's flag package does, a long name after one dash. Options may stand
//! before and after the arguments: containerd puts them first, scripts for youki last.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use runtime::{Error, Result};

/// An option.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Long name, without dashes.
    pub long: &'static str,
    /// Short name.
    pub short: Option<u8>,
    /// What follows it.
    pub takes: Takes,
    /// One line for the help text.
    pub help: &'static str,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// A value, called this in the help text; the last one counts.
    Value(&'static str),
    /// As `Value`, but all count.
    List(&'static str),
    /// A value, which has no effect here, for this reason: warned of.
    Ineffective(&'static str),
    /// It can't be honoured, for this reason: an error.
    Refused(&'static str),
}

/// Where options end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At `--` only.
    Never,
    /// After this many arguments.
    After(usize),
    /// At this many arguments, except for `--format` and `-f` with a value that is one of ours:
    /// ps(1) has options of the same names.
    Format(usize),
    /// Every word is an argument.
    AtOnce,
}

/// What was on the command line.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    given: Vec<(&'static str, OsString)>,
    /// Options without effect, and why.
    pub ineffective: Vec<(&'static str, &'static str)>,
    /// What is no option.
    pub arguments: Vec<OsString>,
    /// Whether `--help` was there.
    pub help: bool,
}

impl Flag {
    /// A switch.
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Takes::Nothing, help)
    }

    /// An option with a value.
    pub(crate) const fn value(long: &'static str, name: &'static str, help: &'static str) -> Self {
        Self::new(long, Takes::Value(name), help)
    }

    /// An option that may be repeated.
    pub(crate) const fn list(long: &'static str, name: &'static str, help: &'static str) -> Self {
        Self::new(long, Takes::List(name), help)
    }

    pub(crate) const fn new(long: &'static str, takes: Takes, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            takes,
            help,
        }
    }

    /// Adds a short name.
    pub(crate) const fn short(mut self, short: u8) -> Self {
        self.short = Some(short);
        self
    }

    fn takes_value(&self) -> bool {
        matches!(
            self.takes,
            Takes::Value(_) | Takes::List(_) | Takes::Ineffective(_)
        )
    }
}

impl Matches {
    /// Takes `words` apart.
    ///
    /// # Errors
    /// An option is unknown, lacks its value, has one too many, or is refused.
    pub(crate) fn parse(
        flags: &[&'static [Flag]],
        stop: Stop,
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            let ended = match stop {
                Stop::Never => false,
                Stop::After(count) => found.arguments.len() >= count,
                Stop::Format(count) => {
                    found.arguments.len() >= count
                        && !(found.arguments.len() == count && is_format(bytes, words.peek()))
                }
                Stop::AtOnce => true,
            };
            if ended || bytes.len() < 2 || bytes[0] != b'-' {
                found.arguments.push(word);
                continue;
            }
            if bytes == b"--" {
                found.arguments.extend(words);
                break;
            }
            let mut next = || words.next();
            if let Some(name) = bytes.strip_prefix(b"--") {
                found.long(flags, name, &mut next)?;
            } else if find(flags, split(&bytes[1..]).0).is_some_and(|_| bytes.len() > 2) {
                found.long(flags, &bytes[1..], &mut next)?;
            } else {
                found.short(flags, &bytes[1..], &mut next)?;
            }
        }
        Ok(found)
    }

    fn long(
        &mut self,
        flags: &[&'static [Flag]],
        word: &[u8],
        next: &mut dyn FnMut() -> Option<OsString>,
    ) -> Result<()> {
        let (name, value) = split(word);
        if name == b"help" {
            self.help = true;
            return Ok(());
        }
        let flag = find(flags, name).ok_or_else(|| unknown(flags, name))?;
        let value = match value {
            Some(value) => Some(OsString::from_vec(value.to_vec())),
            None if flag.takes_value() => Some(next().ok_or_else(|| lacking(flag))?),
            None => None,
        };
        self.take(flag, value)
    }

    fn short(
        &mut self,
        flags: &[&'static [Flag]],
        cluster: &[u8],
        next: &mut dyn FnMut() -> Option<OsString>,
    ) -> Result<()> {
        let mut rest = cluster;
        while let [letter, after @ ..] = rest {
            rest = after;
            let flag = all(flags).find(|flag| flag.short == Some(*letter));
            if flag.is_none() && *letter == b'h' {
                self.help = true;
                continue;
            }
            let flag = flag.ok_or_else(|| {
                let shown = String::from_utf8_lossy(&cluster[..cluster.len() - after.len()]);
                Error::new(format!("unknown option `-{shown}`"))
            })?;
            if let Some(value) = rest.strip_prefix(b"=") {
                return self.take(flag, Some(OsString::from_vec(value.to_vec())));
            }
            if flag.takes_value() {
                let value = if rest.is_empty() {
                    next().ok_or_else(|| lacking(flag))?
                } else {
                    OsString::from_vec(rest.to_vec())
                };
                return self.take(flag, Some(value));
            }
            self.take(flag, None)?;
        }
        Ok(())
    }

    fn take(&mut self, flag: &'static Flag, value: Option<OsString>) -> Result<()> {
        match flag.takes {
            Takes::Refused(why) => Err(Error::new(format!(
                "option `--{}` is not supported: {why}",
                flag.long
            ))),
            Takes::Ineffective(why) => {
                self.ineffective.push((flag.long, why));
                Ok(())
            }
            Takes::Nothing => {
                let value = value.unwrap_or_else(|| "true".into());
                if parse_bool(&value).is_none() {
                    return Err(invalid(flag.long, &value, "it is neither true nor false"));
                }
                self.given.push((flag.long, value));
                Ok(())
            }
            Takes::Value(_) | Takes::List(_) => {
                self.given.push((flag.long, value.unwrap_or_default()));
                Ok(())
            }
        }
    }

    /// The value of an option, as it is.
    pub(crate) fn value(&self, long: &str) -> Option<&OsStr> {
        self.values(long).last()
    }

    /// All values of an option.
    pub(crate) fn values<'a>(&'a self, long: &str) -> impl Iterator<Item = &'a OsStr> {
        self.given
            .iter()
            .filter(move |(name, _)| *name == long)
            .map(|(_, value)| value.as_os_str())
    }

    /// Whether a switch is on.
    pub(crate) fn switch(&self, long: &str) -> bool {
        self.maybe(long).unwrap_or(false)
    }

    /// Whether a switch is on, off, or was not there.
    pub(crate) fn maybe(&self, long: &str) -> Option<bool> {
        self.value(long).and_then(parse_bool)
    }

    /// The value of an option as text.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub(crate) fn text(&self, long: &'static str) -> Result<Option<&str>> {
        self.value(long).map(|v| as_text(long, v)).transpose()
    }

    /// All values of an option as text.
    ///
    /// # Errors
    /// One is no UTF-8.
    pub(crate) fn texts(&self, long: &'static str) -> Result<Vec<String>> {
        self.values(long)
            .map(|value| as_text(long, value).map(str::to_owned))
            .collect()
    }

    /// The value of an option as a number.
    ///
    /// # Errors
    /// It is none that fits.
    pub(crate) fn number<T: FromStr>(&self, long: &'static str) -> Result<Option<T>> {
        let Some(text) = self.text(long)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| invalid(long, text.as_ref(), "it is no number that fits"))
    }

    /// An argument as text.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub(crate) fn argument(&self, index: usize) -> Result<&str> {
        let word = self.arguments.get(index).map(OsString::as_os_str);
        let word = word.unwrap_or_default();
        word.to_str()
            .ok_or_else(|| Error::new(format!("argument {word:?} is not UTF-8")))
    }
}

/// The error of a value that can't be used.
pub(crate) fn invalid(long: &str, value: &OsStr, why: &str) -> Error {
    Error::new(format!("invalid value {value:?} of option `--{long}`")).cause(why.to_owned())
}

/// Finds what the user may have meant.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (distance(word, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min()
        .map(|(_, name)| name)
}

fn all(flags: &[&'static [Flag]]) -> impl Iterator<Item = &'static Flag> {
    flags.iter().flat_map(|part| part.iter())
}

fn find(flags: &[&'static [Flag]], name: &[u8]) -> Option<&'static Flag> {
    all(flags).find(|flag| flag.long.as_bytes() == name)
}

fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    }
}

fn unknown(flags: &[&'static [Flag]], name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let error = Error::new(format!("unknown option `--{name}`"));
    match nearest(&name, all(flags).map(|flag| flag.long)) {
        Some(near) => error.hint(format!("did you mean `--{near}`?")),
        None => error,
    }
}

fn lacking(flag: &Flag) -> Error {
    Error::new(format!("option `--{}` lacks its value", flag.long))
}

fn as_text<'a>(long: &str, value: &'a OsStr) -> Result<&'a str> {
    value
        .to_str()
        .ok_or_else(|| invalid(long, value, "it is not UTF-8"))
}

/// The words that Go's `strconv.ParseBool` takes, which runc's callers write.
fn parse_bool(word: &OsStr) -> Option<bool> {
    match word.as_bytes() {
        b"true" | b"TRUE" | b"True" | b"t" | b"T" | b"1" => Some(true),
        b"false" | b"FALSE" | b"False" | b"f" | b"F" | b"0" => Some(false),
        _ => None,
    }
}

/// Whether these are `--format` and one of our formats.
fn is_format(word: &[u8], next: Option<&OsString>) -> bool {
    let ours = |value: &[u8]| value == b"json" || value == b"table";
    match split(word) {
        (b"--format" | b"-f", Some(value)) => ours(value),
        (b"--format" | b"-f", None) => next.is_some_and(|value| ours(value.as_bytes())),
        _ => false,
    }
}

/// How many letters must be changed, added or removed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::value("bundle", "DIR", "").short(b'b'),
        Flag::switch("detach", "").short(b'd'),
        Flag::switch("tty", "").short(b't'),
        Flag::list("env", "NAME=VALUE", "").short(b'e'),
        Flag::value("format", "FORMAT", "").short(b'f'),
        Flag::new("old", Takes::Ineffective("it is old"), ""),
        Flag::new("criu", Takes::Refused("there is none"), ""),
    ];

    fn parse(stop: Stop, line: &str) -> Result<Matches> {
        Matches::parse(&[FLAGS], stop, line.split_whitespace().map(OsString::from))
    }

    fn seen(stop: Stop, line: &str) -> String {
        let matches = match parse(stop, line) {
            Ok(matches) => matches,
            Err(error) => return format!("error: {error} {:?}", error.hints()),
        };
        let mut out = String::new();
        for (name, value) in &matches.given {
            out += &format!("{name}={} ", value.display());
        }
        for word in &matches.arguments {
            out += &format!("{} ", word.display());
        }
        out.trim_end().to_owned()
    }

    #[test]
    fn options_in_every_form_and_place() {
        for (line, expected) in [
            ("--bundle b id", "bundle=b id"),
            ("--bundle=b id", "bundle=b id"),
            ("id --bundle b", "bundle=b id"),
            ("-b b id", "bundle=b id"),
            ("-bb id", "bundle=b id"),
            ("-b=b id", "bundle=b id"),
            ("-bundle b id", "bundle=b id"),
            ("-bundle=b id", "bundle=b id"),
            ("--bundle - id", "bundle=- id"),
            ("--bundle -1 id", "bundle=-1 id"),
            ("--bundle= id", "bundle= id"),
            ("--bundle a=b id", "bundle=a=b id"),
            ("-dt id", "detach=true tty=true id"),
            ("-dbx id", "detach=true bundle=x id"),
            ("--detach=false id", "detach=false id"),
            ("-d=0 id", "detach=0 id"),
            ("-e a=1 --env b=2 id", "env=a=1 env=b=2 id"),
            ("-- --bundle b", "--bundle b"),
            ("id - x", "id - x"),
            ("--old x id", "id"),
        ] {
            assert_eq!(seen(Stop::Never, line), expected, "{line}");
        }
    }

    #[test]
    fn errors_name_the_word() {
        for (line, expected) in [
            (
                "--bundel b",
                r#"unknown option `--bundel` ["did you mean `--bundle`?"]"#,
            ),
            ("--nothing-like-it", "unknown option `--nothing-like-it` []"),
            ("-x", "unknown option `-x` []"),
            ("-dx", "unknown option `-dx` []"),
            ("--bundle", "option `--bundle` lacks its value []"),
            ("-b", "option `--bundle` lacks its value []"),
            ("--tty=yes", r#"invalid value "yes" of option `--tty` []"#),
            (
                "--criu",
                "option `--criu` is not supported: there is none []",
            ),
        ] {
            assert_eq!(
                seen(Stop::Never, line),
                format!("error: {expected}"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_command_keeps_its_options() {
        let stop = Stop::After(2);
        assert_eq!(seen(stop, "-t id ls -d -- x"), "tty=true id ls -d -- x");
        assert_eq!(seen(stop, "id -t ls -d"), "tty=true id ls -d");
        assert_eq!(seen(stop, "id -- -t -d"), "id -t -d");
        assert_eq!(seen(Stop::AtOnce, "--bundle x -y"), "--bundle x -y");
    }

    #[test]
    fn options_of_ps_are_told_from_ours() {
        let stop = Stop::Format(1);
        for (line, expected) in [
            ("-f json id", "format=json id"),
            ("id -f json", "format=json id"),
            ("id --format=json", "format=json id"),
            ("id -f", "id -f"),
            ("id -ef", "id -ef"),
            ("id --format pid,args", "id --format pid,args"),
            ("id -o pid", "id -o pid"),
        ] {
            assert_eq!(seen(stop, line), expected, "{line}");
        }
    }

    #[test]
    fn values_are_looked_up() {
        let matches = parse(Stop::Never, "--bundle 1 --bundle 2 -d=f --old 5 -h").expect("parse");
        assert_eq!(matches.number::<u32>("bundle").expect("number"), Some(2));
        assert!(matches.number::<u32>("format").expect("none").is_none());
        assert_eq!(matches.maybe("detach"), Some(false));
        assert!(!matches.switch("detach") && !matches.switch("tty"));
        assert_eq!(matches.ineffective, [("old", "it is old")]);
        assert!(matches.help);
        let matches = parse(Stop::Never, "--bundle x").expect("parse");
        assert!(matches.number::<u32>("bundle").is_err());
    }

    #[test]
    fn help_is_found_everywhere() {
        for (stop, line) in [
            (Stop::Never, "id --help"),
            (Stop::Never, "-dh"),
            (Stop::After(2), "-h"),
        ] {
            assert!(parse(stop, line).expect("parse").help, "{line}");
        }
        for (stop, line) in [(Stop::After(2), "id ls --help"), (Stop::AtOnce, "--help")] {
            assert!(!parse(stop, line).expect("parse").help, "{line}");
        }
    }

    #[test]
    fn words_without_utf8() {
        let word = OsString::from_vec(b"--bundle=\xff".to_vec());
        let matches = Matches::parse(&[FLAGS], Stop::Never, [word]).expect("parse");
        assert_eq!(matches.value("bundle").expect("value").as_bytes(), b"\xff");
        assert!(matches.text("bundle").is_err());
    }
}
