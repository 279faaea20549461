//! Values for control files, and writing them.
//!
//! Responsible for what both versions share: a value that belongs to a field of the specification,
//! the order of writes, and what is said when one does not work. Must not know how a field becomes
//! a value. Invariant: a limit is either in force, or named in an error or a warning.

use rustix::io::Errno;

use super::files::Directory;
use crate::error::{Error, Result};
use crate::spec::Resources;

/// One write to one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The field that asks for it, below `linux.resources`.
    pub(crate) field: String,
    /// The file.
    pub(crate) file: String,
    /// The value.
    pub(crate) value: String,
    /// Whether the absence of the file means that the value holds anyway.
    pub(crate) optional: bool,
}

impl Setting {
    pub(crate) fn new(
        field: impl Into<String>,
        file: impl Into<String>,
        value: impl ToString,
    ) -> Self {
        Self {
            field: field.into(),
            file: file.into(),
            value: value.to_string(),
            optional: false,
        }
    }

    pub(crate) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The controller that the file belongs to.
    pub(crate) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// What became of a list of settings.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Those that were not written, each with its reason.
    pub(crate) failures: Vec<(Setting, Errno)>,
}

/// Writes the settings in order.
///
/// Pairs of files check one another (memory and memory with swap, quota and burst), and which one
/// must be first depends on the old values: so what is refused is tried again after the others.
pub(crate) fn write_all(group: &Directory, settings: Vec<Setting>) -> Outcome {
    let mut failures = Vec::new();
    for setting in settings {
        match write(group, &setting) {
            Ok(()) => {}
            Err(errno) => failures.push((setting, errno)),
        }
    }
    failures.retain_mut(|(setting, errno)| {
        if !matches!(*errno, Errno::INVAL | Errno::BUSY | Errno::RANGE) {
            return true;
        }
        match write(group, setting) {
            Ok(()) => false,
            Err(again) => {
                *errno = again;
                true
            }
        }
    });
    Outcome { failures }
}

fn write(group: &Directory, setting: &Setting) -> rustix::io::Result<()> {
    // Several devices or sizes are several lines, and the kernel takes one at a time.
    for line in setting.value.lines() {
        match group.write(&setting.file, line) {
            Err(Errno::NOENT) if setting.optional => {}
            other => other?,
        }
    }
    Ok(())
}

impl Outcome {
    /// Turns what failed into an error, or into warnings when the caller has no authority.
    pub(crate) fn judge(self, group: &Directory, lenient: bool) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (setting, errno) in self.failures {
            let absent = matches!(
                errno,
                Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::ROFS
            );
            if lenient && absent {
                warnings.push(unenforced(&setting.field, setting.controller()));
                continue;
            }
            let mut error = Error::new(format!(
                "set limit {} = {} in",
                setting.field,
                setting.value.escape_debug()
            ))
            .path(group.file(&setting.file))
            .cause(errno);
            if errno == Errno::NOENT {
                error = Error::new(format!(
                    "limit {} can't be enforced: controller {} is not available in",
                    setting.field,
                    setting.controller()
                ))
                .path(group.path())
                .hint(
                    "remove the limit, or enable the controller in the parent group's cgroup.subtree_control",
                );
            }
            return Err(error);
        }
        Ok(warnings)
    }
}

/// Says that a limit of a caller without authority is not in force.
pub(crate) fn unenforced(field: &str, controller: &str) -> String {
    format!("limit {field} is not enforced: controller {controller} is not delegated to this user")
}

