//! Groups of version 2, made in the file system.
//!
//! Responsible for where a group is, for the controllers on the way to it, and for its limits.
//! Must not know version 1. Invariant: only groups on the way to the container's are changed, and
//! processes are moved only out of this process's own group, when it would otherwise keep
//! controllers from being enabled (cgroup-v2.rst, "No Internal Process Constraint").

pub(crate) mod convert;
pub(crate) mod stats;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Gid, Uid};
use rustix::io::Errno;

use super::devices::{self, Rule};
use super::files::{Directory, below, clean};
use super::layout::Hierarchy;
use super::{Group, Place, Request, limits, processes, without};
use crate::error::{Error, Result, ResultExt};
use crate::spec::Resources;

/// The group that own processes move to when their group is to have controllers below it.
const LEAF: &str = "init";

/// Makes a group on a host that has version 2 only.
pub(crate) fn create(hierarchy: &Hierarchy, request: &Request<'_>) -> Result<(Group, Vec<String>)> {
    let (place, new) = match make(hierarchy, request) {
        Ok(made) => made,
        Err((errno, path)) if is_refusal(errno) => {
            let why = format!(
                "control group `{}` can't be made by this user: {}",
                path.display(),
                crate::error::Cause::from(errno)
            );
            return without(request, &why);
        }
        Err((errno, path)) => {
            return Err(Error::new("make control group").path(path).cause(errno));
        }
    };
    let group = Group {
        unified: Some(place),
        rootless: request.rootless,
        ..Group::default()
    };
    if !new {
        processes::check_unused(&group)?;
    }
    match set_up(&group, request) {
        Ok(warnings) => Ok((group, warnings)),
        Err(e) => {
            // The first error is the one that matters.
            drop(group.remove());
            Err(e)
        }
    }
}

fn set_up(group: &Group, request: &Request<'_>) -> Result<Vec<String>> {
    let Some(place) = &group.unified else {
        return Ok(Vec::new());
    };
    let directory = place.open()?;
    let mut warnings = Vec::new();
    if let Some(resources) = request.resources {
        warnings = limit(&directory, resources, group.rootless)?;
    }
    let rules = request.resources.map_or(&[][..], |r| &r.devices);
    let rules = devices::resolve(rules)?;
    warnings.extend(limit_devices(&directory, &rules, group.rootless)?);
    if let Some(owner) = request.owner {
        hand_over(&directory, owner)?;
    }
    Ok(warnings)
}

/// Writes all limits but devices.
pub(crate) fn limit(
    group: &Directory,
    resources: &Resources,
    lenient: bool,
) -> Result<Vec<String>> {
    let converted = convert::convert(resources, &|name| group.read(name).ok())?;
    let mut warnings = converted.warnings;
    warnings.extend(limits::write_all(group, converted.settings).judge(group, lenient)?);
    Ok(warnings)
}

/// Puts device rules in force.
pub(crate) fn limit_devices(
    group: &Directory,
    rules: &[Rule],
    rootless: bool,
) -> Result<Vec<String>> {
    if devices::allow_all(rules) {
        // A program from before an update may be stricter.
        let _ = devices::attach::clear(group);
        return Ok(Vec::new());
    }
    match devices::attach::install(group, rules) {
        Ok(()) => Ok(Vec::new()),
        // Who has no authority over bpf(2) can't make device nodes either: all that its containers
        // have are those that are bound into them.
        Err(Errno::PERM | Errno::ACCESS) if rootless || in_user_namespace() => Ok(Vec::new()),
        Err(e) => Err(e).op_path("attach device program to", group.path()),
    }
}

/// Says whether this process is in another user namespace than the initial one.
pub(crate) fn in_user_namespace() -> bool {
    // The initial namespace maps all ids (user_namespaces(7)).
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let fields: Vec<&str> = map.split_whitespace().collect();
        fields != ["0", "0", "4294967295"]
    })
}

/// Says whether an error means that the caller has no authority here.
pub(crate) fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM | Errno::ROFS)
}

/// Where the group may be, best first.
fn candidates(own: Option<&Path>, request: &Request<'_>) -> Vec<PathBuf> {
    let path = Path::new(request.path);
    if path.is_absolute() {
        return vec![clean(path)];
    }
    let inner = if request.path.is_empty() {
        clean(Path::new(request.id))
    } else {
        clean(path)
    };
    // Beside the own group, which has processes and so can't have controllers below it (as runc
    // does); or below it, when that is all that is delegated.
    let own = own.unwrap_or_else(|| Path::new("/"));
    let parent = own.parent().unwrap_or_else(|| Path::new("/"));
    let mut list = vec![below(parent, &inner)];
    if parent != own {
        list.push(below(own, &inner));
    }
    list
}

