//! podman with `--runtime`, as root and rootless.

use std::time::Duration;

use support::{Command, User, World, for_users};

use crate::harness::container::eventually;
use crate::harness::{Crun, assert_error, differs, program};

/// podman with its storage in the world and the runtime under test.
fn podman(world: &World) -> Command {
    world
        .command("podman")
        .timeout(Duration::from_secs(90))
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
        .args(["--events-backend", "file", "--runtime"])
        .arg(program())
}

/// Loads the image, or says why there is none.
fn prepared(world: &World) -> bool {
    if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
        return false;
    }
    let Some(image) = crate::peers::image(world) else {
        return false;
    };
    let archive = world.path("base.tar");
    let to = format!("docker-archive:{}:localhost/base:latest", archive.display());
    support::peers::skopeo_copy(world, &image, &to);
    podman(world)
        .args(["load", "--quiet", "--input"])
        .arg(&archive)
        .ok();
    true
}

/// `podman run` with options that work in every account; limits above the caller's are podman's.
fn run(world: &World, options: &[&str]) -> Command {
    podman(world)
        .args(["run", "--network", "none"])
        .args([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ])
        .args(options)
}

fn for_cgroups(world: &World) -> &'static [&'static str] {
    if world.user == User::Root {
        &[]
    } else {
        &["--cgroups", "no-conmon"]
    }
}

