//! Statistics of version 1 (admin-guide/cgroup-v1/).
//!
//! Responsible for finding the numbers and for their units. Must not fail: kernels are built with
//! different files.

use crate::cgroup::files::Directory;
use crate::cgroup::stats::{BlkioEntry, Cpuset, Hugetlb, MemoryUsage, Stats, device, table, value};

/// Adds what one controller's files say.
pub(crate) fn read(group: &Directory, controller: &str, stats: &mut Stats) {
    match controller {
        "cpu" => {
            let table = table(group, "cpu.stat");
            let of = |key: &str| table.get(key).copied().unwrap_or(0);
            stats.cpu.throttling.periods = of("nr_periods");
            stats.cpu.throttling.throttled_periods = of("nr_throttled");
            // Nanoseconds, here.
            stats.cpu.throttling.throttled_time = of("throttled_time");
        }
        "cpuacct" => read_cpuacct(group, stats),
        "cpuset" => read_cpuset(group, &mut stats.cpuset),
        "memory" => read_memory(group, stats),
        "pids" => {
            stats.pids.current = value(group, "pids.current");
            stats.pids.limit = Some(value(group, "pids.max"))
                .filter(|n| *n != u64::MAX)
                .unwrap_or(0);
        }
        "blkio" => {
            let entries = |name: &str| {
                // Where the BFQ scheduler is used, only its own counters count.
                let list = entries(group, &format!("blkio.bfq.{name}_recursive"));
                if list.is_empty() {
                    entries(group, &format!("blkio.throttle.{name}_recursive"))
                } else {
                    list
                }
            };
            stats.blkio.io_service_bytes_recursive = entries("io_service_bytes");
            stats.blkio.io_serviced_recursive = entries("io_serviced");
        }
        "hugetlb" => {
            for file in group.files().unwrap_or_default() {
                let size = file
                    .strip_prefix("hugetlb.")
                    .and_then(|f| f.strip_suffix(".usage_in_bytes"))
                    .filter(|size| !size.contains('.'));
                if let Some(size) = size {
                    let pages = Hugetlb {
                        usage: value(group, &file),
                        max: value(group, &format!("hugetlb.{size}.max_usage_in_bytes")),
                        failcnt: value(group, &format!("hugetlb.{size}.failcnt")),
                    };
                    stats.hugetlb.insert(size.to_owned(), pages);
                }
            }
        }
        _ => {}
    }
}

fn read_cpuacct(group: &Directory, stats: &mut Stats) {
    /// One tick of `USER_HZ`, which is 100 on all architectures that we run on (time(7)).
    const TICK: u64 = 10_000_000;
    let usage = &mut stats.cpu.usage;
    usage.total = value(group, "cpuacct.usage");
    let table = table(group, "cpuacct.stat");
    let of = |key: &str| table.get(key).copied().unwrap_or(0).saturating_mul(TICK);
    usage.user = of("user");
    usage.kernel = of("system");
    let text = group.read("cpuacct.usage_percpu").unwrap_or_default();
    let numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    usage.percpu = numbers.collect();
    let text = group.read("cpuacct.usage_all").unwrap_or_default();
    for line in text.lines().skip(1) {
        let mut numbers = line.split_whitespace().skip(1).map(str::parse);
        if let (Some(Ok(user)), Some(Ok(system))) = (numbers.next(), numbers.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(system);
        }
    }
}

fn read_memory(group: &Directory, stats: &mut Stats) {
    let usage = |prefix: &str| MemoryUsage {
        limit: value(group, &format!("{prefix}.limit_in_bytes")),
        usage: value(group, &format!("{prefix}.usage_in_bytes")),
        max: value(group, &format!("{prefix}.max_usage_in_bytes")),
        failcnt: value(group, &format!("{prefix}.failcnt")),
    };
    let raw = table(group, "memory.stat");
    let memory = &mut stats.memory;
    memory.cache = raw.get("cache").copied().unwrap_or(0);
    memory.raw = raw;
    memory.usage = usage("memory");
    memory.swap = usage("memory.memsw");
    memory.kernel = usage("memory.kmem");
    memory.kernel_tcp = usage("memory.kmem.tcp");
}

fn read_cpuset(group: &Directory, set: &mut Cpuset) {
    let list = |file: &str| ranges(&group.read(file).unwrap_or_default());
    set.cpus = list("cpuset.cpus");
    set.mems = list("cpuset.mems");
    let of = |name: &str| value(group, &format!("cpuset.{name}"));
    set.cpu_exclusive = of("cpu_exclusive");
    set.mem_hardwall = of("mem_hardwall");
    set.mem_exclusive = of("mem_exclusive");
    set.memory_migrate = of("memory_migrate");
    set.memory_spread_page = of("memory_spread_page");
    set.memory_spread_slab = of("memory_spread_slab");
    set.memory_pressure = of("memory_pressure");
    set.sched_load_balance = of("sched_load_balance");
    let level = group.read("cpuset.sched_relax_domain_level");
    let level = level.ok().and_then(|t| t.trim().parse().ok());
    set.sched_relax_domain_level = level.unwrap_or(0);
}

/// Expands `0-2,5`.
fn ranges(text: &str) -> Vec<u16> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

/// Reads lines such as `8:0 Read 4096`; the last one, a total, has no device.
fn entries(group: &Directory, file: &str) -> Vec<BlkioEntry> {
    let text = group.read(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (major, minor) = device(words.first()?)?;
            let (op, number) = match words[1..] {
                [op, number] => (op, number),
                [number] => ("", number),
                _ => return None,
            };
            Some(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value: number.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn lists_and_lines() {
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(ranges("\n"), [0; 0]);
        let dir = tempfile::tempdir().expect("a directory");
        let name = "blkio.throttle.io_serviced_recursive";
        let text = "8:0 Read 4\n8:0 Total 4\n8:16 7\nTotal 4\n";
        std::fs::write(dir.path().join(name), text).expect("write");
        let group = Directory::open(dir.path(), Path::new("/")).expect("open");
        let mut stats = Stats::default();
        read(&group, "blkio", &mut stats);
        let list = stats.blkio.io_serviced_recursive;
        assert_eq!(list.len(), 3);
        assert_eq!((list[0].op.as_str(), list[0].value), ("Read", 4));
        assert_eq!((list[2].minor, list[2].value), (16, 7));
    }
}
