//! Whether a container can be made as its document says.
//!
//! Responsible for finding every problem of a specification, each with its place, before any
//! process exists. Must not look at the system: the same document has the same problems
//! everywhere. Invariant: nothing panics, whatever the document holds.
//!
//! Rules are those of runtime-spec 1.3 and of the kernel calls that a value ends up in; where the
//! specification leaves it open, what runc (1.1 to 1.4) accepts is accepted.

mod document;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod report;
mod resources;
mod seccomp;
#[cfg(test)]
mod tests;

use crate::spec::{Process, Resources, Spec};

pub use namespaces::KINDS as NAMESPACES;
pub use report::{Problem, error};
pub(crate) use report::{Report, quote};
pub use seccomp::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

/// Finds all problems of a `config.json`.
///
/// A document without a process, or with one that has no arguments, is fine: only `start` needs
/// them (config.md, "Process").
pub fn validate(spec: &Spec) -> Vec<Problem> {
    let mut report = Report::new("");
    document::check(spec, &mut report);
    report.finish()
}

/// Finds all problems of a process, which is at `place` of a document; empty is a document of its
/// own.
pub fn validate_process(process: &Process, place: &str) -> Vec<Problem> {
    let mut report = Report::new(place);
    process::check(process, &mut report);
    report.finish()
}

/// Finds all problems of limits, which are at `place` of a document; empty is a document of its
/// own.
pub fn validate_resources(resources: &Resources, place: &str) -> Vec<Problem> {
    let mut report = Report::new(place);
    resources::check(resources, &mut report);
    report.finish()
}