/// Names the limits that a document asks for, devices left out.
pub(crate) fn named(resources: &Resources) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = |set: bool, field: &str| {
        if set {
            names.push(field.to_owned());
        }
    };
    if let Some(m) = &resources.memory {
        name(m.limit.is_some_and(|l| l > 0), "memory.limit");
        name(m.reservation.is_some_and(|l| l > 0), "memory.reservation");
        name(m.swap.is_some_and(|l| l > 0), "memory.swap");
        name(m.kernel.is_some_and(|l| l > 0), "memory.kernel");
        name(m.kernel_tcp.is_some_and(|l| l > 0), "memory.kernelTCP");
        name(m.swappiness.is_some(), "memory.swappiness");
        let oom = m.disable_oom_killer.unwrap_or(false);
        name(oom, "memory.disableOOMKiller");
    }
    if let Some(c) = &resources.cpu {
        name(c.shares.is_some_and(|s| s > 0), "cpu.shares");
        name(c.quota.is_some_and(|q| q > 0), "cpu.quota");
        name(c.burst.is_some_and(|b| b > 0), "cpu.burst");
        name(c.idle.is_some_and(|i| i != 0), "cpu.idle");
        name(c.realtime_runtime.is_some(), "cpu.realtimeRuntime");
        name(!c.cpus.is_empty(), "cpu.cpus");
        name(!c.mems.is_empty(), "cpu.mems");
    }
    if let Some(p) = &resources.pids {
        name(p.limit.is_some_and(|l| l >= 0), "pids.limit");
    }
    if let Some(b) = &resources.block_io {
        name(b.weight.is_some_and(|w| w > 0), "blockIO.weight");
        name(b.leaf_weight.is_some_and(|w| w > 0), "blockIO.leafWeight");
        name(!b.weight_device.is_empty(), "blockIO.weightDevice");
        for (list, field) in [
            (&b.throttle_read_bps_device, "blockIO.throttleReadBpsDevice"),
            (
                &b.throttle_write_bps_device,
                "blockIO.throttleWriteBpsDevice",
            ),
            (
                &b.throttle_read_iops_device,
                "blockIO.throttleReadIOPSDevice",
            ),
            (
                &b.throttle_write_iops_device,
                "blockIO.throttleWriteIOPSDevice",
            ),
        ] {
            name(!list.is_empty(), field);
        }
    }
    for pages in &resources.hugepage_limits {
        name(true, &format!("hugepageLimits ({})", pages.page_size));
    }
    if let Some(network) = &resources.network {
        name(network.class_id.is_some(), "network.classID");
        name(!network.priorities.is_empty(), "network.priorities");
    }
    for device in resources.rdma.keys() {
        name(true, &format!("rdma ({device})"));
    }
    for key in resources.unified.keys() {
        name(true, &format!("unified ({key})"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn group(files: &[&str]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files {
            std::fs::write(dir.path().join(file), "").expect("write");
        }
        let group = Directory::open(dir.path(), Path::new("/")).expect("open");
        (dir, group)
    }

    #[test]
    fn a_missing_controller_is_an_error_or_a_warning() {
        let (_dir, group) = group(&["pids.max"]);
        let settings = || {
            vec![
                Setting::new("pids.limit", "pids.max", 7),
                Setting::new("memory.limit", "memory.max", 4096),
                Setting::new("memory.swap", "memory.swap.max", 0).optional(),
            ]
        };
        let error = write_all(&group, settings()).judge(&group, false);
        let text = error.expect_err("an error").to_string();
        assert!(text.starts_with("limit memory.limit can't be enforced: controller memory"));
        let warnings = write_all(&group, settings())
            .judge(&group, true)
            .expect("warnings");
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("limit memory.limit is not enforced"));
        assert_eq!(group.read("pids.max").expect("read"), "7");
    }

    #[test]
    fn names_what_is_asked_for() {
        let text = br#"{"memory":{"limit":5,"swap":-1},"pids":{"limit":3},"cpu":{"quota":0},
            "devices":[{"allow":false}],"unified":{"io.max":"x"},
            "hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#;
        let resources = Resources::parse(text).expect("parse");
        let want = [
            "memory.limit",
            "pids.limit",
            "hugepageLimits (2MB)",
            "unified (io.max)",
        ];
        assert_eq!(named(&resources), want);
        assert!(named(&Resources::default()).is_empty());
    }
}