for_users! {
    /// Options of `podman run`.
    fn options(world) as [root, subids] {
        if !prepared(world) {
            return;
        }
        let prints = |options: &[&str], args: &[&str]| {
            let own = [&["--rm"], for_cgroups(world), options].concat();
            run(world, &own).arg("localhost/base").args(args).ok().text()
        };
        assert_eq!(prints(&[], &["echo", "hello"]), "hello\n");
        assert_eq!(prints(&["--user", "1000:1001"], &["id", "-u"]), "1000\n");
        let status = prints(&["--cap-drop", "all", "--cap-add", "kill"], &["grep", "CapBnd", "/proc/self/status"]);
        assert!(status.ends_with("0000000000000020\n"), "{status}");
        let output = prints(&["--read-only"], &["sh", "-c", "touch /x 2>&1; true"]);
        assert!(output.contains("Read-only"), "{output}");
        let output = prints(&["--tmpfs", "/scratch:size=1m"], &["grep", "/scratch", "/proc/self/mountinfo"]);
        assert!(output.contains("tmpfs"), "{output}");
        assert_eq!(prints(&["--device", "/dev/zero:/dev/nul0"], &["sh", "-c", "head -c 3 /dev/nul0 | wc -c"]).trim(), "3");
        assert_eq!(prints(&["--hostname", "named"], &["hostname"]), "named\n");
        let profile = world.write("profile.json", r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":77}]}"#);
        let option = format!("seccomp={}", profile.display());
        let output = prints(&["--security-opt", &option], &["sh", "-c", "mkdir /x 2>&1; echo end"]);
        assert!(output.contains("mkdir") && output.ends_with("end\n"), "{output}");
        let output = prints(&["--security-opt", "no-new-privileges"], &["grep", "NoNewPrivs", "/proc/self/status"]);
        assert!(output.contains('1'), "{output}");
        run(world, &[&["--rm"], for_cgroups(world)].concat()).args(["localhost/base", "sh", "-c", "exit 42"]).run().exits(42);
        let output = run(world, &[&["--rm"], for_cgroups(world)].concat()).args(["localhost/base", "no-such-program"]).run();
        assert_eq!(output.code, Some(127), "{}", output.all());
        let output = run(world, &[&["--rm"], for_cgroups(world)].concat()).args(["localhost/base", "/etc"]).run();
        assert_eq!(output.code, Some(126), "{}", output.all());
    }

    /// A user namespace, and an init.
    fn userns_and_init(world) as [root, subids] {
        if !prepared(world) {
            return;
        }
        let own = [&["--rm"], for_cgroups(world)].concat();
        let (option, wanted) = if world.user == User::Root { ("--uidmap=0:200000:5000", "200000") } else { ("--userns=keep-id", "") };
        let output = run(world, &own).args([option, "localhost/base", "cat", "/proc/self/uid_map"]).ok();
        assert!(output.text().contains(wanted), "{}", output.all());
        let init = support::process::find("tini-static").expect("tests/setup installs it");
        let output = run(world, &own).arg("--init").arg("--init-path").arg(init).args(["localhost/base", "sh", "-c", "echo $$; cat /proc/1/cmdline"]).ok();
        assert!(output.text().contains("init") && !output.text().starts_with("1\n"), "{}", output.all());
    }

    /// The life of a container: exec, top, logs, inspect, kill, stop, and a second one in its pid
    /// namespace.
    fn life(world) as [root, subids] {
        if !prepared(world) {
            return;
        }
        let own = [&["--detach", "--name", "life"], for_cgroups(world)].concat();
        let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.1; done";
        run(world, &own).args(["localhost/base", "sh", "-c", script]).ok();
        eventually("the logs have it", || podman(world).args(["logs", "life"]).run().all().contains("started"));
        let output = podman(world).args(["exec", "life", "echo", "executed"]).ok();
        assert_eq!(output.text(), "executed\n");
        podman(world).args(["exec", "life", "sh", "-c", "exit 6"]).run().exits(6);
        podman(world).args(["exec", "life", "no-such-program"]).run().exits(127);
        podman(world).args(["exec", "--user", "1000", "life", "id", "-u"]).ok();
        assert!(podman(world).args(["top", "life"]).ok().text().contains("sh"));
        let status = || podman(world).args(["inspect", "--format", "{{.State.Status}}", "life"]).ok().text();
        assert_eq!(status(), "running\n");
        let joined = [&["--rm", "--pid=container:life"], for_cgroups(world)].concat();
        let output = run(world, &joined).args(["localhost/base", "ps"]).ok();
        assert!(output.text().contains("started"), "{}", output.text());
        if world.user == User::Root {
            podman(world).args(["pause", "life"]).ok();
            assert_eq!(status(), "paused\n");
            podman(world).args(["unpause", "life"]).ok();
            let stats = podman(world).args(["stats", "--no-stream", "--format", "{{.PIDS}}", "life"]).ok().text();
            assert!(stats.trim().parse::<u32>().is_ok_and(|count| count >= 1), "{stats}");
        }
        podman(world).args(["kill", "--signal", "WINCH", "life"]).ok();
        assert_eq!(status(), "running\n");
        podman(world).args(["stop", "--time", "10", "life"]).ok();
        assert_eq!(podman(world).args(["inspect", "--format", "{{.State.ExitCode}}", "life"]).ok().text(), "3\n");
        assert_error(podman(world).args(["exec", "life", "true"]).run(), &["not running", "state"]);
        podman(world).args(["start", "life"]).ok();
        podman(world).args(["rm", "--force", "--time", "0", "life"]).ok();
    }

    /// A terminal, and a health check.
    fn terminal_and_health(world) as [root, subids] {
        if !prepared(world) {
            return;
        }
        let own = [&["--rm", "--tty"], for_cgroups(world)].concat();
        let output = run(world, &own).args(["localhost/base", "sh", "-c", "test -t 1 && echo terminal"]).ok();
        assert!(output.text().contains("terminal"), "{}", output.all());
        let own = [&["--detach", "--name", "healthy", "--health-cmd", "true", "--health-interval", "disable"], for_cgroups(world)].concat();
        run(world, &own).args(["localhost/base", "sleep", "100"]).ok();
        podman(world).args(["healthcheck", "run", "healthy"]).ok();
        podman(world).args(["rm", "--force", "--time", "0", "healthy"]).ok();
    }

    /// A crowd at once.
    fn fifty(world) as [root, subids] {
        if !prepared(world) {
            return;
        }
        let own = [&["--rm"], for_cgroups(world)].concat();
        let running: Vec<_> = (0..50).map(|number| run(world, &own).args(["localhost/base", "echo", &format!("number {number}")]).spawn()).collect();
        for (number, running) in running.into_iter().enumerate() {
            assert_eq!(running.wait().success().text(), format!("number {number}\n"));
        }
    }
}
