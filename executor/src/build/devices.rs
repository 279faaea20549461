//! Devices that RUN steps ask for, by the Container Device Interface.
//!
//! Responsible for the specifications of this machine (CDI 1.0, JSON), for which devices a name
//! means, and for what they bring. Must not open a device. Invariant: a part of a specification that
//! can't be honoured is an error that names it, once its device is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::sandbox::{Confinement, HostBind, HostDevice};
use serde::Deserialize;
use serde_json::Value;

use crate::diagnostics::Diagnostic;
use crate::error::{Error, Result, ResultExt};
use crate::plan::entitlements::Entitlements;
use crate::plan::step::DeviceRequest;

/// Where specifications are, the last being the most important (CDI, "Specification files").
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Annotation of BuildKit's that allows a device to everybody.
const AUTOALLOW: &str = "org.mobyproject.buildkit.device.autoallow";
/// Annotation of BuildKit's that gives devices a common name.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// One file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    devices: Vec<SpecifiedDevice>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecifiedDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<SpecifiedMount>,
    #[serde(rename = "additionalGids", alias = "additionalGIDs")]
    gids: Vec<u32>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    major: Option<u32>,
    minor: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecifiedMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// A device, with what its specification says of all.
#[derive(Debug)]
struct Device {
    file: PathBuf,
    annotations: BTreeMap<String, Value>,
    edits: [Edits; 2],
}

/// The devices of this machine.
#[derive(Debug, Default)]
pub struct Devices {
    by_name: BTreeMap<String, Device>,
    /// Files in a form that is not read.
    unread: Vec<PathBuf>,
}

/// What a step gets by its devices.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) env: Vec<String>,
    pub(super) groups: Vec<u32>,
}

impl Devices {
    /// Reads the specifications below `directories`; those of later ones count.
    ///
    /// # Errors
    /// A file can't be read or is not valid.
    pub fn read(directories: &[PathBuf]) -> Result<Self> {
        let mut devices = Self::default();
        for directory in directories {
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::new("read").path(directory).source(e)),
            };
            let mut files = (entries.map(|entry| entry.map(|e| e.path())))
                .collect::<std::io::Result<Vec<_>>>()
                .op_path("read", directory)?;
            files.sort();
            for file in files {
                match file.extension().and_then(|e| e.to_str()) {
                    Some("json") => devices.add(&file)?,
                    Some("yaml" | "yml") => devices.unread.push(file),
                    _ => {}
                }
            }
        }
        Ok(devices)
    }

    fn add(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read(file).op_path("read", file)?;
        let found: Specification =
            serde_json::from_slice(&text).op_path("read device specification", file)?;
        for device in found.devices {
            let mut annotations = found.annotations.clone();
            annotations.extend(device.annotations);
            let name = format!("{}={}", found.kind, device.name);
            let device = Device {
                file: file.to_path_buf(),
                annotations,
                edits: [found.container_edits.clone(), device.container_edits],
            };
            self.by_name.insert(name, device);
        }
        Ok(())
    }

    /// Returns the devices that a name means: one, the first or all of a kind, or those of a class.
    fn find(&self, wanted: &str) -> Vec<(&String, &Device)> {
        let of_class = |class: &str, kind: Option<&str>| {
            let devices = self.by_name.iter().filter(|(name, device)| {
                let same_kind = kind.is_none_or(|kind| kind_of(name) == kind);
                same_kind && device.annotations.get(CLASS).and_then(Value::as_str) == Some(class)
            });
            devices.collect()
        };
        let of_kind = |kind: &str| {
            let kind = kind.to_owned();
            self.by_name
                .iter()
                .filter(move |(name, _)| kind_of(name) == kind)
        };
        match wanted.split_once('=') {
            None if !wanted.contains('/') => of_class(wanted, None),
            None => of_kind(wanted).take(1).collect(),
            Some((kind, "*")) => of_kind(kind).collect(),
            Some((kind, name)) => match self.by_name.get_key_value(wanted) {
                Some(found) => vec![found],
                None => of_class(name, Some(kind)),
            },
        }
    }

    /// Adds what a step asks for to its confinement, and returns what else it gets.
    ///
    /// # Errors
    /// As diagnostics: a device isn't there, not allowed, or wants what can't be had.
    pub(super) fn give(
        &self,
        requests: &[DeviceRequest],
        entitlements: &Entitlements,
        confinement: &mut Confinement,
    ) -> Result<Given> {
        let mut given = Given::default();
        let mut done: Vec<&str> = Vec::new();
        let refuse = |request: &DeviceRequest, message: String, hint: String| {
            let diagnostic = Diagnostic::error(request.span.clone(), message).hint(hint);
            Error::with_diagnostics("RUN --device", vec![diagnostic])
        };
        for request in requests {
            let found = self.find(&request.name);
            if found.is_empty() && request.required {
                let message = format!("required device `{}` is not there", request.name);
                return Err(refuse(request, message, self.hint()));
            }
            for (name, device) in found {
                let allowed = matches!(
                    device.annotations.get(AUTOALLOW),
                    Some(value) if *value == Value::Bool(true) || *value == "true"
                );
                if !allowed && !entitlements.allows_device(&[name, &request.name, kind_of(name)]) {
                    let message = format!("device `{name}` needs the entitlement device");
                    let hint = format!("if you trust this Dockerfile, add `--allow device={name}`");
                    return Err(refuse(request, message, hint));
                }
                if done.contains(&name.as_str()) {
                    continue;
                }
                done.push(name);
                for edits in &device.edits {
                    if let Some(part) = edits.others.keys().next() {
                        let message = format!(
                            "device `{name}` wants `{part}` of containers, which is not supported"
                        );
                        let hint = format!("its specification is `{}`", device.file.display());
                        return Err(refuse(request, message, hint));
                    }
                    edits.add_to(confinement, &mut given);
                }
            }
        }
        Ok(given)
    }

    fn hint(&self) -> String {
        if let Some(file) = self.unread.first() {
            return format!(
                "specifications in YAML, such as `{}`, are not read: make it JSON",
                file.display()
            );
        }
        if self.by_name.is_empty() {
            return "no device specification was found (`--cdi-spec-dir`)".to_owned();
        }
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        format!("the devices are: {}", names.join(", "))
    }
}

