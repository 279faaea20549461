//! Limits of the specification as files of version 2.
//!
//! Responsible for the arithmetic and for naming what version 2 does not have. Must not write
//! anything. Invariant: a field that is not set yields no setting, so an update leaves it alone.
//!
//! Sources: the kernel's admin-guide/cgroup-v2.rst; for shares and weights runc's conversions,
//! which is what callers calibrate their values for (runc 1.4).

use crate::cgroup::limits::Setting;
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// What a group's files say now; `None` when there is no such file.
pub(crate) type Current<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Settings, and warnings about fields without a counterpart.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) settings: Vec<Setting>,
    pub(crate) warnings: Vec<String>,
}

impl Converted {
    fn set(&mut self, field: &str, file: &str, value: impl ToString) {
        self.settings.push(Setting::new(field, file, value));
    }

    fn only_version_one(&mut self, set: bool, field: &str) {
        if set {
            self.warnings.push(format!(
                "{field} has no counterpart in version 2 of control groups, so it has no effect"
            ));
        }
    }
}

/// Converts all limits but devices.
///
/// # Errors
/// A value is impossible, or a key of `unified` is no control file.
pub(crate) fn convert(resources: &Resources, current: Current<'_>) -> Result<Converted> {
    let mut out = Converted::default();
    if let Some(memory) = &resources.memory {
        convert_memory(memory, current, &mut out)?;
    }
    if let Some(cpu) = &resources.cpu {
        convert_cpu(cpu, current, &mut out);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        out.set("pids.limit", "pids.max", pids(limit));
    }
    if let Some(block) = &resources.block_io {
        convert_block(block, current, &mut out);
    }
    for pages in &resources.hugepage_limits {
        let field = format!("hugepageLimits ({})", pages.page_size);
        let size = &pages.page_size;
        out.set(&field, &format!("hugetlb.{size}.max"), pages.limit);
        // Reservations beyond the limit would fail at the first touch instead of at mmap(2).
        let reserved = format!("hugetlb.{size}.rsvd.max");
        let reserved = Setting::new(field, reserved, pages.limit).optional();
        out.settings.push(reserved);
    }
    for (device, limits) in &resources.rdma {
        let mut line = device.clone();
        if let Some(handles) = limits.hca_handles {
            line += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            line += &format!(" hca_object={objects}");
        }
        out.set(&format!("rdma ({device})"), "rdma.max", line);
    }
    if let Some(network) = &resources.network {
        out.only_version_one(network.class_id.is_some(), "network.classID");
        out.only_version_one(!network.priorities.is_empty(), "network.priorities");
    }
    for (key, value) in &resources.unified {
        check_unified(key)?;
        // What the caller wrote for a file stands above what follows from other fields.
        out.settings.retain(|s| &s.file != key);
        out.set(&format!("unified ({key})"), key, value);
    }
    Ok(out)
}

fn convert_memory(memory: &Memory, current: Current<'_>, out: &mut Converted) -> Result<()> {
    let usage = || current("memory.current").and_then(|t| t.trim().parse::<i64>().ok());
    let limit = memory.limit.filter(|l| *l != 0);
    if let (Some(true), Some(limit)) = (memory.check_before_update, limit.filter(|l| *l > 0))
        && let Some(usage) = usage().filter(|usage| *usage > limit)
    {
        return Err(Error::new(format!(
            "memory.limit of {limit} is below the {usage} bytes in use"
        ))
        .hint("leave out memory.checkBeforeUpdate to reclaim or kill instead"));
    }
    // An update may give the sum alone; the limit is then the one in force.
    let against = limit.or_else(|| match current("memory.max")?.trim() {
        "max" => Some(-1),
        text => text.parse().ok(),
    });
    if let Some(value) = swap(memory.swap, limit, against)? {
        let setting = Setting::new("memory.swap", "memory.swap.max", &value);
        // Without swap accounting "none" and "unlimited" hold anyway, for want of swap.
        out.settings.push(match value.as_str() {
            "max" | "0" => setting.optional(),
            _ => setting,
        });
    }
    if let Some(limit) = limit {
        out.set("memory.limit", "memory.max", signed(limit));
    }
    if let Some(low) = memory.reservation.filter(|l| *l != 0) {
        out.set("memory.reservation", "memory.low", signed(low));
    }
    out.only_version_one(memory.kernel.is_some_and(|k| k > 0), "memory.kernel");
    let tcp = memory.kernel_tcp.is_some_and(|k| k > 0);
    out.only_version_one(tcp, "memory.kernelTCP");
    out.only_version_one(memory.swappiness.is_some(), "memory.swappiness");
    let oom = memory.disable_oom_killer.unwrap_or(false);
    out.only_version_one(oom, "memory.disableOOMKiller");
    // Version 2 is always hierarchical.
    let flat = memory.use_hierarchy == Some(false);
    out.only_version_one(flat, "memory.useHierarchy = false");
    Ok(())
}

