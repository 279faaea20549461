//! Control groups of containers.
//!
//! Responsible for making a container's group on hosts with version 2, version 1, both or none, for
//! its limits, and for finding it again from a later command. Must not know containers, state
//! files or the command line. Invariant: a limit that was asked for is in force, or [`create`] says
//! which one is not, as an error for root and as a warning for others, who may have been given
//! nothing to enforce it with.
//!
//! On hybrid hosts a controller is wherever it is mounted: version 1 first, as the kernel binds
//! each to one version; the version 2 tree is joined in any case, since it can kill a group at once.

pub mod stats;

mod abandoned;
mod devices;
mod events;
mod files;
mod freezer;
mod layout;
mod limits;
mod processes;
mod removal;
mod systemd;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::spec::Resources;
use files::Directory;
use layout::Layout;

pub use abandoned::Hold;
pub use events::{Event, Watch};
pub(crate) use processes::enter_legacy;
pub use stats::Stats;

/// Who makes the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Driver {
    /// This program, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, as a transient unit.
    Systemd,
    /// Nobody.
    Disabled,
}

/// What is wanted of a group.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id, which names the group when nothing else does.
    pub id: &'a str,
    /// `linux.cgroupsPath`: absolute is below the mount point, relative is beside this process's
    /// own group (version 2) or below it (version 1), as with runc; `slice:prefix:name` with
    /// systemd.
    pub path: &'a str,
    /// `linux.resources`.
    pub resources: Option<&'a Resources>,
    /// Who makes it.
    pub driver: Driver,
    /// Whether the caller is no real root, so that what isn't delegated to it is a warning.
    pub rootless: bool,
    /// The container's annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Host user that the group is handed to, when the container mounts it writable in a cgroup
    /// namespace of its own (config-linux.md, "Cgroup ownership"). Version 2 only.
    pub owner: Option<u32>,
    /// Address of the bus where systemd answers, as in `DBUS_SESSION_BUS_ADDRESS`. None is the
    /// system's; the user's must be given.
    pub bus: Option<&'a str>,
}

/// A container's group in every hierarchy. The default is none anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// In version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    unified: Option<Place>,
    /// In version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    legacy: Vec<Place>,
    /// Whether what isn't delegated is a warning.
    rootless: bool,
    /// The unit, with systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<systemd::Scope>,
    /// What the unit is to be started with; its first process does.
    #[serde(skip)]
    pending: Option<Box<systemd::Pending>>,
}

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Mount point of the hierarchy.
    mount: PathBuf,
    /// Path below it.
    path: PathBuf,
    /// Controllers of a version 1 hierarchy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    controllers: Vec<String>,
}

impl Place {
    fn open(&self) -> Result<Directory> {
        Directory::open(&self.mount, &self.path)
            .op_path("open control group", files::below(&self.mount, &self.path))
    }

