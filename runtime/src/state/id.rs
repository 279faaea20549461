//! Names of containers.
//!
//! Responsible for which strings may name a container. Invariant: an [`Id`] is one file name, and
//! no name of our own unfinished directories.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::weaken::{self, Protection};

/// Longest name, that of a file and of a control group.
const LONGEST: usize = 255;

/// A checked container name: ASCII letters, digits and `_+.-`, as runc takes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(String);

impl Id {
    /// Checks a name.
    ///
    /// # Errors
    /// It is empty, too long, `.` or `..`, or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if weaken::off(Protection::Ids) {
            return Ok(Self(text));
        }
        let why = if text.is_empty() {
            "it is empty".to_owned()
        } else if text.len() > LONGEST {
            format!("it is longer than {LONGEST} bytes")
        } else if text == "." || text == ".." {
            "it names a directory".to_owned()
        } else if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            format!("{bad:?} is not a letter, a digit or one of `_+.-`")
        } else {
            return Ok(Self(text));
        };
        let shown: String = text.chars().take(LONGEST).collect();
        Err(Error::new(format!("invalid container id {shown:?}")).cause(why))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+.-".contains(c)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(255);
        for good in ["a", "A-1_b+c.d", ".hidden", "-x", "...", &long] {
            assert!(Id::new(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(256);
        for bad in [
            "", ".", "..", "a/b", "a b", "ä", "a\n", "a\0", "a:b", "a~1", &longer,
        ] {
            assert!(Id::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_reason_is_told() {
        let error = Id::new("../x").expect_err("bad");
        assert_eq!(error.to_string(), "invalid container id \"../x\"");
    }
}
