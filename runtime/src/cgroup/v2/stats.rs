//! Statistics of version 2 (cgroup-v2.rst).
//!
//! Responsible for finding the numbers and for their units. Must not fail: a controller that is not
//! enabled has no files.

use std::collections::BTreeMap;

use crate::cgroup::files::Directory;
use crate::cgroup::stats::{
    BlkioEntry, Hugetlb, MemoryUsage, Pressure, Rdma, Stall, Stats, device, table, value,
};

/// Adds what a group's files say.
pub(crate) fn read(group: &Directory, stats: &mut Stats) {
    read_cpu(group, stats);
    if group.has("memory.current") {
        read_memory(group, stats);
    }
    if group.has("pids.current") {
        stats.pids.current = value(group, "pids.current");
        // No limit is 0 in this document.
        stats.pids.limit = Some(value(group, "pids.max"))
            .filter(|n| *n != u64::MAX)
            .unwrap_or(0);
    }
    read_io(group, stats);
    for file in group.files().unwrap_or_default() {
        let size = file
            .strip_prefix("hugetlb.")
            .and_then(|f| f.strip_suffix(".current"))
            .filter(|size| !size.contains('.'));
        if let Some(size) = size {
            let events = table(group, &format!("hugetlb.{size}.events"));
            let pages = Hugetlb {
                usage: value(group, &file),
                max: 0,
                failcnt: events.get("max").copied().unwrap_or(0),
            };
            stats.hugetlb.insert(size.to_owned(), pages);
        }
    }
    for line in group.read("rdma.current").unwrap_or_default().lines() {
        let (name, fields) = fields(line);
        let of = |key: &str| fields.get(key).and_then(|n| n.parse().ok()).unwrap_or(0);
        let rdma = Rdma {
            hca_handles: of("hca_handle"),
            hca_objects: of("hca_object"),
        };
        if !name.is_empty() {
            stats.rdma.insert(name.to_owned(), rdma);
        }
    }
}

fn read_cpu(group: &Directory, stats: &mut Stats) {
    let table = table(group, "cpu.stat");
    let of = |key: &str| table.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| of(key).saturating_mul(1000);
    // On a hybrid host version 1 fills these in afterwards.
    stats.cpu.usage.total = nanoseconds("usage_usec");
    stats.cpu.usage.user = nanoseconds("user_usec");
    stats.cpu.usage.kernel = nanoseconds("system_usec");
    stats.cpu.throttling.periods = of("nr_periods");
    stats.cpu.throttling.throttled_periods = of("nr_throttled");
    stats.cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    stats.cpu.psi = pressure(group, "cpu.pressure");
}

fn read_memory(group: &Directory, stats: &mut Stats) {
    let raw = table(group, "memory.stat");
    let events = table(group, "memory.events");
    let memory = &mut stats.memory;
    memory.cache = raw.get("file").copied().unwrap_or(0);
    memory.raw = raw;
    memory.usage = MemoryUsage {
        limit: value(group, "memory.max"),
        usage: value(group, "memory.current"),
        max: value(group, "memory.peak"),
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    if group.has("memory.swap.current") {
        // Readers expect the sum of memory and swap, as version 1 counts.
        let swap = |file: &str, memory: u64| value(group, file).saturating_add(memory);
        memory.swap = MemoryUsage {
            limit: swap("memory.swap.max", memory.usage.limit),
            usage: swap("memory.swap.current", memory.usage.usage),
            max: 0,
            failcnt: 0,
        };
    }
    memory.psi = pressure(group, "memory.pressure");
}

fn read_io(group: &Directory, stats: &mut Stats) {
    for line in group.read("io.stat").unwrap_or_default().lines() {
        let (name, fields) = fields(line);
        let Some((major, minor)) = device(name) else {
            continue;
        };
        let entries = |keys: [(&str, &str); 3]| {
            keys.into_iter()
                .filter_map(|(key, op)| {
                    Some(BlkioEntry {
                        major,
                        minor,
                        op: op.to_owned(),
                        value: fields.get(key)?.parse().ok()?,
                    })
                })
                .collect::<Vec<_>>()
        };
        let blkio = &mut stats.blkio;
        blkio.io_service_bytes_recursive.extend(entries([
            ("rbytes", "Read"),
            ("wbytes", "Write"),
            ("dbytes", "Discard"),
        ]));
        blkio.io_serviced_recursive.extend(entries([
            ("rios", "Read"),
            ("wios", "Write"),
            ("dios", "Discard"),
        ]));
    }
    stats.blkio.psi = pressure(group, "io.pressure");
}

/// Splits `NAME KEY=VALUE …`.
fn fields(line: &str) -> (&str, BTreeMap<&str, &str>) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    (name, words.filter_map(|w| w.split_once('=')).collect())
}

/// Reads a pressure file; one that is switched off can't be read.
fn pressure(group: &Directory, file: &str) -> Option<Pressure> {
    let text = group.read(file).ok()?;
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (name, fields) = fields(line);
        let of = |key: &str| fields.get(key).and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let total = fields.get("total").and_then(|n| n.parse().ok());
        let stall = Stall {
            avg10: of("avg10"),
            avg60: of("avg60"),
            avg300: of("avg300"),
            total: total.unwrap_or(0),
        };
        match name {
            "some" => pressure.some = Some(stall),
            "full" => pressure.full = Some(stall),
            _ => {}
        }
    }
    Some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file() {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\nnr_throttled 2\n\
                 throttled_usec 5\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 \
                 avg300=0.00 total=3\n",
            ),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "150\n"),
            ("memory.stat", "anon 60\nfile 40\n"),
            ("memory.events", "low 0\nmax 6\noom 1\n"),
            ("memory.swap.current", "5\n"),
            ("memory.swap.max", "50\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            (
                "io.stat",
                "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 \n",
            ),
            ("hugetlb.2MB.current", "4096\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.2MB.events", "max 9\n"),
            ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
        ] {
            std::fs::write(dir.path().join(file), text).expect("write");
        }
        let group = Directory::open(dir.path(), Path::new("/")).expect("open");
        let mut stats = Stats::default();
        read(&group, &mut stats);
        let usage = &stats.cpu.usage;
        assert_eq!(
            (usage.total, usage.user, usage.kernel),
            (30000, 10000, 20000)
        );
        assert_eq!(stats.cpu.throttling.throttled_time, 5000);
        let psi = stats.cpu.psi.expect("pressure");
        assert_eq!(psi.some.expect("some").avg10, 1.5);
        assert_eq!(psi.full.expect("full").total, 3);
        assert_eq!(stats.memory.cache, 40);
        assert_eq!(stats.memory.usage.limit, u64::MAX);
        assert_eq!(stats.memory.usage.failcnt, 6);
        assert_eq!(stats.memory.swap.usage, 105);
        assert_eq!(stats.memory.swap.limit, u64::MAX);
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
        let bytes = &stats.blkio.io_service_bytes_recursive;
        assert_eq!(bytes.len(), 3);
        assert_eq!(
            (bytes[1].minor, bytes[1].op.as_str(), bytes[1].value),
            (16, "Write", 2)
        );
        assert_eq!(stats.hugetlb.len(), 1);
        assert_eq!(stats.hugetlb["2MB"].failcnt, 9);
        assert_eq!(stats.rdma["mlx4_0"].hca_objects, 2000);
    }
}