/// Makes the group; says whether it is new.
fn make(
    hierarchy: &Hierarchy,
    request: &Request<'_>,
) -> std::result::Result<(Place, bool), (Errno, PathBuf)> {
    let limited = request
        .resources
        .is_some_and(|r| !limits::named(r).is_empty());
    let own = hierarchy.own.as_deref();
    let mut refused = None;
    for path in candidates(own, request) {
        let shown = below(&hierarchy.mount, &path);
        if path == Path::new("/") {
            return Err((Errno::INVAL, shown));
        }
        match make_at(hierarchy, &path, limited, request.rootless) {
            Ok(new) => {
                let place = Place {
                    mount: hierarchy.mount.clone(),
                    path,
                    controllers: Vec::new(),
                };
                return Ok((place, new));
            }
            Err(errno) => {
                let first = refused.get_or_insert((errno, shown));
                if !is_refusal(errno) {
                    return Err(first.clone());
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| (Errno::INVAL, hierarchy.mount.clone())))
}

fn make_at(
    hierarchy: &Hierarchy,
    path: &Path,
    limited: bool,
    rootless: bool,
) -> rustix::io::Result<bool> {
    let own = hierarchy.own.as_deref();
    let mut directory = Directory::open(&hierarchy.mount, Path::new("/"))?;
    let mut at = PathBuf::from("/");
    let mut made: Option<(Directory, String)> = None;
    let mut new = false;
    for part in path.components().skip(1) {
        let name = part.as_os_str().to_str().ok_or(Errno::INVAL)?;
        enable_controllers(&directory, limited && own == Some(at.as_path()));
        let (child, fresh) = directory.make_child(name)?;
        at.push(name);
        if fresh && made.is_none() {
            made = Some((directory, name.to_owned()));
        }
        new = fresh;
        directory = child;
    }
    if rootless
        && let Some(own) = own
        && !may_move(&hierarchy.mount, own, path)
    {
        if let Some((parent, name)) = made {
            // What has just been made is empty; another's use of it would keep it.
            let _ = super::removal::remove_below(&parent, &name);
        }
        return Err(Errno::ACCESS);
    }
    Ok(new)
}

/// Says whether this user may move its processes from one group to another, for which it must be
/// able to write to the `cgroup.procs` of the closest group above both (cgroup-v2.rst,
/// "Delegation Containment").
fn may_move(mount: &Path, from: &Path, to: &Path) -> bool {
    let common: PathBuf = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect();
    let writable = |path: &Path| {
        Directory::open(mount, path).is_ok_and(|directory| {
            rustix::fs::accessat(
                directory.as_fd(),
                "cgroup.procs",
                Access::WRITE_OK,
                AtFlags::EACCESS,
            )
            .is_ok()
        })
    };
    writable(&common) && writable(to)
}

/// Enables all controllers for the groups below. What can't be enabled shows when a limit is set.
fn enable_controllers(directory: &Directory, may_evacuate: bool) {
    let read = |name: &str| -> BTreeSet<String> {
        let text = directory.read(name).unwrap_or_default();
        text.split_whitespace().map(ToOwned::to_owned).collect()
    };
    let missing = || -> Vec<String> {
        let enabled = read("cgroup.subtree_control");
        let available = read("cgroup.controllers");
        available.difference(&enabled).cloned().collect()
    };
    let file = "cgroup.subtree_control";
    let list = missing();
    if list.is_empty() {
        return;
    }
    // A group with processes refuses most controllers, but takes those that can be threaded, and
    // then no process may enter the groups below. Only the real root may have both, and it alone
    // has no type.
    let occupied = directory.has("cgroup.type")
        && !matches!(directory.read("cgroup.procs"), Ok(pids) if pids.trim().is_empty());
    if occupied && (!may_evacuate || evacuate(directory).is_err()) {
        return;
    }
    let all: Vec<String> = list.iter().map(|c| format!("+{c}")).collect();
    match directory.write(file, &all.join(" ")) {
        Ok(()) => return,
        Err(Errno::BUSY) => return,
        Err(e) if is_refusal(e) => return,
        Err(_) => {}
    }
    // One that doesn't work (cpu, with real-time processes about) must not stop the others.
    for controller in all {
        let _ = directory.write(file, &controller);
    }
}

/// Moves the processes of the own group to a leaf below it.
fn evacuate(directory: &Directory) -> rustix::io::Result<()> {
    let (leaf, _) = directory.make_child(LEAF)?;
    // Processes fork meanwhile.
    for _ in 0..10 {
        let pids = directory.read("cgroup.procs")?;
        if pids.trim().is_empty() {
            return Ok(());
        }
        for pid in pids.lines() {
            match leaf.write("cgroup.procs", pid) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Err(Errno::BUSY)
}

/// Gives the group to the container's root, with the files that the kernel names as safe to
/// delegate.
pub(crate) fn hand_over(group: &Directory, owner: u32) -> Result<()> {
    let uid = Some(Uid::from_raw(owner));
    let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| {
        // Before Linux 4.15.
        "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned()
    });
    let op = "change owner of control group";
    rustix::fs::fchown(group.as_fd(), uid, None::<Gid>).op_path(op, group.path())?;
    for name in list.lines() {
        match rustix::fs::chownat(
            group.as_fd(),
            name,
            uid,
            None::<Gid>,
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e).op_path(op, group.file(name)),
        }
    }
    Ok(())
}
