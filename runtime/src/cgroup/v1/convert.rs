//! Limits of the specification as files of version 1.
//!
//! Responsible for names and values. Must not write anything. Invariant: as in version 2, a field
//! that is not set yields no setting.
//!
//! Sources: the kernel's admin-guide/cgroup-v1/.

use crate::cgroup::limits::Setting;
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// Says whether a controller's group has a file, and what is in it.
pub(crate) type Current<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Converts all limits but devices and `unified`.
///
/// # Errors
/// A value is impossible.
pub(crate) fn convert(
    resources: &Resources,
    current: Current<'_>,
) -> Result<(Vec<Setting>, Vec<String>)> {
    let mut out = Vec::new();
    let mut warnings = Vec::new();
    if let Some(memory) = &resources.memory {
        convert_memory(memory, current, &mut out, &mut warnings)?;
    }
    if let Some(cpu) = &resources.cpu {
        convert_cpu(cpu, &mut out);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        let value = crate::cgroup::v2::convert::pids(limit);
        out.push(Setting::new("pids.limit", "pids.max", value));
    }
    if let Some(block) = &resources.block_io {
        convert_block(block, current, &mut out);
    }
    for pages in &resources.hugepage_limits {
        let field = format!("hugepageLimits ({})", pages.page_size);
        let size = &pages.page_size;
        let file = format!("hugetlb.{size}.limit_in_bytes");
        out.push(Setting::new(&field, file, pages.limit));
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        out.push(Setting::new(field, file, pages.limit).optional());
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id.filter(|c| *c != 0) {
            out.push(Setting::new("network.classID", "net_cls.classid", class));
        }
        for p in &network.priorities {
            let line = format!("{} {}", p.name, p.priority);
            out.push(Setting::new(
                "network.priorities",
                "net_prio.ifpriomap",
                line,
            ));
        }
    }
    for (device, limits) in &resources.rdma {
        let mut line = device.clone();
        if let Some(handles) = limits.hca_handles {
            line += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            line += &format!(" hca_object={objects}");
        }
        out.push(Setting::new(format!("rdma ({device})"), "rdma.max", line));
    }
    Ok((out, warnings))
}

fn convert_memory(
    memory: &Memory,
    current: Current<'_>,
    out: &mut Vec<Setting>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let limit = memory.limit.filter(|l| *l != 0);
    let sum = memory.swap.filter(|s| *s != 0);
    if let (Some(true), Some(limit)) = (memory.check_before_update, limit.filter(|l| *l > 0)) {
        let usage = current("memory.usage_in_bytes").and_then(|t| t.trim().parse::<i64>().ok());
        if let Some(usage) = usage.filter(|usage| *usage > limit) {
            return Err(Error::new(format!(
                "memory.limit of {limit} is below the {usage} bytes in use"
            ))
            .hint("leave out memory.checkBeforeUpdate to reclaim or kill instead"));
        }
    }
    if let (Some(limit), Some(sum)) = (limit, sum)
        && sum > 0
        && (limit < 0 || sum < limit)
    {
        return Err(Error::new(format!(
            "memory.swap of {sum} is below memory.limit of {limit}: it is the sum of both"
        )));
    }
    // A limit that is lifted needs the sum lifted first.
    let sum = sum.or_else(|| limit.filter(|l| *l < 0));
    if let Some(limit) = limit {
        let file = "memory.limit_in_bytes";
        out.push(Setting::new("memory.limit", file, limit.max(-1)));
    }
    if let Some(sum) = sum {
        let file = "memory.memsw.limit_in_bytes";
        let setting = Setting::new("memory.swap", file, sum.max(-1));
        // Without swap accounting there is no such file, and nothing to lift.
        out.push(if sum < 0 { setting.optional() } else { setting });
    }
    if let Some(soft) = memory.reservation.filter(|l| *l != 0) {
        let file = "memory.soft_limit_in_bytes";
        out.push(Setting::new("memory.reservation", file, soft.max(-1)));
    }
    if memory.kernel.is_some_and(|k| k > 0) {
        // Linux 5.16 and later refuse it; before that it was known to be harmful.
        warnings.push(
            "memory.kernel has no effect: the kernel has withdrawn limits of kernel memory"
                .to_owned(),
        );
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|k| *k != 0) {
        let file = "memory.kmem.tcp.limit_in_bytes";
        out.push(Setting::new("memory.kernelTCP", file, tcp.max(-1)));
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(Error::new(format!(
                "memory.swappiness of {swappiness} is not between 0 and 100"
            )));
        }
        let file = "memory.swappiness";
        out.push(Setting::new("memory.swappiness", file, swappiness));
    }
    if let Some(disable) = memory.disable_oom_killer {
        let file = "memory.oom_control";
        out.push(Setting::new(
            "memory.disableOOMKiller",
            file,
            u8::from(disable),
        ));
    }
    if let Some(hierarchy) = memory.use_hierarchy {
        let now = current("memory.use_hierarchy").unwrap_or_default();
        let want = if hierarchy { "1" } else { "0" };
        // Since Linux 5.11 it is always on, and the file refuses everything else.
        if now.trim() != want {
            let file = "memory.use_hierarchy";
            out.push(Setting::new("memory.useHierarchy", file, want));
        }
    }
    Ok(())
}

