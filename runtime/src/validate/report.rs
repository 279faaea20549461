//! The list that problems are collected in.
//!
//! Responsible for the place of each problem, written as the path of the JSON value. Must not
//! know what a problem is. Invariant: places nest as the document does.

use std::fmt::{self, Write as _};

use crate::error::{Error, Result};

/// Something in a document that can't be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `linux.namespaces[2].type`.
    pub place: String,
    /// What is wrong, lower case and without a full stop.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Problems found so far, and the place being looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    place: String,
    problems: Vec<Problem>,
}

impl Report {
    /// Begins at a place; empty is the document.
    pub(crate) fn new(place: &str) -> Self {
        Self {
            place: place.to_owned(),
            problems: Vec::new(),
        }
    }

    /// Looks at a field of the present place.
    pub(crate) fn field(&mut self, name: &str, look: impl FnOnce(&mut Self)) {
        let length = self.place.len();
        if length > 0 {
            self.place.push('.');
        }
        // A key of a map may be anything.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if name.chars().all(plain) && !name.is_empty() {
            self.place.push_str(name);
        } else {
            let _: fmt::Result = write!(self.place, "\"{}\"", name.escape_debug());
        }
        look(self);
        self.place.truncate(length);
    }

    /// Looks at an element of the list at the present place.
    pub(crate) fn item(&mut self, index: usize, look: impl FnOnce(&mut Self)) {
        let length = self.place.len();
        let _: fmt::Result = write!(self.place, "[{index}]");
        look(self);
        self.place.truncate(length);
    }

    /// Looks at each element of a field that is a list.
    pub(crate) fn each<'t, T>(
        &mut self,
        name: &str,
        list: &'t [T],
        mut look: impl FnMut(&mut Self, &'t T),
    ) {
        self.field(name, |report| {
            for (index, item) in list.iter().enumerate() {
                report.item(index, |report| look(report, item));
            }
        });
    }

    /// Notes a problem of the present place.
    pub(crate) fn add(&mut self, text: impl Into<String>) {
        self.problems.push(Problem {
            place: self.place.clone(),
            text: text.into(),
        });
    }

    /// Notes a problem of a field of the present place.
    pub(crate) fn add_at(&mut self, name: &str, text: impl Into<String>) {
        self.field(name, |report| report.add(text));
    }

    /// Ends the collection.
    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems
    }

    /// Ends a collection that served one value: the value, or all problems as one error.
    pub(crate) fn finish_with<T>(self, value: Option<T>) -> Result<T> {
        let problems = self.finish();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(error(&problems)),
        }
    }
}

/// Makes one error of all problems.
pub fn error(problems: &[Problem]) -> Error {
    let list: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Error::new("check configuration").cause(list.join("; "))
}

/// A text from the document, for a message: in backticks, on one line, of bounded length.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted: String = text.chars().take(LONGEST).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    format!("`{}`", quoted.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_nest() {
        let mut report = Report::new("");
        report.field("linux", |r| {
            r.each("namespaces", &["a", "b"], |r, kind| {
                if *kind == "b" {
                    r.add_at("type", "unknown");
                }
            });
            r.field("sysctl", |r| r.add_at("net.x", "no"));
        });
        let texts: Vec<String> = report.finish().iter().map(Problem::to_string).collect();
        assert_eq!(
            texts,
            [
                "linux.namespaces[1].type: unknown",
                "linux.sysctl.\"net.x\": no"
            ]
        );
    }

    #[test]
    fn quotes_are_short_and_plain() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        assert!(quote(&"x".repeat(1000)).len() < 100);
    }
}
