//! What is kept about containers between the calls of a runtime: one directory for each.
//!
//! Responsible for finding, making, locking, listing and removing those directories and for the
//! records in them. Must not know what a container does, nor start or signal anything. Invariant:
//! a directory that has a container's name was complete when it got it (made under another name,
//! then renamed), belongs to the caller, and is no one else's to read; a record is replaced as a
//! whole or not at all. `kill -9` at any instruction leaves a directory that can be deleted.

mod dir;
mod document;
mod id;
mod process;
mod record;
mod root;
mod time;

pub use dir::{Dir, Fifo, Lock};
pub use document::{Document, document};
pub use id::Id;
pub use process::ProcessId;
pub use record::{Record, Status};
pub use root::{Listed, Root};
pub use time::timestamp;

/// The version of the runtime specification that state documents and features follow.
pub const OCI_VERSION: &str = "1.3.0";
