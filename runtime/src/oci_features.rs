//! What this runtime understands, for the programs that call it (features.md and
//! features-linux.md of the runtime specification).
//!
//! Responsible for the document that `features` prints. Must not look at the system, but for the
//! flags of seccomp that the kernel has. Invariant: a name that is listed is honoured; the lists
//! are those that `validate` and the modules themselves use.

use serde_json::{Value, json};

use crate::{caps, rootfs, scheduling, sys, validate};

/// The oldest version of the specification that is understood.
pub const OLDEST: &str = "1.0.0";
/// The newest version of the specification that is understood in full.
pub const NEWEST: &str = "1.3.0";

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Annotations of a configuration that may change what a caller has not foreseen. A dot at the end
/// makes it a prefix.
const UNSAFE_ANNOTATIONS: [&str; 4] = [
    "bundle",
    "org.criu.config",
    "org.systemd.property.",
    "run.oci.",
];

/// Makes the document. `version` is that of the program.
pub fn document(version: &str) -> Value {
    let mut mount_options = rootfs::options::NAMES.to_vec();
    mount_options.sort_unstable();
    let names = |table: &[(&'static str, i32)]| -> Vec<&str> {
        table.iter().map(|(name, _)| *name).collect()
    };
    json!({
        "ociVersionMin": OLDEST,
        "ociVersionMax": NEWEST,
        "hooks": HOOKS,
        "mountOptions": mount_options,
        "linux": {
            "namespaces": validate::NAMESPACES,
            "capabilities": caps::names(),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": validate::ACTIONS,
                "operators": validate::OPERATORS,
                "archs": validate::ARCHITECTURES,
                "knownFlags": validate::FLAGS,
                "supportedFlags": supported_flags(),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "memoryPolicy": {
                "modes": names(&scheduling::MEMORY_MODES),
                "flags": names(&scheduling::MEMORY_FLAGS),
            },
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "sandcrab.version": version,
        },
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
    })
}

/// The flags of seccomp that this kernel has.
fn supported_flags() -> Vec<&'static str> {
    let known = |name: &&str| {
        let flag = match *name {
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            _ => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        };
        sys::seccomp_has_flag(flag)
    };
    validate::FLAGS.into_iter().filter(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_look_for() {
        let document = document("0.1.0");
        let list = |pointer: &str| -> Vec<&str> {
            let list = document.pointer(pointer).and_then(Value::as_array);
            list.expect(pointer)
                .iter()
                .filter_map(Value::as_str)
                .collect()
        };
        // CRI-O 1.24 to 1.34: both versions; containerd 1.7 to 2.2: these two.
        assert_eq!(document["ociVersionMin"], "1.0.0");
        assert_eq!(document["ociVersionMax"], "1.3.0");
        assert!(list("/mountOptions").contains(&"rro"));
        let idmap = document.pointer("/linux/mountExtensions/idmap/enabled");
        assert_eq!(idmap, Some(&Value::Bool(true)));
        assert_eq!(list("/linux/namespaces").len(), 8);
        assert_eq!(list("/linux/capabilities").len(), 41);
        assert_eq!(list("/linux/seccomp/actions").len(), 9);
        // Linux 4.14 has the first two.
        let flags = list("/linux/seccomp/supportedFlags");
        assert!(flags.contains(&"SECCOMP_FILTER_FLAG_LOG"), "{flags:?}");
        assert!(flags.contains(&"SECCOMP_FILTER_FLAG_TSYNC"), "{flags:?}");
    }
}
