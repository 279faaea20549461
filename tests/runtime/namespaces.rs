//! Namespaces: made, joined by path, shared with the host, and what they bring.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::{User, World, for_users};

use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
const LINKS: &str =
    "for n in mnt pid ipc uts net user cgroup time; do echo $n $(readlink /proc/self/ns/$n); done";

fn host(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("read a namespace");
    link.display().to_string()
}

/// A process with namespaces of its own, which a test wants joined.
struct Holder(Child);

impl Holder {
    fn new(flags: &[&str]) -> Self {
        let child = Command::new("unshare")
            .args(flags)
            .args(["sleep", "60"])
            .stdin(Stdio::null())
            .spawn()
            .expect("start unshare");
        let holder = Self(child);
        eventually("the namespaces are made", || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", holder.0.id()));
            name.is_ok_and(|name| name.trim() == "sleep")
        });
        holder
    }

    fn path(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.0.id()))
    }

    fn link(&self, kind: &str) -> String {
        std::fs::read_link(self.path(kind))
            .expect("read a namespace")
            .display()
            .to_string()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn link_of<'a>(lines: &'a [String], kind: &str) -> &'a str {
    lines
        .iter()
        .find_map(|line| line.strip_prefix(&format!("{kind} ")))
        .expect("a namespace")
}

fn namespaces_of(world: &World) -> Vec<&'static str> {
    let mut kinds = vec!["mnt", "pid", "ipc", "uts", "net"];
    if world.user != User::Root {
        kinds.push("user");
    }
    kinds
}

