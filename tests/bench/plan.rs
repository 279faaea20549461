//! How long it takes to read large Dockerfiles.
//!
//! Responsible for files of 2,000 lines and for the time of `build --check` with each, without what
//! starting the program takes. Must not judge: a figure is a figure.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::World;

/// Makes a file with 200 stages, which stand on an image, or each on the one before.
fn stages(chained: bool) -> String {
    let mut text = String::from("ARG V=1\n");
    for stage in 0..200 {
        let before = format!("s{}", stage - 1);
        let (base, from) = if chained && stage > 0 {
            (before.as_str(), before.as_str())
        } else {
            ("busybox:$V", "busybox")
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

/// Makes a file with one stage of 2,000 variables.
fn variables() -> String {
    let mut text = String::from("FROM busybox\n");
    for number in 0..2000 {
        let before = number - number % 50;
        writeln!(text, "ENV v{number}=${{v{before}}}x").expect("write to memory");
    }
    text
}

/// Prints the medians.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(crate) fn run(world: &World, program: &Path, rounds: usize) {
    let time = |context: &Path, arguments: &[&str]| {
        let mut times: Vec<Duration> = (0..rounds.max(1) * 4)
            .map(|_| {
                let mut command = Command::new(program);
                command.args(arguments).current_dir(context);
                let started = Instant::now();
                let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
                assert!(done.is_ok(), "start {}", program.display());
                started.elapsed()
            })
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let start = time(Path::new("/"), &["version"]);
    println!(
        "\nread and plan 2,000 lines (the program's start, {:.1} ms, is not counted)",
        start.as_secs_f64() * 1e3
    );
    for (name, source) in [
        ("200 stages, each on the one before", stages(true)),
        ("200 stages on an image", stages(false)),
        ("one stage of 2,000 variables", variables()),
    ] {
        world.write("plan/Dockerfile", source);
        let whole = time(&world.path("plan"), &["build", "--check", "."]);
        let own = whole.saturating_sub(start).as_secs_f64() * 1e3;
        println!("  {name}: {own:.1} ms");
    }
}
