//! The Dockerfile language: bytes to a syntax tree with spans.
//!
//! Responsible for everything that one can say about a Dockerfile without knowing build arguments,
//! base images or files, and for expanding one word given its variables. Must not do I/O. BuildKit's
//! frontend is the reference for what is accepted. Invariant: every span is a byte range of the
//! bytes that were parsed, and no input makes the parser panic.

pub mod ast;
pub mod checks;
mod directives;
mod flags;
pub mod heredoc;
mod instructions;
mod json;
mod lines;
pub mod mode;
pub mod mounts;
mod parser;
pub mod rules;
mod source;
pub mod suggest;
pub mod text;
pub mod values;
pub mod words;

pub use parser::{BuildArgs, Parsed, parse, parse_trigger, read};
