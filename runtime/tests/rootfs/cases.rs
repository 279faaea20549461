//! What is tried: a configuration, a script that runs in it, and what it has to say.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::Caller;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Callers that it is for; empty is all.
    pub(crate) callers: &'static [Caller],
    pub(crate) prepare: fn(&Path),
    pub(crate) config: fn(Caller, &Path) -> Value,
    pub(crate) no_pivot: bool,
    /// Whether a part of the `/proc` outside is hidden from the container.
    pub(crate) hidden_proc: bool,
    pub(crate) script: &'static str,
    /// Lines that have to be said; `!` in front of one that may not.
    pub(crate) says: &'static [&'static str],
    /// Whether the layout is refused.
    pub(crate) refused: bool,
}

impl Case {
    pub(crate) fn is_for(&self, caller: Caller) -> bool {
        self.callers.is_empty() || self.callers.contains(&caller)
    }
}

/// Compares what was said with what had to be.
pub(crate) fn judge(case: &Case, success: bool, text: &str) -> Result<(), String> {
    if success == case.refused {
        return Err(format!("success: {success}"));
    }
    for wanted in case.says {
        match wanted.strip_prefix('!') {
            Some(not) if text.contains(not) => return Err(format!("says {not:?}")),
            None if !text.contains(wanted) => return Err(format!("does not say {wanted:?}")),
            _ => {}
        }
    }
    Ok(())
}

fn nothing(_: &Path) {}

fn namespaces(caller: Caller) -> Value {
    let mut kinds = vec!["mount", "pid", "ipc", "network", "cgroup"];
    if caller.has_users() {
        kinds.push("user");
    }
    kinds.iter().map(|k| json!({ "type": k })).collect()
}

