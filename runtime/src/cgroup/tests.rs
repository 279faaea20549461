//! Groups as a whole: on a directory that stands in for version 2, and on this host's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::layout::{Hierarchy, Layout};
use super::*;

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

fn request<'a>(id: &'a str, resources: Option<&'a Resources>) -> Request<'a> {
    Request {
        id,
        path: "",
        resources,
        driver: Driver::Cgroupfs,
        rootless: false,
        annotations: &NO_ANNOTATIONS,
        owner: None,
        bus: None,
    }
}

fn parse(json: &str) -> Resources {
    Resources::parse(json.as_bytes()).expect("parse")
}

fn id(name: &str) -> String {
    format!("sandcrab-test-{name}-{}", std::process::id())
}

/// A version 2 hierarchy of plain files. Groups must be made beforehand, since only the kernel
/// fills new ones.
struct Mimic {
    root: tempfile::TempDir,
}

impl Mimic {
    fn new(groups: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mimic = Self { root };
        for group in [""].iter().chain(groups) {
            let dir = mimic.root.path().join(group);
            std::fs::create_dir_all(&dir).expect("mkdir");
            for (file, text) in [
                ("cgroup.controllers", "cpu memory pids\n"),
                ("cgroup.subtree_control", ""),
                ("cgroup.procs", ""),
                ("cgroup.freeze", "0\n"),
                ("cgroup.events", "populated 0\nfrozen 0\n"),
                ("memory.max", "max\n"),
                ("memory.swap.max", "max\n"),
                ("memory.current", "5000\n"),
                ("cpu.max", "max 100000\n"),
                ("cpu.weight", "100\n"),
                ("pids.max", "max\n"),
            ] {
                std::fs::write(dir.join(file), text).expect("write");
            }
        }
        mimic
    }

    fn layout(&self, own: &str) -> Layout {
        Layout {
            unified: Some(Hierarchy {
                controllers: Vec::new(),
                mount: self.root.path().to_path_buf(),
                own: Some(PathBuf::from(own)),
            }),
            legacy: Vec::new(),
        }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.path().join(path)).expect("read")
    }
}

/// Device programs can't be attached to plain directories.
const ANY_DEVICE: &str = r#""devices":[{"allow":true}]"#;

#[test]
fn limits_of_version_two() {
    let mimic = Mimic::new(&["user", "user/c1"]);
    let layout = mimic.layout("/user/session");
    let resources = parse(&format!(
        r#"{{{ANY_DEVICE},"memory":{{"limit":4096,"swap":8192}},"pids":{{"limit":5}},
            "cpu":{{"shares":1024,"quota":5000}}}}"#
    ));
    let (group, warnings) = create_in(&layout, &request("c1", Some(&resources))).expect("create");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(mimic.read("cgroup.subtree_control"), "+cpu +memory +pids");
    assert_eq!(
        mimic.read("user/cgroup.subtree_control"),
        "+cpu +memory +pids"
    );
    assert_eq!(mimic.read("user/c1/cgroup.subtree_control"), "");
    assert_eq!(mimic.read("user/c1/memory.max"), "4096");
    assert_eq!(mimic.read("user/c1/memory.swap.max"), "4096");
    assert_eq!(mimic.read("user/c1/pids.max"), "5");
    assert_eq!(mimic.read("user/c1/cpu.max"), "5000");

    // A later command finds it again; what an update doesn't name stays.
    let text = serde_json::to_string(&group).expect("write");
    let group: Group = serde_json::from_str(&text).expect("read");
    assert!(group.exists() && group.open_for_clone().is_some());
    group
        .update(&parse(r#"{"memory":{"limit":6000}}"#))
        .expect("update");
    assert_eq!(mimic.read("user/c1/memory.max"), "6000");
    assert_eq!(mimic.read("user/c1/pids.max"), "5");
    let error = group
        .update(&parse(
            r#"{"memory":{"limit":4000,"checkBeforeUpdate":true}}"#,
        ))
        .expect_err("below what is in use");
    assert!(error.to_string().contains("5000 bytes in use"));
    group.add(77).expect("add");
    assert_eq!(group.pids().expect("pids"), [77]);
    assert!(!group.is_frozen().expect("state"));
}

#[test]
fn what_version_two_has_no_controller_for() {
    let mimic = Mimic::new(&["c1"]);
    let resources = parse(&format!(
        r#"{{{ANY_DEVICE},"cpu":{{"cpus":"0"}},"pids":{{"limit":5}}}}"#
    ));
    let mut request = request("c1", Some(&resources));
    let error = create_in(&mimic.layout("/"), &request).expect_err("no cpuset");
    let text = error.to_string();
    assert!(text.contains("limit cpu.cpus can't be enforced"), "{text}");
    request.rootless = true;
    let mimic = Mimic::new(&["c1"]);
    let (group, warnings) = create_in(&mimic.layout("/"), &request).expect("create");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("limit cpu.cpus is not enforced"));
    assert!(!group.is_none());
    assert_eq!(mimic.read("c1/pids.max"), "5");
}