fn convert_cpu(cpu: &Cpu, out: &mut Vec<Setting>) {
    let mut set = |value: Option<String>, field: &str, file: &str| {
        if let Some(value) = value {
            out.push(Setting::new(field, file, value));
        }
    };
    let text = |value: Option<u64>| value.filter(|v| *v != 0).map(|v| v.to_string());
    set(text(cpu.shares), "cpu.shares", "cpu.shares");
    set(cpu.idle.map(|i| i.to_string()), "cpu.idle", "cpu.idle");
    set(text(cpu.period), "cpu.period", "cpu.cfs_period_us");
    let quota = cpu.quota.filter(|q| *q != 0);
    let quota = quota.map(|q| q.max(-1).to_string());
    set(quota, "cpu.quota", "cpu.cfs_quota_us");
    let burst = cpu.burst.map(|b| b.to_string());
    set(burst, "cpu.burst", "cpu.cfs_burst_us");
    let period = text(cpu.realtime_period);
    set(period, "cpu.realtimePeriod", "cpu.rt_period_us");
    let runtime = cpu.realtime_runtime.filter(|r| *r != 0);
    let runtime = runtime.map(|r| r.to_string());
    set(runtime, "cpu.realtimeRuntime", "cpu.rt_runtime_us");
    let list = |text: &String| (!text.is_empty()).then(|| text.clone());
    set(list(&cpu.cpus), "cpu.cpus", "cpuset.cpus");
    set(list(&cpu.mems), "cpu.mems", "cpuset.mems");
}

