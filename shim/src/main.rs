//! `sandcrab-oci`: the OCI command line over the runtime.
//!
//! One thread, nothing of the builder, and nothing done before the words are read.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
