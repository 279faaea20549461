//! Hooks: six kinds, when and where they run, what they are told, and what their failure means.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{User, for_users};

use crate::harness::under_test::{kind, kind as runtime_kind};
use crate::harness::{Bundle, Crun, Runc, Sandcrab, alive, assert_error, differs, reap};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook of the host that runs a script with its kind in `$1` and the bundle in `$2`.
fn hook(bundle: &Bundle, kind: &str, script: &str) -> Value {
    let path = bundle.path("");
    // crun 1.8.1 takes a hook that doesn't read its input for one that failed.
    let reads = if runtime_kind() == Crun && !script.contains("cat >$2") && !script.contains("sed ")
    {
        "cat >/dev/null; "
    } else {
        ""
    };
    let script = format!("{reads}{script}");
    json!({
        "path": "/bin/sh",
        "args": ["sh", "-c", script, "sh", kind, path],
        "env": ["PATH=/bin:/usr/bin", "HOOK=environment"]
    })
}

/// A hook that runs a script of the container: `startContainer` finds it in there.
fn inner_hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script, "sh"], "env": ["PATH=/bin"]})
}

for_users! {
    /// Each kind at its time, in order, with the state on standard input.
    fn order_and_state(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("log");
        bundle.set("/annotations", json!({"for.hooks": "yes"}));
        // Mounted, so that hooks inside write to the same place.
        let log = bundle.path("log");
        bundle.mount("bind", log.to_str().unwrap(), "/log", &["bind"]);
        for kind in KINDS {
            let entry = if kind == "startContainer" {
                inner_hook("cat >/log/startContainer.json; echo startContainer >>/log/order")
            } else {
                hook(&bundle, kind, "cat >$2/log/$1.json; echo $1 >>$2/log/order")
            };
            bundle.set(&format!("/hooks/{kind}"), json!([entry]));
        }
        bundle.script(&format!("echo program >>/log/order; {SLEEP}"));
        // runc 1.1.5 runs poststart with create.
        let early: &[&str] = if kind() == Runc { &["poststart"] } else { &[] };
        let order = || {
            let text = std::fs::read_to_string(bundle.path("log/order")).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let container = bundle.create();
        assert_eq!(order(), [&["prestart", "createRuntime", "createContainer"], early].concat());
        container.start();
        container.wait_for("ready");
        let started = order();
        assert_eq!(started[3 + early.len()], "startContainer");
        // The program and the hook after its start run at the same time.
        let mut last: Vec<&str> = started[4..].iter().map(String::as_str).collect();
        last.sort_unstable();
        last.retain(|line| *line != "startContainer");
        if kind() != Runc {
            assert_eq!(last, ["poststart", "program"]);
        }
        let pid = container.pid();
        container.kill("KILL");
        reap(pid);
        assert!(!order().contains(&"poststop".to_owned()));
        container.delete();
        assert_eq!(order().last().unwrap(), "poststop");
        for (kind, statuses) in [
            ("prestart", &["creating", "created"][..]), ("createRuntime", &["creating", "created"]), ("createContainer", &["creating", "created"]),
            ("startContainer", &["created", "creating"]), ("poststart", if kind() == Runc { &["created"][..] } else { &["running"] }), ("poststop", &["stopped"]),
        ] {
            let text = std::fs::read(bundle.path(&format!("log/{kind}.json"))).expect(kind);
            let state: Value = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(state["id"], bundle.id(), "{kind}");
            let path = state["bundle"].as_str().unwrap().trim_end_matches('/');
            assert_eq!(path, bundle.path("").to_str().unwrap().trim_end_matches('/'), "{kind}");
            assert_eq!(state["annotations"]["for.hooks"], "yes", "{kind}");
            assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{kind}");
            if runtime_kind() != Crun {
                assert!(statuses.contains(&state["status"].as_str().unwrap()), "{kind}: {state}");
            }
            // crun 1.8.1 tells createContainer 0.
            if !["poststop", "startContainer"].contains(&kind) && runtime_kind() != Crun {
                // "As seen by the container" (runtime.md, "State").
                let wanted = if kind == "createContainer" { 1 } else { pid };
                assert_eq!(state["pid"].as_i64(), Some(i64::from(wanted)), "{kind}: {state}");
            }
        }
    }

    /// In which namespaces they run.
    fn namespaces(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("log");
        let log = bundle.path("log");
        bundle.mount("bind", log.to_str().unwrap(), "/log", &["bind"]);
        for kind in KINDS {
            let entry = if kind == "startContainer" {
                inner_hook("readlink /proc/self/ns/mnt >/log/startContainer; readlink /proc/self/ns/net >>/log/startContainer; pwd >>/log/startContainer")
            } else {
                hook(&bundle, kind, "readlink /proc/self/ns/mnt >$2/log/$1; readlink /proc/self/ns/net >>$2/log/$1")
            };
            bundle.set(&format!("/hooks/{kind}"), json!([entry]));
        }
        bundle.script("readlink /proc/self/ns/mnt >/log/program; readlink /proc/self/ns/net >>/log/program").run().success();
        let read = |kind: &str| std::fs::read_to_string(bundle.path(&format!("log/{kind}"))).expect(kind);
        let host: Vec<String> = ["mnt", "net"].map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap().display().to_string()).into();
        for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
            let found = read(kind);
            let found: Vec<&str> = found.lines().collect();
            assert_eq!(found[1], host[1], "{kind}");
            if world.user == User::Root {
                assert_eq!(found[0], host[0], "{kind}");
            }
        }
        let program = read("program");
        for kind in ["createContainer", "startContainer"] {
            let found = read(kind);
            let two: Vec<&str> = found.lines().take(2).collect();
            assert_eq!(two, program.lines().collect::<Vec<_>>(), "{kind}");
        }
        assert!(read("startContainer").ends_with("/\n"));
    }

    /// createContainer sees the root before it is the root, and may change it.
    fn before_the_pivot(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let entry = hook(&bundle, "createContainer", "echo made by a hook >$2/rootfs/made; test -e $2/rootfs/proc/self && echo proc >>$2/rootfs/made");
        bundle.set("/hooks/createContainer", json!([entry]));
        let lines = bundle.prints("cat /made");
        assert_eq!(lines[0], "made by a hook");
        // Mounts are made before.
        assert_eq!(lines.get(1).map(String::as_str), Some("proc"));
    }

    /// A createRuntime hook can prepare the network of the container by its process id.
    fn network_hook(world) as [root] {
        let mut bundle = Bundle::new(world);
        let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); nsenter --target $pid --net ip link set lo mtu 1234";
        let entry = hook(&bundle, "createRuntime", script);
        bundle.set("/hooks/createRuntime", json!([entry]));
        assert_eq!(bundle.prints("cat /sys/class/net/lo/mtu"), ["1234"]);
    }

    /// Several of one kind run in their order, with their own arguments and exactly their environment.
    fn several(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let entries: Vec<Value> = (0..3).map(|n| hook(&bundle, &n.to_string(), "echo $1 $HOOK $(env | cut -d= -f1 | sort | tr '\\n' ' ') >>$2/order")).collect();
        bundle.set("/hooks/createRuntime", json!(entries));
        bundle.save();
        bundle.run_with(&[]).env("SECRET", "1").ok();
        let text = std::fs::read_to_string(bundle.path("order")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("{number} environment ")), "{text}");
            assert!(!line.contains("SECRET") && !line.contains("XDG"), "{text}");
        }
        assert_eq!(lines.len(), 3);
    }

    /// Hooks run in the bundle, whatever the caller's directory; those in the container in its own.
    fn directory(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "runs createContainer in the root file system")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            let entry = hook(&bundle, kind, "pwd >>$2/directories");
            bundle.set(&format!("/hooks/{kind}"), json!([entry]));
        }
        bundle.save();
        bundle.run_with(&[]).ok();
        let text = std::fs::read_to_string(bundle.path("directories")).unwrap();
        let expected = bundle.path("").canonicalize().unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.lines().all(|line| std::path::Path::new(line) == expected), "{text}");
    }

    /// A hook that fails before the program fails `create`; nothing is left, and nothing runs.
    fn failure_at_create(world) as [root, subids, plain] {
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let mut bundle = Bundle::with_script(world, "touch /ran");
            let fails = hook(&bundle, kind, "echo the reason >&2; exit 7");
            let after = hook(&bundle, kind, "touch $2/after");
            bundle.set(&format!("/hooks/{kind}"), json!([fails, after]));
            let output = bundle.container().create(&[]);
            assert_error(output, &["hook"]);
            assert!(!bundle.path("after").exists(), "{kind}: the next hook ran");
            assert!(!bundle.inside("ran").exists(), "{kind}: the program ran");
            assert_error(crate::harness::bundle::runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
            world.assert_nothing_left(bundle.id());
        }
    }

    /// The failed hook's own words are in the error.
    fn failure_is_explained(world) as [root, plain] {
        if differs(world, &[(Crun, "names the hook only"), (Runc, "1.1.5 has them without the kind")]) {
            return;
        }
        for kind in ["createRuntime", "createContainer"] {
            let mut bundle = Bundle::new(world);
            let fails = hook(&bundle, kind, "echo the reason >&2; exit 7");
            bundle.set(&format!("/hooks/{kind}"), json!([fails]));
            bundle.container().create(&[]).exits(1).says(&["the reason", "/bin/sh"]);
        }
    }

    /// A startContainer hook that fails: the program doesn't run, and the container is stopped.
    fn failure_at_start(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "touch /ran");
        bundle.set("/hooks/startContainer", json!([inner_hook("exit 7")]));
        let container = bundle.create();
        let pid = container.pid();
        let output = container.verb(&["start"]).run();
        crate::harness::container::eventually("the process ends", || !alive(pid));
        assert!(!bundle.inside("ran").exists());
        if kind() == Sandcrab {
            assert_error(output, &["hook", "startcontainer"]);
        }
    }

    /// A poststart hook that fails stops the container (runtime-spec 1.3, runtime.md "Lifecycle").
    fn failure_after_start(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 goes on, as specifications before 1.3 asked"), (Runc, "1.1.5 runs it with create")]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        let fails = hook(&bundle, "poststart", "exit 7");
        bundle.set("/hooks/poststart", json!([fails]));
        let container = bundle.create();
        let pid = container.pid();
        assert_error(container.verb(&["start"]).run(), &["hook"]);
        crate::harness::container::eventually("the process ends", || !alive(pid));
    }

    /// A poststop hook that fails warns; the next one runs and the container is gone.
    fn failure_after_stop(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let fails = hook(&bundle, "poststop", "exit 7");
        let after = hook(&bundle, "poststop", "touch $2/after");
        bundle.set("/hooks/poststop", json!([fails, after]));
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        let output = container.verb(&["delete"]).run();
        assert_error(crate::harness::bundle::runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
        if kind() != Runc {
            // runc 1.1.5 stops at the first that fails.
            assert!(bundle.path("after").exists());
            assert_eq!(output.code, Some(0), "{}", output.all());
        }
    }

    /// poststop hooks run when a container is deleted by force, and after `run`.
    fn after_forced_delete(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        let entry = hook(&bundle, "poststop", "echo stopped >>$2/after");
        bundle.set("/hooks/poststop", json!([entry]));
        let container = bundle.start();
        let pid = container.pid();
        container.verb(&["delete", "--force"]).ok();
        reap(pid);
        assert_eq!(std::fs::read_to_string(bundle.path("after")).unwrap(), "stopped\n");
        bundle.args(&["true"]).run().success();
        assert_eq!(std::fs::read_to_string(bundle.path("after")).unwrap(), "stopped\nstopped\n");
    }

    /// A hook that takes longer than it may is killed, and has failed.
    fn timeout(world) as [root, subids, plain] {
        for kind in ["createRuntime", "createContainer"] {
            let mut bundle = Bundle::new(world);
            // What a hook has started may hold its output open; runc 1.1.5 waits for that.
            let script = if runtime_kind() == Runc { "exec sleep 47" } else { "sleep 47; touch $2/after" };
            let mut entry = hook(&bundle, kind, script);
            entry["timeout"] = json!(1);
            bundle.set(&format!("/hooks/{kind}"), json!([entry]));
            let begun = Instant::now();
            assert_error(bundle.container().create(&[]), &["hook", "time", "timeout"]);
            let took = begun.elapsed();
            assert!(took > Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
            assert!(!bundle.path("after").exists());
        }
    }

    /// Paths that are no programs, and documents that are no hooks.
    fn bad_ones(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/hooks/createRuntime", json!([{"path": "/no/such/hook"}]));
        assert_error(bundle.run(), &["/no/such/hook"]);
        if differs(world, &[(Runc, "takes them"), (Crun, "takes them")]) {
            return;
        }
        bundle.set("/hooks/createRuntime", json!([{"path": "true"}]));
        assert_error(bundle.run(), &["hooks.createruntime[0]"]);
        bundle.set("/hooks/createRuntime", json!([{"path": "/bin/true", "timeout": 0}]));
        assert_error(bundle.run(), &["timeout"]);
    }

    /// A hook that reads nothing, and one that closes its input, are no failure.
    fn input_unread(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 takes it for a failure")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/annotations", json!({"big": "x".repeat(200_000)}));
        let entry = json!({"path": "/bin/true"});
        bundle.set("/hooks/createRuntime", json!([entry, entry]));
        bundle.set("/hooks/createContainer", json!([entry]));
        let begun = Instant::now();
        bundle.run().success();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
