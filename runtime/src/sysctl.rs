//! Kernel parameters of a container's namespaces (`linux.sysctl`).
//!
//! Responsible for which parameters belong to a namespace of the container, and for setting them.
//! Must not set one that is the host's. Invariant: a parameter that is not known to belong to a
//! namespace, or whose namespace is not the container's own, is refused.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use crate::error::{Error, Result, ResultExt};
use crate::procfs::Proc;
use crate::spec::Namespace;
use crate::validate::{Report, quote};

/// Parameters of the ipc namespace besides `fs.mqueue.*` (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Parameters to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sysctls {
    list: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    key: String,
    file: CString,
    value: String,
    namespace: &'static str,
}

impl Sysctls {
    /// Reads the parameters of a container that has these namespaces.
    ///
    /// # Errors
    /// A parameter belongs to no namespace of the container.
    pub fn parse(parameters: &BTreeMap<String, String>, namespaces: &[Namespace]) -> Result<Self> {
        let mut report = Report::new("linux");
        let sysctls = Self::check(parameters, namespaces, &mut report);
        report.finish_with(Some(sysctls))
    }

    /// Reads the parameters, with all problems.
    pub(crate) fn check(
        parameters: &BTreeMap<String, String>,
        namespaces: &[Namespace],
        report: &mut Report,
    ) -> Self {
        let mut list = Vec::new();
        report.field("sysctl", |report| {
            for (key, value) in parameters {
                match parameter(key, value, namespaces) {
                    Ok(parameter) => list.push(parameter),
                    Err(text) => report.add_at(key, text),
                }
            }
        });
        Self { list }
    }

    /// Says whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Makes sure that namespaces which the container joins by path are not the caller's own.
    ///
    /// # Errors
    /// A parameter would be set for the caller; or a namespace can't be looked at.
    pub fn check_joined(&self, namespaces: &[Namespace]) -> Result<()> {
        for namespace in namespaces {
            let Some(path) = &namespace.path else {
                continue;
            };
            let kind = namespace.kind.as_str();
            let Some(parameter) = self.list.iter().find(|p| p.namespace == kind) else {
                continue;
            };
            let file = if kind == "network" { "net" } else { kind };
            let own = Path::new("/proc/self/ns").join(file);
            let identity = |path: &Path| {
                let stat = rustix::fs::stat(path).op_path("look at namespace", path)?;
                Ok((stat.st_dev, stat.st_ino))
            };
            if identity(&own)? == identity(Path::new(path))? {
                let why = format!("the {kind} namespace that the container joins is the host's");
                return Err(Error::new("set sysctl").path(&parameter.key).cause(why));
            }
        }
        Ok(())
    }

    /// Sets the parameters, from a process that is in the container's namespaces.
    ///
    /// # Errors
    /// The kernel has no such parameter, refuses the value or the caller.
    pub fn apply(&self, proc: &Proc) -> Result<()> {
        for parameter in &self.list {
            proc.write(&parameter.file, parameter.value.as_bytes())
                .op_path("set sysctl", &parameter.key)?;
        }
        Ok(())
    }
}

fn parameter(key: &str, value: &str, namespaces: &[Namespace]) -> Result<Parameter, String> {
    let key = with_dots(key);
    let file = with_slashes(&key);
    if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("is no name of a kernel parameter".to_owned());
    }
    let namespace = if IPC.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
        "ipc"
    } else if key.starts_with("net.") {
        "network"
    } else if key == "kernel.domainname" {
        "uts"
    } else if key == "kernel.hostname" {
        return Err("is what the field `hostname` is for".to_owned());
    } else {
        return Err("belongs to no namespace of a container".to_owned());
    };
    if !namespaces.iter().any(|n| n.kind == namespace) {
        return Err(format!(
            "belongs to the {namespace} namespace, and the container has none of its own"
        ));
    }
    let nul = |_| format!("a null character in {}", quote(value));
    let file = CString::new(format!("sys/{file}")).map_err(nul)?;
    if value.contains('\0') {
        return Err(format!("a null character in {}", quote(value)));
    }
    Ok(Parameter {
        key,
        file,
        value: value.to_owned(),
        namespace,
    })
}

/// A name with dots as separators. It may be written with slashes, dots within the parts being
/// part of the name then; the first separator tells (sysctl.d(5)).
fn with_dots(key: &str) -> String {
    match key.find(['.', '/']).and_then(|at| key.as_bytes().get(at)) {
        Some(b'/') => exchange(key),
        _ => key.to_owned(),
    }
}

/// The file below `/proc/sys` of a name with dots.
fn with_slashes(key: &str) -> String {
    exchange(key)
}

fn exchange(key: &str) -> String {
    let other = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    key.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(kinds: &[&str]) -> Vec<Namespace> {
        let namespace = |kind: &&str| Namespace {
            kind: (*kind).to_owned(),
            path: None,
        };
        kinds.iter().map(namespace).collect()
    }

    #[test]
    fn only_parameters_of_own_namespaces() {
        let table = [
            ("net.ipv4.ip_forward", "network", true),
            ("net.ipv4.ip_forward", "ipc", false),
            ("net/ipv4/conf/eth0.1/forwarding", "network", true),
            ("kernel.sem", "ipc", true),
            ("kernel/sem", "ipc", true),
            ("kernel.sem", "uts", false),
            ("fs.mqueue.msg_max", "ipc", true),
            ("fs.file-max", "ipc", false),
            ("kernel.domainname", "uts", true),
            ("kernel.hostname", "uts", false),
            ("kernel.core_pattern", "uts", false),
            ("net./.kernel.core_pattern", "network", false),
            ("net...kernel.core_pattern", "network", false),
            ("net.//.//kernel/core_pattern", "network", false),
            ("net/../kernel/core_pattern", "network", false),
            ("net/x\0", "network", false),
            ("net.", "network", false),
            ("", "network", false),
        ];
        for (key, kind, expected) in table {
            let found = parameter(key, "1", &namespaces(&[kind]));
            assert_eq!(found.is_ok(), expected, "{key} in {kind}: {found:?}");
            if let Ok(parameter) = found {
                let file = parameter.file.to_string_lossy().into_owned();
                assert!(!file.split('/').any(|p| p == ".."), "{key}: {file}");
            }
        }
        assert!(parameter("net.x", "1\0", &namespaces(&["network"])).is_err());
    }

    #[test]
    fn dots_of_interfaces_survive() {
        for key in [
            "net/ipv4/conf/eth0.1/forwarding",
            "net.ipv4.conf.eth0/1.forwarding",
        ] {
            let parameter = parameter(key, "1", &namespaces(&["network"])).expect(key);
            assert_eq!(
                parameter.file.as_c_str(),
                c"sys/net/ipv4/conf/eth0.1/forwarding"
            );
        }
    }

    #[test]
    fn the_hosts_own_namespace_is_found_out() {
        let parameters = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
        let mut namespaces = namespaces(&["network"]);
        namespaces[0].path = Some("/proc/self/ns/net".to_owned());
        let sysctls = Sysctls::parse(&parameters, &namespaces).expect("parse");
        assert!(sysctls.check_joined(&namespaces).is_err());
        namespaces[0].path = Some("/proc/self/ns/ipc".to_owned());
        assert!(sysctls.check_joined(&namespaces).is_ok());
    }
}
