//! Docker's daemon, for the BuildKit that is in it.
//!
//! Responsible for a daemon with a directory and a socket of its own, which ends with us. Must not
//! know what is built. It runs as root, and so does what it builds: it has no cost of user namespaces.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::process::find;
use support::{World, scratch};

/// Returns the command line of a client, for a shell in the world's directory.
pub(crate) fn client() -> &'static str {
    "DOCKER_BUILDKIT=1 docker --host=unix://$DOCKER"
}

/// Returns where the socket is: its path may have 108 bytes.
pub(crate) fn socket(world: &World) -> String {
    world.short_directory().join("d").display().to_string()
}

/// Starts the daemon and returns its process.
///
/// # Errors
/// The reason why there is none.
pub(crate) fn start(world: &World) -> Result<u32, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".into());
    }
    let program = find("dockerd").ok_or("no dockerd")?;
    let directory = scratch::directory().join("docker");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let log = std::fs::File::create(directory.join("log")).map_err(|error| error.to_string())?;
    let exec = world.short_directory().join("x");
    let mut child = Command::new(program)
        .args(["--iptables=false", "--bridge=none", "--ip-forward=false"])
        .arg(format!("--host=unix://{}", socket(world)))
        .arg(format!("--group={}", world.account.gid))
        .arg(format!("--data-root={}", directory.join("data").display()))
        .arg(format!("--exec-root={}", exec.display()))
        .arg(format!("--pidfile={}", directory.join("pid").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("dockerd: {error}"))?;
    scratch::end_with_us(child.id());
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        let answer = world
            .command("docker")
            .arg(format!("--host=unix://{}", socket(world)))
            .arg("version")
            .try_run();
        if answer.is_some_and(|answer| answer.code == Some(0)) {
            return Ok(child.id());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(child.kill());
    drop(child.wait());
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    Err(log.lines().last().unwrap_or("dockerd does not start").into())
}
