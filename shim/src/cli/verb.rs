//! What a verb is.
//!
//! Responsible for a verb's grammar and how its run ends. Must not know any verb. Invariant: a
//! verb runs only with as many arguments as it takes.

use std::ffi::OsString;

use runtime::{Error, Result};

use super::args::{Flag, Matches, Stop};
use super::context::{self, Context};

/// A verb of the command line.
#[derive(Debug)]
pub(crate) struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What follows the name, for the help text.
    pub usage: &'static str,
    /// One line for the list of verbs.
    pub about: &'static str,
    /// More, for the verb's own help text.
    pub details: &'static str,
    /// Its options, in groups.
    pub flags: &'static [&'static [Flag]],
    /// The fewest and the most arguments.
    pub arguments: (usize, usize),
    /// Where its options end.
    pub stop: Stop,
    /// Whether a process of this program enters a container.
    pub enters: bool,
    /// What it does.
    pub run: fn(&Context<'_>, &Matches) -> Outcome,
}

/// How a command ends: with an exit code, or with an error and one.
pub(crate) type Outcome = std::result::Result<u8, Failure>;

/// An error and the exit code that tells of it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong.
    pub error: Error,
    /// The exit code.
    pub code: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: 1 }
    }
}

impl Verb {
    /// Takes the words after the verb's name apart.
    ///
    /// # Errors
    /// See [`Matches::parse`]; and there are too few or too many arguments.
    pub(crate) fn parse(&self, words: impl IntoIterator<Item = OsString>) -> Result<Matches> {
        let matches = Matches::parse(self.flags, self.stop, words).map_err(|error| {
            let misplaced = context::FLAGS
                .iter()
                .find(|flag| error.to_string() == format!("unknown option `--{}`", flag.long));
            match misplaced {
                Some(flag) => Error::new(format!(
                    "option `--{}` must stand before `{}`",
                    flag.long, self.name
                )),
                None => error,
            }
        })?;
        if matches.help {
            return Ok(matches);
        }
        let (fewest, most) = self.arguments;
        let usage = || format!("usage: sandcrab-oci {} {}", self.name, self.usage);
        if matches.arguments.len() < fewest {
            return Err(Error::new(format!("`{}` lacks an argument", self.name)).hint(usage()));
        }
        if let Some(word) = matches.arguments.get(most) {
            let text = format!("`{}` has an argument too many: {word:?}", self.name);
            return Err(Error::new(text).hint(usage()));
        }
        Ok(matches)
    }
}