    /// Opens it unless it is gone.
    fn open_existing(&self) -> Result<Option<Directory>> {
        match self.open() {
            Ok(directory) => Ok(Some(directory)),
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Makes a group and sets its limits, before any process is in it. Also returns warnings.
///
/// Where nothing can be made and no limit was asked for, the group is none, which needs no warning:
/// standard error is the program's.
///
/// # Errors
/// A limit can't be enforced and the caller is root, a value is impossible, or the group is in use.
pub fn create(request: &Request<'_>) -> Result<(Group, Vec<String>)> {
    create_in(&Layout::detect()?, request)
}

fn create_in(layout: &Layout, request: &Request<'_>) -> Result<(Group, Vec<String>)> {
    match request.driver {
        Driver::Disabled => {
            let names = request.resources.map(limits::named).unwrap_or_default();
            let mut warnings = Vec::new();
            if !names.is_empty() {
                let names = names.join(", ");
                warnings.push(format!(
                    "limits not enforced ({names}): control groups are switched off"
                ));
            }
            Ok((Group::default(), warnings))
        }
        Driver::Systemd => systemd::create(layout, request),
        Driver::Cgroupfs if layout.has_legacy_controllers() => v1::create(layout, request),
        Driver::Cgroupfs => match &layout.unified {
            Some(hierarchy) => v2::create(hierarchy, request),
            None => without(request, "this host mounts no control groups"),
        },
    }
}

/// Goes on without a group, when that is possible.
fn without(request: &Request<'_>, why: &str) -> Result<(Group, Vec<String>)> {
    let names = request.resources.map(limits::named).unwrap_or_default();
    if !request.rootless && !names.is_empty() {
        return Err(Error::new(format!(
            "these limits can't be enforced: {}",
            names.join(", ")
        ))
        .cause(why.to_owned()));
    }
    let group = Group {
        rootless: request.rootless,
        ..Group::default()
    };
    let mut warnings = Vec::new();
    if !names.is_empty() {
        warnings.push(format!("limits not enforced ({}): {why}", names.join(", ")));
    }
    Ok((group, warnings))
}

impl Group {
    /// Says whether there is no group at all.
    pub fn is_none(&self) -> bool {
        self.unified.is_none() && self.legacy.is_empty()
    }

    /// Says whether the group is still there.
    pub fn exists(&self) -> bool {
        let there = |place: &Place| matches!(place.open_existing(), Ok(Some(_)));
        self.unified.iter().chain(&self.legacy).any(there)
    }

    /// Returns the directory of the group by controller: an empty name for version 2.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        if let Some(place) = &self.unified {
            paths.insert(String::new(), files::below(&place.mount, &place.path));
        }
        for place in &self.legacy {
            for controller in &place.controllers {
                paths.insert(controller.clone(), files::below(&place.mount, &place.path));
            }
        }
        paths
    }

    /// Opens the version 2 group for `CLONE_INTO_CGROUP` (clone3(2), Linux 5.7), which is many
    /// times quicker than [`Group::add`]: moving a process waits for a grace period of the kernel.
    ///
    /// A group that is also in version 1 needs [`Group::add_to_legacy`] besides.
    pub fn open_for_clone(&self) -> Option<OwnedFd> {
        Some(self.unified.as_ref()?.open().ok()?.into_fd())
    }

    /// Says whether the group is (also) in version 1, where [`Group::open_for_clone`] isn't enough.
    pub fn is_in_legacy(&self) -> bool {
        !self.legacy.is_empty()
    }

    /// Finds the group for another process of the container, which must exist: below this one at
    /// `PATH`, or `CONTROLLER:PATH` in version 1.
    ///
    /// Without a path it is this group, or the one below it where the container's first process is
    /// when it has made groups with controllers of their own: this one then takes no process.
    ///
    /// # Errors
    /// There is none, or the form is wrong for the host.
    pub fn below(&self, paths: &[String]) -> Result<Self> {
        let mut group = self.clone();
        if let Some(place) = group.unified.as_mut()
            && paths.is_empty()
            && self.legacy.is_empty()
            && let Some(path) = processes::divided(place)?
        {
            place.path = path;
        }
        for text in paths {
            let (controllers, path) = match text.split_once(':') {
                Some((controllers, path)) => (controllers, path),
                None => ("", text.as_str()),
            };
            let path = files::clean(Path::new(path));
            if controllers.is_empty() {
                for place in group.unified.iter_mut().chain(&mut group.legacy) {
                    place.path = files::below(&place.path, &path);
                }
                continue;
            }
            for controller in controllers.split(',') {
                let place = group
                    .legacy
                    .iter_mut()
                    .find(|p| p.controllers.iter().any(|c| c == controller));
                let Some(place) = place else {
                    return Err(Error::new(format!(
                        "find sub-group {text}: no version 1 controller {controller}"
                    )));
                };
                place.path = files::below(&place.path, &path);
            }
        }
        for place in group.unified.iter().chain(&group.legacy) {
            place.open().map(drop)?;
        }
        Ok(group)
    }

    /// Changes limits; fields that are not set are left alone. Returns warnings.
    ///
    /// # Errors
    /// A limit can't be enforced, and this is root's group; or a value is impossible.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        if self.is_none() {
            let names = limits::named(resources);
            if names.is_empty() && resources.devices.is_empty() {
                return Ok(Vec::new());
            }
            return Err(Error::new("update limits").cause(format!(
                "the container has no control group to enforce {} with",
                if names.is_empty() {
                    "them".to_owned()
                } else {
                    names.join(", ")
                }
            )));
        }
        if let Some(scope) = &self.scope {
            systemd::update(self, scope, resources)?;
        }
        let mut warnings = v1::limit(self, resources)?;
        if !resources.devices.is_empty() {
            let rules = devices::resolve(&resources.devices)?;
            warnings.extend(self.limit_devices(&rules)?);
        }
        Ok(warnings)
    }

    /// Puts device rules in force, wherever this host has them.
    fn limit_devices(&self, rules: &[devices::Rule]) -> Result<Vec<String>> {
        if let Some(place) = self.legacy_place("devices") {
            return v1::limit_devices(&place.open()?, rules, self.rootless);
        }
        match &self.unified {
            Some(place) => v2::limit_devices(&place.open()?, rules, self.rootless),
            None => Ok(vec![
                "device rules are not enforced: this host has no device controller".to_owned(),
            ]),
        }
    }

    fn legacy_place(&self, controller: &str) -> Option<&Place> {
        self.legacy
            .iter()
            .find(|p| p.controllers.iter().any(|c| c == controller))
    }
}