for_users! {
    /// Every namespace of the document is new; the others are the host's.
    fn new_ones(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints(LINKS);
        let new = namespaces_of(world);
        for kind in ["mnt", "pid", "ipc", "uts", "net", "user", "cgroup", "time"] {
            assert_eq!(link_of(&lines, kind) != host(kind), new.contains(&kind), "{kind}: {lines:?}");
        }
    }

    /// Without a namespace the host's is used.
    fn of_the_host(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/hostname", json!(""));
        bundle.config.as_object_mut().unwrap().remove("hostname");
        for kind in ["ipc", "uts"] {
            bundle.namespace(kind, None);
        }
        bundle.without_mount("/dev/mqueue").host_network();
        let lines = bundle.prints(LINKS);
        for kind in ["ipc", "uts", "net"] {
            assert_eq!(link_of(&lines, kind), host(kind));
        }
    }

    /// The host's processes, when there is no pid namespace.
    fn host_pid(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.namespace("pid", None);
        bundle.without_mount("/proc");
        bundle.mount("bind", "/proc", "/proc", &["rbind"]);
        let lines = bundle.prints("readlink /proc/self/ns/pid; echo $$");
        assert_eq!(lines[0], host("pid"));
        assert!(lines[1].parse::<u32>().unwrap() > 1);
        let container = bundle.script(SLEEP).start();
        container.wait_for("ready");
        let pid = container.pid();
        container.kill("KILL");
        assert_eq!(crate::harness::reap(pid), 137);
        container.delete();
    }

    /// Process 1 of its own; the end of it is the end of all.
    fn pid(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        assert_eq!(bundle.prints("echo $$; ls -d /proc/[0-9]* | wc -l")[0], "1");
        let marker = format!("30{}", std::process::id());
        let output = bundle.script(&format!("sleep {marker} & exit 0")).run().success();
        drop(output);
        world.assert_nothing_left(&format!("sleep {marker}"));
    }

    /// Host and domain name.
    fn uts(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/hostname", json!("a-name.example"));
        assert_eq!(bundle.prints("hostname"), ["a-name.example"]);
        bundle.namespace("uts", None);
        assert_error(bundle.run(), &["uts", "hostname"]);
    }

    /// The NIS domain name.
    fn domainname(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no domainname"), (Crun, "1.8.1 may not write it when rootless")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/domainname", json!("domain.example"));
        assert_eq!(bundle.prints("cat /proc/sys/kernel/domainname"), ["domain.example"]);
        bundle.namespace("uts", None);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        assert_error(bundle.run(), &["domainname", "uts"]);
    }

    /// A network of its own has a loopback interface that is up, and no other.
    fn network(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("ls /sys/class/net; cat /proc/net/dev | grep -c :");
        assert!(lines.contains(&"lo".to_owned()), "{lines:?}");
        let lines = bundle.prints("ip -o addr show lo");
        assert!(lines.iter().any(|line| line.contains("127.0.0.1")) , "{lines:?}");
    }

    /// A cgroup namespace.
    fn cgroup(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.namespace("cgroup", Some(json!({"type": "cgroup"})));
        let lines = bundle.prints(&format!("{LINKS}; cat /proc/self/cgroup"));
        assert_ne!(link_of(&lines, "cgroup"), host("cgroup"));
        for line in lines.iter().filter(|line| line.contains("pids:")) {
            assert!(line.ends_with(":/"), "{line}");
        }
    }

    /// A time namespace with offsets.
    fn time(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no time namespace"), (Crun, "1.8.1 joins the time namespace too late for the program")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.namespace("time", Some(json!({"type": "time"})));
        bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 5000, "nanosecs": 7}, "boottime": {"secs": 100_000, "nanosecs": 0}}));
        let lines = bundle.prints("readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
        assert_ne!(lines[0], host("time"));
        let up: u64 = lines[1].parse().unwrap();
        let outside = std::fs::read_to_string("/proc/uptime").unwrap();
        let outside: u64 = outside.split('.').next().unwrap().parse().unwrap();
        assert!(up >= outside + 99_990, "{up} {outside}");
        let offsets: Vec<Vec<&str>> = lines[2..].iter().map(|l| l.split_whitespace().collect()).collect();
        assert!(offsets.contains(&vec!["monotonic", "5000", "7"]), "{lines:?}");
        let container = bundle.script(SLEEP).start();
        let inside = container.sh("readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime");
        let inside: Vec<&str> = inside.lines().collect();
        assert_ne!(inside[0], host("time"));
        assert!(inside[1].parse::<u64>().unwrap() >= outside + 99_990);
    }

    /// Offsets without their namespace, and clocks that have none.
    fn bad_time_offsets(world) as [root, plain] {
        if differs(world, &[(Runc, "1.1.5 has no time namespace"), (Crun, "ignores them")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}}));
        assert_error(bundle.run(), &["timeoffsets", "time"]);
        bundle.namespace("time", Some(json!({"type": "time"})));
        bundle.set("/linux/timeOffsets", json!({"frobnicate": {"secs": 1, "nanosecs": 0}}));
        assert_error(bundle.run(), &["frobnicate"]);
    }

    /// Namespaces joined by path, one after the other.
    fn join(world) as [root] {
        let holder = Holder::new(&["--net", "--ipc", "--uts"]);
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            let mut bundle = Bundle::new(world);
            bundle.config.as_object_mut().unwrap().remove("hostname");
            bundle.namespace(kind, Some(json!({"type": kind, "path": holder.path(name)})));
            let lines = bundle.prints(LINKS);
            assert_eq!(link_of(&lines, name), holder.link(name), "{kind}");
        }
    }

    /// All of another container's namespaces, as a pod's containers have them.
    fn join_container(world) as [root, subids, plain] {
        if world.user != User::Root && differs(world, &[(Crun, "1.8.1 can't, rootless with namespaces it does not own")]) {
            return;
        }
        let first = Bundle::with_script(world, SLEEP);
        let container = first.start();
        container.wait_for("ready");
        let pid = container.pid();
        let mut bundle = Bundle::new(world);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        let mut joined = vec![("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
        if world.user != User::Root {
            joined.push(("user", "user"));
            if kind() != Runc {
                // runc 1.1.5 wants them with a path, too.
                bundle.config["linux"].as_object_mut().unwrap().remove("uidMappings");
                bundle.config["linux"].as_object_mut().unwrap().remove("gidMappings");
            }
        }
        for (kind, name) in &joined {
            bundle.namespace(kind, Some(json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")})));
        }
        let lines = bundle.prints(&format!("{LINKS}; hostname; ls -d /proc/[0-9]* | wc -l"));
        for (_, name) in joined {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(link_of(&lines, name), link.display().to_string());
        }
        assert!(lines.contains(&"tested".to_owned()), "{lines:?}");
        assert_eq!(container.status(), "running");
        // The joined pid namespace's other processes are not the container's to kill.
        let second = bundle.script(SLEEP).start();
        second.wait_for("ready");
        let ended = second.pid();
        second.verb(&["delete", "--force"]).ok();
        // As long as nobody has waited for it, the namespace's first process can't end.
        crate::harness::reap(ended);
        assert_eq!(container.status(), "running");
    }

    /// A mount namespace joined by path.
    fn join_mount(world) as [root] {
        if differs(world, &[(Runc, "works on the mounts of the joined namespace"), (Crun, "works on the mounts of the joined namespace")]) {
            return;
        }
        let holder = Holder::new(&["--mount"]);
        let mut bundle = Bundle::new(world);
        bundle.namespace("mount", Some(json!({"type": "mount", "path": holder.path("mnt")})));
        let output = bundle.script("readlink /proc/self/ns/mnt").run();
        if output.code == Some(0) {
            assert_eq!(output.text().trim(), holder.link("mnt"));
        } else {
            assert_error(output, &["mount"]);
        }
    }

    /// Paths that are no namespaces, or of another kind.
    fn bad_paths(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for path in ["/no/such/namespace", "/etc/passwd", "/proc/self/ns/ipc", "relative"] {
            bundle.namespace("network", Some(json!({"type": "network", "path": path})));
            assert_error(bundle.run(), &[]);
        }
        world.assert_nothing_left(bundle.id());
    }

    /// Types that don't exist or come twice.
    fn bad_types(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.push("/linux/namespaces", json!({"type": "frobnicate"}));
        if kind() != Runc {
            // runc 1.1.5 has: `unknown namespace` only for paths.
            assert_error(bundle.run(), &["frobnicate"]);
        }
        let mut twice = Bundle::new(world);
        twice.push("/linux/namespaces", json!({"type": "pid"}));
        if kind() == Crun {
            return;
        }
        assert_error(twice.run(), &["twice", "duplicate", "more than once", "pid"]);
    }

    /// A mount namespace is needed for what changes mounts.
    fn without_mount_namespace(world) as [root] {
        if differs(world, &[(Runc, "starts some of these"), (Crun, "starts some of these")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.namespace("mount", None);
        assert_error(bundle.run(), &["mount"]);
    }

    /// Namespaced kernel parameters.
    fn sysctl(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678", "net.ipv4.ip_unprivileged_port_start": "80"}));
        if world.user != User::Root {
            // Before kernel 6.6 the files of an ipc namespace belong to the host's root.
            bundle.config["linux"]["sysctl"].as_object_mut().unwrap().remove("kernel.shmmax");
        }
        let lines = bundle.prints("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmax");
        assert_eq!(lines[..2], ["1", "80"]);
        if world.user == User::Root {
            assert_eq!(lines[2], "12345678");
        }
        assert_ne!(std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap().trim(), "12345678");
    }

    /// Parameters of the whole machine are refused.
    fn bad_sysctl(world) as [root, plain] {
        for name in ["vm.swappiness", "kernel.panic", "fs.file-max", "net/../kernel/panic", "kernel.frobnicate"] {
            let mut bundle = Bundle::new(world);
            bundle.set("/linux/sysctl", json!({name: "1"}));
            assert_error(bundle.run(), &["sysctl", "kernel parameter", name, "no such file"]);
        }
        let mut bundle = Bundle::new(world);
        bundle.host_network().set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        assert_error(bundle.run(), &["sysctl", "net.ipv4.ip_forward"]);
    }

    /// A network interface is moved into the container, and renamed.
    fn network_device(world) as [root] {
        if differs(world, &[(Runc, "1.1.5 has no netDevices"), (Crun, "1.8.1 has none")]) {
            return;
        }
        let name = format!("sc{}", std::process::id() % 100_000);
        let make = |words: &[&str]| {
            let made = Command::new("ip").args(["link", "add", &name, "type"]).args(words).stderr(Stdio::null()).status();
            made.is_ok_and(|status| status.success())
        };
        let other = format!("{name}p");
        if !make(&["dummy"]) && !make(&["veth", "peer", "name", &other]) {
            support::skip(&world.test, "neither dummy nor veth network interfaces here");
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/netDevices", json!({name.clone(): {"name": "moved0"}}));
        let output = bundle.script("ip -o link").run();
        Command::new("ip").args(["link", "del", &name]).stderr(Stdio::null()).status().ok();
        let output = output.success();
        assert!(output.text().contains("moved0"), "{}", output.text());
        bundle.set("/linux/netDevices", json!({"no-such-device": {}}));
        assert_error(bundle.run(), &["no-such-device"]);
    }

    /// Network interfaces can't be moved by an ordinary user, or without a namespace.
    fn network_device_refused(world) as [root, plain] {
        if differs(world, &[(Runc, "1.1.5 has no netDevices"), (Crun, "1.8.1 has none")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        if world.user == User::Root {
            bundle.host_network();
        }
        bundle.set("/linux/netDevices", json!({"lo": {"name": "moved0"}}));
        assert_error(bundle.run(), &["netdevices", "network"]);
    }

    /// Resource director technology is refused by name.
    fn intel_rdt(world) as [root, plain] {
        if kind() != Sandcrab {
            support::skip(&world.test, "this runtime has it");
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/intelRdt", json!({"closID": "x", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "enableMonitoring": true}));
        assert_error(bundle.run(), &["intelrdt"]);
    }
}