#[test]
fn a_group_in_use_is_refused() {
    let mimic = Mimic::new(&["c1"]);
    std::fs::write(mimic.root.path().join("c1/cgroup.procs"), "12\n13\n").expect("write");
    let error = create_in(&mimic.layout("/"), &request("c1", None)).expect_err("in use");
    let text = error.to_string();
    assert!(text.contains("not empty: 2 process(es)"), "{text}");
}

#[test]
fn a_path_stays_below_the_mount() {
    let mimic = Mimic::new(&["a", "a/b"]);
    let resources = parse(&format!("{{{ANY_DEVICE}}}"));
    let mut request = request("c1", Some(&resources));
    for path in ["/a/b", "/../../a/./b/", "../a/b"] {
        request.path = path;
        let (group, _) = create_in(&mimic.layout("/x"), &request).expect("create");
        assert_eq!(group.paths()[""], mimic.root.path().join("a/b"), "{path}");
    }
    request.path = "/";
    assert!(create_in(&mimic.layout("/"), &request).is_err());
}

#[test]
fn a_divided_group_is_entered_below() {
    let mimic = Mimic::new(&["c1", "c1/init.scope", "c1/system.slice"]);
    let resources = parse(&format!("{{{ANY_DEVICE}}}"));
    let request = request("c1", Some(&resources));
    let (group, _) = create_in(&mimic.layout("/"), &request).expect("create");
    let write = |path: &str, text: &str| {
        std::fs::write(mimic.root.path().join(path), text).expect("write");
    };
    let found = || group.below(&[]).expect("below").paths()[""].clone();
    write("c1/system.slice/cgroup.procs", "9\n");
    write("c1/init.scope/cgroup.procs", "7\n");
    assert_eq!(found(), mimic.root.path().join("c1"));
    write("c1/cgroup.subtree_control", "memory pids\n");
    assert_eq!(found(), mimic.root.path().join("c1/init.scope"));
    let named = group.below(&["/system.slice".to_owned()]).expect("below");
    assert_eq!(named.paths()[""], mimic.root.path().join("c1/system.slice"));
}