/// The swap of its own that version 2 wants, from the sum that the specification has.
fn swap(sum: Option<i64>, limit: Option<i64>, against: Option<i64>) -> Result<Option<String>> {
    match sum.unwrap_or(0) {
        // Version 1 lifts the sum along with the limit.
        0 if limit.is_some_and(|l| l < 0) => Ok(Some("max".to_owned())),
        0 => Ok(None),
        sum if sum < 0 => Ok(Some("max".to_owned())),
        sum => match against {
            Some(limit) if limit > 0 && sum >= limit => Ok(Some((sum - limit).to_string())),
            Some(limit) if limit > 0 => Err(Error::new(format!(
                "memory.swap of {sum} is below memory.limit of {limit}: it is the sum of both"
            ))),
            _ => Err(Error::new(
                "memory.swap is the sum of memory and swap, so it needs memory.limit",
            )),
        },
    }
}

fn convert_cpu(cpu: &Cpu, current: Current<'_>, out: &mut Converted) {
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        out.set("cpu.shares", "cpu.weight", weight_of_shares(shares));
    }
    if let Some(idle) = cpu.idle {
        out.set("cpu.idle", "cpu.idle", idle);
    }
    let period = cpu.period.filter(|p| *p != 0);
    let quota = cpu.quota.filter(|q| *q != 0);
    if quota.is_some() || period.is_some() {
        let now = current("cpu.max").unwrap_or_default();
        let mut now = now.split_whitespace();
        let old_quota = now.next().unwrap_or("max");
        let quota = quota.map_or_else(|| old_quota.to_owned(), signed);
        // The kernel keeps the period when only a quota is written.
        let period = period.map(|p| format!(" {p}")).unwrap_or_default();
        let field = if cpu.quota.is_some() {
            "cpu.quota"
        } else {
            "cpu.period"
        };
        out.set(field, "cpu.max", quota + &period);
    }
    if let Some(burst) = cpu.burst {
        out.set("cpu.burst", "cpu.max.burst", burst);
    }
    if !cpu.cpus.is_empty() {
        out.set("cpu.cpus", "cpuset.cpus", &cpu.cpus);
    }
    if !cpu.mems.is_empty() {
        out.set("cpu.mems", "cpuset.mems", &cpu.mems);
    }
    let runtime = cpu.realtime_runtime.is_some_and(|r| r != 0);
    out.only_version_one(runtime, "cpu.realtimeRuntime");
    let period = cpu.realtime_period.is_some_and(|p| p != 0);
    out.only_version_one(period, "cpu.realtimePeriod");
}

