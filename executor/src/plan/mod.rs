//! Plans: from the syntax tree to what has to be done, without any I/O.
//!
//! Responsible for stages, variable scopes and the steps of each stage. Must not run or read
//! anything: base image configs are handed in.

pub mod step;
