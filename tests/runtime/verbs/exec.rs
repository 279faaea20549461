//! `exec`: another process in a container.

use serde_json::json;
use support::for_users;

use super::{SLEEP, differs_quietly};
use crate::harness::bundle::runtime;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Runc, assert_error, reap};

for_users! {
    /// `exec` exits as its program did, and passes the streams.
    fn exec_streams_and_code(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.exec(&[], &["sh", "-c", "exit 6"]).run().exits(6);
        container.exec(&[], &["sh", "-c", "kill -9 $$"]).run().exits(137);
        let output = container.exec(&[], &["sh", "-c", "cat; echo error >&2"]).stdin("in\n").ok();
        assert_eq!((output.text().as_str(), output.stderr.as_str()), ("in\n", "error\n"));
    }

    /// `exec` of what isn't there fails in the words that podman knows.
    fn exec_missing_program(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let output = container.exec(&[], &["no-such-program"]).run();
        assert_error(output, &["executable file not found in", "executable file `no-such-program` not found in"]);
        let output = container.exec(&[], &["/no/such/program"]).run();
        assert_error(output, &["no such file or directory"]);
        let output = container.exec(&[], &["/etc/passwd"]).run();
        assert_error(output, &["permission denied"]);
        assert_eq!(container.status(), "running");
    }

    /// `exec` joins every namespace, and is a child of nobody inside.
    fn exec_joins(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let script = "for n in mnt pid ipc uts net user cgroup; do readlink /proc/self/ns/$n; done";
        let inside = container.sh(script);
        let outside = container.sh("for n in mnt pid ipc uts net user cgroup; do readlink /proc/1/ns/$n; done");
        assert_eq!(inside, outside);
        assert_eq!(container.sh("hostname"), "tested\n");
    }

    /// `exec` in a container that isn't running.
    fn exec_stopped(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        assert_error(container.exec(&[], &["true"]).run(), &["stopped", "not running"]);
    }

    /// `exec --detach` returns at once.
    fn exec_detach(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let pid = bundle.path("exec-pid");
        let flags = ["-d", "--pid-file", pid.to_str().unwrap()];
        let command = container.exec(&flags, &["sh", "-c", "echo detached; sleep 0.2; exit 9"]);
        container.leaving(command).success();
        container.wait_for("detached");
        let pid = std::fs::read_to_string(pid).unwrap().parse().unwrap();
        assert_eq!(reap(pid), 9);
    }

    /// `exec --process FILE`: a whole process document.
    fn exec_process(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(["sh", "-c", "pwd; echo $X; umask; cat /proc/self/oom_score_adj"]);
        process["cwd"] = json!("/tmp");
        process["env"] = json!(["PATH=/bin", "X=from the document"]);
        process["user"]["umask"] = json!(0o027);
        process["oomScoreAdj"] = json!(900);
        let file = bundle.write("process.json", process.to_string());
        for flag in ["--process", "-p"] {
            let output = runtime(world, ["exec", flag]).arg(&file).arg(&container.id).ok();
            let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
            assert_eq!(lines[..2], ["/tmp", "from the document"]);
            assert!(lines[2] == "0027" || differs_quietly("umask of exec"), "{lines:?}");
            assert!(lines[3] == "900" || differs_quietly("oom of exec"), "{lines:?}");
        }
    }

    /// `exec`'s options: working directory, environment, ids, capabilities, privileges.
    fn exec_options(world) as [root, subids] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        // With --env crun 1.8.1 has no PATH.
        let run = |flags: &[&str], script: &str| container.exec(flags, &["/bin/sh", "-c", script]).ok().text();
        assert_eq!(run(&["--cwd", "/tmp"], "pwd"), "/tmp\n");
        // runc 1.1.5 takes one form of a flag in a call, not both.
        assert_eq!(run(&["--env", "A=1", "--env", "B=two words"], "echo $A $B"), "1 two words\n");
        assert_eq!(run(&["-e", "A=1"], "echo $A"), "1\n");
        assert_eq!(run(&["--user", "1000:1001"], "id -u; id -g"), "1000\n1001\n");
        assert_eq!(run(&["-u", "8"], "id -u"), "8\n");
        // runc 1.1.5 refuses further groups in every rootless container; crun 1.8.1 has no -g.
        if kind() == crate::harness::Sandcrab || (world.user == support::User::Root && kind() == Runc) {
            let groups = run(&["--user", "1000:1001", "-g", "50", "-g", "8"], "id -G");
            assert_eq!(groups, "1001 8 50\n");
        }
        let status = run(&["--no-new-privs"], "grep NoNewPrivs /proc/self/status");
        assert!(status.contains('1'), "{status}");
        assert!(run(&[], "grep NoNewPrivs /proc/self/status").contains('0'));
        let with = run(&["--cap", "CAP_SYS_ADMIN"], "grep -E '^Cap(Bnd|Eff|Prm)' /proc/self/status");
        for line in with.lines() {
            let bits = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
            assert!(bits & (1 << 21) != 0, "{with}");
        }
    }
}
