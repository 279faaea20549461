//! Groups of version 1, and of hosts that mix both versions.
//!
//! Responsible for a group in each hierarchy and for finding the hierarchy that a limit belongs to.
//! Must not know the arithmetic of the limits. Invariant: each controller is limited in the one
//! version that has it.

pub(crate) mod convert;
pub(crate) mod stats;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::devices::{self, Rule, lists};
use super::files::{Directory, below, clean};
use super::layout::{Hierarchy, Layout};
use super::limits::{self, Setting};
use super::{Group, Place, Request, processes, v2, without};
use crate::error::{Error, Result, ResultExt};
use crate::spec::Resources;

/// Makes a group on a host where version 1 has controllers.
pub(crate) fn create(layout: &Layout, request: &Request<'_>) -> Result<(Group, Vec<String>)> {
    let mut group = Group {
        rootless: request.rootless,
        ..Group::default()
    };
    let mut old = false;
    let mut refused: Option<(Errno, PathBuf)> = None;
    let all = layout.legacy.iter().chain(&layout.unified);
    for hierarchy in all {
        let path = place_of(hierarchy, request);
        let shown = below(&hierarchy.mount, &path);
        if path == Path::new("/") {
            // The first error is the one that matters.
            drop(group.remove());
            return Err(Error::new("make control group")
                .path(shown)
                .cause("it is the root of the hierarchy".to_owned()));
        }
        match make(&hierarchy.mount, &hierarchy.controllers, &path) {
            Ok(new) => {
                old |= !new;
                let place = Place {
                    mount: hierarchy.mount.clone(),
                    path,
                    controllers: hierarchy.controllers.clone(),
                };
                if hierarchy.controllers.is_empty() {
                    group.unified = Some(place);
                } else {
                    group.legacy.push(place);
                }
            }
            Err(errno) if v2::is_refusal(errno) => {
                refused.get_or_insert((errno, shown));
            }
            Err(errno) => {
                drop(group.remove());
                return Err(errno).op_path("make control group", shown);
            }
        }
    }
    if group.is_none() {
        let why = match refused {
            Some((errno, path)) => format!(
                "control group `{}` can't be made by this user: {}",
                path.display(),
                crate::error::Cause::from(errno)
            ),
            None => "this host mounts no control groups".to_owned(),
        };
        return without(request, &why);
    }
    if old {
        processes::check_unused(&group)?;
    }
    match set_up(&group, request) {
        Ok(warnings) => Ok((group, warnings)),
        Err(e) => {
            drop(group.remove());
            Err(e)
        }
    }
}

fn set_up(group: &Group, request: &Request<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if let Some(resources) = request.resources {
        warnings = limit(group, resources)?;
    }
    let rules = request.resources.map_or(&[][..], |r| &r.devices);
    let rules = devices::resolve(rules)?;
    warnings.extend(group.limit_devices(&rules)?);
    Ok(warnings)
}

/// Where the group is in a hierarchy. A relative path is below this process's own group, in the
/// version 2 tree of a hybrid host too, which has no controllers to be kept from.
fn place_of(hierarchy: &Hierarchy, request: &Request<'_>) -> PathBuf {
    let path = Path::new(request.path);
    if path.is_absolute() {
        return clean(path);
    }
    let inner = if request.path.is_empty() {
        clean(Path::new(request.id))
    } else {
        clean(path)
    };
    if inner == Path::new("/") {
        return inner;
    }
    let own = hierarchy.own.as_deref().unwrap_or_else(|| Path::new("/"));
    below(own, &inner)
}

/// Makes a group where it is to be.
pub(crate) fn make_place(place: &Place) -> Result<()> {
    make(&place.mount, &place.controllers, &place.path)
        .map(drop)
        .op_path("make control group", below(&place.mount, &place.path))
}

/// Makes the group at a path; says whether it is new.
fn make(mount: &Path, controllers: &[String], path: &Path) -> rustix::io::Result<bool> {
    let cpuset = controllers.iter().any(|c| c == "cpuset");
    let mut directory = Directory::open(mount, Path::new("/"))?;
    let mut new = false;
    for part in path.components().skip(1) {
        let name = part.as_os_str().to_str().ok_or(Errno::INVAL)?;
        let (child, fresh) = directory.make_child(name)?;
        if cpuset {
            inherit_cpuset(&directory, &child)?;
        }
        new = fresh;
        directory = child;
    }
    if !new {
        // Another user's group is no place for this one's processes.
        let processes = directory.path().join("cgroup.procs");
        accessat(CWD, processes, Access::WRITE_OK, AtFlags::EACCESS)?;
    }
    Ok(new)
}

