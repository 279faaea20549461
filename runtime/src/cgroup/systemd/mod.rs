//! Groups that systemd makes: transient units.
//!
//! Responsible for a unit's name, its place in the tree, and its life: start, change, stop
//! (org.freedesktop.systemd1(5), systemd's "Control Group APIs and Delegation"). Must not know the
//! command line; the address of the user's bus is given. Invariant: only the container's own unit
//! is ever changed.
//!
//! A scope begins with a process in it, so [`start`] is part of adding the first one, and the
//! limits are set right after, before that process is let go.

mod bus;
mod message;
mod properties;
mod text;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::bus::{Bus, Target};
use self::properties::Property;
use self::value::Value;
use super::files::{below, clean};
use super::layout::Layout;
use super::limits::Setting;
use super::{Group, Place, Request, devices, processes, v1, v2};
use crate::error::{Error, Result};
use crate::spec::Resources;

const MANAGER: Target<'_> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// Where the system's manager is reached: by the bus, or by its own socket without one.
const SYSTEM: [&str; 2] = [
    "unix:path=/run/dbus/system_bus_socket",
    "unix:path=/run/systemd/private",
];

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    unit: String,
    slice: String,
    /// Where its manager is reached.
    addresses: Vec<String>,
}

/// What the unit is to be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    id: String,
    resources: Option<Resources>,
    annotations: BTreeMap<String, String>,
    owner: Option<u32>,
}

/// Prepares a group; no unit is started yet.
pub(super) fn create(layout: &Layout, request: &Request<'_>) -> Result<(Group, Vec<String>)> {
    let name = Name::parse(request)?;
    let slice_path = expand(&name.slice)?;
    let unit = name.unit();
    let addresses: Vec<String> = match request.bus {
        Some(address) => vec![address.to_owned()],
        None if request.rootless => {
            return Err(Error::new("connect to the user's systemd")
                .cause("no session bus is known".to_owned())
                .hint("set DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR")
                .hint("without --systemd-cgroup the control group is made without systemd"));
        }
        None => SYSTEM.map(ToOwned::to_owned).to_vec(),
    };
    // What is wrong with the request is said before any process exists.
    properties::of_annotations(request.annotations)?;
    let rules = request.resources.map_or(&[][..], |r| &r.devices);
    devices::resolve(rules)?;

    let mut bus = Bus::connect(&addresses)?;
    let root = manager_property(&mut bus, "ControlGroup")?;
    let path = clean(&below(
        &below(Path::new(&root), &slice_path),
        Path::new(&unit),
    ));
    let place = |h: &super::layout::Hierarchy| Place {
        mount: h.mount.clone(),
        path: path.clone(),
        controllers: h.controllers.clone(),
    };
    let legacy = if layout.has_legacy_controllers() {
        layout.legacy.iter().map(place).collect()
    } else {
        Vec::new()
    };
    let group = Group {
        unified: layout.unified.as_ref().map(place),
        legacy,
        rootless: request.rootless,
        scope: Some(Scope {
            unit,
            slice: name.slice,
            addresses,
        }),
        pending: Some(Box::new(Pending {
            id: request.id.to_owned(),
            resources: request.resources.cloned(),
            annotations: request.annotations.clone(),
            owner: request.owner,
        })),
    };
    if group.is_none() {
        return Err(Error::new("make control group with systemd")
            .cause("this host mounts no control groups".to_owned()));
    }
    processes::check_unused(&group)?;
    let warnings = match request.resources {
        Some(resources) => settings(&group, resources)?.1,
        None => Vec::new(),
    };
    Ok((group, warnings))
}

/// Starts the unit with its first process and sets all limits. Returns warnings.
pub(super) fn start(
    group: &Group,
    scope: &Scope,
    pending: &Pending,
    pid: i32,
) -> Result<Vec<String>> {
    let mut bus = connect_for_jobs(scope)?;
    let is_slice = scope.unit.ends_with(".slice");
    let mut list = vec![
        property(
            "Description",
            Value::Text(format!("sandcrab container {}", pending.id)),
        ),
        property("DefaultDependencies", Value::Bool(false)),
    ];
    if is_slice {
        let slice = vec![Value::text(&scope.slice)];
        list.push(property("Wants", Value::Array("s".to_owned(), slice)));
    } else {
        list.push(property("Slice", Value::text(&scope.slice)));
        list.push(property("Delegate", Value::Bool(true)));
        let pid = Value::U32(pid.cast_unsigned());
        list.push(property("PIDs", Value::Array("u".to_owned(), vec![pid])));
    }
    for name in ["CPUAccounting", "MemoryAccounting", "TasksAccounting"] {
        list.push(property(name, Value::Bool(true)));
    }
    let io = if group.legacy.is_empty() {
        "IOAccounting"
    } else {
        "BlockIOAccounting"
    };
    list.push(property(io, Value::Bool(true)));
    list.extend(limits(&mut bus, group, pending.resources.as_ref(), true)?);
    // The last word is the configuration's.
    list.extend(properties::of_annotations(&pending.annotations)?);
    start_transient(&mut bus, &scope.unit, list)?;
    finish(group, pending, pid, is_slice).inspect_err(|_| {
        // The first error is the one that matters.
        drop(stop(scope));
    })
}

