//! A payload for `RUN` steps: makes raw system calls one after the other and says what came of each.
//!
//! Responsible for what no shell or library can be asked exactly, without a C library in between.
//! Must not judge. Invariant: one word for each operation, on one line.
//!
//! ```text
//! identity-probe do OPERATION[:ARGUMENT…]… [-- COMMAND…]    executes COMMAND after the last one
//! identity-probe views PATH…                                one file's owner, by every call there is
//! ```
#![expect(clippy::print_stdout, reason = "its purpose")]

mod call;
mod operations;
mod views;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == "do" => {
            let end = rest.iter().position(|word| word == "--");
            let (operations, command) = rest.split_at(end.unwrap_or(rest.len()));
            let words: Vec<String> = operations.iter().map(|o| operations::run(o)).collect();
            if let [_, program, arguments @ ..] = command {
                let error = Command::new(program).args(arguments).exec();
                println!("{} exec: {error}", words.join(" "));
                return ExitCode::FAILURE;
            }
            println!("{}", words.join(" "));
            ExitCode::SUCCESS
        }
        Some((verb, paths)) if verb == "views" => {
            for path in paths {
                println!("{path} {}", views::all(path));
            }
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}