/// Gives a new cpuset its parent's processors and memory nodes: with none, no process can join it
/// (cpusets.rst).
fn inherit_cpuset(parent: &Directory, child: &Directory) -> rustix::io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.trim().is_empty() {
            child.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}

/// Writes all limits but devices, each to the hierarchy that has its controller.
pub(crate) fn limit(group: &Group, resources: &Resources) -> Result<Vec<String>> {
    if group.legacy.is_empty() {
        return match &group.unified {
            Some(place) => v2::limit(&place.open()?, resources, group.rootless),
            None => Ok(Vec::new()),
        };
    }
    let mut open: BTreeMap<&str, Directory> = BTreeMap::new();
    for place in &group.legacy {
        for controller in &place.controllers {
            open.insert(controller, place.open()?);
        }
    }
    let unified = group.unified.as_ref().map(Place::open).transpose()?;
    let read = |file: &str| {
        let controller = file.split('.').next().unwrap_or_default();
        open.get(controller)?.read(file).ok()
    };
    let (settings, mut warnings) = convert::convert(resources, &read)?;

    let mut by_controller: Vec<(String, Vec<Setting>)> = Vec::new();
    for setting in settings {
        let controller = setting.controller().to_owned();
        match by_controller.iter_mut().find(|(c, _)| *c == controller) {
            Some((_, list)) => list.push(setting),
            None => by_controller.push((controller, vec![setting])),
        }
    }
    let mut elsewhere = Vec::new();
    for (controller, settings) in by_controller {
        match open.get(controller.as_str()) {
            Some(directory) => {
                let outcome = limits::write_all(directory, settings);
                warnings.extend(outcome.judge(directory, group.rootless)?);
            }
            None => elsewhere.extend(settings),
        }
    }
    warnings.extend(limit_elsewhere(
        unified.as_ref(),
        resources,
        &elsewhere,
        group.rootless,
    )?);
    Ok(warnings)
}

/// Sets in version 2 what version 1 has no controller for on this host.
fn limit_elsewhere(
    unified: Option<&Directory>,
    resources: &Resources,
    missing: &[Setting],
    rootless: bool,
) -> Result<Vec<String>> {
    let mut wanted: Vec<String> = missing.iter().map(|s| s.field.clone()).collect();
    wanted.extend(resources.unified.keys().map(|k| format!("unified ({k})")));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    if let Some(directory) = unified {
        let converted = v2::convert::convert(resources, &|name| directory.read(name).ok())?;
        let settings: Vec<Setting> = converted
            .settings
            .into_iter()
            .filter(|s| wanted.contains(&s.field))
            .collect();
        wanted.retain(|field| !settings.iter().any(|s| &s.field == field));
        let outcome = limits::write_all(directory, settings);
        warnings.extend(outcome.judge(directory, rootless)?);
    }
    if wanted.is_empty() {
        return Ok(warnings);
    }
    if rootless {
        let warn = |f: &String| format!("limit {f} is not enforced: no controller on this host");
        warnings.extend(wanted.iter().map(warn));
        return Ok(warnings);
    }
    Err(Error::new(format!(
        "these limits can't be enforced: {}",
        wanted.join(", ")
    ))
    .cause("this host has no controller for them, in either version".to_owned())
    .hint("remove the limits from the configuration"))
}

/// Puts device rules in force.
pub(crate) fn limit_devices(
    group: &Directory,
    rules: &[Rule],
    rootless: bool,
) -> Result<Vec<String>> {
    // As with the programs of version 2: without authority over devices there are none to forbid.
    let powerless = rootless || v2::in_user_namespace();
    let lines = lists::lines(rules)?;
    let old = group.read("devices.list").unwrap_or_default();
    for line in lists::steps(&old, &lines) {
        match group.write(line.file, &line.text) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS) if powerless => return Ok(Vec::new()),
            Err(e) => {
                return Err(e).op_path("write device rule to", group.file(line.file));
            }
        }
    }
    Ok(Vec::new())
}
