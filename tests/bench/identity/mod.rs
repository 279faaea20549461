//! What emulated ids cost: the same work in a step with emulated ids, in one with a range of ids, and
//! under bubblewrap as root, where nothing is emulated and every id is real.
//!
//! Responsible for taking turns and for a table. Must not judge. Each piece of work times itself, so
//! that neither the start of a sandbox nor the removal of what was written counts.

mod workshop;

use std::path::Path;

use support::process::{Command, find};
use support::{User, World, scratch};

/// A piece of work: its name for the table and its script's name in the image.
const WORK: [(&str, &str, usize); 6] = [
    ("apt-get install, 30 packages", "apt", 5),
    ("tar -xp of 50,000 files", "untar", 5),
    ("find / -ls", "find", 9),
    ("configure and make -j2", "make", 5),
    ("git clone, local", "clone", 9),
    ("import storm, Python", "import", 9),
];

/// Somebody who works: for the table, and how.
struct Worker {
    name: &'static str,
    world: World,
    words: Vec<String>,
}

/// Measures and prints a table of the work that one of `words` is in the name of, or of all.
pub(crate) fn run(program: &Path, rounds: usize, words: &[String]) {
    let worlds = [User::Plain, User::Subids, User::Root]
        .map(|user| World::new(user, &format!("bench.identity.{}", user.name())));
    let [Some(plain), Some(subids), Some(root)] = worlds else {
        eprintln!("bench: the cost of emulated ids needs root, for all three accounts");
        return;
    };
    let copy = scratch::install(program);
    let (image, tree) = match workshop::make(&copy, &subids, &root) {
        Ok(made) => made,
        Err(why) => return eprintln!("bench: no figures for emulated ids: {why}"),
    };
    let copy = copy.display().to_string();
    let sandcrab = [&copy, "run", "--network=none", &image, "/bench/run"].map(str::to_owned);
    let mut workers = vec![
        Worker {
            name: "emulated",
            world: plain,
            words: sandcrab.to_vec(),
        },
        Worker {
            name: "subids",
            world: subids,
            words: sandcrab.to_vec(),
        },
    ];
    if find("bwrap").is_some() {
        workers.push(bubblewrap(root, &tree));
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let work: Vec<_> = WORK.into_iter().filter(|(name, ..)| wanted(name)).collect();
    // The first round warms the caches and pulls the image.
    let mut samples = vec![vec![Vec::new(); workers.len()]; work.len()];
    for round in 0..=rounds {
        for ((_, script, most), samples) in work.iter().zip(&mut samples) {
            if round > *most {
                continue;
            }
            for (worker, samples) in workers.iter().zip(samples) {
                match once(worker, script) {
                    Ok(seconds) if round > 0 => samples.push(seconds),
                    Ok(_) => {}
                    Err(why) => eprintln!("{} failed at {script}: {why}", worker.name),
                }
            }
        }
    }
    let names = work.iter().map(|(name, ..)| *name);
    print(&workers, names.zip(samples));
}

/// A fresh overlay on the unpacked tree, as a step has one, and bubblewrap in it.
fn bubblewrap(world: World, tree: &Path) -> Worker {
    const SCRIPT: &str = "set -e; rm -rf fresh; mkdir -p fresh/up fresh/work fresh/all
        mount -t overlay -o lowerdir=$1,upperdir=fresh/up,workdir=fresh/work,volatile none fresh/all
        shift
        exec bwrap --unshare-pid --unshare-ipc --unshare-uts --unshare-net --bind fresh/all / \
            --proc /proc --dev /dev --clearenv \
            --setenv PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bench/run \"$@\"";
    let tree = tree.display().to_string();
    Worker {
        name: "bubblewrap, root",
        world,
        words: ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", &tree]
            .map(str::to_owned)
            .to_vec(),
    }
}

/// Does one piece of work and returns its seconds.
fn once(worker: &Worker, script: &str) -> Result<f64, String> {
    let command: Command = worker.world.command(&worker.words[0]);
    let output = command.args(&worker.words[1..]).arg(script).run();
    let seconds = output.text().lines().find_map(|line| {
        let nanoseconds: f64 = line.strip_prefix("nanoseconds ")?.trim().parse().ok()?;
        Some(nanoseconds / 1e9)
    });
    seconds.filter(|_| output.code == Some(0)).ok_or_else(|| {
        output
            .all()
            .trim()
            .lines()
            .last()
            .unwrap_or("no message")
            .to_owned()
    })
}

/// Prints a row for each piece of work: median seconds, and how many times as long as the last.
fn print<'a>(workers: &[Worker], rows: impl Iterator<Item = (&'a str, Vec<Vec<f64>>)>) {
    println!("\nmedian seconds in a step (times those of bubblewrap)\n");
    print!("| {:<30} |", "work");
    for worker in workers {
        print!(" {:<17} |", worker.name);
    }
    let lines = format!("{}|", "-".repeat(19)).repeat(workers.len());
    println!("\n|{}|{lines}", "-".repeat(32));
    for (name, row) in rows {
        let medians: Vec<Option<f64>> = row
            .into_iter()
            .map(|mut seconds| {
                seconds.sort_by(f64::total_cmp);
                seconds.get(seconds.len() / 2).copied()
            })
            .collect();
        let last = medians.last().copied().flatten();
        print!("| {name:<30} |");
        for median in &medians {
            let text = match (median, last) {
                (Some(median), Some(last)) => format!("{median:7.3} s {:5.2}×", median / last),
                (Some(median), None) => format!("{median:7.3} s"),
                _ => "–".to_owned(),
            };
            print!(" {text:<17} |");
        }
        println!();
    }
}
