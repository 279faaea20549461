//! Time and memory of a piece of work.
//!
//! Responsible for taking turns, so that what the machine does beside us hits all tools alike.
//! Must not know what the tools are.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use support::World;

use crate::tools::Tool;
use crate::work::Work;

/// What was measured of one tool at one piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Median of the rounds.
    pub seconds: f64,
    /// Highest resident memory of any process of the tool, in KiB.
    pub peak_kib: u64,
}

/// Does the work with every tool in turn, as many rounds as the work allows.
pub(crate) fn run(
    world: &World,
    tools: &[Tool],
    work: &Work,
    rounds: usize,
) -> Vec<Option<Sample>> {
    let scripts: Vec<Option<String>> = tools.iter().map(|tool| tool.script(world, work)).collect();
    let mut seconds = vec![Vec::new(); tools.len()];
    let mut peaks = vec![0; tools.len()];
    // Pulls the base, fills the cache, warms the page cache; a big one is warm enough.
    let warm_up = usize::from(work.rounds > 1);
    for round in 0..warm_up + rounds.min(work.rounds) {
        for (index, (tool, script)) in tools.iter().zip(&scripts).enumerate() {
            let sample = script
                .as_ref()
                .and_then(|script| measured(world, tool, script));
            if let Some((elapsed, peak)) = sample.filter(|_| round >= warm_up) {
                seconds[index].push(elapsed);
                peaks[index] = peaks[index].max(peak);
            }
        }
    }
    seconds
        .into_iter()
        .zip(peaks)
        .map(|(mut seconds, peak_kib)| {
            seconds.sort_by(f64::total_cmp);
            let middle = seconds.get(seconds.len() / 2)?;
            Some(Sample {
                seconds: *middle,
                peak_kib,
            })
        })
        .collect()
}

/// Runs a script until it succeeds: buildah 1.28 now and then fails to seal the copy that it makes
/// of itself. A tool that fails three times has no figures.
fn measured(world: &World, tool: &Tool, script: &str) -> Option<(f64, u64)> {
    for _ in 0..3 {
        match once(world, script) {
            Ok(sample) => return Some(sample),
            Err(why) => eprintln!("{} failed: {why}", tool.name),
        }
    }
    None
}

/// Runs a script; returns its seconds and its highest resident memory in KiB, or its last words.
fn once(world: &World, script: &str) -> Result<(f64, u64), String> {
    drop(std::fs::remove_file(world.path("out.tar")));
    let running = world
        .command("/usr/bin/time")
        .args(["--format=%M", "--output=peak", "sh", "-c", script])
        .timeout(Duration::from_secs(900))
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
        return Err(output
            .stderr
            .lines()
            .last()
            .unwrap_or("no message")
            .to_owned());
    }
    let waited = std::fs::read_to_string(world.path("peak")).unwrap_or_default();
    let peak = peak.max(waited.trim().parse().unwrap_or(0));
    Ok((output.elapsed.as_secs_f64(), peak))
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
    parents
        .keys()
        .filter(|pid| below(**pid))
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .max()
        .unwrap_or(0)
}
