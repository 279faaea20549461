//! Control groups of version 1, as root on the machine of the tests; `tests/vm` has version 2.
//!
//! What a machine doesn't have is skipped.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{User, World, for_users};

use crate::harness::bundle::runtime;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs, reap};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// The directory of a process in a controller's hierarchy of version 1.
fn directory(pid: i32, controller: &str) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|c| c == controller)
            .then(|| path.to_owned())
    })?;
    let mount = Path::new("/sys/fs/cgroup").join(controller);
    mount
        .join("cgroup.procs")
        .exists()
        .then(|| mount.join(line.trim_start_matches('/')))
}

fn read(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

/// Whether the machine has these controllers in version 1.
fn has(world: &World, controllers: &[&str]) -> bool {
    let missing = controllers.iter().find(|controller| {
        directory(
            i32::try_from(std::process::id()).expect("a process id"),
            controller,
        )
        .is_none()
    });
    if let Some(controller) = missing {
        support::skip(
            &world.test,
            &format!("no controller {controller} of version 1"),
        );
    }
    missing.is_none()
}

for_users! {
    /// The container is in a group of its own, at the path of the document, and only while it is.
    fn path(world) as [root] {
        if !has(world, &["pids", "memory", "freezer", "devices"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        let path = format!("/sandcrab-test/{}", bundle.id());
        bundle.set("/linux/cgroupsPath", json!(path));
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        let mut groups = Vec::new();
        for controller in ["pids", "memory", "freezer", "devices"] {
            let group = directory(pid, controller).unwrap();
            assert!(group.ends_with(path.trim_start_matches('/')), "{controller}: {}", group.display());
            assert!(read(&group, "cgroup.procs").lines().any(|line| line == pid.to_string()));
            groups.push(group);
        }
        // An exec is in the same one.
        let inside = container.exec(&[], &["cat", "/proc/self/cgroup"]).ok().text();
        assert!(inside.lines().any(|line| line.contains("pids") && line.ends_with(&path)), "{inside}");
        container.kill("KILL");
        reap(pid);
        container.delete();
        for group in groups {
            assert!(!group.exists(), "{} is left", group.display());
            std::fs::remove_dir(group.parent().unwrap()).ok();
        }
    }

    /// Without a path the group is named after the container.
    fn default_path(world) as [root] {
        if !has(world, &["pids"]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let group = directory(container.pid(), "pids").unwrap();
        assert!(group.ends_with(bundle.id()), "{}", group.display());
    }

    /// Limits of processes hold.
    fn pids(world) as [root] {
        if !has(world, &["pids"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, "i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; echo all");
        bundle.set("/linux/resources/pids", json!({"limit": 10}));
        let output = bundle.run();
        assert!(output.stderr.contains("fork") && !output.text().contains("all"), "{}", output.all());
        bundle.script(SLEEP).set("/linux/resources/pids", json!({"limit": 77}));
        let container = bundle.start();
        let group = directory(container.pid(), "pids").unwrap();
        assert_eq!(read(&group, "pids.max"), "77");
    }

    /// Limits of memory are written, and hold.
    fn memory(world) as [root] {
        if !has(world, &["memory"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/linux/resources/memory", json!({"limit": 33_554_432, "reservation": 16_777_216, "swappiness": 20}));
        let container = bundle.start();
        let group = directory(container.pid(), "memory").unwrap();
        assert_eq!(read(&group, "memory.limit_in_bytes"), "33554432");
        assert_eq!(read(&group, "memory.soft_limit_in_bytes"), "16777216");
        assert_eq!(read(&group, "memory.swappiness"), "20");
        // 64 MiB of zeros, counted by tail, are too many.
        let output = container.exec(&[], &["sh", "-c", "head -c 67108864 /dev/zero | tail | wc -c"]).run();
        assert!(output.text().trim() != "67108864", "{}", output.all());
    }

    /// Swap, the out-of-memory killer and hierarchical accounting, where the kernel has them.
    fn memory_details(world) as [root] {
        if !has(world, &["memory"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        for (memory, file, wanted) in [
            (json!({"limit": 33_554_432, "swap": 67_108_864}), "memory.memsw.limit_in_bytes", "67108864"),
            (json!({"limit": 33_554_432, "disableOOMKiller": true}), "memory.oom_control", "oom_kill_disable 1"),
            (json!({"limit": 33_554_432, "useHierarchy": true}), "memory.use_hierarchy", "1"),
            (json!({"limit": 33_554_432, "checkBeforeUpdate": true}), "memory.limit_in_bytes", "33554432"),
            (json!({"limit": 33_554_432, "kernelTCP": 16_777_216, "kernel": 16_777_216}), "memory.kmem.tcp.limit_in_bytes", "16777216"),
        ] {
            bundle.set("/linux/resources/memory", memory.clone());
            let container = bundle.container();
            let output = container.create(&[]);
            if output.code != Some(0) {
                // What the kernel doesn't have is refused by name.
                if kind() == Sandcrab {
                    output.says(&["memory"]);
                }
                continue;
            }
            let group = directory(container.pid(), "memory").unwrap();
            let path = group.join(file);
            if path.exists() {
                if kind() == Sandcrab || !["useHierarchy", "kernelTCP"].iter().any(|k| memory.get(k).is_some()) {
                    assert!(read(&group, file).contains(wanted), "{file}: {}", read(&group, file));
                }
            } else if kind() == Sandcrab {
                assert!(output.stderr.contains("memory") || file.contains("use_hierarchy"), "{memory} without a word: {}", output.stderr);
            }
        }
    }

    /// Processor time.
    fn cpu(world) as [root] {
        if !has(world, &["cpu", "cpuset"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/linux/resources/cpu", json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"}));
        let container = bundle.start();
        let group = directory(container.pid(), "cpu").unwrap();
        assert_eq!(read(&group, "cpu.shares"), "512");
        assert_eq!(read(&group, "cpu.cfs_quota_us"), "50000");
        assert_eq!(read(&group, "cpu.cfs_period_us"), "100000");
        let group = directory(container.pid(), "cpuset").unwrap();
        assert_eq!(read(&group, "cpuset.cpus"), "0");
        assert_eq!(read(&group, "cpuset.mems"), "0");
        assert!(container.sh("grep Cpus_allowed_list /proc/self/status").trim().ends_with("\t0"));
    }

    /// Burst, idle and real-time: written, or refused by name.
    fn cpu_details(world) as [root] {
        if !has(world, &["cpu"]) || differs(world, &[(Runc, "1.1.5 ignores the newer ones"), (Crun, "1.8.1 ignores some")]) {
            return;
        }
        for (cpu, file, wanted) in [
            (json!({"quota": 50_000, "period": 100_000, "burst": 10_000}), "cpu.cfs_burst_us", "10000"),
            (json!({"idle": 1}), "cpu.idle", "1"),
            (json!({"realtimeRuntime": 1000, "realtimePeriod": 1_000_000}), "cpu.rt_runtime_us", "1000"),
        ] {
            let mut bundle = Bundle::with_script(world, SLEEP);
            bundle.set("/linux/resources/cpu", cpu);
            let container = bundle.container();
            let output = container.create(&[]);
            if output.code == Some(0) {
                let group = directory(container.pid(), "cpu").unwrap();
                if group.join(file).exists() {
                    assert_eq!(read(&group, file), wanted);
                } else {
                    output.says(&["cpu"]);
                }
            } else {
                output.says(&["cpu"]);
            }
        }
    }

    /// Block devices, huge pages, network classes, remote memory: written, or refused by name.
    fn other_controllers(world) as [root] {
        if differs(world, &[(Runc, "1.1.5 ignores what the machine doesn't have"), (Crun, "1.8.1 ignores some")]) {
            return;
        }
        let rate = json!([{"major": 1, "minor": 5, "rate": 1_048_576}]);
        for (name, value, words) in [
            ("blockIO", json!({"weight": 500}), &["blkio", "blockio", "weight"][..]),
            ("blockIO", json!({"leafWeight": 500}), &["blkio", "blockio", "leaf"]),
            ("blockIO", json!({"weightDevice": [{"major": 1, "minor": 5, "weight": 300, "leafWeight": 300}]}), &["blkio", "blockio", "weight"]),
            ("blockIO", json!({"throttleReadBpsDevice": rate}), &["blkio", "blockio", "throttle"]),
            ("blockIO", json!({"throttleWriteBpsDevice": rate}), &["blkio", "blockio", "throttle"]),
            ("blockIO", json!({"throttleReadIOPSDevice": rate}), &["blkio", "blockio", "throttle"]),
            ("blockIO", json!({"throttleWriteIOPSDevice": rate}), &["blkio", "blockio", "throttle"]),
            ("hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]), &["hugepage", "hugetlb"]),
            ("network", json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 3}]}), &["network", "net_cls", "net_prio"]),
            ("rdma", json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}), &["rdma"]),
            ("unified", json!({"memory.high": "1000000"}), &["unified"]),
        ] {
            let mut bundle = Bundle::new(world);
            bundle.set(&format!("/linux/resources/{name}"), value.clone());
            let output = bundle.run();
            let said = output.stderr.to_lowercase();
            let written = output.code == Some(0) && name == "blockIO" && has(world, &["blkio"]);
            assert!(written || words.iter().any(|word| said.contains(word)), "{value} without a word: {}", output.all());
        }
    }

    /// A limit that makes no sense is refused.
    fn bad_limits(world) as [root] {
        if differs(world, &[(Runc, "leaves it to the kernel"), (Crun, "leaves it to the kernel")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        for (name, value) in [
            ("cpu", json!({"shares": 1})), ("cpu", json!({"cpus": "x"})),
            ("blockIO", json!({"weight": 5})), ("devices", json!([{"allow": true, "type": "z"}])),
            ("devices", json!([{"allow": true, "type": "c", "access": "x"}])),
        ] {
            let before = bundle.config.clone();
            bundle.set(&format!("/linux/resources/{name}"), value.clone());
            let output = bundle.run();
            if name == "cpu" && value["shares"] == 1 && output.code == Some(0) {
                // The kernel raises it to 2.
                bundle.config = before;
                continue;
            }
            assert_error(output, &[name.to_lowercase().as_str(), "blkio"]);
            bundle.config = before;
        }
    }

    /// `update` by options.
    fn update_options(world) as [root] {
        if !has(world, &["memory", "cpu", "pids"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/linux/resources/memory", json!({"limit": 33_554_432}));
        let container = bundle.start();
        let pid = container.pid();
        let update = |options: &[&str]| runtime(world, ["update"]).args(options).arg(&container.id).ok();
        update(&["--memory", "67108864", "--memory-reservation", "33554432"]);
        let memory = directory(pid, "memory").unwrap();
        assert_eq!(read(&memory, "memory.limit_in_bytes"), "67108864");
        assert_eq!(read(&memory, "memory.soft_limit_in_bytes"), "33554432");
        update(&["--pids-limit", "55"]);
        assert_eq!(read(&directory(pid, "pids").unwrap(), "pids.max"), "55");
        let cpu = directory(pid, "cpu").unwrap();
        update(&["--cpu-share", "256"]);
        assert_eq!(read(&cpu, "cpu.shares"), "256");
        update(&["--cpu-period", "50000", "--cpu-quota", "25000"]);
        assert_eq!(read(&cpu, "cpu.cfs_quota_us"), "25000");
        assert_eq!(read(&cpu, "cpu.cfs_period_us"), "50000");
        let cpuset = directory(pid, "cpuset").unwrap();
        update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
        assert_eq!(read(&cpuset, "cpuset.cpus"), "0");
        if kind() != Sandcrab {
            return;
        }
        for (options, file, wanted) in [
            (&["--cpu-idle", "1"][..], cpu.join("cpu.idle"), "1"),
            (&["--cpu-burst", "5000"], cpu.join("cpu.cfs_burst_us"), "5000"),
            (&["--memory-swap", "134217728"], memory.join("memory.memsw.limit_in_bytes"), "134217728"),
            (&["--cpu-rt-period", "1000000", "--cpu-rt-runtime", "500"], cpu.join("cpu.rt_runtime_us"), "500"),
            (&["--blkio-weight", "300"], directory(pid, "blkio").unwrap().join("blkio.bfq.weight"), "300"),
        ] {
            let output = runtime(world, ["update"]).args(options).arg(&container.id).run();
            if output.code == Some(0) && file.exists() {
                assert_eq!(std::fs::read_to_string(&file).unwrap().trim().trim_start_matches("default "), wanted, "{options:?}");
            } else {
                assert!(!output.stderr.is_empty(), "{options:?} without a word");
            }
        }
        for options in [&["--l3-cache-schema", "L3:0=f"], &["--mem-bw-schema", "MB:0=20"]] {
            let output = runtime(world, ["update"]).args(options).arg(&container.id).run();
            assert_error(output, &["intelrdt", "rdt", "not supported", "schema"]);
        }
    }

    /// `update` by a document: a file, or standard input; what isn't in it stays.
    fn update_document(world) as [root] {
        if !has(world, &["memory", "pids"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/linux/resources/pids", json!({"limit": 44}));
        let container = bundle.start();
        let pid = container.pid();
        let pids = directory(pid, "pids").unwrap();
        let memory = directory(pid, "memory").unwrap();
        let document = json!({"memory": {"limit": 50_331_648}});
        let file = bundle.write("resources.json", document.to_string());
        for flag in ["--resources", "-r"] {
            runtime(world, ["update", flag]).arg(&file).arg(&container.id).ok();
        }
        assert_eq!(read(&memory, "memory.limit_in_bytes"), "50331648");
        assert_eq!(read(&pids, "pids.max"), "44", "a limit that was not named changed");
        let document = json!({"memory": {"limit": 41_943_040}, "pids": {"limit": 45}, "cpu": {"shares": 300}});
        for flag in [&["--resources=-"][..], &["--resources", "-"], &["-r", "-"]] {
            if kind() == Crun && flag.len() > 1 {
                continue;
            }
            runtime(world, ["update"]).args(flag).arg(&container.id).stdin(document.to_string()).ok();
            assert_eq!(read(&memory, "memory.limit_in_bytes"), "41943040");
            assert_eq!(read(&pids, "pids.max"), "45");
        }
        let output = runtime(world, ["update", "--resources=-"]).arg(&container.id).stdin("{").run();
        assert_error(output, &[]);
        assert_eq!(container.status(), "running");
    }

    /// An ordinary user without a group of its own: containers run, limits are said not to hold.
    fn without_delegation(world) as [subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.run().success();
        if differs(world, &[(Runc, "fails, as the specification allows"), (Crun, "ignores them when told to use no groups")]) {
            return;
        }
        bundle.set("/linux/resources", json!({"pids": {"limit": 100}, "memory": {"limit": 33_554_432}}));
        let output = bundle.run().success();
        let said = output.stderr.to_lowercase();
        assert!(said.contains("cgroup") || said.contains("control group"), "without a word: {said}");
    }

    /// An ordinary user in a group that it was given uses it.
    fn delegated(world) as [subids, plain] {
        if !has(world, &["pids"]) || !support::user::is_root() {
            return;
        }
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        let parent = PathBuf::from(format!("/sys/fs/cgroup/pids/sandcrab-{}", bundle.id()));
        std::fs::create_dir(&parent).unwrap();
        for path in [parent.clone(), parent.join("cgroup.procs"), parent.join("tasks")] {
            std::os::unix::fs::chown(&path, Some(world.account.uid), Some(world.account.gid)).unwrap();
        }
        bundle.set("/linux/cgroupsPath", json!(format!("/sandcrab-{0}/{0}", bundle.id())));
        bundle.set("/linux/resources/pids", json!({"limit": 66}));
        let container = bundle.container();
        // Only who is in the group may move a process within it.
        let script = format!("echo $$ >{}/cgroup.procs; exec setpriv --reuid={} --regid={} --clear-groups \"$@\"", parent.display(), world.account.uid, world.account.gid);
        let output = std::process::Command::new("sh").args(["-c", &script, "sh"]).arg(crate::harness::program())
            .arg("--root").arg(world.path("state")).args(["create", "--bundle"]).arg(bundle.path("")).arg(bundle.id())
            .env("XDG_RUNTIME_DIR", world.path("run")).env("HOME", world.home())
            .stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        let used = output.success().then(|| directory(container.pid(), "pids").unwrap());
        let limit = used.as_ref().map(|group| (group.starts_with(&parent), read(group, "pids.max")));
        drop(container);
        eventually("the group can be removed", || std::fs::remove_dir(&parent).is_ok());
        if kind() == Sandcrab {
            let (below, limit) = limit.expect("create succeeds");
            assert!(below, "{used:?}");
            assert_eq!(limit, "66");
        }
    }

    /// `--cgroup-manager disabled` (crun's): no group at all.
    fn disabled(world) as [root] {
        if !has(world, &["pids"]) || differs(world, &[(Runc, "has no --cgroup-manager")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.container();
        container.create_by(runtime(world, ["--cgroup-manager", "disabled", "create"]), &[]).success();
        let group = directory(container.pid(), "pids").unwrap();
        assert!(!group.ends_with(bundle.id()), "{}", group.display());
    }

    /// `exec --cgroup`: a group below the container's.
    fn exec_cgroup(world) as [root] {
        if !has(world, &["pids"]) || differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let group = directory(container.pid(), "pids").unwrap();
        std::fs::create_dir(group.join("below")).unwrap();
        let text = container.exec(&["--cgroup", "pids:below"], &["cat", "/proc/self/cgroup"]).ok().text();
        let found = text.lines().any(|line| line.contains("pids") && line.ends_with("/below"));
        assert!(found, "{text}");
        let output = container.exec(&["--cgroup", "pids:../../../"], &["cat", "/proc/self/cgroup"]).run();
        assert!(output.code != Some(0) || !output.text().lines().any(|l| l.contains("pids") && !l.contains(bundle.id())), "{}", output.all());
    }

    /// A group that exists already and has processes: used with a warning, or refused.
    fn group_in_use(world) as [root] {
        if !has(world, &["pids"]) || differs(world, &[(Crun, "shares it without a word")]) {
            return;
        }
        let first = Bundle::with_script(world, SLEEP);
        let container = first.start();
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/linux/cgroupsPath", json!(format!("/{}", first.id())));
        let second = bundle.container();
        let output = second.create(&[]);
        assert!(output.code != Some(0) || !output.stderr.is_empty(), "shared without a word");
        drop(second);
        assert_eq!(container.status(), "running", "the other container was ended");
    }

    /// Paths that lead out of the hierarchy.
    fn bad_paths(world) as [root] {
        if !has(world, &["pids"]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, "cat /proc/self/cgroup");
        bundle.set("/linux/cgroupsPath", json!("/../../../../tmp/escape"));
        bundle.run();
        assert!(!Path::new("/tmp/escape").exists());
        // Where the path was taken as one below the hierarchy, its parent stays.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            std::fs::remove_dir(hierarchy.path().join("tmp")).ok();
        }
    }

    /// Ids of the `systemd` driver, without systemd: refused by name.
    fn systemd_path(world) as [root, plain] {
        if Path::new("/run/systemd/system").exists() || differs(world, &[(Crun, "has other words"), (Runc, "has other words")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/cgroupsPath", json!("system.slice:sandcrab:x")).save();
        let output = runtime(world, ["--systemd-cgroup", "run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
        assert_error(output, &["systemd", "bus"]);
        if world.user == User::Root {
            let output = runtime(world, ["--cgroup-manager=systemd", "run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
            assert_error(output, &["systemd", "bus"]);
        }
    }

    /// Statistics count what the container did.
    fn statistics(world) as [root] {
        if !has(world, &["pids", "memory"]) || differs(world, &[(Crun, "has no events")]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, &format!("head -c 20000000 /dev/zero | md5sum; {SLEEP}"));
        bundle.set("/linux/resources", json!({"pids": {"limit": 99}, "memory": {"limit": 67_108_864}}));
        let container = bundle.start();
        container.wait_for("ready");
        let output = container.verb(&["events", "--stats"]).ok();
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(event["data"]["pids"]["limit"], 99);
        assert_eq!(event["data"]["memory"]["usage"]["limit"], 67_108_864);
        assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 1_000_000, "{event}");
    }
}
