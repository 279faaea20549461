//! How long commands take on a large store.
//!
//! Responsible for a store of 10,000 cached steps, each with a layer and its unpacked tree, and for the
//! time of commands that have to look at some of it, or at all. Must not judge: a figure is a figure.

use std::path::Path;
use std::time::Duration;

use support::{World, hash, scratch};

/// How many steps the store remembers.
const STEPS: usize = 10_000;

/// Writes a record as the store does: a line with its kind and the digest of the rest.
fn sealed(kind: &str, body: &str) -> String {
    format!("{kind} {}\n{body}", hash::sha256(body.as_bytes()))
}

/// Adds steps that some earlier builds made.
fn fill(world: &World) {
    let store = "home/.local/share/sandcrab";
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let meta = format!(
        r#"{{"boot_id":"{}","synced":false,"size":4096}}"#,
        boot.trim()
    );
    let meta = sealed("sandcrab-snapshot-1", &meta);
    for number in 0..STEPS {
        let name = |what: &str| hash::sha256(format!("{what} {number}").as_bytes());
        let (layer, chain, key) = (name("layer"), name("chain"), name("key"));
        world.write(&format!("{store}/blobs/sha256/{layer}"), "x");
        world.make_dir(&format!("{store}/snapshots/subids/{chain}/fs"));
        world.write(&format!("{store}/snapshots/subids/{chain}/meta"), &meta);
        let step = format!(
            r#"{{"diff_id":"sha256:{layer}","size":1,"chain":"sha256:{chain}","created":"2026-01-01T00:00:00Z","name":"RUN make {number}"}}"#
        );
        let step = sealed("sandcrab-step-1", &step);
        world.write(&format!("{store}/cache/steps/{key}"), step);
    }
}

/// Prints the medians.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(crate) fn run(world: &World, program: &Path, rounds: usize) {
    let program = &scratch::install(program);
    for index in 0..20 {
        world.write(&format!("large/tree/{index}"), vec![index; 20_000]);
    }
    world.write(
        "large/Dockerfile",
        "FROM scratch\nCOPY tree /tree\nWORKDIR /w\n",
    );
    let build = &["build", "--progress=quiet", "--tag=large", "large"][..];
    let time = |arguments: &[&str]| {
        let mut times: Vec<Duration> = (0..rounds.max(1) * 3)
            .map(|_| world.command(program).args(arguments).ok().elapsed)
            .collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let commands = [
        ("images", &["images"][..]),
        ("a cached build", build),
        ("df", &["df"]),
        ("df --verbose", &["df", "--verbose"]),
        ("prune --dry-run", &["prune", "--dry-run"]),
        (
            "prune --dry-run --keep-storage=20m",
            &["prune", "--dry-run", "--keep-storage=20m"],
        ),
    ];
    world.command(program).args(build).ok();
    let small: Vec<f64> = commands
        .iter()
        .map(|(_, arguments)| time(arguments))
        .collect();
    fill(world);
    println!("\na store with {STEPS} cached steps and snapshots (and one with a single step)");
    for ((name, arguments), small) in commands.iter().zip(small) {
        println!("  {name}: {:.1} ms ({small:.1} ms)", time(arguments));
    }
}
