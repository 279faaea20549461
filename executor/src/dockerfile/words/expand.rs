//! The expansion itself: one pass over the word's characters.

use std::ops::Range;

use super::pattern::{Extent, Pattern};
use super::{ExpandError, Expansion, LONGEST, Mode};

/// How deep `${a:-${b:-…}}` may go.
const DEEPEST: usize = 64;

/// Longest value that a pattern is searched in, since a search may cost the square of it.
const LONGEST_SEARCHED: usize = 1 << 12;

/// Expands words.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The escape character of the file.
    pub escape: char,
    /// How quotes and unset variables are treated.
    pub mode: Mode,
    /// Looks a variable up.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander")
            .field("escape", &self.escape)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Expander<'_> {
    /// Expands one word.
    pub fn expand(&self, word: &str) -> Result<Expansion, ExpandError> {
        let mut scan = Scan {
            rules: self,
            word,
            at: 0,
            depth: 0,
            undefined: Vec::new(),
        };
        let output = scan.until(None, false)?;
        let (text, words) = output.finish();
        Ok(Expansion {
            text,
            words,
            undefined: scan.undefined,
        })
    }
}

/// Collects the result, and where it falls apart into words.
#[derive(Debug, Default)]
struct Output {
    text: String,
    words: Vec<Range<usize>>,
    /// Where the word that has begun starts.
    word: Option<usize>,
}

impl Output {
    /// Adds what white space splits.
    fn push(&mut self, text: &str) {
        for (at, c) in text.char_indices() {
            if !c.is_whitespace() {
                self.word.get_or_insert(self.text.len() + at);
            } else if let Some(start) = self.word.take() {
                self.words.push(start..self.text.len() + at);
            }
        }
        self.text.push_str(text);
    }

    /// Adds what was quoted or escaped.
    fn push_quoted(&mut self, text: &str) {
        if !text.is_empty() {
            self.word.get_or_insert(self.text.len());
        }
        self.text.push_str(text);
    }

    fn finish(mut self) -> (String, Vec<Range<usize>>) {
        if let Some(start) = self.word {
            self.words.push(start..self.text.len());
        }
        (self.text, self.words)
    }
}

