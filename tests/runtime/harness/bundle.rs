//! Bundles: a directory with a root file system and a `config.json`.
//!
//! Responsible for a configuration that every runtime accepts for the account, which a test then
//! changes. Must not use the runtime's own `spec`. Invariant: two bundles share neither files nor
//! ids of containers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Command, Output, User, World};

use super::container::Container;
use super::rootfs;
use super::under_test::{Kind, kind, program};

/// A bundle.
pub(crate) struct Bundle<'w> {
    /// Whose it is.
    pub(crate) world: &'w World,
    /// Its `config.json`, written whenever the runtime is called with it.
    pub(crate) config: Value,
    name: String,
}

/// The capabilities that docker gives by default.
pub(crate) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl<'w> Bundle<'w> {
    /// Makes one with a root file system, and a configuration that runs `true`.
    pub(crate) fn new(world: &'w World) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // An id names a control group of the whole machine, too.
        let name = format!("t{}-{number}", std::process::id());
        rootfs::make(world, &format!("{name}/rootfs"));
        Self {
            world,
            config: config(world),
            name,
        }
    }

    /// Makes one whose program is a shell script.
    pub(crate) fn with_script(world: &'w World, script: &str) -> Self {
        let mut bundle = Self::new(world);
        bundle.script(script);
        bundle
    }

    /// Returns the id under which [`Self::run`] and [`Self::create`] use it.
    pub(crate) fn id(&self) -> &str {
        &self.name
    }

    /// Returns a path in the bundle.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.world.path(&self.name).join(relative)
    }

    /// Returns a path in the root file system.
    pub(crate) fn inside(&self, relative: &str) -> PathBuf {
        self.path("rootfs").join(relative.trim_start_matches('/'))
    }

    /// Writes a file into the bundle.
    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        self.world
            .write(&format!("{}/{relative}", self.name), contents)
    }

    /// Writes an executable into the bundle.
    pub(crate) fn write_program(&self, relative: &str, contents: &str) -> PathBuf {
        let path = self.write(relative, contents);
        self.world
            .set_mode(&format!("{}/{relative}", self.name), 0o755);
        path
    }

    /// Makes a directory in the bundle.
    pub(crate) fn make_dir(&self, relative: &str) -> PathBuf {
        self.world.make_dir(&format!("{}/{relative}", self.name))
    }

    /// Adds `/bin/probe`.
    pub(crate) fn add_probe(&self) {
        rootfs::add_probe(self.world, &format!("{}/rootfs", self.name));
    }

    /// Sets the program.
    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Sets the program to a shell script.
    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Sets a field by its JSON pointer, and what leads to it.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = match key.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[key],
            };
        }
        *at = value;
        self
    }

    /// Adds to the end of a list.
    pub(crate) fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        let list = self
            .config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut);
        match list {
            Some(list) => list.push(value),
            None => {
                self.set(pointer, json!([value]));
            }
        }
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(
        &mut self,
        kind: &str,
        from: &str,
        to: &str,
        options: &[&str],
    ) -> &mut Self {
        let mount = json!({"destination": to, "type": kind, "source": from, "options": options});
        self.push("/mounts", mount)
    }

    /// Replaces the path of a namespace; `None` removes the namespace.
    pub(crate) fn namespace(&mut self, kind: &str, entry: Option<Value>) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut();
        let list = list.expect("the configuration has namespaces");
        list.retain(|namespace| namespace["type"] != kind);
        list.extend(entry);
        self
    }

    /// Removes what can't be had without a network namespace of one's own.
    pub(crate) fn host_network(&mut self) -> &mut Self {
        self.namespace("network", None);
        self.without_mount("/sys")
    }

    /// Removes a mount.
    pub(crate) fn without_mount(&mut self, destination: &str) -> &mut Self {
        let mounts = self.config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["destination"] != destination);
        self
    }

    /// Sets all five capability sets; the account's user namespace decides what that means.
    pub(crate) fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        let mut sets = json!({});
        for set in ["bounding", "effective", "permitted"] {
            sets[set] = json!(names);
        }
        self.set("/process/capabilities", sets)
    }

    /// Writes `config.json`.
    pub(crate) fn save(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("write JSON");
        self.write("config.json", text);
    }

    /// Makes a command of the runtime with the global options that every call here has.
    pub(crate) fn runtime<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        runtime(self.world, args)
    }

    /// Runs it in the foreground to its end.
    pub(crate) fn run(&self) -> Output {
        self.run_with(&[]).run()
    }

    /// Makes the command that runs it in the foreground.
    pub(crate) fn run_with(&self, flags: &[&str]) -> Command {
        self.save();
        let bundle = self.path("");
        self.runtime(["run", "--bundle"])
            .arg(bundle)
            .args(flags)
            .arg(&self.name)
    }

    /// Runs it, expects success, and returns the lines that it printed.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.run().success().text();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a script in it and returns the lines that it printed.
    #[track_caller]
    pub(crate) fn prints(&mut self, script: &str) -> Vec<String> {
        // What it printed is what counts, not how its last command ended.
        self.script(&format!("{script}\ntrue")).lines()
    }

    /// Creates a container.
    #[track_caller]
    pub(crate) fn create(&self) -> Container<'w> {
        self.create_with(&[])
    }

    /// Creates a container with further options.
    #[track_caller]
    pub(crate) fn create_with(&self, flags: &[&str]) -> Container<'w> {
        let container = self.container();
        container.create(flags).success();
        container
    }

    /// Creates and starts a container.
    #[track_caller]
    pub(crate) fn start(&self) -> Container<'w> {
        let container = self.create();
        container.start();
        container
    }

    /// Returns its container, which isn't created yet.
    pub(crate) fn container(&self) -> Container<'w> {
        self.container_named(&self.name)
    }

    /// The same under another id.
    pub(crate) fn container_named(&self, id: &str) -> Container<'w> {
        self.save();
        Container::new(self.world, id, &self.path(""))
    }
}