#[test]
fn without_any_hierarchy() {
    let limited = parse(r#"{"memory":{"limit":4096},"pids":{"limit":5}}"#);
    let mut request = request("c1", Some(&limited));
    let error = create_in(&Layout::default(), &request).expect_err("root");
    let text = error.to_string();
    assert!(text.contains("memory.limit, pids.limit"), "{text}");
    request.rootless = true;
    let (group, warnings) = create_in(&Layout::default(), &request).expect("rootless");
    assert!(group.is_none() && warnings.len() == 1, "{warnings:?}");
    assert!(group.freeze().is_err());
    assert!(group.update(&limited).is_err());
    group.add(1).expect("nothing to add to");
    group.remove().expect("nothing to remove");
    request.resources = None;
    let (_, warnings) = create_in(&Layout::default(), &request).expect("no limits");
    assert!(warnings.is_empty(), "{warnings:?}");
    request.driver = Driver::Disabled;
    let (group, warnings) = create_in(&Layout::default(), &request).expect("disabled");
    assert!(group.is_none() && warnings.is_empty());
}

/// A process that sleeps, for a test that must end it.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn();
        Self(child.expect("sleep"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A group of this host, or the reason why it has none for us.
fn real(name: &str, resources: &Resources) -> Option<(Group, Vec<String>)> {
    let id = id(name);
    let mut request = request(&id, Some(resources));
    request.rootless = !rustix::process::geteuid().is_root();
    let (group, warnings) = create(&request).expect("create");
    if group.is_none() {
        println!("SKIP: {warnings:?}");
        return None;
    }
    Some((group, warnings))
}

fn read(group: &Group, controller: &str, file: &str) -> Option<String> {
    let dir = group.paths().get(controller)?.clone();
    let text = std::fs::read_to_string(dir.join(file)).ok()?;
    Some(text.trim().to_owned())
}

#[test]
fn limits_of_this_host() {
    let resources = parse(
        r#"{"devices":[{"allow":false,"access":"rwm"}],
            "memory":{"limit":33554432,"swap":67108864},"pids":{"limit":20},
            "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#,
    );
    let Some((group, warnings)) = real("limits", &resources) else {
        return;
    };
    let mut sleeper = Sleeper::new();
    group.add(sleeper.pid()).expect("add");
    let pids = group.pids().expect("pids");
    let memory = read(&group, "memory", "memory.limit_in_bytes");
    let quota = read(&group, "cpu", "cpu.cfs_quota_us");
    let devices = read(&group, "devices", "devices.list");
    let limit = || read(&group, "pids", "pids.max").or_else(|| read(&group, "", "pids.max"));
    let before = limit();
    let stats = group.stats().expect("statistics");
    let update = group.update(&parse(
        r#"{"memory":{"limit":100663296,"swap":134217728},"pids":{"limit":30},
            "devices":[{"allow":false},{"allow":true,"type":"c","major":10,"minor":200}]}"#,
    ));
    let after = limit();
    let raised = read(&group, "memory", "memory.limit_in_bytes");
    let changed = read(&group, "devices", "devices.list");
    group.kill_all(libc::SIGKILL).expect("kill");
    sleeper.0.wait().expect("wait");
    group.remove().expect("remove");

    assert!(!group.exists(), "something is left");
    assert_eq!(pids, [sleeper.pid()]);
    assert!(warnings.is_empty(), "{warnings:?}");
    update.expect("update");
    assert_eq!(before.as_deref(), Some("20"));
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 20));
    assert_eq!(stats.memory.usage.limit, 33_554_432);
    assert_eq!(after.as_deref(), Some("30"));
    if let Some(memory) = memory {
        assert_eq!(memory, "33554432");
        assert_eq!(raised.as_deref(), Some("100663296"));
        assert_eq!(quota.as_deref(), Some("50000"));
        let devices = devices.expect("devices");
        assert!(
            devices.contains("c 1:3 rwm") && !devices.contains("a "),
            "{devices}"
        );
        let changed = changed.expect("devices");
        assert!(changed.contains("c 10:200 rwm") && changed.contains("c 1:3 rwm"));
    }
}

#[test]
fn freezing_and_signals_on_this_host() {
    let Some((group, _)) = real("freeze", &parse("{}")) else {
        return;
    };
    let mut one = Sleeper::new();
    let mut two = Sleeper::new();
    group.add(one.pid()).expect("add");
    group.add(two.pid()).expect("add");
    let result = (|| -> Result<_> {
        group.freeze()?;
        let frozen = group.is_frozen()?;
        let state = std::fs::read_to_string(format!("/proc/{}/stat", one.pid()));
        group.thaw()?;
        let thawed = !group.is_frozen()?;
        group.kill_all(libc::SIGTERM)?;
        Ok((frozen, state, thawed))
    })();
    let statuses = [one.0.wait(), two.0.wait()];
    group.kill_all(libc::SIGKILL).expect("kill nothing");
    group.remove().expect("remove");
    group.remove().expect("remove again");
    let (frozen, state, thawed) = result.expect("freeze, thaw, kill");
    assert!(frozen && thawed && state.is_ok());
    for status in statuses {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(status.expect("wait").signal(), Some(libc::SIGTERM));
    }
}

#[test]
fn a_frozen_group_can_be_killed() {
    let Some((group, _)) = real("frozen", &parse("{}")) else {
        return;
    };
    let mut one = Sleeper::new();
    group.add(one.pid()).expect("add");
    group.freeze().expect("freeze");
    group.kill_all(libc::SIGKILL).expect("kill");
    one.0.wait().expect("wait");
    group.remove().expect("remove");
}

