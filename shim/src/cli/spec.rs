//! `spec`: a configuration to begin with.
//!
//! The defaults are those of runc, which its users and test suites edit: a terminal, `sh`, a
//! read-only root, three capabilities, no limits.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use runtime::Error;
use runtime::error::ResultExt;
use runtime::spec::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, Process, Resources, Rlimit,
    RootFs, Spec,
};
use runtime::state::OCI_VERSION;

use super::args::{Flag, Matches, Stop};
use super::context::Context;
use super::output;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "spec",
    usage: "[OPTIONS]",
    about: "write a config.json to begin with",
    details: "Writes config.json into the bundle, or into the current directory. The file must not\n\
              exist. Edit it: the program, for one, is `sh`.",
    flags: &[&[
        Flag::value(
            "bundle",
            "DIR",
            "the bundle (default: the current directory)",
        )
        .short(b'b'),
        Flag::value("file", "FILE", "write FILE instead").short(b'f'),
        Flag::switch("rootless", "for a container that is not made by root"),
    ]],
    arguments: (0, 0),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let mut spec = default();
    if matches.switch("rootless") {
        without_root(&mut spec);
    }
    let bytes = output::pretty(&spec, b"\t")?;
    let bundle = Path::new(matches.value("bundle").unwrap_or_default());
    let path = bundle.join(
        matches
            .value("file")
            .unwrap_or_else(|| "config.json".as_ref()),
    );
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = match file {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::new("make")
                .path(path)
                .cause(e)
                .hint("remove it first")
                .into());
        }
        other => other.op_path("make", &path)?,
    };
    file.write_all(&bytes).op_path("write", &path)?;
    context.log.debug(|| format!("wrote `{}`", path.display()));
    Ok(0)
}

fn default() -> Spec {
    let capabilities = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: strings(&["sh"]),
            env: strings(&[
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ]),
            cwd: "/".to_owned(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit {
                kind: "RLIMIT_NOFILE".to_owned(),
                hard: 1024,
                soft: 1024,
            }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(RootFs {
            path: "rootfs".to_owned(),
            readonly: true,
        }),
        hostname: "sandcrab".to_owned(),
        mounts: vec![
            mount("/proc", "proc", "proc", &[]),
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                    "gid=5",
                ],
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
            mount(
                "/dev/mqueue",
                "mqueue",
                "mqueue",
                &["nosuid", "noexec", "nodev"],
            ),
            mount(
                "/sys",
                "sysfs",
                "sysfs",
                &["nosuid", "noexec", "nodev", "ro"],
            ),
            mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", "ro"],
            ),
        ],
        linux: Some(Linux {
            resources: Some(Resources {
                devices: vec![DeviceRule {
                    access: "rwm".to_owned(),
                    ..DeviceRule::default()
                }],
                ..Resources::default()
            }),
            namespaces: ["pid", "network", "ipc", "uts", "mount", "cgroup"]
                .map(namespace)
                .to_vec(),
            masked_paths: strings(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ]),
            readonly_paths: strings(&[
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ]),
            ..Linux::default()
        }),
        annotations: BTreeMap::new(),
        ..Spec::default()
    }
}

/// Makes the configuration one for a caller with a single id: a user namespace that maps it, no
/// network namespace (nothing could connect it), the host's `/sys`, no group 5, no limits.
fn without_root(spec: &mut Spec) {
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("gid="));
        if mount.kind == "sysfs" {
            "/sys".clone_into(&mut mount.source);
            "none".clone_into(&mut mount.kind);
            mount.options = strings(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
    }
    // The tree of control groups came with `/sys`.
    spec.mounts.retain(|mount| mount.kind != "cgroup");
    if let Some(linux) = &mut spec.linux {
        let map = |host_id| IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        };
        linux.uid_mappings = vec![map(rustix::process::geteuid().as_raw())];
        linux.gid_mappings = vec![map(rustix::process::getegid().as_raw())];
        linux.namespaces.retain(|it| it.kind != "network");
        linux.namespaces.push(namespace("user"));
        linux.resources = None;
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn namespace(kind: &str) -> Namespace {
    Namespace {
        kind: kind.to_owned(),
        path: None,
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: strings(options),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut spec = default();
        let bytes = output::pretty(&spec, b"\t").expect("write");
        assert_eq!(Spec::parse(&bytes).expect("read"), spec);
        assert!(bytes.starts_with(b"{\n\t\"ociVersion\": \"1."));
        without_root(&mut spec);
        let linux = spec.linux.as_ref().expect("linux");
        assert!(linux.namespaces.iter().any(|it| it.kind == "user"));
        assert!(!linux.namespaces.iter().any(|it| it.kind == "network"));
        let sys = spec
            .mounts
            .iter()
            .find(|it| it.destination == "/sys")
            .expect("/sys");
        assert_eq!((sys.kind.as_str(), sys.source.as_str()), ("none", "/sys"));
    }
}
