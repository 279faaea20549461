//! dockerd with `--add-runtime`, on a socket and in directories of the test.

use std::time::Duration;

use support::{World, for_users};

use crate::harness::container::eventually;
use crate::harness::{Crun, differs, program};

fn docker(world: &World) -> support::Command {
    world
        .command("docker")
        .timeout(Duration::from_secs(60))
        .arg("--host")
        .arg(format!(
            "unix://{}",
            world.short_directory().join("d").display()
        ))
}

for_users! {
    /// Runs, executes, stops, and builds.
    fn run_and_build(world) as [root] {
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let Some(image) = crate::peers::image(world) else {
            return;
        };
        if support::process::find("dockerd").is_none() {
            support::skip(&world.test, "no dockerd");
            return;
        }
        let short = world.short_directory();
        let mut daemon = world
            .command("dockerd")
            .args(["--iptables=false", "--bridge=none", "--ip-forward=false", "--storage-driver=vfs"])
            .arg(format!("--host=unix://{}", short.join("d").display()))
            .arg(format!("--data-root={}", world.path("docker").display()))
            .arg(format!("--exec-root={}", short.join("x").display()))
            .arg(format!("--pidfile={}", world.path("docker.pid").display()))
            .arg(format!("--add-runtime=tested={}", program().display()))
            .arg("--default-runtime=tested")
            .spawn();
        eventually("dockerd answers", || {
            assert!(daemon.is_running(), "dockerd ended");
            docker(world).arg("version").run().code == Some(0)
        });
        let archive = world.path("base.tar");
        support::peers::skopeo_copy(world, &image, &format!("docker-archive:{}:base:latest", archive.display()));
        docker(world).args(["load", "--input"]).arg(&archive).ok();
        let output = docker(world).args(["run", "--rm", "--network", "none", "base", "echo", "hello"]).ok();
        assert_eq!(output.text(), "hello\n");
        docker(world).args(["run", "--rm", "--network", "none", "base", "sh", "-c", "exit 9"]).run().exits(9);
        docker(world).args(["run", "--detach", "--network", "none", "--name", "long", "base", "sleep", "100"]).ok();
        assert_eq!(docker(world).args(["exec", "long", "echo", "executed"]).ok().text(), "executed\n");
        docker(world).args(["pause", "long"]).ok();
        docker(world).args(["unpause", "long"]).ok();
        assert!(docker(world).args(["top", "long"]).ok().text().contains("sleep"));
        docker(world).args(["kill", "long"]).ok();
        docker(world).args(["rm", "--force", "long"]).ok();
        world.dockerfile("FROM base\nRUN echo built >/built\nRUN cat /built\n");
        let output = docker(world).env("DOCKER_BUILDKIT", "0").args(["build", "--network", "none", "ctx"]).ok();
        assert!(output.all().contains("built"), "{}", output.all());
        daemon.signal(rustix::process::Signal::TERM);
        eventually("dockerd ends", || !daemon.is_running());
    }
}
