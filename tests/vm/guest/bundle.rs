//! Bundles, and the runtime's verbs on the containers made from them.
//!
//! Responsible for a `config.json` that fits the check's setting, and for removing the container
//! when the check is over. Must not know what is checked. Invariant: the configuration asks for
//! nothing but ordinary things; what a check is about, it adds itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::place::{CGROUPS, FIRST_SUBID, Place, Ran, Setting, eventually};

/// The runtime under test; another one where the host put its name here.
pub(crate) fn runtime() -> String {
    fs::read_to_string("/etc/runtime").map_or_else(
        |_| "sandcrab-oci".to_owned(),
        |name| name.trim_end().to_owned(),
    )
}

/// A container, from its bundle to its removal.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    place: &'a Place,
    /// Its id.
    pub(crate) id: String,
    /// Its bundle's directory.
    pub(crate) bundle: PathBuf,
    /// Its configuration; written again by each verb that reads it.
    pub(crate) config: Value,
}

impl<'a> Container<'a> {
    /// Makes a bundle whose process is `arguments`.
    pub(crate) fn new(place: &'a Place, arguments: &[&str]) -> Result<Self> {
        let count = fs::read_dir(&place.directory)?.count();
        let id = format!("{}-{}-{count}", place.name, place.setting.name());
        let bundle = place.directory.join(&id);
        fs::create_dir(&bundle)?;
        place.give(&bundle)?;
        make_rootfs(place, &bundle.join("rootfs"))?;
        Ok(Self {
            config: config(place.setting, &id, arguments),
            place,
            id,
            bundle,
        })
    }

    /// Makes a bundle whose process is a shell's script.
    pub(crate) fn shell(place: &'a Place, script: &str) -> Result<Self> {
        Self::new(place, &["/bin/sh", "-c", script])
    }

    /// Sets a value of the configuration: `set("/linux/resources/pids", …)`. What lies on the way
    /// is made.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.config;
        for name in pointer.split('/').skip(1) {
            at = &mut at[name];
        }
        *at = value;
        self
    }

    /// Adds to an array of the configuration.
    pub(crate) fn add(&mut self, pointer: &str, value: Value) -> &mut Self {
        if let Some(array) = self
            .config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
        {
            array.push(value);
        }
        self
    }

    /// Takes an element out of an array of the configuration by one of its members.
    pub(crate) fn remove(&mut self, pointer: &str, member: &str, is: &str) -> &mut Self {
        if let Some(array) = self
            .config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
        {
            array.retain(|element| element[member] != is);
        }
        self
    }

    /// Asks for no control group: neither a path nor limits.
    pub(crate) fn without_group(&mut self) -> &mut Self {
        if let Some(linux) = self.config["linux"].as_object_mut() {
            linux.remove("cgroupsPath");
            linux.remove("resources");
        }
        self
    }

    fn write_config(&self) -> Result<()> {
        self.place.write(
            &self.bundle.join("config.json"),
            &format!("{:#}", self.config),
        )
    }

    /// Runs the runtime with these words after its global options.
    pub(crate) fn verb(&self, words: &[&str]) -> Result<Ran> {
        self.verb_for(words, Duration::from_secs(90))
    }

    fn verb_for(&self, words: &[&str], limit: Duration) -> Result<Ran> {
        let runtime = runtime();
        let state = format!("/run/user/{}/oci", self.place.setting.account().uid);
        let mut all = vec![runtime.as_str(), "--root", &state];
        all.extend_from_slice(words);
        self.place.run_for(&all, limit)
    }

    /// `run`, in the foreground.
    pub(crate) fn run(&self) -> Result<Ran> {
        self.run_with(&[])
    }

    /// `run` with more options.
    pub(crate) fn run_with(&self, options: &[&str]) -> Result<Ran> {
        self.write_config()?;
        let bundle = self.bundle.display().to_string();
        let mut words = vec!["run", "--bundle", &bundle];
        words.extend_from_slice(options);
        words.push(&self.id);
        self.verb(&words)
    }

    /// `run --detach`.
    pub(crate) fn run_detached(&self) -> Result<Ran> {
        self.run_with(&["--detach"])
    }

    /// `create`.
    pub(crate) fn create(&self) -> Result<Ran> {
        self.write_config()?;
        let bundle = self.bundle.display().to_string();
        self.verb(&["create", "--bundle", &bundle, &self.id])
    }

    /// A verb with nothing but the id.
    pub(crate) fn plain(&self, verb: &str) -> Result<Ran> {
        self.verb(&[verb, &self.id])
    }

    /// `exec` of a shell's script.
    pub(crate) fn exec(&self, script: &str) -> Result<Ran> {
        self.verb(&["exec", &self.id, "/bin/sh", "-c", script])
    }

    /// The state document.
    pub(crate) fn state(&self) -> Result<Value> {
        let ran = self.plain("state")?.ok()?;
        serde_json::from_str(&ran.out).with_context(|| format!("parse {:?}", ran.out))
    }

    /// Waits until `state` says this status.
    pub(crate) fn becomes(&self, status: &str) -> Result<()> {
        eventually(&format!("status `{status}`"), || {
            Ok(self.state()?["status"] == status)
        })
    }

    /// The first process, as this machine numbers it.
    pub(crate) fn pid(&self) -> Result<i64> {
        self.state()?["pid"].as_i64().context("a pid in the state")
    }

    /// The group that the first process is in.
    pub(crate) fn group(&self) -> Result<Group> {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid()?))?;
        let path = groups
            .trim_end()
            .strip_prefix("0::")
            .context("a group of version 2")?;
        Ok(Group(PathBuf::from(format!("{CGROUPS}{path}"))))
    }
}