impl Edits {
    fn add_to(&self, confinement: &mut Confinement, given: &mut Given) {
        given.env.extend(self.env.iter().cloned());
        given.groups.extend(&self.gids);
        let devices = self.device_nodes.iter().map(|node| HostDevice {
            host: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            path: node.path.clone(),
            numbers: node.major.zip(node.minor),
        });
        confinement.devices.extend(devices);
        let binds = self.mounts.iter().map(|mount| HostBind {
            host: mount.host_path.clone(),
            path: mount.container_path.clone(),
            read_only: mount.options.iter().any(|option| option == "ro"),
        });
        confinement.binds.extend(binds);
    }
}

fn kind_of(name: &str) -> &str {
    name.split_once('=').map_or(name, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        let dir = tempfile::tempdir().expect("a directory");
        let text = r#"{"cdiVersion": "0.6.0", "kind": "a.example/gpu",
            "containerEdits": {"env": ["ALL=1"]},
            "devices": [
                {"name": "0", "containerEdits": {"env": ["ZERO=1"], "additionalGids": [7],
                    "deviceNodes": [{"path": "/dev/g0", "hostPath": "/dev/null", "major": 1, "minor": 3}]}},
                {"name": "1", "annotations": {"org.mobyproject.buildkit.device.class": "fast",
                    "org.mobyproject.buildkit.device.autoallow": true}},
                {"name": "2", "containerEdits": {"hooks": [{"hookName": "createContainer"}]}}]}"#;
        std::fs::write(dir.path().join("a.json"), text).expect("write");
        std::fs::write(dir.path().join("b.txt"), "no").expect("write");
        Devices::read(&[dir.path().to_path_buf(), "/no/such".into()]).expect("devices")
    }

    #[test]
    fn names() {
        let devices = devices();
        let found = |wanted| {
            let found = devices.find(wanted);
            found
                .into_iter()
                .map(|(name, _)| name.split_once('=').expect("a name").1)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("a.example/gpu=1"), "1");
        assert_eq!(found("a.example/gpu"), "0");
        assert_eq!(found("a.example/gpu=*"), "0 1 2");
        assert_eq!(found("a.example/gpu=fast"), "1");
        assert_eq!(found("fast"), "1");
        assert_eq!(found("a.example/gpu=9"), "");
        assert_eq!(found("b.example/gpu"), "");
    }

    #[test]
    fn what_a_step_gets() {
        let devices = devices();
        let request = |name: &str, required| DeviceRequest {
            span: 1..2,
            name: name.into(),
            required,
        };
        let mut allowed = Entitlements::default();
        allowed.allow("device").expect("known");
        let give = |requests: &[DeviceRequest], entitlements: &Entitlements| {
            let mut confinement = Confinement::default();
            let given = devices.give(requests, entitlements, &mut confinement)?;
            Ok::<_, Error>((given, confinement))
        };
        let twice = [
            request("a.example/gpu=0", true),
            request("a.example/gpu", false),
        ];
        let (given, confinement) = give(&twice, &allowed).expect("given");
        assert_eq!(given.env, ["ALL=1", "ZERO=1"]);
        assert_eq!(given.groups, [7]);
        assert_eq!(confinement.devices.len(), 1);
        assert_eq!(confinement.devices[0].numbers, Some((1, 3)));
        let none = Entitlements::default();
        give(&[request("fast", true)], &none).expect("allowed by itself");
        give(&[request("a.example/other", false)], &none).expect("absent");
        for (name, entitlements, wanted) in [
            (
                "a.example/gpu=0",
                &none,
                "device `a.example/gpu=0` needs the entitlement",
            ),
            (
                "a.example/gpu=2",
                &allowed,
                "device `a.example/gpu=2` wants `hooks`",
            ),
            (
                "a.example/gpu=9",
                &allowed,
                "required device `a.example/gpu=9` is not there",
            ),
        ] {
            let error = give(&[request(name, true)], entitlements).expect_err(wanted);
            let found = &error.diagnostics()[0];
            assert!(found.message.starts_with(wanted), "{found:?}");
        }
    }
}
