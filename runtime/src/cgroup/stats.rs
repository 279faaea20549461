//! What a group has used.
//!
//! Responsible for the shape of the statistics, which is that of runc's `events --stats` (1.1), as
//! callers read it. Must not know where a number is found. Invariant: what the host can't tell is
//! left out or zero, as there, and is no error.

use std::collections::BTreeMap;

use serde::Serialize;

use super::files::{Directory, number};
use super::{Group, v1, v2};
use crate::error::Result;

/// Statistics of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes (version 1).
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA by device; not in runc's document.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Always empty: resource director technology is refused.
    pub intel_rdt: BTreeMap<String, u64>,
    /// Always null: the network is not ours to count.
    pub network_interfaces: Option<Vec<u64>>,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cpu {
    /// Nanoseconds.
    pub usage: CpuUsage,
    /// How often the quota was used up.
    pub throttling: Throttling,
    /// Pressure (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, by processor (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// Effects of a quota.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Those in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds of waiting.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// `cpuset` of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Cpuset {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// cpusets.rst explains these.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// See `cpu_exclusive`.
    pub mem_hardwall: u64,
    /// See `cpu_exclusive`.
    pub mem_exclusive: u64,
    /// See `cpu_exclusive`.
    pub memory_migrate: u64,
    /// See `cpu_exclusive`.
    pub memory_spread_page: u64,
    /// See `cpu_exclusive`.
    pub memory_spread_slab: u64,
    /// See `cpu_exclusive`.
    pub memory_pressure: u64,
    /// See `cpu_exclusive`.
    pub sched_load_balance: u64,
    /// See `cpu_exclusive`.
    pub sched_relax_domain_level: i64,
}

/// Memory in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Memory {
    /// Pages of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory and swap together.
    pub swap: MemoryUsage,
    /// Kernel memory (version 1).
    pub kernel: MemoryUsage,
    /// Kernel memory of TCP (version 1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUsage,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryUsage {
    /// The limit; the largest number is none.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; 0 is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Pressure (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hugetlb {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far (version 1).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// An RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rdma {
    /// Handles in use.
    pub hca_handles: u64,
    /// Objects in use.
    pub hca_objects: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pressure {
    /// Some tasks waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub some: Option<Stall>,
    /// All tasks waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// Share of time that was lost.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the group was made.
    pub total: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Group {
    /// Reads the statistics.
    ///
    /// # Errors
    /// A group is gone.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        if let Some(place) = &self.unified {
            v2::stats::read(&place.open()?, &mut stats);
        }
        for place in &self.legacy {
            let group = place.open()?;
            for controller in &place.controllers {
                v1::stats::read(&group, controller, &mut stats);
            }
        }
        Ok(stats)
    }
}

/// Reads a number that may not be there.
pub(super) fn value(group: &Directory, file: &str) -> u64 {
    group.read_number(file).unwrap_or(0)
}

/// Reads lines of a name and a number.
pub(super) fn table(group: &Directory, file: &str) -> BTreeMap<String, u64> {
    let text = group.read(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, text) = line.split_once(' ')?;
            Some((name.to_owned(), number(text.trim())?))
        })
        .collect()
}

/// Splits `8:16`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_that_of_runc() {
        let stats = Stats {
            pids: Pids {
                current: 1,
                limit: 0,
            },
            ..Stats::default()
        };
        let text = serde_json::to_string(&stats).expect("write");
        assert_eq!(
            text,
            r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#.to_owned()
                + r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"#
                + r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"#
                + r#""memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"#
                + r#""memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"#
                + r#""kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"#
                + r#""pids":{"current":1},"blkio":{},"hugetlb":{},"intel_rdt":{},"#
                + r#""network_interfaces":null}"#
        );
    }
}
