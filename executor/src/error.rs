//! The one error type of the executor.
//!
//! Responsible for carrying what was attempted, on what, why it did not work, and what the user
//! may do about it. Must not know how errors are rendered or which exit code they become beyond
//! their [`Kind`]. Invariant: an `Error`'s own text never repeats its source's text; the renderer
//! prints the chain, joined by colons.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What to do about a full disk.
pub(crate) const STORAGE_FULL_HINT: &str =
    "`sandcrab df` shows what the store takes up, `sandcrab prune` removes what nobody needs";

/// Result with the executor's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may decide on: the exit code, or another way to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The build, or what it was given, is at fault. Exit code 1.
    Build,
    /// The command line is at fault. Exit code 2.
    Usage,
    /// A RUN step ended with this exit code; it becomes ours when it is 1–124.
    Step(i32),
    /// Something named does not exist (an image, a blob, a file). Exit code 1.
    NotFound,
    /// A registry refused the credentials, or there were none. Exit code 1.
    Denied,
    /// Ended by this signal number (2 or 15). Exit code 128 + signal.
    Interrupted(i32),
    /// Given up since another part of the build failed, whose error tells why. Exit code 1.
    Cancelled,
    /// A broken assumption of our own. Exit code 70.
    Internal,
}

/// An operation that did not work: `op`, the path or name it was about, and the cause.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    op: Cow<'static, str>,
    path: Option<PathBuf>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<Cow<'static, str>>,
    diagnostics: Vec<crate::diagnostics::Diagnostic>,
}

impl Error {
    /// Creates an error of kind [`Kind::Build`]. `op` is a short "verb object" phrase or a whole
    /// lower-case sentence fragment, without a full stop.
    pub fn new(op: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind: Kind::Build,
                op: op.into(),
                path: None,
                source: None,
                hints: Vec::new(),
                diagnostics: Vec::new(),
            }),
        }
    }

    /// Creates an error that carries findings about a Dockerfile, each with its span.
    pub fn with_diagnostics(
        op: impl Into<Cow<'static, str>>,
        diagnostics: Vec<crate::diagnostics::Diagnostic>,
    ) -> Self {
        let mut error = Self::new(op);
        error.inner.diagnostics = diagnostics;
        error
    }

    /// Sets the kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Names the path that the operation was about; printed in backticks.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.inner.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Names a byte path, such as one from an archive.
    #[must_use]
    pub fn path_bytes(self, path: &[u8]) -> Self {
        self.path(OsStr::from_bytes(path))
    }

    /// Sets the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Adds a `hint:` line: one thing that the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.inner.hints.push(hint.into());
        self
    }

    /// Adds a finding about the Dockerfile.
    #[must_use]
    pub fn diagnostic(mut self, diagnostic: crate::diagnostics::Diagnostic) -> Self {
        self.inner.diagnostics.push(diagnostic);
        self
    }

    /// Wraps this error in a further operation; kind and hints move outwards.
    #[must_use]
    pub fn during(mut self, op: impl Into<Cow<'static, str>>) -> Self {
        let mut outer = Self::new(op).kind(self.inner.kind);
        outer.inner.hints = std::mem::take(&mut self.inner.hints);
        outer.inner.diagnostics = std::mem::take(&mut self.inner.diagnostics);
        outer.source(self)
    }

    /// Returns whether this only tells that the work was given up: by a signal, or since another
    /// part failed.
    pub fn is_cancellation(&self) -> bool {
        matches!(self.inner.kind, Kind::Interrupted(_) | Kind::Cancelled)
    }

    /// Returns the kind.
    pub fn get_kind(&self) -> Kind {
        self.inner.kind
    }

    /// Returns the hints, outermost first.
    pub fn hints(&self) -> &[Cow<'static, str>] {
        &self.inner.hints
    }

    /// Returns the Dockerfile findings that this error carries.
    pub fn diagnostics(&self) -> &[crate::diagnostics::Diagnostic] {
        &self.inner.diagnostics
    }

    /// Tells whether something in the chain is a full disk or a used-up quota.
    pub fn is_storage_full(&self) -> bool {
        let first = StdError::source(self);
        std::iter::successors(first, |error| StdError::source(*error)).any(|error| {
            let code = if let Some(error) = error.downcast_ref::<std::io::Error>() {
                // An error that a writer has wrapped has no number any more.
                if error.kind() == std::io::ErrorKind::StorageFull {
                    return true;
                }
                error.raw_os_error()
            } else if let Some(errno) = error.downcast_ref::<Errno>() {
                Some(errno.raw_os_error())
            } else {
                let error = error.downcast_ref::<runtime::Error>();
                error.and_then(runtime::Error::errno)
            };
            [Errno::NOSPC, Errno::DQUOT]
                .iter()
                .any(|full| code == Some(full.raw_os_error()))
        })
    }

    /// Tells whether something in the chain is a file system that is mounted read-only, or permissions
    /// that say the same.
    pub fn is_read_only(&self) -> bool {
        let first = StdError::source(self);
        std::iter::successors(first, |error| StdError::source(*error)).any(|error| {
            (error.downcast_ref::<std::io::Error>()).is_some_and(|error| {
                matches!(
                    error.kind(),
                    std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
                )
            })
        })
    }

    /// Returns the whole chain as one line, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = StdError::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&describe(error));
            next = error.source();
        }
        text
    }
}

/// Returns an error's own text; an operating-system error without its numeric suffix.
fn describe(error: &(dyn StdError + 'static)) -> String {
    let text = error.to_string();
    if (error.is::<std::io::Error>() || error.is::<Errno>())
        && let Some(at) = text.rfind(" (os error ")
    {
        let mut short = text[..at].to_owned();
        if let Some(first) = short.get_mut(0..1) {
            first.make_ascii_lowercase();
        }
        return short;
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.op)?;
        if let Some(path) = &self.inner.path {
            write!(f, " `{}`", path.display())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.inner.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|s| s as _)
    }
}

/// Names the operation on the error side of a result.
pub trait ResultExt<T> {
    /// Wraps the error in the operation that was attempted.
    fn op(self, op: &'static str) -> Result<T>;
    /// Wraps the error in the operation and the path it was about.
    fn op_path(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn op(self, op: &'static str) -> Result<T> {
        self.map_err(|e| Error::new(op).source(e))
    }

    fn op_path(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::new(op).path(path).source(e))
    }
}