struct Scan<'a> {
    rules: &'a Expander<'a>,
    word: &'a str,
    at: usize,
    depth: usize,
    undefined: Vec<(String, Range<usize>)>,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<char> {
        self.word[self.at..].chars().next()
    }

    /// Reads the characters up to the next that is special.
    fn plain(&mut self, special: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.word[self.at..];
        let length = rest.find(special).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn error<T>(&self, from: usize, message: impl Into<String>) -> Result<T, ExpandError> {
        Err(ExpandError {
            message: message.into(),
            range: from..self.at.max(from),
        })
    }

    fn checked(&self, from: usize, text: String) -> Result<String, ExpandError> {
        if text.len() > LONGEST {
            return self.error(
                from,
                format!("the expansion is longer than {LONGEST} bytes"),
            );
        }
        Ok(text)
    }

    /// Reads up to `stop`, which is consumed, or to the end of the word. With `raw`, escapes stay:
    /// the text is a pattern that has its own.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, ExpandError> {
        let start = self.at;
        let mut out = Output::default();
        let escape = self.rules.escape;
        let special = |c| matches!(c, '$' | '\'' | '"') || c == escape || Some(c) == stop;
        loop {
            out.push(self.plain(special));
            if out.text.len() > LONGEST {
                return self.error(
                    start,
                    format!("the expansion is longer than {LONGEST} bytes"),
                );
            }
            let Some(c) = self.peek() else { break };
            if Some(c) == stop {
                self.next();
                return Ok(out);
            }
            match c {
                '\'' | '"' if self.rules.mode == Mode::Document => {
                    self.next();
                    out.push(c.encode_utf8(&mut [0; 4]));
                }
                '\'' => out.push_quoted(&self.single_quoted()?),
                '"' => out.push_quoted(&self.double_quoted(raw)?),
                '$' => out.push(&self.dollar()?),
                escape => {
                    self.next();
                    if raw {
                        out.push_quoted(escape.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(c) = self.next() {
                        out.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                }
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => self.error(start, format!("missing `{stop}` in substitution")),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        let Some(length) = self.word[self.at..].find('\'') else {
            self.at = self.word.len();
            return self.error(start, "missing closing single quote");
        };
        let text = &self.word[self.at..self.at + length];
        self.at += length + 1;
        Ok(match self.rules.mode {
            Mode::Plain | Mode::Document => text.to_owned(),
            Mode::Display => format!("'{text}'"),
        })
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, ExpandError> {
        let start = self.at;
        let escape = self.rules.escape;
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.error(start, "missing closing double quote"),
                Some('"') => {
                    self.next();
                    return self.checked(
                        start,
                        match self.rules.mode {
                            Mode::Plain | Mode::Document => text,
                            Mode::Display => format!("\"{text}\""),
                        },
                    );
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == escape => {
                    self.next();
                    match self.peek() {
                        None => {}
                        Some(c) if c == '"' || c == '$' || c == escape => {
                            if raw {
                                text.push(escape);
                            }
                            self.next();
                            text.push(c);
                        }
                        Some(_) => text.push(escape),
                    }
                }
                Some(_) => text.push_str(self.plain(|c| matches!(c, '$' | '"') || c == escape)),
            }
            if text.len() > LONGEST {
                return self.checked(start, text);
            }
        }
    }

    /// Reads a variable's name; one of the shell's special parameters counts, alone.
    fn name(&mut self) -> String {
        let rest = &self.word[self.at..];
        let length = match rest.chars().next() {
            Some(c) if c.is_ascii_digit() => rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_owned()
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        if self.peek() == Some('{') {
            if self.depth >= DEEPEST {
                return self.error(start, "substitutions are nested too deeply");
            }
            self.depth += 1;
            let result = self.braced(start);
            self.depth -= 1;
            return self.checked(start, result?);
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".into());
        }
        Ok(self.value(&name, start))
    }

    /// Looks up a variable for which the word gives no default.
    fn value(&mut self, name: &str, start: usize) -> String {
        match (self.rules.lookup)(name) {
            Some(value) => value,
            None => {
                self.undefined.push((name.to_owned(), start..self.at));
                match self.rules.mode {
                    Mode::Plain | Mode::Document => String::new(),
                    Mode::Display => self.word[start..self.at].to_owned(),
                }
            }
        }
    }

    fn braced(&mut self, start: usize) -> Result<String, ExpandError> {
        self.next();
        match self.peek() {
            None => return self.error(start, "missing `}` in substitution"),
            Some('{' | '}' | ':') => {
                self.next();
                return self.error(start, "bad substitution");
            }
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => self.error(start, "missing `}` in substitution"),
            Some('}') => Ok(self.value(&name, start)),
            Some(c @ ('-' | '+' | '?')) => self.conditional(start, &name, c, false),
            Some(':') => match self.next() {
                None => self.error(start, "missing `}` in substitution"),
                Some(c @ ('-' | '+' | '?')) => self.conditional(start, &name, c, true),
                Some(c) => self.error(
                    start,
                    format!("unsupported modifier `:{c}` in substitution"),
                ),
            },
            Some(c @ ('#' | '%')) => self.trim(start, &name, c),
            Some('/') => self.replace(start, &name),
            Some(c) => self.error(start, format!("unsupported modifier `{c}` in substitution")),
        }
    }

    fn conditional(
        &mut self,
        start: usize,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        let value = (self.rules.lookup)(name);
        if value.is_none() && self.rules.mode == Mode::Display {
            return Ok(self.word[start..self.at].to_owned());
        }
        let set = value.filter(|v| !(empty_is_unset && v.is_empty()));
        match (modifier, set) {
            ('-', set) => Ok(set.unwrap_or(word)),
            ('+', set) => Ok(set.map_or_else(String::new, |_| word)),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => {
                let what = if empty_is_unset { "empty" } else { "unset" };
                self.error(start, format!("{name}: is not allowed to be {what}"))
            }
            (_, None) => self.error(start, format!("{name}: {word}")),
        }
    }

    fn trim(&mut self, start: usize, name: &str, side: char) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        let value = self.value(name, start);
        let (text, extent) = match word.strip_prefix(side) {
            Some(rest) => (rest, Extent::Longest),
            None => (word.as_str(), Extent::Shortest),
        };
        let pattern = self.pattern(start, text)?;
        Ok(if side == '#' {
            pattern.trim_start(&value, extent)
        } else {
            pattern.trim_end(&value, extent)
        })
    }

    fn replace(&mut self, start: usize, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let text = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        let value = self.value(name, start);
        if value.len() > LONGEST_SEARCHED || text.len() > LONGEST_SEARCHED {
            return self.error(
                start,
                format!("replacing in more than {LONGEST_SEARCHED} bytes is not supported"),
            );
        }
        let pattern = self.pattern(start, &text)?;
        Ok(pattern.replace(&value, &replacement, all))
    }

    fn pattern(&self, start: usize, text: &str) -> Result<Pattern, ExpandError> {
        Pattern::new(text).or_else(|message| self.error(start, message))
    }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
