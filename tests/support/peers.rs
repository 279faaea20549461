//! The other tools, as they work for every account on a machine without systemd.
//!
//! Responsible for the options that make them use a world's directory and no cgroups. Must not
//! judge what they answer.

use std::time::Duration;

use crate::process::Command;
use crate::world::World;

/// Returns `buildah` with its storage in the world. Overlay mounts and chroot isolation are what
/// works both for root without all capabilities and for an ordinary user.
pub fn buildah(world: &World) -> Command {
    world
        .command("buildah")
        .env("BUILDAH_ISOLATION", "chroot")
        .arg("--root")
        .arg(world.path("peer/root"))
        .arg("--runroot")
        .arg(world.path("peer/run"))
        .args(["--storage-driver", "overlay"])
}

/// Builds `ctx` with buildah, and writes it into `target` as `skopeo` names it.
pub fn buildah_build(world: &World, format: &str, arguments: &[&str], target: &str) {
    buildah(world)
        .args([
            "bud",
            "--quiet",
            "--layers",
            "--tls-verify=false",
            "--identity-label=false",
        ])
        .args(["--format", format, "--tag", "peer"])
        .args(arguments)
        .arg("ctx")
        .timeout(Duration::from_secs(900))
        .ok();
    // An archive that exists is one to be extended, which buildah refuses to do.
    let path = target.split(':').nth(1).expect("a transport and a path");
    drop(std::fs::remove_file(path));
    buildah(world)
        .args(["push", "--quiet", "--format"])
        .arg(match format {
            "docker" => "v2s2",
            other => other,
        })
        .args(["peer", target])
        .ok();
}

/// Returns `skopeo` without a policy file and with plain HTTP.
pub fn skopeo(world: &World) -> Command {
    world.command("skopeo").arg("--insecure-policy")
}

/// Copies an image between two places, as `skopeo` names them.
pub fn skopeo_copy(world: &World, from: &str, to: &str) {
    skopeo(world)
        .args([
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            from,
            to,
        ])
        .ok();
}

/// Returns `podman` with its storage in the world.
pub fn podman(world: &World) -> Command {
    world
        .command("podman")
        .arg("--root")
        .arg(world.path("podman/root"))
        .arg("--runroot")
        .arg(world.short_directory())
        .args([
            "--storage-driver",
            "overlay",
            "--cgroup-manager",
            "cgroupfs",
        ])
        .args(["--runtime", "runc", "--events-backend", "none"])
}

/// Returns `podman run` that needs neither cgroups, nor a network, nor higher limits.
pub fn podman_run(world: &World) -> Command {
    podman(world)
        .args(["run", "--rm", "--network", "none", "--cgroups", "no-conmon"])
        .args([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ])
}
