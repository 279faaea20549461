//! `bench`: sandcrab beside the peers that this machine has, in one run.
//!
//! Responsible for running the same work with each tool in turn, round by round, and for a table
//! with medians, ratios and peak memory. Must not judge: a figure is a figure, but work that was done
//! wrong is none. Works without the internet, as an ordinary user with subordinate ids.
//!
//! `BENCH_ROUNDS` sets how often each piece of work is done (default 5; the big ones once or
//! thrice), `BENCH_TOOLS` beside whom (`buildah,podman`, say; default all). Words after the program's
//! path select pieces of work by their names; `plan` is the reading of a large Dockerfile, `store`
//! commands on a large store, `start` the start of OCI containers, `identity` what emulated ids cost; words
//! behind it select pieces of work in a step. `TMPDIR` is where all of it happens.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program"
)]

mod identity;
mod measure;
mod plan;
mod start;
mod store;
mod tools;
mod work;

use std::path::Path;
use std::process::ExitCode;

use support::{User, World};

use crate::measure::Outcome;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: bench PATH/TO/sandcrab [WORK…]");
        return ExitCode::from(2);
    };
    let words: Vec<String> = arguments.filter_map(|w| w.into_string().ok()).collect();
    if program == "--time" {
        start::time(words.first().and_then(|n| n.parse().ok()).unwrap_or(1));
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let Some(world) = World::new(User::Subids, "bench") else {
        eprintln!("bench: needs to run as root, or as a user with a range in /etc/subuid");
        return ExitCode::FAILURE;
    };
    let rounds = std::env::var("BENCH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5);
    if let Some(("identity", some)) = words.split_first().map(|(w, some)| (w.as_str(), some)) {
        identity::run(program.as_ref(), rounds, some);
        return ExitCode::SUCCESS;
    }
    let only = std::env::var("BENCH_TOOLS").unwrap_or_default();
    let tools = tools::all(&world, program.as_ref(), &|name| {
        only.is_empty() || only.split(',').any(|word| name.starts_with(word))
    });
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    println!(
        "as {}, {} rounds at most, tools: {}",
        world.account.name,
        rounds,
        names.join(", ")
    );

    let mut wrong = false;
    let works = work::all(&world, &wanted);
    if !works.is_empty() {
        print_head(&names);
    }
    // Row by row: whoever stops it keeps what was measured.
    for work in works {
        eprintln!("{} …", work.name);
        let outcomes = measure::run(&world, &tools, &work, rounds);
        print_row(work.name, &outcomes);
        wrong |= outcomes.iter().any(|o| matches!(o, Outcome::Wrong(_)));
    }
    if wanted("plan") {
        plan::run(&world, program.as_ref(), rounds);
    }
    if wanted("store") {
        store::run(&world.second(), program.as_ref(), rounds);
    }
    if wanted("start") {
        start::run(
            &Path::new(&program).with_file_name("sandcrab-oci"),
            rounds * 8,
        );
    }
    if wanted("identity") {
        identity::run(program.as_ref(), rounds, &[]);
    }
    if wrong {
        eprintln!("bench: not everything was done that was asked for");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints the names of the columns.
fn print_head(names: &[&str]) {
    println!("\nmedian seconds (times ours) and peak memory of the largest process\n");
    print!("| {:<30} |", "work");
    for name in names {
        print!(" {name:<27} |");
    }
    println!(
        "\n|{}|{}",
        "-".repeat(32),
        format!("{}|", "-".repeat(29)).repeat(names.len())
    );
}

/// Prints one piece of work: for each tool its median seconds, how many times as long as ours, and its
/// peak memory.
fn print_row(work: &str, outcomes: &[Outcome]) {
    print!("| {work:<30} |");
    let ours = outcomes.first().and_then(|outcome| match outcome {
        Outcome::Done(sample) => Some(sample.seconds),
        _ => None,
    });
    for outcome in outcomes {
        let text = match (outcome, ours) {
            (Outcome::Done(sample), ours) => {
                let (seconds, mebibytes) = (sample.seconds, sample.peak_kib / 1024);
                let times = ours.map_or(f64::NAN, |ours| seconds / ours);
                format!("{seconds:7.3} s {times:6.1}× {mebibytes:5} MiB")
            }
            (Outcome::Wrong(why), _) => format!("WRONG: {why}"),
            (Outcome::None, _) => "–".to_owned(),
        };
        print!(" {text:<27} |");
    }
    println!();
}
