//! How long a container takes that does nothing: `sandcrab-oci` beside other OCI runtimes, and
//! bubblewrap with the same namespaces.
//!
//! Responsible for bundles and command lines, and for timing in one process of the account, which
//! takes turns. Must not judge. A command line that fails has no figure, and its last words are
//! printed.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use support::process::find;
use support::{Base, User, World, scratch};

/// Between the commands of one container.
const NEXT: char = '\x1e';
/// Between the words of a command.
const WORD: char = '\x1f';

/// One row: a tool and what it does once.
struct Row {
    name: String,
    /// The commands, as the timing process reads them.
    script: String,
}

/// Prints a table for root and for an ordinary user.
pub(crate) fn run(oci: &Path, rounds: usize) {
    for (user, title) in [(User::Root, "root"), (User::Subids, "rootless")] {
        let Some(world) = World::new(user, "bench.start") else {
            continue;
        };
        if let Err(why) = prepare(&world) {
            eprintln!("bench: no container start figures for {title}: {why}");
            continue;
        }
        let rows = rows(&world, oci, user == User::Root);
        let script: String = rows.iter().fold(String::new(), |mut text, row| {
            let _ = writeln!(text, "{}", row.script);
            text
        });
        let copy = scratch::install(&std::env::current_exe().expect("this program"));
        let output = timing_process(&world, &copy)
            .args(["--time", &rounds.to_string()])
            .cwd(world.path("oci"))
            .stdin(script)
            .run();
        eprint!("{}", output.stderr);
        println!("\nmilliseconds for one container that runs `true`, {title}, {rounds} rounds\n");
        println!("| {:<34} | minimum | median | times ours |", "work");
        println!("|{}|---------|--------|------------|", "-".repeat(36));
        let text = output.text();
        let mut ours = None;
        for (row, line) in rows.iter().zip(text.lines()) {
            let figures: Vec<f64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
            if let [minimum, median] = figures[..] {
                // The first row of each kind of work is ours.
                if row.name.starts_with("sandcrab-oci") || ours.is_none() {
                    ours = Some(median);
                }
                let ratio = median / ours.unwrap_or(median);
                println!(
                    "| {:<34} | {minimum:7.2} | {median:6.2} | {ratio:9.2}× |",
                    row.name
                );
            } else {
                println!(
                    "| {:<34} | {:>7} | {:>6} | {:>10} |",
                    row.name, "–", "–", "–"
                );
            }
        }
    }
}

/// The command that times. crun refuses hosts that have both versions of control groups (crun 1.8),
/// so as root the version 2 tree of such a host is taken away for all of them.
fn timing_process(world: &World, program: &Path) -> support::process::Command {
    const SCRIPT: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; uid=$1 gid=$2; shift 2
        exec setpriv --reuid=$uid --regid=$gid --clear-groups \"$@\"";
    let Some(root) = World::new(User::Root, "bench.mounts").filter(|_| find("setpriv").is_some())
    else {
        return world.command(program);
    };
    let (uid, gid) = (world.account.uid.to_string(), world.account.gid.to_string());
    root.command("unshare")
        .args(["--mount", "sh", "-c", SCRIPT, "sh", &uid, &gid])
        .env("HOME", world.home())
        .env("XDG_RUNTIME_DIR", world.path("run"))
        .arg(program)
}

/// The rows for one account, ours first in each kind of work.
fn rows(world: &World, oci: &Path, root: bool) -> Vec<Row> {
    let ours = scratch::install(oci);
    let runtimes: Vec<(&str, String)> = [("sandcrab-oci", Some(ours))]
        .into_iter()
        .chain(["crun", "runc"].map(|name| (name, find(name))))
        .filter_map(|(name, path)| Some((name, path?.to_str()?.to_owned())))
        .collect();
    let state = |name: &str| world.path(format!("state-{name}")).display().to_string();
    let mut rows = Vec::new();
    for (name, path) in &runtimes {
        rows.push(Row {
            name: format!("{name} run"),
            script: words(&[path, "--root", &state(name), "run", "bench"]),
        });
    }
    if find("bwrap").is_some() {
        let mut command = vec!["bwrap", "--unshare-all"];
        if root {
            command = vec![
                "bwrap",
                "--unshare-pid",
                "--unshare-ipc",
                "--unshare-uts",
                "--unshare-net",
            ];
        } else {
            command.extend(["--uid", "0", "--gid", "0"]);
        }
        command.extend([
            "--bind",
            "rootfs",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "/bin/true",
        ]);
        rows.push(Row {
            name: "bubblewrap, the same namespaces".to_owned(),
            script: words(&command),
        });
    }
    for (name, path) in &runtimes {
        let root = state(name);
        let commands = [
            words(&[path, "--root", &root, "create", "bench"]),
            words(&[path, "--root", &root, "start", "bench"]),
            words(&[path, "--root", &root, "delete", "--force", "bench"]),
        ];
        rows.push(Row {
            name: format!("{name} create, start, delete"),
            script: commands.join(&NEXT.to_string()),
        });
    }
    rows
}

fn words(words: &[&str]) -> String {
    words.join(&WORD.to_string())
}

/// Makes the bundle: busybox, and the mounts and namespaces that runc's default has.
fn prepare(world: &World) -> Result<(), String> {
    let source = Base::Busybox.make()?;
    let directory = source
        .split(':')
        .nth(1)
        .ok_or("a base without a directory")?;
    world.make_dir("oci/rootfs");
    let script = format!(
        "for blob in {directory}/blobs/sha256/*; do tar -xzf $blob -C oci/rootfs 2>/dev/null; done; \
         test -x oci/rootfs/bin/true"
    );
    let output = world.command("sh").args(["-c", &script]).run();
    if output.code != Some(0) {
        return Err("the base could not be unpacked".to_owned());
    }
    let mut namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount", "network"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let mut linux = json!({
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if world.account.uid != 0 {
        namespaces.push(json!({ "type": "user" }));
        linux["uidMappings"] =
            json!([{ "containerID": 0, "hostID": world.account.uid, "size": 1 }]);
        linux["gidMappings"] =
            json!([{ "containerID": 0, "hostID": world.account.gid, "size": 1 }]);
    }
    linux["namespaces"] = Value::Array(namespaces);
    let inert = ["nosuid", "noexec", "nodev"];
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "bench",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": inert },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": linux,
    });
    world.write("oci/config.json", spec.to_string());
    Ok(())
}

/// The timing process: reads command lines, runs all of them in turn, prints the minimum and the
/// median of each in milliseconds.
pub(crate) fn time(rounds: usize) {
    let mut text = String::new();
    drop(std::io::stdin().read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    let mut samples = vec![Vec::new(); lines.len()];
    // The first round warms the caches.
    for round in 0..=rounds {
        for (line, samples) in lines.iter().zip(&mut samples) {
            let start = Instant::now();
            let done = line
                .split(NEXT)
                .try_for_each(|command| once(command, round == 0));
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            match done {
                Ok(()) if round > 0 => samples.push(elapsed),
                Ok(()) => {}
                Err(why) if round == 0 => eprintln!("{}: {why}", line.replace([WORD, NEXT], " ")),
                Err(_) => {}
            }
        }
    }
    for mut samples in samples {
        samples.sort_by(f64::total_cmp);
        match (samples.first(), samples.get(samples.len() / 2)) {
            (Some(minimum), Some(median)) => println!("{minimum} {median}"),
            _ => println!("-"),
        }
    }
}

fn once(command: &str, loud: bool) -> Result<(), String> {
    let mut words = command.split(WORD);
    // A container inherits the streams, so a pipe would stay open as long as it lives.
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(if loud {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
