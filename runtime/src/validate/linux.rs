//! `linux` (config-linux.md), apart from its larger sections.
//!
//! Responsible for devices, paths, propagation and what can't be had. Invariant: as for its parent
//! module.

use super::document::{absolute, check_path, check_text};
use super::{Report, namespaces, quote, resources, seccomp};
use crate::scheduling::{MemoryPolicy, Personality};
use crate::spec::{Device, Linux};

/// Values of `rootfsPropagation`, mount_namespaces(7).
const PROPAGATIONS: [&str; 8] = [
    "shared",
    "slave",
    "private",
    "unbindable",
    "rshared",
    "rslave",
    "rprivate",
    "runbindable",
];

/// The kernel's highest numbers (`MINORBITS` is 20, include/linux/kdev_t.h).
const HIGHEST_MAJOR: i64 = (1 << 12) - 1;
const HIGHEST_MINOR: i64 = (1 << 20) - 1;

pub(super) fn check(linux: &Linux, report: &mut Report) {
    namespaces::check(linux, report);
    report.each("devices", &linux.devices, |report, device| {
        check_device(device, report);
    });
    check_text("cgroupsPath", &linux.cgroups_path, report);
    if let Some(section) = &linux.resources {
        report.field("resources", |report| resources::check(section, report));
    }
    if linux.intel_rdt.is_some() {
        report.add_at("intelRdt", "resource director technology is not supported");
    }
    if let Some(policy) = &linux.memory_policy {
        report.field("memoryPolicy", |report| {
            MemoryPolicy::check(policy, report);
        });
    }
    if let Some(section) = &linux.seccomp {
        report.field("seccomp", |report| seccomp::check(section, report));
    }
    let propagation = linux.rootfs_propagation.as_str();
    if !propagation.is_empty() && !PROPAGATIONS.contains(&propagation) {
        let text = format!("unknown propagation {}", quote(propagation));
        report.add_at("rootfsPropagation", text);
    }
    report.each("maskedPaths", &linux.masked_paths, |report, path| {
        absolute(path, report);
    });
    report.each("readonlyPaths", &linux.readonly_paths, |report, path| {
        absolute(path, report);
    });
    check_text("mountLabel", &linux.mount_label, report);
    if let Some(personality) = &linux.personality {
        report.field("personality", |report| {
            Personality::check(personality, report);
        });
    }
}

fn check_device(device: &Device, report: &mut Report) {
    check_path("path", &device.path, report);
    if !device.path.is_empty() && device.path.bytes().all(|b| b == b'/') {
        report.add_at("path", "is the root directory");
    }
    let numbered = match device.kind.as_str() {
        "c" | "b" | "u" => true,
        "p" => false,
        other => {
            report.add_at("type", format!("unknown type of device {}", quote(other)));
            return;
        }
    };
    for (name, number, highest) in [
        ("major", device.major, HIGHEST_MAJOR),
        ("minor", device.minor, HIGHEST_MINOR),
    ] {
        match number {
            _ if !numbered => {}
            None => report.add_at(name, "is required"),
            Some(number) if (0..=highest).contains(&number) => {}
            Some(number) => report.add_at(name, format!("{number} is not 0 to {highest}")),
        }
    }
    for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
        if id == Some(u32::MAX) {
            report.add_at(name, format!("{} is no id", u32::MAX));
        }
    }
}