/// A container's control group.
#[derive(Debug)]
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    /// Returns what a file says, without the last line's end.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.0.join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    /// Expects that a file says this.
    pub(crate) fn says(&self, name: &str, expected: impl ToString) -> Result<()> {
        let (text, expected) = (self.read(name)?, expected.to_string());
        ensure!(text == expected, "{name} is {text:?}, not {expected:?}");
        Ok(())
    }

    /// Returns a number of a flat keyed file.
    pub(crate) fn number(&self, name: &str, key: &str) -> Result<u64> {
        let text = self.read(name)?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
            .with_context(|| format!("{key} in {text:?}"))
    }

    /// Returns whether it is still there.
    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // It may be gone, or never have been.
        drop(self.verb_for(&["delete", "--force", &self.id], Duration::from_secs(10)));
    }
}

/// A root of busybox alone, which belongs to the account.
fn make_rootfs(place: &Place, root: &Path) -> Result<()> {
    fs::create_dir(root)?;
    place.give(root)?;
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir(root.join(directory))?;
        place.give(&root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    place.give(&root.join("bin/busybox"))?;
    for applet in fs::read_to_string("/etc/applets")?.lines() {
        let link = root.join("bin").join(applet);
        if !link.exists() {
            symlink("busybox", link)?;
        }
    }
    Ok(())
}

/// An ordinary configuration, such as `runc spec` and `runc spec --rootless` write.
fn config(setting: Setting, id: &str, arguments: &[&str]) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETGID",
        "CAP_SETUID"
    ]);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "guest",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
            },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    });
    if let Some(group) = setting.group_for(id) {
        config["linux"]["cgroupsPath"] = json!(group);
    }
    let account = setting.account();
    if account.uid != 0 {
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.push(json!({ "type": "user" }));
        }
        let mut map = vec![json!({ "containerID": 0, "hostID": account.uid, "size": 1 })];
        if account.subids {
            map.push(json!({ "containerID": 1, "hostID": FIRST_SUBID, "size": 65_536 }));
        }
        config["linux"]["uidMappings"] = json!(map);
        config["linux"]["gidMappings"] = json!(map);
    }
    config
}