fn convert_block(block: &BlockIo, current: Current<'_>, out: &mut Converted) {
    // The BFQ scheduler has files of its own, which alone are in force where it is used.
    let bfq = current("io.bfq.weight").is_some();
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let scale = |weight: u16| {
        if bfq {
            u64::from(weight)
        } else {
            weight_of_block(weight)
        }
    };
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        out.set("blockIO.weight", file, scale(weight));
    }
    out.only_version_one(
        block.leaf_weight.is_some_and(|w| w != 0),
        "blockIO.leafWeight",
    );
    for device in &block.weight_device {
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            let line = format!("{}:{} {}", device.major, device.minor, scale(weight));
            out.set("blockIO.weightDevice", file, line);
        }
        let leaf = device.leaf_weight.is_some_and(|w| w != 0);
        out.only_version_one(leaf, "blockIO.weightDevice.leafWeight");
    }
    let mut throttle = |list: &[ThrottleDevice], field: &str, key: &str| {
        for d in list {
            // Version 1 lifts a limit by writing 0.
            let rate = match d.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let line = format!("{}:{} {key}={rate}", d.major, d.minor);
            out.set(field, "io.max", line);
        }
    };
    throttle(
        &block.throttle_read_bps_device,
        "blockIO.throttleReadBpsDevice",
        "rbps",
    );
    throttle(
        &block.throttle_write_bps_device,
        "blockIO.throttleWriteBpsDevice",
        "wbps",
    );
    throttle(
        &block.throttle_read_iops_device,
        "blockIO.throttleReadIOPSDevice",
        "riops",
    );
    throttle(
        &block.throttle_write_iops_device,
        "blockIO.throttleWriteIOPSDevice",
        "wiops",
    );
}

/// Checks a key of `unified`.
fn check_unified(key: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::new(format!("unified key {key:?} {why}"))
            .hint("a key is the name of a control file, such as memory.high"))
    };
    if key.contains('/') || key.contains('\0') {
        return refuse("must be a file name without slashes");
    }
    if !key.contains('.') || key.starts_with('.') {
        return refuse("must have the form CONTROLLER.PARAMETER");
    }
    // These act on processes; the runtime alone decides on those.
    if matches!(
        key,
        "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.freeze"
    ) {
        return refuse("is no limit");
    }
    Ok(())
}

/// `max` for every negative number.
fn signed(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// A container has at least one process, so none and one are the same limit; one keeps entering
/// the group by clone(2) possible.
pub(crate) fn pids(limit: i64) -> String {
    signed(if limit == 0 { 1 } else { limit })
}

/// Maps shares (2–262144, usually 1024) to a weight (1–10000, usually 100), by the quadratic
/// exponent that meets all three points.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    let weight = 10_f64.powf(exponent);
    // Rounding up must not be set off by the last bit of the power.
    (weight - 1e-9).ceil() as u64
}

