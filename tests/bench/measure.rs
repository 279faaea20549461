//! Time and memory of a piece of work, and whether it was done.
//!
//! Responsible for taking turns, so that what the machine does beside us hits all tools alike.
//! Must not know what the tools are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Command, Registry, World};

use crate::tools::{Lines, Tool};
use crate::work::{Task, Work};

/// What came of one tool at one piece of work.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It was done.
    Done(Sample),
    /// The tool has no way to do it, or failed; that was said.
    None,
    /// What it left is not what was asked for.
    Wrong(String),
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Median of the rounds.
    pub seconds: f64,
    /// Highest resident memory of any process of the tool, in KiB.
    pub peak_kib: u64,
}

/// One tool's turns.
struct Turns<'a> {
    world: &'a World,
    tool: &'a Tool,
    work: &'a Work,
    lines: Lines,
    /// How many there were; in all benchmarks, so that no two are alike.
    turn: usize,
    seconds: Vec<f64>,
    peak_kib: u64,
}

/// Does the work with every tool in turn, as many rounds as the work allows.
pub(crate) fn run(world: &World, tools: &[Tool], work: &Work, rounds: usize) -> Vec<Outcome> {
    let mut all: Vec<Option<Turns<'_>>> = tools
        .iter()
        .map(|tool| {
            Some(Turns {
                world,
                tool,
                work,
                lines: tool.lines(work)?,
                turn: 0,
                seconds: Vec::new(),
                peak_kib: 0,
            })
        })
        .collect();
    // Pulls the base, fills the cache, warms the page cache; a big one is warm enough.
    let warm_up = usize::from(work.rounds > 1);
    for round in 0..warm_up + rounds.min(work.rounds) {
        for turns in all.iter_mut().flatten() {
            turns.take(round >= warm_up);
        }
    }
    let outcomes = all
        .into_iter()
        .map(|turns| turns.map_or(Outcome::None, Turns::outcome))
        .collect();
    if work.large {
        for tool in tools {
            let script = ["-c", &tool.forget];
            world
                .command("sh")
                .args(script)
                .timeout(Duration::from_secs(900))
                .run();
        }
    }
    outcomes
}

