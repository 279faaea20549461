//! The verbs of the command line: what they do, print, write and exit with.
//!
//! Options of `run`, `create` and `exec` that change the process are in `process`.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Output, for_users};

use crate::harness::bundle::runtime;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{
    Bundle, ConsoleSocket, Crun, Runc, alive, assert_error, differs, program, reap, strings,
};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// Parses what a command printed.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.all()))
}

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

    /// `run` exits as the program did.
    fn run_exit_code(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "exit 7");
        bundle.run().exits(7);
        bundle.script("exit 255").run().exits(255);
        bundle.args(&["true"]).run().exits(0);
        assert_error(runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
    }

    /// `run` exits with 128 and the number of the signal that ended the program.
    fn run_killed(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.container();
        let mut running = bundle.run_with(&[]).spawn();
        running.wait_for("ready");
        container.kill("KILL");
        running.wait().exits(137);
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
    }

    /// `run` passes signals on.
    fn run_forwards_signals(world) as [root, subids, plain] {
        let script = "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'exit 9' TERM; trap 'echo int' INT
                      echo ready; while :; do sleep 0.05; done";
        let bundle = Bundle::with_script(world, script);
        let mut running = bundle.run_with(&[]).spawn();
        running.wait_for("ready");
        for (signal, word) in [(Signal::USR1, "usr1"), (Signal::HUP, "hup"), (Signal::INT, "int")] {
            running.signal(signal);
            running.wait_for(word);
        }
        running.signal(Signal::TERM);
        running.wait().exits(9);
    }

    /// Standard streams are the caller's.
    fn run_streams(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "cat; echo error >&2");
        let output = bundle.run_with(&[]).stdin("input\n").ok();
        assert_eq!(output.text(), "input\n");
        assert_eq!(output.stderr, "error\n");
    }

    /// `run --detach` returns while the program runs.
    fn run_detach(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        for flag in ["--detach", "-d"] {
            let container = bundle.container();
            container.leaving(bundle.run_with(&[flag])).success();
            container.wait_for("ready");
            assert_eq!(container.status(), "running");
            let pid = container.pid();
            container.kill("TERM");
            assert_eq!(reap(pid), 3);
            container.delete();
        }
    }

    /// `run --keep` leaves a stopped container.
    fn run_keep(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 has no --keep")]) {
            return;
        }
        let bundle = Bundle::with_script(world, "exit 4");
        let container = bundle.container();
        bundle.run_with(&["--keep"]).run().exits(4);
        assert_eq!(container.status(), "stopped");
        container.delete();
    }

    /// Many short runs one after the other, none of which may hang or lose its end.
    fn run_short(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "exit 5");
        for _ in 0..10 {
            bundle.run_with(&["--no-subreaper"]).timeout(Duration::from_secs(20)).run().exits(5);
        }
        bundle.args(&["/bin/echo", "all"]);
        for _ in 0..10 {
            assert_eq!(bundle.run().success().text(), "all\n");
        }
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

    /// Options in any order, of one word or two, long and short; the bundle may be the directory.
    fn option_forms(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "echo $0 ran");
        bundle.save();
        let path = bundle.path("");
        let path = path.to_str().unwrap();
        let short = bundle.id();
        runtime(world, ["run", "-b", path, short]).ok();
        runtime(world, ["run", &format!("--bundle={path}"), short]).ok();
        runtime(world, ["run", short]).cwd(path).ok();
        let relative = bundle.id().to_owned();
        runtime(world, ["run", "--bundle", &relative, short]).cwd(world.path("")).ok();
        let equals = format!("--root={}", world.path("state").display());
        world.command(program()).args([&equals, "run", "-b", path, short]).run();
        if differs(world, &[(Crun, "takes no options after the id")]) {
            return;
        }
        runtime(world, ["run", short, "--bundle", path]).ok();
        runtime(world, ["run", short, &format!("--bundle={path}"), "--no-pivot"]).run();
    }

    /// `--` ends the options, and an exec's options are its program's after the id.
    fn exec_arguments(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let text = container.exec(&[], &["/bin/echo", "-n", "--cwd", "--", "x"]).ok().text();
        assert_eq!(text, "--cwd -- x");
        let output = runtime(world, ["exec", "--cwd=/tmp", &container.id, "pwd"]).ok();
        assert_eq!(output.text(), "/tmp\n");
    }

    /// `--version`: lines that callers read.
    fn version(world) as [root] {
        for flag in ["--version", "-v"] {
            let text = world.command(program()).arg(flag).ok().text();
            let first = text.lines().next().unwrap();
            assert!(first.contains(" version "), "{text}");
            let words: Vec<&str> = first.split_whitespace().collect();
            assert_eq!(words[1], "version", "{text}");
            assert!(text.lines().any(|line| line.starts_with("spec: 1.")), "{text}");
            assert!(text.lines().any(|line| line.starts_with("commit: ")), "{text}");
        }
    }

    /// `--help`, of all and of each verb.
    fn help(world) as [root] {
        let text = world.command(program()).arg("--help").ok().text();
        for verb in ["create", "start", "state", "kill", "delete", "run", "exec", "list", "ps",
                     "pause", "resume", "update", "spec"] {
            assert!(text.contains(verb), "{verb} is missing: {text}");
            let help = world.command(program()).args([verb, "--help"]).ok();
            assert!(!help.text().is_empty() || !help.stderr.is_empty(), "{verb}");
        }
    }

    /// Wrong usage fails, and says what is wrong.
    fn wrong_usage(world) as [root, plain] {
        for (args, word) in [
            (&["frobnicate"][..], ""),
            (&["create", "--frobnicate", "x"], "frobnicate"),
            (&["state"], ""),
            (&["kill"], ""),
            (&["delete"], ""),
            (&["exec", "x"], ""),
            (&["list", "--format", "frobnicate"], "format"),
            (&["--log-format", "frobnicate", "list"], "frobnicate"),
        ] {
            if args.contains(&"--log-format") && kind() == Crun {
                continue;
            }
            let output = runtime(world, args).run();
            assert!(!matches!(output.code, Some(0) | None), "{args:?}: {}", output.all());
            assert!(output.all().contains(word), "{args:?}: {}", output.all());
        }
    }

    /// `--log` in JSON: what containerd's shim reads.
    fn log_json(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "has its own words")]) {
            return;
        }
        let log = world.path("log.json");
        let run = |extra: &[&str]| {
            let command = runtime(world, ["--log"]).arg(&log).args(["--log-format", "json"]);
            command.args(extra).args(["start", "nobody"]).run()
        };
        let output = run(&[]);
        output.exits(1).says(&["does not exist"]);
        let check = || {
            let text = std::fs::read_to_string(&log).unwrap();
            let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
            let last = lines.iter().rfind(|line| line["level"] == "error").expect("an error");
            assert!(last["msg"].as_str().unwrap().contains("does not exist"), "{last}");
            assert!(last["time"].as_str().unwrap().contains('T'), "{last}");
            lines.len()
        };
        let before = check();
        run(&["--debug"]);
        assert!(check() > before, "the log is not appended to");
    }

    /// `--log` as text.
    fn log_text(world) as [root, plain] {
        if differs(world, &[(Crun, "has its own words")]) {
            return;
        }
        let log = world.path("log");
        runtime(world, ["--log"]).arg(&log).args(["start", "nobody"]).run().exits(1);
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("does not exist"), "{text}");
        runtime(world, ["--log"]).arg(&log).args(["--log-format=text", "start", "nobody"]).run().exits(1);
        let again = std::fs::read_to_string(&log).unwrap();
        assert!(again.len() > text.len() && again.starts_with(&text), "not appended to: {again}");
        if differs(world, &[(Runc, "1.1.5 has no --log-level"), (Crun, "has no such level")]) {
            return;
        }
        runtime(world, ["--log"]).arg(&log).args(["--log-level", "debug", "start", "nobody"]).run().exits(1);
    }

    /// The error of a failed create is in the log, as it is on standard error.
    fn log_of_create(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.args(&["/bin/no-such-program"]).save();
        let log = world.path("log.json");
        let command = runtime(world, ["--log"]).arg(&log).args(["--log-format", "json", "create"]);
        let output = bundle.container().create_by(command, &[]);
        assert_error(output, &["no such file or directory", "executable file not found"]);
        let text = std::fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        let message = last["msg"].as_str().unwrap();
        assert!(message.contains("o such file or directory") || message.contains("executable file not found"), "{message}");
    }

    /// Signals by name and number.
    fn kill_signals(world) as [root, subids, plain] {
        let script = "for s in HUP INT USR1 USR2 TERM WINCH; do trap \"echo got-$s\" $s; done
                      echo ready; while :; do sleep 0.05; done";
        let bundle = Bundle::with_script(world, script);
        let container = bundle.start();
        container.wait_for("ready");
        for (name, word) in [("HUP", "got-HUP"), ("SIGINT", "got-INT"), ("10", "got-USR1"), ("usr2", "got-USR2"), ("28", "got-WINCH")] {
            if name == "usr2" && kind() == Crun {
                // crun 1.8.1 knows names in upper case only.
                continue;
            }
            container.kill(name);
            container.wait_for(word);
        }
        container.verb(&["kill"]).ok();
        container.wait_for("got-TERM");
        for bad in ["FROBNICATE", "999"] {
            // crun 1.8.1 takes what is no signal for number 0.
            if kind() == Crun {
                continue;
            }
            assert_error(container.verb(&["kill"]).arg(bad).run(), &[]);
        }
        assert_eq!(container.status(), "running");
        let pid = container.pid();
        container.kill("9");
        assert_eq!(reap(pid), 137);
    }

    /// `kill` of what has stopped.
    fn kill_stopped(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        let output = container.verb(&["kill"]).run();
        if differs(world, &[(Crun, "says `No such process`")]) {
            return;
        }
        output.exits(1).says(&["container not running"]);
    }

    /// `kill` before `start`.
    fn kill_created(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "touch /ran");
        let container = bundle.create();
        let pid = container.pid();
        container.kill("KILL");
        assert_eq!(reap(pid), 137);
        assert_eq!(container.status(), "stopped");
        assert!(!bundle.inside("ran").exists());
        container.delete();
    }

    /// `kill --all` reaches every process.
    fn kill_all(world) as [root] {
        let bundle = Bundle::with_script(world, "trap '' TERM; sleep 300 & echo ready; wait; sleep 301");
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        container.verb(&["kill", "--all"]).arg("KILL").ok();
        assert_eq!(reap(pid), 137);
        assert!(!alive(pid));
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

    /// `list`, and that users don't see each other's containers.
    fn list(world) as [root, subids, plain] {
        assert_eq!(document_or_null(&runtime(world, ["list", "--format", "json"]).ok()), Value::Null);
        assert_eq!(runtime(world, ["list", "-q"]).ok().text(), "");
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let other = Bundle::new(world);
        let second = other.create();
        let json = document(&runtime(world, ["list", "-f", "json"]).ok());
        let find = |id: &str| json.as_array().unwrap().iter().find(|c| c["id"] == id).unwrap().clone();
        assert_eq!(find(&container.id)["status"], "running");
        assert_eq!(find(&container.id)["pid"], container.pid());
        assert_eq!(find(&second.id)["status"], "created");
        assert!(find(&second.id)["bundle"].as_str().unwrap().ends_with(other.id()));
        let quiet = runtime(world, ["list", "--quiet"]).ok().text();
        let mut ids: Vec<&str> = quiet.lines().collect();
        ids.sort_unstable();
        let mut wanted = vec![container.id.as_str(), second.id.as_str()];
        wanted.sort_unstable();
        assert_eq!(ids, wanted);
        let table = runtime(world, ["list"]).ok().text();
        let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(header[..3], ["ID", "PID", "STATUS"].map(|h| if h == "ID" { header[0] } else { h }));
        assert!(table.contains(&container.pid().to_string()), "{table}");
        assert!(table.contains("CREATED") && table.contains("OWNER"), "{table}");
    }

    /// `features`: the document that containerd and CRI-O read.
    fn features(world) as [root, plain] {
        if differs(world, &[(Crun, "1.8.1 has no features")]) {
            return;
        }
        let features = document(&runtime(world, ["features"]).ok());
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."));
        let hooks = strings(&features["hooks"]);
        for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            assert!(hooks.contains(&hook), "{hook}");
        }
        let options = strings(&features["mountOptions"]);
        for option in ["ro", "rro", "rbind", "bind", "nosuid", "rnosuid", "rshared", "relatime"] {
            assert!(options.contains(&option) || differs_quietly(option), "{option}: {options:?}");
        }
        let linux = &features["linux"];
        for kind in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
            assert!(strings(&linux["namespaces"]).contains(&kind), "{kind}");
        }
        assert!(strings(&linux["capabilities"]).contains(&"CAP_CHECKPOINT_RESTORE"));
        assert_eq!(linux["seccomp"]["enabled"], true);
        for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL_PROCESS"] {
            assert!(strings(&linux["seccomp"]["actions"]).contains(&action), "{action}");
        }
        assert!(strings(&linux["seccomp"]["operators"]).contains(&"SCMP_CMP_MASKED_EQ"));
        assert!(strings(&linux["seccomp"]["archs"]).contains(&"SCMP_ARCH_X86_64"));
        assert_eq!(linux["cgroup"]["v1"], true);
        assert_eq!(linux["cgroup"]["v2"], true);
        if differs(world, &[(Runc, "1.1.5 writes a document of an earlier version")]) {
            return;
        }
        assert!(strings(&linux["namespaces"]).contains(&"time"));
        assert!(strings(&linux["seccomp"]["knownFlags"]).contains(&"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"));
        assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(linux["intelRdt"]["enabled"], false);
        assert!(linux["apparmor"]["enabled"].is_boolean() && linux["selinux"]["enabled"].is_boolean());
        assert!(features["potentiallyUnsafeConfigAnnotations"].is_array(), "{features}");
    }

    /// `spec` writes a configuration that runs.
    fn spec(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        let directory = bundle.path("");
        let rootless = world.user != support::User::Root;
        let mut words = vec!["spec"];
        if rootless {
            words.push("--rootless");
        }
        runtime(world, &words).cwd(&directory).ok();
        let text = std::fs::read(bundle.path("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(config["process"]["args"], json!(["sh"]));
        assert_eq!(config["process"]["terminal"], true);
        assert_eq!(config["root"]["path"], "rootfs");
        let kinds: Vec<&str> = config["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
        assert_eq!(kinds.contains(&"user"), rootless, "{kinds:?}");
        if rootless && kind() != Crun {
            assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": world.account.uid, "size": 1}]));
            assert_eq!(config["linux"]["gidMappings"][0]["hostID"], world.account.gid);
        }
        let again = runtime(world, &words).cwd(&directory).run();
        assert_error(again, &["exist"]);
        assert_eq!(std::fs::read(bundle.path("config.json")).unwrap(), text);
        let other = world.make_dir("elsewhere");
        let flag = if kind() == Crun { "-b" } else { "--bundle" };
        words.extend([flag, other.to_str().unwrap()]);
        runtime(world, &words).ok();
        assert!(other.join("config.json").exists());

        let mut ours = Bundle::new(world);
        ours.config = config;
        ours.config["process"]["terminal"] = json!(false);
        if kind() == Crun {
            // crun 1.8.1 wants cgroup v2 for the mount that its configuration asks for.
            ours.without_mount("/sys/fs/cgroup");
        }
        assert_eq!(ours.prints("echo it runs"), ["it runs"]);
    }

    /// `checkpoint` and `restore` say that they are not there.
    fn checkpoint(world) as [root] {
        if differs(world, &[(Runc, "has checkpoints"), (Crun, "has checkpoints")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        for verb in ["checkpoint", "restore"] {
            let output = container.verb(&[verb]).run();
            assert_error(output, &["not supported"]);
            // podman takes the success of this to mean that there are checkpoints.
            let output = container.verb(&[verb, "--help"]).run();
            assert_error(output, &["not supported"]);
        }
        assert_eq!(container.status(), "running");
    }

    /// `ps`: the processes in the container.
    fn ps(world) as [root] {
        let bundle = Bundle::with_script(world, "sleep 300 & echo ready; wait");
        let container = bundle.start();
        container.wait_for("ready");
        let pids = document(&container.verb(&["ps", "--format", "json"]).ok());
        let pids: Vec<i64> = pids.as_array().unwrap().iter().filter_map(Value::as_i64).collect();
        assert!(pids.contains(&i64::from(container.pid())) && pids.len() == 2, "{pids:?}");
        let json = document(&container.verb(&["ps", "-f", "json"]).ok());
        assert_eq!(json.as_array().unwrap().len(), 2);
        let table = container.verb(&["ps"]).ok().text();
        assert!(table.contains("PID"), "{table}");
        for pid in pids {
            assert!(table.contains(&pid.to_string()), "{table}");
        }
        if differs(world, &[(Crun, "gives ps no options")]) {
            return;
        }
        let table = runtime(world, ["ps", &container.id, "-o", "pid,args"]).ok().text();
        assert!(table.lines().next().unwrap().trim_start().starts_with("PID"), "{table}");
        assert!(table.contains("sleep 300"), "{table}");
    }

    /// `ps` where there is no control group to ask: an answer or a clear refusal.
    fn ps_rootless(world) as [subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let output = container.verb(&["ps", "--format", "json"]).run();
        if output.code == Some(0) {
            let json = document(&output);
            let pid = container.pid();
            let has = json.as_array().is_some_and(|pids| pids.iter().any(|p| *p == pid));
            assert!(has || differs_quietly("ps rootless"), "{json}");
        } else {
            assert!(!output.stderr.trim().is_empty());
        }
    }

    /// `pause` and `resume`, and what waits meanwhile.
    fn pause(world) as [root] {
        let bundle = Bundle::with_script(world, "while :; do echo tick; sleep 0.02; done");
        let container = bundle.start();
        container.wait_for("tick");
        container.verb(&["pause"]).ok();
        assert_eq!(container.status(), "paused");
        let before = container.stdout().len();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(container.stdout().len(), before, "it ran on");
        assert_error(container.exec(&[], &["true"]).timeout(Duration::from_secs(20)).run(), &["paused"]);
        let again = container.verb(&["pause"]).run();
        container.verb(&["resume"]).ok();
        assert_eq!(container.status(), "running");
        eventually("it goes on", || container.stdout().len() > before);
        if kind() != Crun {
            assert_error(again, &[]);
            assert_error(container.verb(&["resume"]).run(), &[]);
        }
        container.verb(&["pause"]).ok();
        container.verb(&["delete", "--force"]).timeout(Duration::from_secs(20)).ok();
        world.assert_nothing_left(bundle.id());
    }

    /// `exec --ignore-paused` is accepted; the program runs after `resume`.
    fn exec_ignore_paused(world) as [root] {
        if differs(world, &[(Crun, "1.8.1 has no --ignore-paused")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.verb(&["pause"]).ok();
        let running = container.exec(&["--ignore-paused"], &["echo", "executed"]).spawn();
        std::thread::sleep(Duration::from_millis(200));
        container.verb(&["resume"]).ok();
        assert_eq!(running.wait().success().text(), "executed\n");
    }

    /// A signal for a paused container arrives; a deadly one at once or after `resume`.
    fn kill_paused(world) as [root] {
        let bundle = Bundle::with_script(world, "while :; do sleep 0.02; done");
        let container = bundle.start();
        let pid = container.pid();
        container.verb(&["pause"]).ok();
        container.kill("KILL");
        // runc 1.1.5 thaws for SIGKILL; elsewhere the process ends with the freeze.
        if alive(pid) {
            container.verb(&["resume"]).run();
        }
        assert_eq!(reap(pid), 137);
        assert_eq!(container.status(), "stopped");
    }

    /// `pause` without a control group is refused.
    fn pause_rootless(world) as [subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let output = container.verb(&["pause"]).run();
        if differs(world, &[(Crun, "says nothing when it has no cgroup")]) {
            return;
        }
        assert_error(output, &[]);
        assert_eq!(container.status(), "running");
    }

    /// `events --stats`: one document.
    fn events_stats(world) as [root] {
        if differs(world, &[(Crun, "has no events")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let output = container.verb(&["events", "--stats"]).ok();
        let event = document(&output);
        assert_eq!(event["type"], "stats");
        assert_eq!(event["id"], bundle.id());
        let data = &event["data"];
        assert!(data["pids"]["current"].as_u64().unwrap() >= 1, "{event}");
        assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{event}");
        assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{event}");
    }

    /// `events` without `--stats` goes on until it is ended.
    fn events_interval(world) as [root] {
        if differs(world, &[(Crun, "has no events")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let mut running = container.verb(&["events", "--interval", "100ms"]).spawn();
        running.wait_for("\"stats\"");
        assert!(running.is_running());
        let pid = container.pid();
        container.kill("TERM");
        reap(pid);
        container.delete();
        eventually("events end with the container", || !running.is_running());
    }

    /// `--systemd-cgroup` without systemd fails, and says why; `--rootless` takes three words.
    fn global_options(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        bundle.save();
        let run = |options: &[&str]| runtime(world, options).args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
        if !std::path::Path::new("/run/systemd/system").exists() && kind() != Crun {
            assert_error(run(&["--systemd-cgroup"]), &["systemd", "dbus"]);
        }
        run(&["--debug"]).success();
        if differs(world, &[(Crun, "has no --rootless")]) {
            return;
        }
        run(&["--rootless", "auto"]).success();
        run(&["--rootless=auto"]).success();
        run(&["--rootless=true"]).success();
        if world.user == support::User::Root {
            run(&["--rootless", "false"]).success();
        }
        assert_error(run(&["--rootless=perhaps"]), &[]);
    }

    /// crun's options: `--cgroup-manager`, `run --config`.
    fn crun_options(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "has none of these")]) {
            return;
        }
        let bundle = Bundle::with_script(world, "echo other");
        bundle.save();
        let other = bundle.path("other.json");
        std::fs::rename(bundle.path("config.json"), &other).unwrap();
        let run = |options: &[&str], flag: &str| {
            runtime(world, options).args(["run", "--bundle"]).arg(bundle.path("")).arg(flag).arg(&other).arg(bundle.id()).ok().text()
        };
        assert_eq!(run(&[], "--config"), "other\n");
        assert_eq!(run(&["--cgroup-manager=disabled"], "-f"), "other\n");
        assert_eq!(run(&["--cgroup-manager", "disabled"], "--config"), "other\n");
        assert_error(runtime(world, ["--cgroup-manager=frobnicate", "list"]).run(), &["frobnicate"]);
        if world.user == support::User::Root {
            assert_eq!(run(&["--cgroup-manager=cgroupfs"], "--config"), "other\n");
        }
    }

    /// crun's `kill --regex` and `delete --regex`.
    fn regex(world) as [root, plain] {
        if differs(world, &[(Runc, "has no --regex"), (Crun, "matches the whole machine's containers by a POSIX expression")]) {
            return;
        }
        let output = runtime(world, ["delete", "--help"]).ok();
        if !output.all().contains("regex") {
            support::skip(&world.test, "the runtime has no --regex, which nobody but crun's own tests uses");
            return;
        }
        let (one, two) = (Bundle::with_script(world, SLEEP), Bundle::with_script(world, SLEEP));
        let (one, two) = (one.start(), two.start());
        runtime(world, ["delete", "--force", "--regex", ".*"]).ok();
        for container in [one, two] {
            assert_error(container.verb(&["state"]).run(), &["does not exist"]);
        }
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

    /// Without `--root`: a place of the user's own.
    fn default_root(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        bundle.save();
        let disabled: &[&str] = if kind() == Crun && world.user != support::User::Root { &["--cgroup-manager=disabled"] } else { &[] };
        let command = || world.command(program()).args(disabled);
        let container = bundle.container();
        container.leaving(command().args(["run", "-d", "--bundle"]).arg(bundle.path("")).arg(bundle.id())).success();
        let state = document(&command().args(["state", bundle.id()]).ok());
        assert_eq!(state["status"], "running");
        if world.user != support::User::Root {
            let entries = std::fs::read_dir(world.path("run")).unwrap().count();
            assert!(entries > 0, "nothing in XDG_RUNTIME_DIR");
        }
        command().args(["delete", "--force", bundle.id()]).ok();
        reap(i32::try_from(state["pid"].as_i64().unwrap()).unwrap());
        assert_error(command().args(["state", bundle.id()]).run(), &["does not exist"]);
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

/// The name that the documentation of a runtime's differences uses, without a line in the output.
fn differs_quietly(what: &str) -> bool {
    match kind() {
        Runc => [
            "rro",
            "rnosuid",
            "mode of the state directory",
            "ps rootless",
            "umask of exec",
            "oom of exec",
        ]
        .contains(&what),
        Crun => [
            "pause",
            "resume",
            "ps",
            "update",
            "events",
            "kill",
            "exec",
            "oom of exec",
            "ps rootless",
            "mode of the state directory",
        ]
        .contains(&what),
        crate::harness::Sandcrab => false,
    }
}

fn document_or_null(output: &Output) -> Value {
    match document(output) {
        Value::Array(list) if list.is_empty() => Value::Null,
        other => other,
    }
}
