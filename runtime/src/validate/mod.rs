//! Whether a container can be made as its document says.
//!
//! Responsible for finding every problem of a specification, each with its place, before any
//! process exists. Must not look at the system: the same document has the same problems
//! everywhere. Invariant: nothing panics, whatever the document holds.

mod report;

pub use report::{Problem, error};
pub(crate) use report::{Report, quote};