#[test]
fn the_out_of_memory_killer_is_noticed() {
    let Some((group, _)) = real(
        "oom",
        &parse(r#"{"memory":{"limit":8388608,"swap":8388608}}"#),
    ) else {
        return;
    };
    let mut watch = group.watch().expect("watch");
    let procs: Vec<String> = group
        .paths()
        .values()
        .map(|p| format!("echo $$ >{}/cgroup.procs", p.display()))
        .collect();
    // Holds 64 MiB in a variable.
    let script = format!(
        "{} && x=$(head -c 67108864 /dev/zero | tr '\\0' x)",
        procs.join(" && ")
    );
    let status = Command::new("sh")
        .args(["-c", &script])
        .stderr(Stdio::null())
        .status();
    let event = watch.wait(std::time::Duration::from_secs(5));
    group.kill_all(libc::SIGKILL).expect("kill");
    group.remove().expect("remove");
    let gone = (0..3).any(|_| watch.wait(std::time::Duration::from_secs(5)) == Ok(Event::Gone));
    assert!(!status.expect("a shell").success());
    assert_eq!(event, Ok(Event::OutOfMemory));
    assert!(gone);
}

#[test]
fn groups_below_are_found_and_removed() {
    let Some((group, _)) = real("below", &parse("{}")) else {
        return;
    };
    for path in group.paths().values() {
        std::fs::create_dir_all(path.join("a/b")).expect("mkdir");
    }
    let below = group.below(&["a/b".to_owned()]).expect("below");
    assert!(group.below(&["c".to_owned()]).is_err());
    assert!(
        below
            .paths()
            .values()
            .all(|p| p.ends_with(Path::new("a/b")))
    );
    group.remove().expect("remove");
    assert!(!group.exists());
}

#[test]
fn a_scope_of_this_host() {
    let resources = parse(
        r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":33554432},
            "pids":{"limit":20},"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#,
    );
    let id = id("scope");
    let path = format!("sandcrab-test.slice:test:{id}");
    let annotations = BTreeMap::from([(
        "org.systemd.property.CollectMode".to_owned(),
        "'inactive-or-failed'".to_owned(),
    )]);
    let request = Request {
        path: &path,
        driver: Driver::Systemd,
        annotations: &annotations,
        ..request(&id, Some(&resources))
    };
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: not root");
    }
    if !Path::new("/run/systemd/private").exists() {
        return println!("SKIP: no systemd");
    }
    let (group, warnings) = create(&request).expect("create");
    assert!(warnings.is_empty() && !group.exists(), "{warnings:?}");
    let mut sleeper = Sleeper::new();
    let warnings = group.add(sleeper.pid()).expect("add");
    let text = serde_json::to_string(&group).expect("write");
    let group: Group = serde_json::from_str(&text).expect("read");
    let pids = group.pids();
    let second = Sleeper::new();
    group.add(second.pid()).expect("add another");
    let member = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid()));
    let limit =
        read(&group, "", "memory.max").or_else(|| read(&group, "memory", "memory.limit_in_bytes"));
    let updated = group.update(&parse(
        r#"{"memory":{"limit":67108864},"cpu":{"quota":25000}}"#,
    ));
    let raised = read(&group, "", "memory.max");
    group.kill_all(libc::SIGKILL).expect("kill");
    sleeper.0.wait().expect("wait");
    drop(second);
    group.remove().expect("remove");
    assert!(!group.exists(), "something is left");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(pids, Ok(vec![sleeper.pid()]));
    let scope = format!("/sandcrab.slice/sandcrab-test.slice/test-{id}.scope");
    assert!(member.expect("membership").contains(&scope));
    assert_eq!(limit.as_deref(), Some("33554432"));
    updated.expect("update");
    assert!(raised.is_none_or(|r| r == "67108864"));
    // The name is free again.
    let (group, _) = create(&request).expect("create again");
    let mut sleeper = Sleeper::new();
    group.add(sleeper.pid()).expect("add");
    sleeper.0.kill().expect("kill");
    sleeper.0.wait().expect("wait");
    group.remove().expect("remove what has ended by itself");
}

#[test]
fn what_this_host_cannot_limit() {
    let asked = parse(r#"{"rdma":{"mlx5_0":{"hcaHandles":1}}}"#);
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: not root");
    }
    let id = id("missing");
    match create(&request(&id, Some(&asked))) {
        Ok((group, _)) => {
            group.remove().expect("remove");
            println!("SKIP: this host limits RDMA");
        }
        Err(e) => assert!(e.to_string().contains("rdma (mlx5_0)"), "{e}"),
    }
}
