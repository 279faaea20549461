//! Findings about a Dockerfile, and how they are drawn.
//!
//! Responsible for one finding's data and its rendering with source line and caret. Must not know
//! the language's rules. Invariant: spans are byte ranges into the source they were made from.

use std::ops::Range;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build can't go on.
    Error,
    /// The build goes on; the finding is repeated at its end.
    Warning,
}

/// One finding, at a byte range of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Rule name as BuildKit's build checks have it (`JSONArgsRecommended`), if there is one.
    pub rule: Option<&'static str>,
    /// Lower-case text without a full stop.
    pub message: String,
    /// Byte range in the Dockerfile.
    pub span: Range<usize>,
    /// One thing that the user can do.
    pub hint: Option<String>,
}