/// Sets what systemd hasn't.
fn finish(group: &Group, pending: &Pending, pid: i32, is_slice: bool) -> Result<Vec<String>> {
    for place in group.legacy.iter().chain(&group.unified) {
        // systemd makes its own hierarchies' groups only.
        v1::make_place(place)?;
    }
    let mut warnings = Vec::new();
    if let Some(resources) = &pending.resources {
        // What `create` has warned of already is left out.
        let known = settings(group, resources)?.1;
        let new = v1::limit(group, resources)?;
        warnings.extend(new.into_iter().filter(|w| !known.contains(w)));
    }
    let rules = pending.resources.as_ref().map_or(&[][..], |r| &r.devices);
    warnings.extend(group.limit_devices(&devices::resolve(rules)?)?);
    if let (Some(owner), Some(place)) = (pending.owner, &group.unified)
        && group.legacy.is_empty()
    {
        v2::hand_over(&place.open()?, owner)?;
    }
    group.add_to_legacy(pid)?;
    // A slice can't begin with a process, and on a hybrid host the tree may not be systemd's.
    if is_slice || !group.legacy.is_empty() {
        let mut places = group.unified.iter();
        places.try_for_each(|p| processes::add_to(p, pid))?;
    }
    Ok(warnings)
}

/// Lets systemd move a process into the unit, which it may where its user may not: out of a login
/// session into the user's own tree.
pub(super) fn attach(scope: &Scope, pid: i32) -> Result<()> {
    let mut bus = Bus::connect(&scope.addresses)?;
    let pids = vec![Value::U32(pid.cast_unsigned())];
    let body = vec![
        Value::text(&scope.unit),
        Value::text(""),
        Value::Array("u".to_owned(), pids),
    ];
    bus.ask(MANAGER, "AttachProcessesToUnit", body).map(drop)
}

/// Tells systemd of changed limits, so that it doesn't set the old ones again.
pub(super) fn update(group: &Group, scope: &Scope, resources: &Resources) -> Result<()> {
    let mut bus = Bus::connect(&scope.addresses)?;
    let list = limits(&mut bus, group, Some(resources), false)?;
    if list.is_empty() {
        return Ok(());
    }
    let body = vec![
        Value::text(&scope.unit),
        // Until the unit ends, not for ever.
        Value::Bool(true),
        properties_value(list),
    ];
    bus.ask(MANAGER, "SetUnitProperties", body).map(drop)
}

/// Stops the unit and waits for its end. One that is gone is no error.
pub(super) fn stop(scope: &Scope) -> Result<()> {
    let mut bus = connect_for_jobs(scope)?;
    let body = vec![Value::text(&scope.unit), Value::text("replace")];
    match bus.call(MANAGER, "StopUnit", body)? {
        Ok(answer) => wait_for_job(&mut bus, &answer, "stop", &scope.unit)?,
        Err(refusal) if refusal.name.ends_with(".NoSuchUnit") => {}
        Err(refusal) => {
            return Err(Error::new(format!("stop unit {}", scope.unit)).cause(refusal.to_string()));
        }
    }
    // A unit whose processes were killed may be kept as failed; one that isn't is unknown by now.
    let body = vec![Value::text(&scope.unit)];
    bus.call(MANAGER, "ResetFailedUnit", body).map(drop)
}

fn connect_for_jobs(scope: &Scope) -> Result<Bus> {
    let mut bus = Bus::connect(&scope.addresses)?;
    bus.subscribe(MANAGER.interface, "JobRemoved")?;
    // Without a subscriber systemd sends no signals.
    bus.ask(MANAGER, "Subscribe", Vec::new())?;
    Ok(bus)
}

fn start_transient(bus: &mut Bus, unit: &str, list: Vec<Property>) -> Result<()> {
    let body = vec![
        Value::text(unit),
        Value::text("replace"),
        properties_value(list),
        Value::Array("(sa(sv))".to_owned(), Vec::new()),
    ];
    let mut answer = bus.call(MANAGER, "StartTransientUnit", body.clone())?;
    if let Err(refusal) = &answer
        && refusal.name.ends_with(".UnitExists")
    {
        // It may be the failed rest of an earlier one.
        let reset = vec![Value::text(unit)];
        if bus.call(MANAGER, "ResetFailedUnit", reset)?.is_ok() {
            answer = bus.call(MANAGER, "StartTransientUnit", body)?;
        }
    }
    match answer {
        Ok(answer) => wait_for_job(bus, &answer, "start", unit),
        Err(refusal) => Err(Error::new(format!("start unit {unit}")).cause(refusal.to_string())),
    }
}

