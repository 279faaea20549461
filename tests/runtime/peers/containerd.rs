//! containerd with its runc shim, and `ctr run --runc-binary`.

use std::time::Duration;

use support::{World, for_users};

use crate::harness::container::eventually;
use crate::harness::{Crun, differs, program};

fn ctr(world: &World) -> support::Command {
    world
        .command("ctr")
        .timeout(Duration::from_secs(60))
        .arg("--address")
        .arg(world.short_directory().join("c"))
}

for_users! {
    /// Runs, executes, pauses and kills.
    fn run_exec_pause_kill(world) as [root] {
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let Some(image) = crate::peers::image(world) else {
            return;
        };
        if support::process::find("containerd").is_none() {
            support::skip(&world.test, "no containerd");
            return;
        }
        let short = world.short_directory();
        let config = world.write("containerd.toml", "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n");
        let mut daemon = world
            .command("containerd")
            .arg("--config").arg(config)
            .arg("--address").arg(short.join("c"))
            .arg("--root").arg(world.path("containerd"))
            .arg("--state").arg(short.join("s"))
            .spawn();
        eventually("containerd answers", || {
            assert!(daemon.is_running(), "containerd ended");
            ctr(world).arg("version").run().code == Some(0)
        });
        let archive = world.path("base.tar");
        support::peers::skopeo_copy(world, &image, &format!("oci-archive:{}:docker.io/library/base:latest", archive.display()));
        ctr(world).args(["images", "import", "--snapshotter", "native"]).arg(&archive).ok();
        let names = ctr(world).args(["images", "list", "--quiet"]).ok().text();
        let name = names.lines().next().expect("an image").to_owned();
        let run = |options: &[&str]| {
            ctr(world).args(["run", "--snapshotter", "native", "--runc-binary"]).arg(program()).args(options).arg(&name)
        };
        assert_eq!(run(&["--rm"]).args(["short", "echo", "hello"]).ok().text(), "hello\n");
        run(&["--rm"]).args(["code", "sh", "-c", "exit 9"]).run().exits(9);
        run(&["--detach"]).args(["long", "sleep", "100"]).ok();
        let output = ctr(world).args(["tasks", "exec", "--exec-id", "e", "long", "echo", "executed"]).ok();
        assert_eq!(output.text(), "executed\n");
        ctr(world).args(["tasks", "pause", "long"]).ok();
        assert!(ctr(world).args(["tasks", "list"]).ok().text().contains("PAUSED"));
        ctr(world).args(["tasks", "resume", "long"]).ok();
        assert!(ctr(world).args(["tasks", "ps", "long"]).ok().text().lines().count() >= 2);
        ctr(world).args(["tasks", "kill", "--signal", "SIGKILL", "long"]).ok();
        eventually("it has stopped", || ctr(world).args(["tasks", "list"]).ok().text().contains("STOPPED"));
        ctr(world).args(["tasks", "delete", "long"]).run();
        ctr(world).args(["containers", "delete", "long"]).ok();
        daemon.signal(rustix::process::Signal::TERM);
        eventually("containerd ends", || !daemon.is_running());
    }
}