fn convert_block(block: &BlockIo, current: Current<'_>, out: &mut Vec<Setting>) {
    let bfq = current("blkio.bfq.weight").is_some();
    let prefix = if bfq { "blkio.bfq" } else { "blkio" };
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        let file = format!("{prefix}.weight");
        out.push(Setting::new("blockIO.weight", file, weight));
    }
    if let Some(weight) = block.leaf_weight.filter(|w| *w != 0) {
        out.push(Setting::new(
            "blockIO.leafWeight",
            "blkio.leaf_weight",
            weight,
        ));
    }
    for d in &block.weight_device {
        let field = "blockIO.weightDevice";
        if let Some(weight) = d.weight.filter(|w| *w != 0) {
            let line = format!("{}:{} {weight}", d.major, d.minor);
            out.push(Setting::new(field, format!("{prefix}.weight_device"), line));
        }
        if let Some(weight) = d.leaf_weight.filter(|w| *w != 0) {
            let line = format!("{}:{} {weight}", d.major, d.minor);
            out.push(Setting::new(field, "blkio.leaf_weight_device", line));
        }
    }
    let mut throttle = |list: &[ThrottleDevice], field: &str, file: &str| {
        for d in list {
            let line = format!("{}:{} {}", d.major, d.minor, d.rate);
            let file = format!("blkio.throttle.{file}_device");
            out.push(Setting::new(field, file, line));
        }
    };
    throttle(
        &block.throttle_read_bps_device,
        "blockIO.throttleReadBpsDevice",
        "read_bps",
    );
    throttle(
        &block.throttle_write_bps_device,
        "blockIO.throttleWriteBpsDevice",
        "write_bps",
    );
    throttle(
        &block.throttle_read_iops_device,
        "blockIO.throttleReadIOPSDevice",
        "read_iops",
    );
    throttle(
        &block.throttle_write_iops_device,
        "blockIO.throttleWriteIOPSDevice",
        "write_iops",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str) -> Vec<String> {
        let resources = Resources::parse(json.as_bytes()).expect("parse");
        let (settings, warnings) = convert(&resources, &|_| None).expect("convert");
        assert!(warnings.is_empty(), "{warnings:?}");
        settings
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect()
    }

    #[test]
    fn tables() {
        for (json, want) in [
            ("{}", vec![]),
            (
                r#"{"memory":{"limit":100,"swap":150,"reservation":50,"swappiness":0,
                    "disableOOMKiller":true,"kernelTCP":9}}"#,
                vec![
                    "memory.limit_in_bytes=100",
                    "memory.memsw.limit_in_bytes=150",
                    "memory.soft_limit_in_bytes=50",
                    "memory.kmem.tcp.limit_in_bytes=9",
                    "memory.swappiness=0",
                    "memory.oom_control=1",
                ],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                vec!["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            ),
            (
                r#"{"cpu":{"shares":5,"quota":6,"period":7,"burst":8,"realtimeRuntime":9,
                    "realtimePeriod":10,"idle":0,"cpus":"0","mems":"0"}}"#,
                vec![
                    "cpu.shares=5",
                    "cpu.idle=0",
                    "cpu.cfs_period_us=7",
                    "cpu.cfs_quota_us=6",
                    "cpu.cfs_burst_us=8",
                    "cpu.rt_period_us=10",
                    "cpu.rt_runtime_us=9",
                    "cpuset.cpus=0",
                    "cpuset.mems=0",
                ],
            ),
            (r#"{"pids":{"limit":-1}}"#, vec!["pids.max=max"]),
            (
                r#"{"blockIO":{"weight":10,"leafWeight":11,"weightDevice":[{"major":8,"minor":0,
                    "weight":12,"leafWeight":13}],
                    "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
                vec![
                    "blkio.weight=10",
                    "blkio.leaf_weight=11",
                    "blkio.weight_device=8:0 12",
                    "blkio.leaf_weight_device=8:0 13",
                    "blkio.throttle.write_bps_device=8:0 0",
                ],
            ),
            (
                r#"{"network":{"classID":1048577,"priorities":[{"name":"lo","priority":5}]},
                    "hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
                vec![
                    "hugetlb.2MB.limit_in_bytes=0",
                    "hugetlb.2MB.rsvd.limit_in_bytes=0",
                    "net_cls.classid=1048577",
                    "net_prio.ifpriomap=lo 5",
                ],
            ),
        ] {
            assert_eq!(lines(json), want, "{json}");
        }
    }

    #[test]
    fn a_sum_below_its_part_is_an_error() {
        for json in [
            r#"{"memory":{"limit":100,"swap":50}}"#,
            r#"{"memory":{"limit":-1,"swap":50}}"#,
            r#"{"memory":{"swappiness":101}}"#,
        ] {
            let resources = Resources::parse(json.as_bytes()).expect("parse");
            assert!(convert(&resources, &|_| None).is_err(), "{json}");
        }
    }
}