fn wait_for_job(bus: &mut Bus, answer: &[Value], verb: &str, unit: &str) -> Result<()> {
    let job = answer.first().and_then(Value::as_str).unwrap_or_default();
    // JobRemoved: number, path, unit, result.
    let body = bus.signal("JobRemoved", |body| {
        body.get(1).and_then(Value::as_str) == Some(job)
    })?;
    match body.get(3).and_then(Value::as_str) {
        Some("done") => Ok(()),
        result => Err(Error::new(format!("{verb} unit {unit}")).cause(format!(
            "the job ended with {:?}",
            result.unwrap_or_default()
        ))),
    }
}

fn manager_property(bus: &mut Bus, name: &str) -> Result<String> {
    let target = Target {
        interface: "org.freedesktop.DBus.Properties",
        ..MANAGER
    };
    let body = vec![Value::text(MANAGER.interface), Value::text(name)];
    let answer = bus.ask(target, "Get", body)?;
    let text = answer.first().and_then(Value::as_str);
    Ok(text.unwrap_or_default().to_owned())
}

/// The number that a version text begins with, such as `252.22-1` or `v254`.
fn version_number(text: &str) -> u32 {
    let digits: String = text
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

/// Says limits as properties. Devices are left out of an update that has none.
fn limits(
    bus: &mut Bus,
    group: &Group,
    resources: Option<&Resources>,
    new: bool,
) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    if let Some(resources) = resources {
        let version = version_number(&manager_property(bus, "Version")?);
        list = properties::of_settings(&settings(group, resources)?.0, version);
    }
    let rules = resources.map_or(&[][..], |r| &r.devices);
    // A user's manager has no authority over devices.
    if !group.rootless && (new || !rules.is_empty()) {
        let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
        list.extend(properties::of_devices(&devices::resolve(rules)?, &groups));
    }
    Ok(list)
}

/// Converts limits for the version that the group is in.
fn settings(group: &Group, resources: &Resources) -> Result<(Vec<Setting>, Vec<String>)> {
    if !group.legacy.is_empty() {
        let read = |file: &str| {
            let controller = file.split('.').next().unwrap_or_default();
            let place = group.legacy_place(controller)?;
            place.open_existing().ok()??.read(file).ok()
        };
        return v1::convert::convert(resources, &read);
    }
    let directory = match &group.unified {
        Some(place) => place.open_existing()?,
        None => None,
    };
    let read = |file: &str| directory.as_ref()?.read(file).ok();
    let converted = v2::convert::convert(resources, &read)?;
    Ok((converted.settings, converted.warnings))
}

fn property(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

fn properties_value(list: Vec<Property>) -> Value {
    let list = list
        .into_iter()
        .map(|(name, value)| Value::Struct(vec![Value::Text(name), value.variant()]))
        .collect();
    Value::Array("(sv)".to_owned(), list)
}

/// `slice:prefix:name`.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    slice: String,
    prefix: String,
    name: String,
}

impl Name {
    fn parse(request: &Request<'_>) -> Result<Self> {
        let parts: Vec<&str> = if request.path.is_empty() {
            vec!["", "sandcrab", request.id]
        } else {
            request.path.split(':').collect()
        };
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(Error::new(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {:?} instead",
                request.path
            )));
        };
        let unit_name = |text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
            text.bytes().all(plain)
        };
        if name.is_empty() || !unit_name(name) || !unit_name(prefix) {
            return Err(Error::new(format!(
                "cgroupsPath {:?} makes no name of a unit",
                request.path
            )));
        }
        let default = if request.rootless {
            "user.slice"
        } else {
            "system.slice"
        };
        Ok(Self {
            slice: if slice.is_empty() { default } else { slice }.to_owned(),
            prefix: (*prefix).to_owned(),
            name: (*name).to_owned(),
        })
    }

    fn unit(&self) -> String {
        if self.name.ends_with(".slice") {
            self.name.clone()
        } else if self.prefix.is_empty() {
            format!("{}.scope", self.name)
        } else {
            format!("{}-{}.scope", self.prefix, self.name)
        }
    }
}

/// Where a slice is: `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn expand(slice: &str) -> Result<PathBuf> {
    let wrong = || Error::new(format!("invalid slice name {slice:?}"));
    let stem = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    let mut path = PathBuf::from("/");
    if stem == "-" {
        return Ok(path);
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(wrong());
    }
    let mut name = String::new();
    for part in stem.split('-') {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push(format!("{name}.slice"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
