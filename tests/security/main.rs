//! Attacks on `sandcrab-oci`, derived from what was published about other runtimes.
//!
//! Each is tried twice: on the program as it is, where it must fail, and on a build with the one
//! protection switched off that stands against it (`runtime/src/weaken.rs`), where it must succeed:
//! otherwise it would prove nothing. Where only a race opens the way, both get several rounds. Must
//! not reach into the libraries. What a `RUN` step can do is in `tests/sandbox.rs`, over the same
//! engine.
#![cfg(test)]

#[path = "../runtime/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the tests of the runtime"
)]
mod harness;

mod attempt;
mod descriptors;
mod mounts;
mod privileges;
mod proc;
mod processes;
mod program;
mod race;
mod rootfs;
mod state;
