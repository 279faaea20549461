//! Verbs that print documents and tables, and those that are not there.

use serde_json::{Value, json};
use support::for_users;

use super::{SLEEP, differs_quietly, document, document_or_null};
use crate::harness::bundle::runtime;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs, reap, strings};

for_users! {
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
}
