//! Changes known documents at random and reads the results, until the time is over or something
//! is found.
//!
//! Responsible for the loop, its command line and what is left of a finding. Must not know any
//! document. Invariant: the same seed, target and corpus make the same inputs, one after the other.
//!
//! ```text
//! fuzz [TARGET] [--seconds N] [--seed N] [--corpus DIR] [--out DIR]
//! fuzz TARGET FILE…          reads these files only
//! ```
//!
//! The input being read is always in `DIR/current` (by default `target/fuzz`), so that it is there
//! after a crash that no handler sees. A panic, and a reader that takes longer than a second, leave
//! their input beside it and end the program with status 1.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod config;
mod dockerfile;
mod lines;
mod mutate;
mod random;

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use random::Random;
use rustix::time::{ClockId, clock_gettime};

/// Reads one input and describes in a few words what came of it: inputs with a description that
/// was not seen before are changed further.
type Target = fn(&[u8]) -> String;

/// Changes one of the known inputs.
type Change = fn(&[Vec<u8>], &mut Random) -> Vec<u8>;

/// Something that reads documents.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    target: Target,
    change: Change,
    /// Below `corpus`.
    corpus: &'static str,
}

const TARGETS: [Kind; 2] = [
    Kind {
        name: "config.json",
        target: config::read,
        change: mutate::change,
        corpus: "config",
    },
    Kind {
        name: "Dockerfile",
        target: dockerfile::read,
        change: lines::change,
        corpus: "dockerfile",
    },
];

/// What is too long for a document of a few kilobytes.
const TOO_LONG: Duration = Duration::from_secs(1);
/// How many inputs are kept for further changes; a new one then takes the place of another.
const POOL: usize = 4000;
/// Inputs above this many bytes are read but not kept.
const KEPT: usize = 32 * 1024;

struct Options {
    kind: Kind,
    seconds: u64,
    seed: u64,
    corpus: Option<PathBuf>,
    out: PathBuf,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("fuzz: {text}");
            return ExitCode::from(2);
        }
    };
    let result = if options.files.is_empty() {
        run(&options)
    } else {
        read_files(&options)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut options = Options {
        kind: TARGETS[0],
        seconds: 60,
        seed: clock.map_or(0, |d| d.as_secs()),
        corpus: None,
        out: "target/fuzz".into(),
        files: Vec::new(),
    };
    let mut named = false;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{argument} needs a value"))
        };
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
        match argument.as_str() {
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--corpus" => options.corpus = Some(value()?.into()),
            "--out" => options.out = value()?.into(),
            other if other.starts_with('-') => return Err(format!("unknown option {other}")),
            file if named => options.files.push(file.into()),
            name => {
                let kind = TARGETS.iter().find(|kind| kind.name == name);
                options.kind = *kind.ok_or_else(|| format!("unknown target {name}"))?;
                named = true;
            }
        }
    }
    Ok(options)
}

/// Reads files that are left of earlier findings.
fn read_files(options: &Options) -> std::io::Result<bool> {
    for file in &options.files {
        let started = Instant::now();
        let what = (options.kind.target)(&fs::read(file)?);
        println!("{}: {:?}: {what}", file.display(), started.elapsed());
    }
    Ok(true)
}

fn run(options: &Options) -> std::io::Result<bool> {
    println!("fuzz {}: seed {}", options.kind.name, options.seed);
    fs::create_dir_all(&options.out)?;
    let mut current = fs::File::create(options.out.join("current"))?;
    let mut random = Random::new(options.seed);
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let known = known.join(options.kind.corpus);
    let mut pool = corpus(options.corpus.as_ref().unwrap_or(&known))?;
    let seeds = pool.len();
    let mut seen = HashSet::new();
    let started = Instant::now();
    let limit = Duration::from_secs(options.seconds);
    let mut inputs: u64 = 0;
    let mut slowest = Duration::ZERO;
    // First the corpus as it is.
    let mut next = 0;
    let found = loop {
        let input = match pool.get(next) {
            Some(input) if next < seeds => input.clone(),
            _ if started.elapsed() >= limit => break None,
            _ => (options.kind.change)(&pool, &mut random),
        };
        next += 1;
        current.seek(SeekFrom::Start(0))?;
        current.set_len(0)?;
        current.write_all(&input)?;
        let before = worked();
        let outcome = catch_unwind(AssertUnwindSafe(|| (options.kind.target)(&input)));
        let took = worked().saturating_sub(before);
        slowest = slowest.max(took);
        inputs += 1;
        match outcome {
            Err(_) => break Some(("panic", input)),
            Ok(_) if took > TOO_LONG => break Some(("slow", input)),
            Ok(what) => {
                if seen.insert(hash(&what)) && next > seeds && input.len() <= KEPT {
                    if pool.len() < POOL {
                        pool.push(input);
                    } else if let Some(old) =
                        pool.get_mut(seeds + random.below(POOL.saturating_sub(seeds)))
                    {
                        *old = input;
                    }
                }
            }
        }
    };
    println!(
        "fuzz {}: {inputs} inputs in {} s, {} kinds of outcome, slowest {slowest:?}",
        options.kind.name,
        started.elapsed().as_secs(),
        seen.len(),
    );
    let Some((kind, input)) = found else {
        return Ok(true);
    };
    let file = options.out.join(format!("{kind}-{}", options.seed));
    fs::write(&file, &input)?;
    println!(
        "fuzz {}: {kind}, input in {}",
        options.kind.name,
        file.display()
    );
    Ok(false)
}

/// The processor time of this program: a busy machine makes nothing slow.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn corpus(dir: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    // The order of a directory is not the same everywhere.
    files.sort();
    files.iter().map(fs::read).collect()
}
