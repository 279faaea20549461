//! The one error type of the runtime.
//!
//! Responsible for carrying what was attempted, on what, why it did not work and what the user
//! may change, also across the process boundary between a job and its submitter. Must not know
//! how errors are shown. Invariant: an error's own text never repeats its source's text.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Result with the runtime's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that did not work: `op`, the path it was about, the cause, and hints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{op}{}", Quoted(path.as_deref()))]
pub struct Error {
    op: Cow<'static, str>,
    path: Option<PathBuf>,
    source: Option<Cause>,
    hints: Vec<Cow<'static, str>>,
}

/// Why an operation did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The kernel refused with this `errno`.
    Os(i32),
    /// Something that has no number.
    Text(String),
}

impl Error {
    /// Creates an error. `op` is a short "verb object" phrase or a whole lower-case sentence
    /// fragment, without a full stop.
    pub fn new(op: impl Into<Cow<'static, str>>) -> Self {
        Self {
            op: op.into(),
            path: None,
            source: None,
            hints: Vec::new(),
        }
    }

    /// Names the path that the operation was about; printed in backticks.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Adds one thing that the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says during what this happened.
    #[must_use]
    pub(crate) fn within(mut self, what: &str) -> Self {
        self.op = format!("{what}: {}", self.op).into();
        self
    }

    /// Returns what the user can do, most important first.
    pub fn hints(&self) -> &[Cow<'static, str>] {
        &self.hints
    }

    /// Returns the `errno` of the cause, if it has one.
    pub fn errno(&self) -> Option<i32> {
        match self.source {
            Some(Cause::Os(errno)) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => {
                let text = io::Error::from_raw_os_error(*errno).to_string();
                let text = text.split(" (os error ").next().unwrap_or_default();
                f.write_str(&text.to_lowercase())
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Cause {}

impl From<rustix::io::Errno> for Cause {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Os(errno.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Cause {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Os(errno as i32)
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        error
            .raw_os_error()
            .map_or_else(|| Self::Text(error.to_string()), Self::Os)
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Names the operation on the error side of a result.
pub trait ResultExt<T> {
    /// Wraps the error in the operation that was attempted.
    fn op(self, op: &'static str) -> Result<T>;
    /// Wraps the error in the operation and the path it was about.
    fn op_path(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<Cause>> ResultExt<T> for std::result::Result<T, E> {
    fn op(self, op: &'static str) -> Result<T> {
        self.map_err(|e| Error::new(op).cause(e))
    }

    fn op_path(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::new(op).path(path).cause(e))
    }
}

/// A path in backticks after a blank, or nothing.
struct Quoted<'a>(Option<&'a Path>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " `{}`", path.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn text_and_source_are_apart() {
        let error = Error::new("open layer")
            .path("/x y")
            .cause(rustix::io::Errno::NOENT)
            .hint("make it");
        assert_eq!(error.to_string(), "open layer `/x y`");
        let source = error.source().expect("a source").to_string();
        assert_eq!(source, "no such file or directory");
        assert_eq!(error.errno(), Some(libc::ENOENT));
    }

    #[test]
    fn survives_the_process_boundary() {
        let error = Error::new("a").path("/b").cause("c".to_owned()).hint("d");
        let bytes = serde_json::to_vec(&error).expect("serialise");
        let back: Error = serde_json::from_slice(&bytes).expect("parse");
        assert_eq!(back, error);
    }
}
