//! The system calls that a container may make.
//!
//! Responsible for the default profile, its compilation and installation. Must not depend on what
//! is run. Invariant: a call that no rule names is refused, whatever its number and entry point.

mod compile;
mod profile;
mod table;

use std::sync::OnceLock;

use crate::error::{Error, Result};

pub use compile::Program;

/// Returns the compiled default profile; the first call compiles it, for later and for forked
/// processes.
pub fn default_program() -> Result<&'static Program> {
    static PROGRAM: OnceLock<Result<Program>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| compile::compile(&profile::default()))
        .as_ref()
        .map_err(Error::clone)
}
