//! `sandcrab`: the builder and image tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    executor::cli::main()
}
