//! One of the two accounts that run the same sequences.
//!
//! Responsible for its build and for reading what the sequences printed. Must not compare.

use std::path::Path;
use std::time::Duration;

use support::image::Image;
use support::{User, World};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// One for each job.
    pub(crate) sections: Vec<Section>,
}

/// What one job printed: its calls, what it left, and what a later step found of it.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// The number of the sequence.
    pub(crate) sequence: u64,
    /// The lines.
    pub(crate) lines: Vec<String>,
}

/// An account with an identity.
#[derive(Debug)]
pub(crate) struct Side {
    world: World,
    isolation: Option<&'static str>,
}

impl Side {
    /// Makes its world, or says why there is none.
    pub(crate) fn new(test: &str, user: User, isolation: Option<&'static str>) -> Option<Self> {
        let test = format!("{test}::{}", user.name());
        World::new(user, &test).map(|world| Self { world, isolation })
    }

    /// Returns how a report names it.
    pub(crate) fn name(&self) -> String {
        let isolation = self.isolation.unwrap_or("its own identity");
        format!("{} with {isolation}", self.world.account.name)
    }

    /// Runs jobs, as lines for the program.
    fn run(&self, seed: u64, without: &str, jobs: &[String]) -> Result<Outcome, String> {
        let world = &self.world;
        world.write("ctx/jobs", jobs.join("\n") + "\n");
        let program = Path::new(env!("CARGO_BIN_EXE_random-program"));
        let copy = world.write("ctx/random-program", "");
        // Copies of it are executed by the thousand; what a debugger reads is most of it.
        let stripped = std::process::Command::new("strip")
            .arg("-o")
            .args([&copy, program])
            .status();
        if !stripped.is_ok_and(|status| status.success()) {
            std::fs::copy(program, &copy).expect("copy the program");
        }
        world.set_mode("ctx/random-program", 0o755);
        let run = |words: &[&str]| format!("RUN {words:?}\n");
        let seed = seed.to_string();
        let mut text = "FROM scratch AS trees\nCOPY random-program jobs /\nWORKDIR /\n".to_owned();
        for words in [
            &["prepare", &seed, without, "/jobs"][..],
            &["run", &seed, without, "/jobs", "/out"],
            &["list", "/jobs", "/kept"],
        ] {
            text.push_str(&run(&[&["/random-program"], words].concat()));
        }
        text.push_str("FROM scratch\nCOPY --from=trees /out /kept /\n");
        world.dockerfile(&text);
        let isolation = self.isolation.map(|name| format!("--isolation={name}"));
        drop(std::fs::remove_dir_all(world.path("result")));
        let output = world
            .build(isolation.as_deref())
            .args(["--no-cache", "--output=type=local,dest=result"])
            .timeout(Duration::from_secs(600))
            .run();
        if output.code != Some(0) {
            return Err(format!("{}:\n{}", self.name(), output.all()));
        }
        let read = |name| {
            std::fs::read_to_string(world.path("result").join(name)).expect("read the output")
        };
        let mut sections = sections(&read("out"));
        for later in self::sections(&read("kept")) {
            let job = sections.iter_mut().find(|(index, _)| *index == later.0);
            let (_, section) = job.expect("what was kept was run");
            let lines = later.1.lines.into_iter();
            section
                .lines
                .extend(lines.map(|line| format!("later {line}")));
        }
        Ok(Outcome {
            sections: sections.into_iter().map(|(_, section)| section).collect(),
        })
    }

    /// Returns the image with the trees that the last run kept, from the cache.
    pub(crate) fn image(&self) -> Image {
        let isolation = self.isolation.map(|name| format!("--isolation={name}"));
        let arguments = ["--target=trees"].into_iter().chain(isolation.as_deref());
        self.world.built(arguments)
    }
}

/// Runs the same jobs on both sides at the same time.
pub(crate) fn both(
    one: &Side,
    other: &Side,
    seed: u64,
    without: &str,
    jobs: &[String],
) -> Result<(Outcome, Outcome), String> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| other.run(seed, without, jobs));
        let one = one.run(seed, without, jobs);
        let other = other
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((one?, other?))
    })
}

/// Splits an output at its `# INDEX SEQUENCE` lines.
fn sections(text: &str) -> Vec<(usize, Section)> {
    let mut sections: Vec<(usize, Section)> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            let (index, sequence) = head.split_once(' ').expect("two numbers");
            let section = Section {
                sequence: sequence.parse().expect("a number"),
                lines: Vec::new(),
            };
            sections.push((index.parse().expect("a number"), section));
        } else if let Some((_, section)) = sections.last_mut() {
            section.lines.push(line.to_owned());
        }
    }
    sections
}