/// The mounts that `runc spec` writes, and more.
fn base(caller: Caller, more: Value) -> Value {
    let mut mounts = vec![
        json!({"destination":"/proc","type":"proc","source":"proc"}),
        json!({"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]}),
        json!({"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]}),
        json!({"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"]}),
        json!({"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]}),
        json!({"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]}),
        json!({"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]}),
    ];
    mounts.extend(more.as_array().cloned().unwrap_or_default());
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/made/dir", "args": ["x"]},
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces(caller),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/scsi", "/missing"],
            "readonlyPaths": ["/proc/sys", "/proc/bus", "/missing/too"],
        },
    })
}

fn only(caller: Caller, mounts: Value) -> Value {
    json!({
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "linux": {"namespaces": namespaces(caller)},
    })
}

pub(crate) const ALL: &[Case] = &[
    Case {
        name: "the usual mounts",
        callers: &[],
        prepare: nothing,
        config: |caller, _| base(caller, json!([])),
        no_pivot: false,
        hidden_proc: false,
        script: r#"
            busybox cat /proc/self/mountinfo
            for n in null zero full random urandom tty; do [ -c /dev/$n ] || echo no $n; done
            echo x > /dev/null || echo null not writable
            busybox head -c 4 /dev/zero | busybox wc -c
            for l in ptmx fd stdout; do busybox readlink /dev/$l; done
            [ -c /dev/pts/ptmx ] && echo have ptmx
            busybox ps | busybox grep -c . >/dev/null; echo pid $$
            busybox wc -c < /proc/keys
            echo 1 2>/dev/null > /proc/sys/vm/drop_caches || echo sys is read-only
            busybox touch /sys/x 2>/dev/null || echo sysfs is read-only
            busybox touch /sys/fs/cgroup/x 2>/dev/null || echo cgroup is read-only
            echo cgroups: $(busybox ls /sys/fs/cgroup)
            [ -d /made/dir ] && echo cwd made
            [ -c /dev/console ] && busybox grep -q ' /dev/console .* devpts' /proc/self/mountinfo && echo have console
            busybox touch /dev/shm/x && echo shm writable
            busybox ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | busybox wc -l
        "#,
        says: &[
            "!no null",
            "!no tty",
            "!not writable",
            "\n4\n",
            "pts/ptmx",
            "have ptmx",
            "have console",
            "pid 1",
            "sys is read-only",
            "sysfs is read-only",
            "cgroup is read-only",
            "cwd made",
            "shm writable",
            "/rootfs / rw",
            "!refused",
        ],
        refused: false,
    },
    Case {
        name: "no host mount is left",
        callers: &[],
        prepare: nothing,
        config: |caller, _| {
            only(
                caller,
                json!([{"destination":"/proc","type":"proc","source":"proc"}]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox wc -l < /proc/self/mountinfo; busybox ls /; busybox ls /../..",
        // The root, proc, and six devices where they can't be made.
        says: &["!etc"],
        refused: false,
    },
    Case {
        name: "without pivot",
        callers: &[],
        prepare: nothing,
        config: |caller, _| base(caller, json!([])),
        no_pivot: true,
        hidden_proc: false,
        script: "busybox ls / /../..; busybox cat /proc/self/mountinfo; busybox ps",
        says: &["!etc", "proc proc"],
        refused: false,
    },
    Case {
        name: "binds",
        callers: &[],
        prepare: |dir| {
            std::fs::create_dir_all(dir.join("src/sub")).expect("mkdir");
            std::fs::write(dir.join("src/file"), "content\n").expect("write");
            symlink("../run/missing/real", dir.join("rootfs/link")).expect("symlink");
        },
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/data/deep","source":"src","options":["rbind","ro","nosuid","nodev"]},
                    {"destination":"/link","type":"bind","source":"src/file","options":["bind","rro","noexec"]},
                    {"destination":"/data2","type":"bind","source":"src","options":["bind","rslave","nodiratime"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: r#"
            busybox cat /data/deep/file /run/missing/real
            busybox touch /data/deep/x 2>/dev/null || echo read-only
            busybox grep -q ' /data2 rw' /proc/self/mountinfo && echo writable
            busybox grep -E " /(data|run|data2)[^ ]* " /proc/self/mountinfo
        "#,
        says: &[
            "content\ncontent\n",
            "read-only\nwritable",
            "/data/deep ro,nosuid,nodev",
            "/run/missing/real ro,noexec",
        ],
        refused: false,
    },
    Case {
        name: "a new tmpfs takes what was there",
        callers: &[],
        prepare: |dir| {
            let up = dir.join("rootfs/up");
            std::fs::create_dir_all(up.join("sub")).expect("mkdir");
            std::fs::write(up.join("sub/file"), "kept\n").expect("write");
            symlink("sub/file", up.join("link")).expect("symlink");
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&up, std::fs::Permissions::from_mode(0o751)).expect("chmod");
        },
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/up","type":"tmpfs","source":"tmpfs","options":["tmpcopyup","ro","size=1m"]},
                    {"destination":"/up/sub/made","type":"tmpfs","source":"tmpfs","options":["mode=700"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox cat /up/link; busybox stat -c %a /up /up/sub/made; busybox touch /up/x 2>/dev/null || echo read-only; busybox touch /up/sub/made/y && echo below writable",
        says: &["kept\n751\n700\nread-only\nbelow writable"],
        refused: false,
    },
    Case {
        name: "a read-only root",
        callers: &[],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(caller, json!([]));
            config["root"]["readonly"] = json!(true);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox touch /x 2>/dev/null || echo read-only; busybox touch /dev/shm/x && echo shm; [ -d /made/dir ] && echo cwd",
        says: &["read-only\nshm\ncwd"],
        refused: false,
    },
    Case {
        name: "propagation",
        callers: &[Caller::Host],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(
                caller,
                json!([
                    {"destination":"/s","type":"tmpfs","source":"tmpfs","options":["shared"]},
                    {"destination":"/u","type":"tmpfs","source":"tmpfs","options":["unbindable"]},
                ]),
            );
            config["linux"]["rootfsPropagation"] = json!("shared");
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: r#"busybox grep -E " (/|/s|/u) " /proc/self/mountinfo"#,
        says: &[
            "/rootfs / rw,relatime shared:",
            "/ /s rw,relatime shared:",
            "/ /u rw,relatime unbindable",
        ],
        refused: false,
    },
    Case {
        name: "devices",
        callers: &[],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(caller, json!([]));
            config["linux"]["devices"] = json!([
                {"type":"c","path":"/dev/fuse","major":10,"minor":229,"fileMode":438},
                {"type":"p","path":"/run/fifo","fileMode":384},
                {"type":"c","path":"/dev/null","major":1,"minor":3,"fileMode":438},
            ]);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "[ -c /dev/fuse ] && echo fuse; [ -p /run/fifo ] && busybox stat -c %a /run/fifo; echo > /dev/null",
        says: &["fuse\n600"],
        refused: false,
    },
    Case {
        name: "another device than asked",
        callers: &[Caller::Mapped, Caller::Single, Caller::Range],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(caller, json!([]));
            config["linux"]["devices"] =
                json!([{"type":"c","path":"/dev/full","major":1,"minor":9,"fileMode":438}]);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &["not the device 1:9 `/dev/full`"],
        refused: true,
    },
    Case {
        name: "proc behind a link",
        callers: &[],
        prepare: |dir| {
            std::fs::create_dir(dir.join("rootfs/elsewhere")).expect("mkdir");
            symlink("elsewhere", dir.join("rootfs/proc")).expect("symlink");
        },
        config: |caller, _| base(caller, json!([])),
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &["mounts[0] on `/proc`: destination leads through a symbolic link"],
        refused: true,
    },
    Case {
        name: "a link out of the root",
        callers: &[],
        prepare: |dir| symlink("/../../../../../../tmp", dir.join("rootfs/out")).expect("symlink"),
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/out/x","type":"tmpfs","source":"tmpfs"},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox ls -d /tmp/x; busybox grep -c ' /tmp/x ' /proc/self/mountinfo",
        says: &["/tmp/x\n1"],
        refused: false,
    },
    Case {
        name: "mounts over proc",
        callers: &[Caller::Host, Caller::Single],
        prepare: |dir| symlink("/proc/self/attr", dir.join("rootfs/attr")).expect("symlink"),
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/attr","type":"tmpfs","source":"tmpfs"},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &["mounts[7] on `/attr`: destination is inside of /proc"],
        refused: true,
    },
    Case {
        name: "files of proc that inform",
        callers: &[],
        prepare: |dir| std::fs::write(dir.join("info"), "ours\n").expect("write"),
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/proc/meminfo","type":"bind","source":"info","options":["bind","ro"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox cat /proc/meminfo",
        says: &["ours\n"],
        refused: false,
    },
    Case {
        name: "an option that nobody knows",
        callers: &[Caller::Host, Caller::Single],
        prepare: nothing,
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/x","type":"tmpfs","source":"tmpfs","options":["mode=755","nonsense=3"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &["mounts[7] on `/x`: create tmpfs with option `nonsense=3`"],
        refused: true,
    },
    Case {
        name: "a source that is missing",
        callers: &[Caller::Host, Caller::Single],
        prepare: nothing,
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/x","type":"bind","source":"nowhere","options":["bind"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &[
            "mounts[7] on `/x`: open source",
            "nowhere`: no such file or directory",
        ],
        refused: true,
    },
    Case {
        name: "locked flags stay",
        callers: &[Caller::Single, Caller::Range],
        prepare: nothing,
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/x","type":"bind","source":"/dev/shm","options":["rbind","rw","dev","suid"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "echo fine",
        says: &["fine"],
        refused: false,
    },
    Case {
        name: "mapped ids",
        callers: &[Caller::Host, Caller::Mapped],
        prepare: |dir| std::fs::write(dir.join("file"), "").expect("write"),
        config: |caller, _| {
            let mut config = base(
                caller,
                json!([
                    {"destination":"/x","type":"bind","source":"file","options":["bind"],
                     "uidMappings":[{"containerID":0,"hostID":100_007,"size":10}],
                     "gidMappings":[{"containerID":0,"hostID":100_008,"size":10}]},
                    {"destination":"/y","type":"bind","source":"file","options":["bind","idmap=uids=0-100003-1;gids=0-100004-1"]},
                ]),
            );
            config["linux"]["uidMappings"] =
                json!([{"containerID":0,"hostID":100_000,"size":65536}]);
            config["linux"]["gidMappings"] =
                json!([{"containerID":0,"hostID":100_000,"size":65536}]);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox stat -c '%u %g' /x /y | busybox tr -d '\n' | busybox sed 's/10000*//g'",
        says: &["7 83 4"],
        refused: false,
    },
    Case {
        name: "without a mount namespace",
        callers: &[Caller::Host],
        prepare: nothing,
        config: |_, _| json!({"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"pid"}]}}),
        no_pivot: false,
        hidden_proc: false,
        script: "busybox ls / /..; [ -c /dev/null ] && echo null",
        says: &["null", "!etc"],
        refused: false,
    },
    Case {
        name: "options only mount(2) knows",
        callers: &[Caller::Host],
        prepare: nothing,
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/x","type":"tmpfs","source":"tmpfs","options":["silent","iversion","nosuid","mode=711","rslave"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox grep ' /x ' /proc/self/mountinfo; busybox stat -c %a /x",
        says: &["/x rw,nosuid", "711"],
        refused: false,
    },
    Case {
        name: "changed once more",
        callers: &[],
        prepare: nothing,
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/x","type":"tmpfs","source":"tmpfs","options":["size=1m"]},
                    {"destination":"/x","type":"tmpfs","source":"tmpfs","options":["remount","ro","nosuid","size=2m"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox grep ' /x ' /proc/self/mountinfo",
        says: &["/x ro,nosuid", "size=2048k"],
        refused: false,
    },
    Case {
        name: "the outer proc in place of a new one",
        callers: &[Caller::Mapped],
        prepare: nothing,
        config: |caller, _| base(caller, json!([])),
        no_pivot: false,
        hidden_proc: true,
        script: "busybox ls /proc/fs | busybox wc -l; [ $(busybox readlink /proc/self) != $$ ] && echo outer",
        says: &["warning: `/proc` is the outer one", "0\nouter"],
        refused: false,
    },
    Case {
        name: "control groups without a namespace",
        callers: &[],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(caller, json!([]));
            let all = config["linux"]["namespaces"].as_array().expect("a list");
            let fewer = all
                .iter()
                .filter(|n| n["type"] != "cgroup")
                .cloned()
                .collect();
            config["linux"]["namespaces"] = Value::Array(fewer);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox grep -c ' /sys/fs/cgroup.* ro' /proc/self/mountinfo; busybox ls /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs | busybox grep -q procs && echo groups",
        says: &["groups"],
        refused: false,
    },
    Case {
        name: "no network namespace of its own",
        callers: &[Caller::Single, Caller::Mapped],
        prepare: nothing,
        config: |caller, _| {
            let mut config = base(caller, json!([]));
            let all = config["linux"]["namespaces"].as_array().expect("a list");
            let fewer = all
                .iter()
                .filter(|n| n["type"] != "network")
                .cloned()
                .collect();
            config["linux"]["namespaces"] = Value::Array(fewer);
            config
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox grep ' /sys ' /proc/self/mountinfo; busybox grep -c ' /sys/[^ ]* rw' /proc/self/mountinfo; true",
        says: &[
            "warning: `/sys` is the outer one",
            "/sys ro,nosuid",
            "\n0\n",
        ],
        refused: false,
    },
    Case {
        name: "an image with a dev of its own",
        callers: &[],
        prepare: |dir| {
            let dev = dir.join("rootfs/dev");
            std::fs::create_dir_all(&dev).expect("mkdir");
            std::fs::write(dev.join("null"), "not null").expect("write");
            std::fs::write(dev.join("ptmx"), "not a link").expect("write");
            symlink("/../../../../etc/passwd", dev.join("zero")).expect("symlink");
            symlink("/nowhere", dev.join("fd")).expect("symlink");
        },
        config: |caller, _| {
            only(
                caller,
                json!([{"destination":"/proc","type":"proc","source":"proc"}]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "[ -c /dev/null ] && [ -c /dev/zero ] && busybox readlink /dev/fd; busybox readlink /dev/ptmx",
        says: &["/proc/self/fd\npts/ptmx\n"],
        refused: false,
    },
    Case {
        name: "a directory in the place of a device",
        callers: &[Caller::Host, Caller::Single],
        prepare: |dir| std::fs::create_dir_all(dir.join("rootfs/dev/null")).expect("mkdir"),
        config: |caller, _| only(caller, json!([])),
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &["`/dev/null`: "],
        refused: true,
    },
    Case {
        name: "a mount that needs a namespace",
        callers: &[Caller::Host],
        prepare: nothing,
        config: |_, _| json!({"root":{"path":"rootfs"},"mounts":[{"destination":"/x","type":"tmpfs"}],"linux":{"namespaces":[]}}),
        no_pivot: false,
        hidden_proc: false,
        script: "",
        says: &[
            "mounts needs a mount namespace",
            "hint: add `mount` to linux.namespaces",
        ],
        refused: true,
    },
    Case {
        name: "a link is copied",
        callers: &[Caller::Host, Caller::Range],
        prepare: |dir| symlink("some/where", dir.join("link")).expect("symlink"),
        config: |caller, _| {
            base(
                caller,
                json!([
                    {"destination":"/a/copied","type":"bind","source":"link","options":["bind","copy-symlink"]},
                    {"destination":"/a/mounted","type":"bind","source":"link","options":["bind","src-nofollow","dest-nofollow"]},
                ]),
            )
        },
        no_pivot: false,
        hidden_proc: false,
        script: "busybox readlink /a/copied; busybox readlink /a/mounted",
        says: &["some/where\nsome/where\n"],
        refused: false,
    },
];
