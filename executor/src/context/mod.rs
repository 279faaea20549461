//! Build contexts: where the files of a build come from, and which of them a COPY selects.
//!
//! Responsible for reading a context as a confined tree, for `.dockerignore`, for wildcards and
//! for content digests. Must not know what files become in an image. Invariant: nothing outside
//! the context's root is read on behalf of a name in it.

pub mod archive;
pub mod digest;
pub mod ignore;
pub mod pattern;
pub mod suggest;
pub mod tar;
pub mod walk;
pub mod xattrs;
