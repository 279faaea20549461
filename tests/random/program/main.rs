//! A payload for RUN steps: sequences of random file and credential calls, and what came of them.
//!
//! Responsible for its command line and for running each sequence in a process and a tree of its
//! own. Must not judge. Invariant: what is printed depends on the seed and on what the kernel, or
//! whoever answers in its place, said; never on times, numbers of processes, or inode numbers.
//!
//! ```text
//! random-program prepare SEED WITHOUT JOBS       makes the trees that a later step works on
//! random-program run SEED WITHOUT JOBS OUTPUT    runs the sequences, one line for each call
//! random-program list JOBS OUTPUT                lists the trees that were kept
//! random-program continue …                      what a sequence executes in its own place
//! ```
//!
//! `WITHOUT` is a list of what not to do, with commas: `wide` ids and devices, `magic` links,
//! `auxv`, … A line of `JOBS` is `SEQUENCE`, `FIRST-LAST`, or `SEQUENCE CALL,CALL…` with calls to
//! leave out. Every choice depends on the seed, the sequence and the number of the call alone, so
//! that leaving out a call changes no other.
#![expect(clippy::print_stderr, reason = "a command-line program")]

mod attributes;
mod call;
mod credentials;
mod files;
mod job;
mod listing;
mod look;
mod memory;
mod names;
mod paths;
mod processes;
mod random;
mod sequence;
mod sockets;
mod tree;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["prepare", seed, without, jobs] => job::read(jobs, seed, without).and_then(|jobs| {
            jobs.iter()
                .filter(|job| job.kept)
                .try_for_each(tree::prepare)
        }),
        ["run", seed, without, jobs, output] => job::read(jobs, seed, without)
            .and_then(|jobs| to(output, |_| jobs.iter().try_for_each(sequence::run))),
        ["list", jobs, output] => job::read(jobs, "0", "").and_then(|jobs| {
            to(output, |file| {
                jobs.iter().filter(|job| job.kept).try_for_each(|job| {
                    writeln!(file, "# {} {}", job.index, job.sequence)?;
                    file.write_all(listing::of(&job.place()).as_bytes())
                })
            })
        }),
        ["continue", ..] => sequence::carry_on(&words[1..]),
        _ => return ExitCode::from(2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("random-program: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens the output where every process of the sequences finds it.
fn to(
    path: &str,
    work: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    call::keep_output(&file)?;
    work(&mut file)
}