/// Maps a block weight (10–1000) linearly to a weight (1–10000).
pub(crate) fn weight_of_block(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(json: &str, files: &[(&str, &str)]) -> Result<Converted> {
        let resources = Resources::parse(json.as_bytes()).expect("parse");
        let current = |name: &str| {
            let found = files.iter().find(|(file, _)| *file == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        convert(&resources, &current)
    }

    fn lines(json: &str, files: &[(&str, &str)]) -> Vec<String> {
        let out = converted(json, files).expect("convert");
        assert!(out.warnings.is_empty(), "{:?}", out.warnings);
        out.settings
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect()
    }

    #[test]
    fn weights() {
        // The three points, and between them what the formula gives when computed by hand.
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (3, 2),
            (4, 2),
            (8, 3),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        for (block, weight) in [(10, 1), (500, 4950), (1000, 10_000)] {
            assert_eq!(weight_of_block(block), weight, "{block}");
        }
    }

    #[test]
    fn tables() {
        let none: &[(&str, &str)] = &[];
        let busy: &[(&str, &str)] = &[
            ("cpu.max", "5000 20000\n"),
            ("memory.max", "1000\n"),
            ("memory.current", "900\n"),
            ("io.bfq.weight", "default 100\n"),
        ];
        for (json, files, want) in [
            ("{}", none, vec![]),
            (r#"{"memory":{"limit":100}}"#, none, vec!["memory.max=100"]),
            (
                r#"{"memory":{"limit":100,"swap":100}}"#,
                none,
                vec!["memory.swap.max=0", "memory.max=100"],
            ),
            (
                r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
                none,
                vec!["memory.swap.max=50", "memory.max=100", "memory.low=50"],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                none,
                vec!["memory.swap.max=max", "memory.max=max"],
            ),
            (
                r#"{"memory":{"limit":100,"swap":-1}}"#,
                none,
                vec!["memory.swap.max=max", "memory.max=100"],
            ),
            (r#"{"memory":{"limit":0,"swap":0}}"#, none, vec![]),
            (
                r#"{"memory":{"swap":1500}}"#,
                busy,
                vec!["memory.swap.max=500"],
            ),
            (
                r#"{"memory":{"limit":900,"checkBeforeUpdate":true}}"#,
                busy,
                vec!["memory.max=900"],
            ),
            (
                r#"{"cpu":{"shares":1024,"quota":50000,"period":100000,"burst":10}}"#,
                none,
                vec!["cpu.weight=100", "cpu.max=50000 100000", "cpu.max.burst=10"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, none, vec!["cpu.max=max"]),
            (r#"{"cpu":{"period":1000}}"#, none, vec!["cpu.max=max 1000"]),
            (
                r#"{"cpu":{"period":1000}}"#,
                busy,
                vec!["cpu.max=5000 1000"],
            ),
            (r#"{"cpu":{"quota":7000}}"#, busy, vec!["cpu.max=7000"]),
            (
                r#"{"cpu":{"idle":1,"cpus":"0-1","mems":"0"}}"#,
                none,
                vec!["cpu.idle=1", "cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (r#"{"pids":{"limit":7}}"#, none, vec!["pids.max=7"]),
            (r#"{"pids":{"limit":-1}}"#, none, vec!["pids.max=max"]),
            (r#"{"pids":{"limit":0}}"#, none, vec!["pids.max=1"]),
            (r#"{"pids":{}}"#, none, vec![]),
            (
                r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}],
                    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
                none,
                vec![
                    "io.weight=4950",
                    "io.weight=8:0 1",
                    "io.max=8:0 rbps=5",
                    "io.max=8:16 wiops=max",
                ],
            ),
            (
                r#"{"blockIO":{"weight":500}}"#,
                busy,
                vec!["io.bfq.weight=500"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
                none,
                vec!["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"],
            ),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10}}}"#,
                none,
                vec!["rdma.max=mlx5_1 hca_handle=3 hca_object=10"],
            ),
            (
                r#"{"memory":{"limit":1},"unified":{"memory.max":"5","memory.high":"4"}}"#,
                none,
                vec!["memory.high=4", "memory.max=5"],
            ),
        ] {
            assert_eq!(lines(json, files), want, "{json}");
        }
    }

    #[test]
    fn what_is_impossible_is_an_error() {
        let full: &[(&str, &str)] = &[("memory.current", "900\n")];
        for (json, text) in [
            (
                r#"{"memory":{"limit":100,"swap":50}}"#,
                "below memory.limit",
            ),
            (r#"{"memory":{"swap":50}}"#, "needs memory.limit"),
            (
                r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#,
                "900 bytes in use",
            ),
            (r#"{"unified":{"a/b.c":"1"}}"#, "without slashes"),
            (r#"{"unified":{"memory":"1"}}"#, "CONTROLLER.PARAMETER"),
            (r#"{"unified":{"..":"1"}}"#, "CONTROLLER.PARAMETER"),
            (r#"{"unified":{"cgroup.procs":"1"}}"#, "is no limit"),
        ] {
            let error = converted(json, full).expect_err(json).to_string();
            assert!(error.contains(text), "{json}: {error}");
        }
    }

    #[test]
    fn what_version_two_lacks_is_named() {
        let out = converted(
            r#"{"memory":{"kernel":1,"kernelTCP":1,"swappiness":0,"disableOOMKiller":true,
                "useHierarchy":false},"cpu":{"realtimeRuntime":1,"realtimePeriod":1},
                "network":{"classID":1,"priorities":[{"name":"lo","priority":1}]},
                "blockIO":{"leafWeight":10}}"#,
            &[],
        )
        .expect("convert");
        assert!(out.settings.is_empty());
        assert_eq!(out.warnings.len(), 10, "{:?}", out.warnings);
    }
}