impl Turns<'_> {
    /// Does the work until it succeeds: buildah 1.28 now and then fails to seal the copy that it makes
    /// of itself. A tool that fails three times has no figures.
    fn take(&mut self, counts: bool) {
        for _ in 0..3 {
            self.turn += 1;
            match self.once() {
                Ok((seconds, peak_kib)) => {
                    if counts {
                        self.seconds.push(seconds);
                        self.peak_kib = self.peak_kib.max(peak_kib);
                    }
                    return;
                }
                Err(why) => eprintln!("{} failed: {why}", self.tool.name),
            }
        }
    }

    fn shell(&self, program: &str, words: &[&str], destination: Option<&Registry>) -> Command {
        self.world
            .command(program)
            .args(words)
            .env("TURN", self.turn.to_string())
            .env("DEST", destination.map(Registry::host).unwrap_or_default())
            .env("PROOF", self.work.proof.0)
            .env("OUT", self.archive())
            .timeout(Duration::from_secs(900))
    }

    /// Does the work once; returns its seconds and its highest resident memory in KiB, or its last
    /// words.
    fn once(&self) -> Result<(f64, u64), String> {
        drop(std::fs::remove_file(self.archive()));
        if let Task::Build(build) = &self.work.task
            && let Some(file) = build.changes
        {
            let path = format!("{}/{file}", build.context);
            self.world.write(&path, self.content());
        }
        let destination = match &self.work.task {
            Task::Push { .. } => {
                let name = format!(
                    "bench-{}-{}",
                    self.tool.name.replace([' ', ','], ""),
                    self.turn
                );
                Some(Registry::private(&name)?)
            }
            _ => None,
        };
        let output = self
            .shell("sh", &["-c", &self.lines.before], destination.as_ref())
            .run();
        if output.code != Some(0) {
            return Err(last_words(&output));
        }
        if self.work.large || !matches!(self.work.task, Task::Build(_)) {
            touch_memory();
        }
        // What others have left to write would be waited for by whoever syncs first.
        rustix::fs::sync();
        let timed = ["--format=%M", "--output=peak", "sh", "-c", &self.lines.work];
        let running = self
            .shell("/usr/bin/time", &timed, destination.as_ref())
            .spawn();
        // `time` knows of those that were waited for. A process that outlives its parent, as a
        // sandbox's may, is only seen while it runs; its high-water mark needs no dense sampling.
        let pid = running.pid();
        let process = format!("/proc/{pid}");
        let (output, peak) = std::thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut peak = 0;
                while Path::new(&process).exists() {
                    peak = peak.max(high_water(pid));
                    std::thread::sleep(Duration::from_millis(100));
                }
                peak
            });
            let output = running.wait();
            (output, sampler.join().expect("the sampler only reads"))
        });
        if output.code != Some(0) {
            return Err(last_words(&output));
        }
        if let (Some(registry), Task::Push { layers, .. }) = (&destination, &self.work.task) {
            let pushed = registry.layers("large", "1").len();
            if pushed != *layers {
                return Err(format!("pushed {pushed} layers, not {layers}"));
            }
            drop(std::fs::remove_dir_all(registry.storage()));
        }
        let waited = std::fs::read_to_string(self.world.path("peak")).unwrap_or_default();
        let peak = peak.max(waited.trim().parse().unwrap_or(0));
        Ok((output.elapsed.as_secs_f64(), peak))
    }

    /// Returns where the tool writes an archive. Each has its own, which is there to be looked at.
    fn archive(&self) -> PathBuf {
        let name = self.tool.name.split([' ', ',']).next().unwrap_or_default();
        self.world.path(format!("{name}.tar"))
    }

    /// Returns what a file has in this turn whose content changes.
    fn content(&self) -> String {
        format!("{} {}\n", self.tool.name, self.turn)
    }

    fn outcome(mut self) -> Outcome {
        if self.seconds.is_empty() {
            return Outcome::None;
        }
        if let Err(why) = self.prove() {
            return Outcome::Wrong(why);
        }
        self.seconds.sort_by(f64::total_cmp);
        Outcome::Done(Sample {
            seconds: self.seconds[self.seconds.len() / 2],
            peak_kib: self.peak_kib,
        })
    }

    /// Looks at what the last turn left.
    fn prove(&self) -> Result<(), String> {
        if let Task::Build(build) = &self.work.task
            && let Some(how) = build.archive
        {
            let script = "skopeo inspect --raw oci-archive:$OUT";
            let output = self.shell("sh", &["-c", script], None).run();
            let manifest: serde_json::Value =
                serde_json::from_str(&output.text()).map_err(|_| last_words(&output))?;
            let layers = manifest["layers"].as_array().ok_or("no layers")?;
            let kind = |layer: &serde_json::Value| layer["mediaType"].as_str().map(str::to_owned);
            if !layers
                .iter()
                .filter_map(kind)
                .all(|kind| kind.ends_with(&format!("+{how}")))
            {
                return Err(format!("not every layer is {how}"));
            }
        }
        if self.lines.look.is_empty() {
            return Ok(());
        }
        let output = self.shell("sh", &["-c", &self.lines.look], None).run();
        let wanted = self.work.proof.1.replace("CONTENT\n", &self.content());
        if output.code == Some(0) && output.text() == wanted {
            return Ok(());
        }
        Err(format!(
            "found {:?}, not {wanted:?}: {}",
            output.text(),
            last_words(&output)
        ))
    }
}

fn last_words(output: &support::Output) -> String {
    let last = output.stderr.lines().last();
    last.unwrap_or("no message").to_owned()
}

/// Uses free memory and gives it back. A virtual machine gets memory from its host when it first uses it,
/// or uses it again after having returned it, which can take longer than the work: a second for 200 MB was
/// seen. Who is measured should not pay for that by chance.
fn touch_memory() {
    const PAGE: usize = 4096;
    // As much as large work writes into the page cache; what is no longer free has been used.
    const MOST: usize = 5 << 30;
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemFree:")?.split_whitespace().next()?;
        kib.parse::<usize>().ok()
    });
    let mut memory = vec![0_u8; MOST.min(free.unwrap_or(0) * 1024 / 10 * 9)];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// Returns the highest resident memory that any process below `root` has had, in KiB.
fn high_water(root: u32) -> u64 {
    let mut parents = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may contain anything; the parent is the second field after it.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        parents.insert(
            pid,
            parent.and_then(|pid| pid.parse::<u32>().ok()).unwrap_or(0),
        );
    }
    let below = |mut pid: u32| {
        // No deeper than this; a reused pid must not make a loop.
        for _ in 0..64 {
            if pid == root {
                return true;
            }
            match parents.get(&pid) {
                Some(&parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    };
    let family = parents.keys().filter(|pid| below(**pid));
    let marks = family.filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    marks.max().unwrap_or(0)
}
