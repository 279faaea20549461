//! The command line itself: forms of options, help, and the log.

use serde_json::Value;
use support::for_users;

use super::{SLEEP, document};
use crate::harness::bundle::runtime;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs, program, reap};

for_users! {
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
}
