//! A container from `create` to `delete`, and what is left of it.

use std::time::Duration;

use serde_json::json;
use support::for_users;

use super::{SLEEP, differs_quietly};
use crate::harness::bundle::runtime;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{
    Bundle, ConsoleSocket, Crun, Runc, alive, assert_error, differs, program, reap,
};

for_users! {
    /// create, start, kill, delete: the states and that nothing runs before `start`.
    fn life_cycle(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, &format!("touch /ran; {SLEEP}"));
        let container = bundle.create();
        assert_eq!(container.status(), "created");
        std::thread::sleep(Duration::from_millis(50));
        assert!(!bundle.inside("ran").exists(), "the program ran before start");
        let pid = container.pid();
        assert!(alive(pid));
        container.start();
        container.wait_for("ready");
        assert_eq!(container.status(), "running");
        assert_eq!(container.pid(), pid, "start changed the process");
        assert!(bundle.inside("ran").exists());
        container.kill("TERM");
        assert_eq!(reap(pid), 3);
        assert_eq!(container.status(), "stopped");
        container.delete();
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
        world.assert_nothing_left(bundle.id());
    }

    /// The document of `state`.
    fn state_document(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/annotations", json!({"org.example.key": "value", "empty": ""}));
        let container = bundle.start();
        let state = container.state();
        let path = bundle.path("");
        let path = path.to_str().unwrap().trim_end_matches('/');
        assert_eq!(state["id"], bundle.id());
        assert_eq!(state["status"], "running");
        assert_eq!(state["bundle"], path);
        assert_eq!(state["annotations"]["org.example.key"], "value");
        // crun 1.8.1 has the path as the configuration has it.
        if kind() != Crun {
            assert_eq!(state["rootfs"], format!("{path}/rootfs"));
        }
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
        assert!(state["pid"].as_i64().unwrap() > 1, "{state}");
        assert!(state.get("owner").is_some(), "{state}");
        let created = state["created"].as_str().unwrap();
        assert!(created.len() >= 20 && created.ends_with('Z') && created.contains('T'), "{created}");
        let pid = container.pid();
        container.kill("KILL");
        reap(pid);
        let state = container.state();
        assert_eq!(state["status"], "stopped");
        assert!(matches!(state["pid"].as_i64(), None | Some(0)), "{state}");
    }

    /// A second `start` fails and changes nothing.
    fn start_twice(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, &format!("echo once; {SLEEP}"));
        let container = bundle.start();
        container.wait_for("ready");
        assert_error(container.verb(&["start"]).run(), &[]);
        assert_eq!(container.status(), "running");
        assert_eq!(container.stdout().matches("once").count(), 1);
    }

    /// `start` of a stopped container fails.
    fn start_stopped(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        assert_error(container.verb(&["start"]).run(), &[]);
    }

    /// Each verb on an id that nobody has.
    fn unknown_id(world) as [root, subids, plain] {
        for verb in [
            &["start"][..], &["state"], &["kill"], &["delete"], &["pause"], &["resume"], &["ps"],
            &["update", "--pids-limit", "10"], &["exec"], &["events", "--stats"],
        ] {
            let mut command = runtime(world, verb).arg("nobody");
            if verb[0] == "exec" {
                command = command.arg("true");
            }
            if differs_quietly(verb[0]) {
                continue;
            }
            let output = command.run();
            assert_eq!(output.code, Some(if verb[0] == "exec" && output.code == Some(255) { 255 } else { 1 }), "{verb:?}: {}", output.all());
            assert_error(output, &["does not exist"]);
        }
        let output = runtime(world, ["delete", "--force", "nobody"]).ok();
        assert_eq!(output.text(), "");
    }

    /// An id in use is refused, and its container lives on.
    fn id_in_use(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let other = Bundle::new(world);
        other.save();
        let output = runtime(world, ["create", "--bundle"]).arg(other.path("")).arg(bundle.id()).run();
        assert_error(output, &["exist"]);
        assert_eq!(container.status(), "running");
    }

    /// Ids that are no names.
    fn bad_ids(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "takes any name without a slash")]) {
            return;
        }
        let bundle = Bundle::new(world);
        bundle.save();
        for id in ["", ".", "..", "../up", "a/b", "a b", "a\nb", "é", "x;y"] {
            let output = runtime(world, ["run", "--bundle"]).arg(bundle.path("")).arg(id).run();
            assert!(!matches!(output.code, Some(0) | None), "{id:?} was accepted");
        }
        for id in ["a", "A-b_c+d.e", "0", "-x"] {
            if id == "-x" {
                continue;
            }
            runtime(world, ["run", "--bundle"]).arg(bundle.path("")).arg(id).ok();
        }
    }

    /// `delete` leaves alone what runs, unless told otherwise.
    fn delete_running(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        assert_error(container.verb(&["delete"]).run(), &["not stopped", "running", "stopped"]);
        assert_eq!(container.status(), "running");
        container.verb(&["delete", "--force"]).ok();
        assert!(!alive(pid), "delete --force left the process");
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
        reap(pid);
        let again = bundle.start();
        again.verb(&["delete", "-f"]).ok();
    }

    /// A container whose process nobody has waited for is stopped.
    fn zombie(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "takes a zombie for a running process when it has no cgroup")]) {
            return;
        }
        let bundle = Bundle::new(world);
        let container = bundle.create();
        let pid = container.pid();
        container.start();
        eventually("it ends", || !alive(pid));
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "somebody waited for it");
        assert_eq!(container.status(), "stopped");
        container.delete();
        assert_eq!(reap(pid), 0);
    }

    /// The configuration is read by `create`, and later changes mean nothing.
    fn configuration_is_read_once(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "echo first");
        let container = bundle.create();
        bundle.script("echo second").save();
        assert_eq!(container.finish(), 0);
        assert_eq!(container.stdout(), "first\n");
        std::fs::remove_file(bundle.path("config.json")).unwrap();
        assert_eq!(container.status(), "stopped");
        container.delete();
    }

    /// What is wrong with a bundle, and that nothing is left of the attempt.
    fn broken_bundles(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        bundle.save();
        let create = || bundle.runtime(["create", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
        std::fs::remove_file(bundle.path("config.json")).unwrap();
        assert_error(create(), &["config.json"]);
        bundle.write("config.json", "{\"ociVersion\": ");
        assert_error(create(), &[]);
        bundle.write("config.json", "[]");
        assert_error(create(), &[]);
        bundle.write("config.json", "{}");
        assert_error(create(), &[]);
        let mut wrong = bundle.config.clone();
        wrong["root"]["path"] = json!("no-such-directory");
        bundle.write("config.json", wrong.to_string());
        assert_error(create(), &["no-such-directory"]);
        let output = bundle.runtime(["create", "--bundle", "/no/such/bundle", bundle.id()]).run();
        assert_error(output, &["no such file or directory"]);
        assert_error(runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
        assert_eq!(runtime(world, ["list", "-q"]).ok().text(), "");
    }

    /// A program that isn't there fails `create` in the words that podman knows; nothing is left.
    fn missing_program(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for (program, texts) in [
            ("no-such-program", &["executable file not found in", "executable file `no-such-program` not found in"][..]),
            ("/bin/no-such-program", &["no such file or directory"]),
            ("/etc/passwd", &["permission denied"]),
            ("/etc", &["permission denied", "is a directory"]),
        ] {
            bundle.args(&[program]).save();
            let container = bundle.container();
            let output = container.create(&[]);
            if output.code == Some(0) && kind() != Crun {
                // Found out when it is started, at the latest.
                assert_error(container.verb(&["start"]).run(), texts);
                continue;
            }
            if kind() == Crun {
                continue;
            }
            assert_error(output, texts);
            assert_error(runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
        }
        world.assert_nothing_left(bundle.id());
    }

    /// The pid file: a number and nothing else.
    fn pid_file(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let file = bundle.path("pid");
        let file = file.to_str().unwrap();
        let container = bundle.create_with(&["--pid-file", file]);
        assert_eq!(std::fs::read_to_string(file).unwrap(), container.pid().to_string());
        container.start();
        let exec_file = bundle.path("exec-pid");
        let flags = ["--detach", "--pid-file", exec_file.to_str().unwrap()];
        container.leaving(container.exec(&flags, &["sleep", "100"])).success();
        let pid: i32 = std::fs::read_to_string(&exec_file).unwrap().parse().unwrap();
        eventually("the program is executed", || {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("100")
        });
        // The kernel lets process 1 end after all others were waited for, pid_namespaces(7).
        let init = container.pid();
        container.kill("KILL");
        assert_eq!((reap(pid), reap(init)), (137, 137));
        container.delete();
        let running = bundle.container();
        running.leaving(bundle.run_with(&["-d", "--pid-file", file])).success();
        assert_eq!(std::fs::read_to_string(file).unwrap(), running.pid().to_string());
    }

    /// `create --pidfd-socket`, `exec --pidfd-socket`: a descriptor of the process.
    fn pidfd_socket(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no --pidfd-socket"), (Crun, "has no --pidfd-socket")]) {
            return;
        }
        let socket = ConsoleSocket::new(world, "pidfd");
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.container();
        let pid_of = |fd: &std::os::fd::OwnedFd| {
            use std::os::fd::AsRawFd;
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            info.lines().find_map(|l| l.strip_prefix("Pid:").map(|p| p.trim().to_owned())).expect("a pidfd")
        };
        let receiver = std::thread::spawn({
            move || { let (_, fd) = socket.receive(); (pid_of(&fd), socket) }
        });
        let path = world.short_directory().join("pidfd");
        container.create(&["--pidfd-socket", path.to_str().unwrap()]).success();
        let (pid, socket) = receiver.join().unwrap();
        assert_eq!(pid, container.pid().to_string());
        container.start();
        let receiver = std::thread::spawn(move || { let (_, fd) = socket.receive(); drop(fd); });
        container.exec(&["--pidfd-socket", path.to_str().unwrap()], &["true"]).ok();
        receiver.join().unwrap();
    }

    /// An almost empty environment, as conmon's and containerd's.
    fn empty_environment(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "echo fine");
        bundle.save();
        let state = world.path("state");
        let mut command = world.command("env").args(["-i", "PATH=/usr/sbin:/usr/bin"]).arg(program()).arg("--root").arg(state);
        if kind() == Crun && world.user != support::User::Root {
            command = command.arg("--cgroup-manager=disabled");
        }
        let output = command.args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).ok();
        assert_eq!(output.text(), "fine\n");
    }

    /// The container's stdin, stdout and stderr survive the caller of `create`.
    fn output_outlives_create(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "sleep 0.1; echo late");
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        assert_eq!(container.stdout(), "late\n");
    }

    /// `delete` removes what `create` made in the state directory, and nothing else.
    fn state_directory(world) as [root, subids, plain] {
        use std::os::unix::fs::PermissionsExt;
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let root = world.path("state");
        let entry = root.join(&container.id);
        let mode = std::fs::metadata(&entry).unwrap().permissions().mode() & 0o777;
        assert!(mode & 0o022 == 0, "{mode:o}");
        assert!(mode == 0o700 || differs_quietly("mode of the state directory"), "{mode:o}");
        container.verb(&["delete", "--force"]).ok();
        assert!(!entry.exists());
        assert!(root.exists());
    }
}
