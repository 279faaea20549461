//! `linux.resources` (config-linux.md, "Control groups"), which `update` reads too.
//!
//! Responsible for names and ranges. Must not know which version of control groups there is.
//! Invariant: as for its parent module.

use super::document::no_nul;
use super::{Report, quote};
use crate::scheduling::parse_list;
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, Resources};

/// More processors and memory nodes than kernels are built for (`NR_CPUS` is at most 8192).
const LIST_LIMIT: usize = 8192;

pub(super) fn check(resources: &Resources, report: &mut Report) {
    report.each("devices", &resources.devices, |report, rule| {
        check_device(rule, report);
    });
    if let Some(memory) = &resources.memory {
        report.field("memory", |report| check_memory(memory, report));
    }
    if let Some(cpu) = &resources.cpu {
        report.field("cpu", |report| check_cpu(cpu, report));
    }
    if let Some(block_io) = &resources.block_io {
        report.field("blockIO", |report| check_block_io(block_io, report));
    }
    report.each(
        "hugepageLimits",
        &resources.hugepage_limits,
        |report, limit| {
            report.field("pageSize", |report| file_part(&limit.page_size, report));
        },
    );
    if let Some(network) = &resources.network {
        report.field("network", |report| {
            report.each("priorities", &network.priorities, |report, priority| {
                report.field("name", |report| file_part(&priority.name, report));
            });
        });
    }
    report.field("rdma", |report| {
        for name in resources.rdma.keys() {
            report.field(name, |report| file_part(name, report));
        }
    });
    report.field("unified", |report| {
        for (name, value) in &resources.unified {
            report.field(name, |report| {
                file_part(name, report);
                no_nul(value, report);
            });
        }
    });
}

/// A text that becomes a file's name, or part of one, in a control group.
fn file_part(text: &str, report: &mut Report) {
    if text.is_empty() {
        report.add("is empty");
    } else if text.contains('/') || matches!(text, "." | "..") {
        report.add(format!("{} is no name of a file", quote(text)));
    } else if text.contains(char::is_whitespace) {
        report.add(format!("{} has white space", quote(text)));
    }
    no_nul(text, report);
}

fn check_device(rule: &DeviceRule, report: &mut Report) {
    if !matches!(rule.kind.as_str(), "" | "a" | "c" | "b") {
        report.add_at(
            "type",
            format!("unknown type of device {}", quote(&rule.kind)),
        );
    }
    if rule.access.chars().any(|c| !"rwm".contains(c)) {
        let text = format!("{} is not made of `r`, `w` and `m`", quote(&rule.access));
        report.add_at("access", text);
    }
    for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let Some(number) = number
            && !(-1..=i64::from(u32::MAX)).contains(&number)
        {
            report.add_at(name, format!("{number} is no device number"));
        }
    }
}

fn check_memory(memory: &Memory, report: &mut Report) {
    for (name, value) in [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ] {
        if let Some(value) = value
            && value < -1
        {
            report.add_at(name, format!("{value} is below -1"));
        }
    }
    if let Some(swappiness) = memory.swappiness
        && swappiness > 100
    {
        report.add_at("swappiness", format!("{swappiness} is above 100"));
    }
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && swap > 0
        && limit > swap
    {
        report.add_at(
            "swap",
            format!("memory and swap together ({swap}) are below memory alone ({limit})"),
        );
    }
}

fn check_cpu(cpu: &Cpu, report: &mut Report) {
    for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        if !list.is_empty()
            && let Err(text) = parse_list(list, LIST_LIMIT)
        {
            report.add_at(name, text);
        }
    }
    if let Some(idle) = cpu.idle
        && !(0..=1).contains(&idle)
    {
        report.add_at("idle", format!("{idle} is neither 0 nor 1"));
    }
    for (name, value) in [
        ("quota", cpu.quota),
        ("realtimeRuntime", cpu.realtime_runtime),
    ] {
        if let Some(value) = value
            && value < -1
        {
            report.add_at(name, format!("{value} is below -1"));
        }
    }
}

fn check_block_io(block_io: &BlockIo, report: &mut Report) {
    // 0 is "not set" for those who write the document in Go.
    let weight = |name: &str, weight: Option<u16>, report: &mut Report| {
        if let Some(weight) = weight
            && weight != 0
            && !(10..=1000).contains(&weight)
        {
            report.add_at(name, format!("{weight} is not 10 to 1000"));
        }
    };
    weight("weight", block_io.weight, report);
    weight("leafWeight", block_io.leaf_weight, report);
    let number = |name: &str, number: i64, report: &mut Report| {
        if !(0..=i64::from(u32::MAX)).contains(&number) {
            report.add_at(name, format!("{number} is no device number"));
        }
    };
    report.each("weightDevice", &block_io.weight_device, |report, device| {
        number("major", device.major, report);
        number("minor", device.minor, report);
        weight("weight", device.weight, report);
        weight("leafWeight", device.leaf_weight, report);
    });
    for (name, list) in [
        ("throttleReadBpsDevice", &block_io.throttle_read_bps_device),
        (
            "throttleWriteBpsDevice",
            &block_io.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            &block_io.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            &block_io.throttle_write_iops_device,
        ),
    ] {
        report.each(name, list, |report, device| {
            number("major", device.major, report);
            number("minor", device.minor, report);
        });
    }
}
