//! Namespaces and what depends on them (config-linux.md, "Namespaces" to "Network Devices").
//!
//! Responsible for kinds, id maps, clock offsets, parameters and interfaces. Invariant: as for its
//! parent module.

use super::document::absolute;
use super::mounts::check_mappings;
use super::{Report, quote};
use crate::spec::Linux;
use crate::sysctl::Sysctls;

/// The kinds that the specification knows.
pub const KINDS: [&str; 8] = [
    "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
];

pub(super) fn check(linux: &Linux, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    report.each("namespaces", &linux.namespaces, |report, namespace| {
        let kind = namespace.kind.as_str();
        if !KINDS.contains(&kind) {
            report.add_at("type", format!("unknown kind of namespace {}", quote(kind)));
        } else if seen.contains(&kind) {
            report.add_at("type", format!("`{kind}` is there twice"));
        }
        seen.push(kind);
        if let Some(path) = &namespace.path {
            report.field("path", |report| absolute(path, report));
        }
    });
    check_ids(linux, report);
    check_clocks(linux, report);
    Sysctls::check(&linux.sysctl, &linux.namespaces, report);
    check_interfaces(linux, report);
}

/// How the container has a namespace: not at all, a new one, or one that it joins.
#[derive(PartialEq, Eq)]
enum Has {
    None,
    New,
    Joined,
}

fn has(linux: &Linux, kind: &str) -> Has {
    match linux.namespaces.iter().find(|n| n.kind == kind) {
        None => Has::None,
        Some(namespace) if namespace.path.is_some() => Has::Joined,
        Some(_) => Has::New,
    }
}

fn check_ids(linux: &Linux, report: &mut Report) {
    let user = has(linux, "user");
    for (name, list) in [
        ("uidMappings", &linux.uid_mappings),
        ("gidMappings", &linux.gid_mappings),
    ] {
        check_mappings(name, list, report);
        let root = list.iter().any(|l| l.container_id == 0 && l.size > 0);
        match (&user, list.is_empty()) {
            (Has::None, false) => report.add_at(name, "needs a user namespace"),
            (Has::New, true) => report.add_at(name, "is required for a new user namespace"),
            (Has::New, false) if !root => {
                report.add_at(name, "id 0 of the container is not mapped");
            }
            // The map of a namespace that is joined was written before.
            _ => {}
        }
    }
}

/// time_namespaces(7).
fn check_clocks(linux: &Linux, report: &mut Report) {
    if linux.time_offsets.is_empty() {
        return;
    }
    match has(linux, "time") {
        Has::New => {}
        Has::None => report.add_at("timeOffsets", "needs a time namespace"),
        Has::Joined => report.add_at(
            "timeOffsets",
            "the clocks of a time namespace that is joined can't be set",
        ),
    }
    report.field("timeOffsets", |report| {
        for (clock, offset) in &linux.time_offsets {
            report.field(clock, |report| {
                if !matches!(clock.as_str(), "monotonic" | "boottime") {
                    report.add("unknown clock");
                }
                if offset.nanosecs >= 1_000_000_000 {
                    report.add_at(
                        "nanosecs",
                        format!("{} is a second or more", offset.nanosecs),
                    );
                }
            });
        }
    });
}

fn check_interfaces(linux: &Linux, report: &mut Report) {
    if linux.net_devices.is_empty() {
        return;
    }
    if has(linux, "network") == Has::None {
        report.add_at("netDevices", "needs a network namespace");
    }
    let mut targets: Vec<&str> = Vec::new();
    report.field("netDevices", |report| {
        for (name, device) in &linux.net_devices {
            let target = if device.name.is_empty() {
                name
            } else {
                &device.name
            };
            report.field(name, |report| {
                if !is_interface(name) {
                    report.add("is no name of a network interface");
                }
                if target != name && !is_interface(target) {
                    let text = format!("{} is no name of a network interface", quote(target));
                    report.add_at("name", text);
                }
                if targets.contains(&target.as_str()) {
                    report.add_at("name", format!("{} is there twice", quote(target)));
                }
            });
            targets.push(target);
        }
    });
}

/// `dev_valid_name` of the kernel (net/core/dev.c); `%` would make it choose a number.
fn is_interface(name: &str) -> bool {
    let plain = |b: u8| !b.is_ascii_whitespace() && b != 0x0b && !b"/:%\0".contains(&b);
    (1..16).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(plain)
}
