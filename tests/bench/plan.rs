//! How long it takes to read a large Dockerfile.
//!
//! Responsible for a file of 2,000 lines with 200 stages and for the time of `build --check` with it,
//! without what starting the program takes. Must not judge: a figure is a figure.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::World;

/// Makes the file: each stage stands on the one before and copies from it.
fn source() -> String {
    let mut text = String::from("ARG V=1\n");
    for stage in 0..200 {
        let before = format!("s{}", stage - 1);
        let (base, from) = match stage {
            0 => ("busybox:$V", "busybox"),
            _ => (before.as_str(), before.as_str()),
        };
        write!(
            text,
            "FROM {base} AS s{stage}\nARG a{stage}=x\nENV b{stage}=${{a{stage}}}\nWORKDIR /w{stage}\n\
             COPY --chown=1:1 f{stage} /d{stage}/\nRUN echo $b{stage} && \\\n    make {stage}\n\
             LABEL l{stage}=\"$b{stage}\"\nCOPY --from={from} /x /y\nUSER u{stage}\n"
        )
        .expect("write to memory");
    }
    text
}

/// Prints the median.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(crate) fn run(world: &World, program: &Path, rounds: usize) {
    world.write("plan/Dockerfile", source());
    let context = world.path("plan");
    let time = |arguments: &[&str]| {
        let mut times: Vec<Duration> = (0..rounds.max(1) * 4)
            .map(|_| {
                let mut command = Command::new(program);
                command.args(arguments).current_dir(&context);
                let started = Instant::now();
                let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
                assert!(done.is_ok(), "start {}", program.display());
                started.elapsed()
            })
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let whole = time(&["build", "--check", "."]);
    let start = time(&["version"]);
    println!(
        "\nread and plan 2,000 lines with 200 stages: {:.1} ms (start of the program: {:.1} ms)",
        whole.saturating_sub(start).as_secs_f64() * 1e3,
        start.as_secs_f64() * 1e3
    );
}