/// Makes a command of the runtime with the global options that every call here has.
pub(crate) fn runtime<S: AsRef<str>>(world: &World, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = world
        .command(program())
        // Nothing here takes long.
        .timeout(Duration::from_secs(60))
        .arg("--root")
        .arg(world.path("state"));
    if kind() == Kind::Crun && world.user != User::Root {
        // crun 1.8.1 goes without cgroups only when told to.
        command = command.args(["--cgroup-manager", "disabled"]);
    }
    args.into_iter()
        .fold(command, |command, arg| command.arg(arg.as_ref()))
}

/// Returns a list of strings of a document.
pub(crate) fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

/// Returns the first subordinate id of an account, and how many there are.
pub(crate) fn range(world: &World) -> (u32, u32) {
    let text = std::fs::read_to_string("/etc/subuid").expect("the account has a range");
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields
        .into_iter()
        .find(|fields| fields[0] == world.account.name);
    let found = found.expect("the account has a range");
    (
        found[1].parse().expect("an id"),
        found[2].parse().expect("a number"),
    )
}

/// Returns the id map of the account's containers; none for root, who needs none.
pub(crate) fn map(world: &World) -> Option<Value> {
    let own = json!({"containerID": 0, "hostID": world.account.uid, "size": 1});
    match world.user {
        User::Root => None,
        User::Plain => Some(json!([own])),
        User::Subids => {
            let (first, count) = range(world);
            Some(json!([own, {"containerID": 1, "hostID": first, "size": count}]))
        }
    }
}

fn config(world: &World) -> Value {
    let devpts: &[&str] = if world.user == User::Plain {
        // Group 5 is not mapped.
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
        ]
    } else {
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ]
    };
    let mut config = json!({
        // crun 1.8.1 takes only versions with "1.0" in them.
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES
            }
        },
        "root": {"path": "rootfs"},
        "hostname": "tested",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}
            ]
        }
    });
    if let Some(map) = map(world) {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("written above")
            .push(json!({"type": "user"}));
    }
    config
}
