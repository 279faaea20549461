//! The OCI runtime specification's documents, as they are written.
//!
//! Responsible for the shape of `config.json` (runtime-spec 1.3) and nothing more. Must not judge,
//! resolve or execute: what is wrong with a document is `validate`'s to say. Invariant: a field
//! that the specification names is here, so that it can be honoured or refused by name; fields
//! that it does not name are ignored, as it demands ("Extensibility").
//!
//! Enumerations of the specification are strings here: an unknown value is then reported with its
//! place, beside all other problems, and not as the first error of a parser.

mod linux;
mod located;
mod process;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

pub use linux::{
    BlockIo, Cpu, Device, DeviceRule, HugePages, IdMapping, IntelRdt, InterfacePriority, Linux,
    Memory, MemoryPolicy, Namespace, NetDevice, NetworkResources, Personality, Pids, Rdma,
    Resources, Seccomp, SeccompArg, SeccompCall, ThrottleDevice, TimeOffset, WeightDevice,
};
pub use process::{
    Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};

/// `config.json` of a bundle (config.md).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification that the document follows, in SemVer.
    pub oci_version: String,
    /// The container's root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<RootFs>,
    /// The container's process; needed by `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Host name in the UTS namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// NIS domain name in the UTS namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Mounts, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at points of the life cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Arbitrary metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Platforms that this is not: present only to be refused by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solaris: Option<Value>,
    /// See `solaris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Value>,
    /// See `solaris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<Value>,
    /// See `solaris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zos: Option<Value>,
    /// See `solaris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freebsd: Option<Value>,
}

/// `root` (config.md, "Root").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Directory: absolute, or relative to the bundle.
    pub path: String,
    /// Whether the container sees it read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// One mount (config.md, "Mounts").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where in the container.
    pub destination: String,
    /// File system type; `bind` or absent for bind mounts.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Device, directory or file to mount; relative paths are relative to the bundle.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Options as in fstab(5), and the specification's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User ids of an id-mapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of an id-mapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// `hooks` (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated; run before `create_runtime`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, after the container's exist and before its root is changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is changed; its path is the runtime's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In the container, before the program is executed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program was executed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: String,
    /// Its arguments, beginning with its name; empty is the path alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, exactly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which it is killed and counts as failed; greater than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

impl Spec {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// The bytes are no JSON, or a field has the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse config.json")
    }
}

impl Process {
    /// Reads the document that `exec --process` names.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse process document")
    }
}

impl Resources {
    /// Reads the document that `update --resources` names.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse resources document")
    }
}

/// Reads a document. Callers written in Go write `null` for what is empty, so it counts as absent.
fn parse<T: DeserializeOwned>(bytes: &[u8], op: &'static str) -> Result<T> {
    let error = |e: serde_json::Error| Error::new(op).cause(e.to_string());
    let mut value: Value = serde_json::from_slice(bytes).map_err(error)?;
    drop_nulls(&mut value);
    located::from_value(&value).map_err(|(place, e)| match place.as_str() {
        "" => error(e),
        place => Error::new(op).cause(format!("{place}: {e}")),
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_go_are_absent() {
        let spec = Spec::parse(
            br#"{"ociVersion":"1.0.2","process":{"user":{"additionalGids":null},"args":null,
                "cwd":"/"},"mounts":null,"linux":{"resources":null,"namespaces":[{"type":"pid"}]}}"#,
        )
        .expect("parse");
        let process = spec.process.expect("a process");
        assert!(process.args.is_empty() && process.user.additional_gids.is_empty());
        assert_eq!(spec.linux.expect("linux").namespaces[0].kind, "pid");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let table = [
            (
                r#"{"hostname":1}"#,
                "hostname: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"process":{"user":{"uid":-1}}}"#,
                "process.user.uid: invalid value: integer `-1`, expected u32",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"path":"/x"}]}}"#,
                "linux.namespaces[1]: missing field `type`",
            ),
            (
                r#"{"mounts":[{"options":["ro",null]}]}"#,
                "mounts[0].options[1]: invalid type: null, expected a string",
            ),
            (
                r#"{"linux":{"sysctl":{"net.a":1}}}"#,
                "linux.sysctl.net.a: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"process":["a"]}"#,
                "process: invalid type: list, expected an object",
            ),
            ("[]", "invalid type: list, expected an object"),
            ("{", "EOF while parsing an object at line 1 column 1"),
        ];
        for (text, expected) in table {
            let error = Spec::parse(text.as_bytes()).expect_err(text);
            let cause = std::error::Error::source(&error).expect("a cause");
            assert_eq!(cause.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"{"ociVersion":"1.3.0","root":{"path":"r"},"windows":{"a":[1,{"b":null}]},
            "annotations":{"k":"v"},"x-unknown":[1,{"y":2}],"linux":{"namespaces":
            [{"type":"pid","path":""},{"type":"ipc","path":"/p"}],"uidMappings":
            [{"containerID":0,"hostID":1,"size":2}],"resources":{"cpu":{"quota":-1}}}}"#;
        let spec = Spec::parse(text.as_bytes()).expect("parse");
        let again = Spec::parse(&serde_json::to_vec(&spec).expect("write")).expect("parse");
        assert_eq!(spec, again);
        let linux = spec.linux.expect("linux");
        let paths: Vec<_> = linux.namespaces.iter().map(|n| n.path.as_deref()).collect();
        assert_eq!(paths, [None, Some("/p")]);
    }

    #[test]
    fn an_empty_document_writes_nothing_but_its_version() {
        let text = serde_json::to_string(&Spec::default()).expect("write");
        assert_eq!(text, r#"{"ociVersion":""}"#);
    }
}
