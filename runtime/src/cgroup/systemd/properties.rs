//! Properties of a unit.
//!
//! Responsible for saying limits and annotations in systemd's words (org.freedesktop.systemd1(5),
//! systemd.resource-control(5)). Must not talk to systemd. Invariant: the control files have the
//! last word; a limit that systemd has no word for is left to them.

use std::collections::BTreeMap;

use super::text;
use super::value::Value;
use crate::cgroup::devices::{self, Rule, lists};
use crate::cgroup::limits::Setting;
use crate::error::{Error, Result};

/// A name and a value.
pub(crate) type Property = (String, Value);

/// Says the settings of control files, of either version, as properties. `version` is systemd's.
pub(crate) fn of_settings(settings: &[Setting], version: u32) -> Vec<Property> {
    let mut out: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| {
        // What comes later is stronger, as with the files.
        out.retain(|(n, _)| n != name);
        out.push((name.to_owned(), value));
    };
    let legacy = |file: &str| settings.iter().find(|s| s.file == file);
    for setting in settings {
        let value = setting.value.trim();
        let number = || match value {
            "max" => Some(u64::MAX),
            text if text.starts_with('-') => Some(u64::MAX),
            text => text.parse().ok(),
        };
        let name = match setting.file.as_str() {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "memory.limit_in_bytes" => "MemoryLimit",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpu.shares" => "CPUShares",
            "io.weight" => "IOWeight",
            "blkio.weight" => "BlockIOWeight",
            "cpuset.cpus" | "cpuset.mems" => {
                // Since version 244, and only for version 2, where the file is what counts anyway.
                let name = if setting.file == "cpuset.cpus" {
                    "AllowedCPUs"
                } else {
                    "AllowedMemoryNodes"
                };
                if let Some(mask) = mask(value).filter(|_| version >= 244) {
                    set(name, mask);
                }
                continue;
            }
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = words.next().unwrap_or("max");
                let period = words.next().and_then(|p| p.parse().ok());
                set(
                    "CPUQuotaPerSecUSec",
                    Value::U64(per_second(quota.parse().ok(), period)),
                );
                if let Some(period) = period.filter(|_| version >= 242) {
                    set("CPUQuotaPeriodUSec", Value::U64(period));
                }
                continue;
            }
            "cpu.cfs_quota_us" => {
                let period = legacy("cpu.cfs_period_us").and_then(|s| s.value.parse().ok());
                let quota = value.parse().ok();
                set("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period)));
                continue;
            }
            _ => continue,
        };
        // A weight of one device is more than a number.
        if let Some(number) = number() {
            set(name, Value::U64(number));
        }
    }
    out
}

/// Processor time in a second. systemd writes it back in steps of 10 ms for each second, so it is
/// rounded up to one.
fn per_second(quota: Option<u64>, period: Option<u64>) -> u64 {
    const STEP: u64 = 10_000;
    let period = period.filter(|p| *p > 0).unwrap_or(100_000);
    match quota.filter(|q| *q > 0) {
        Some(quota) => (quota.saturating_mul(1_000_000) / period).next_multiple_of(STEP),
        None => u64::MAX,
    }
}

/// A list of numbers as a bit mask, the lowest byte first.
fn mask(list: &str) -> Option<Value> {
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // The kernel has at most 8192 processors.
        if last > 8192 {
            return None;
        }
        for n in first..=last {
            if bytes.len() <= n / 8 {
                bytes.resize(n / 8 + 1, 0);
            }
            bytes[n / 8] |= 1 << (n % 8);
        }
    }
    let bytes = bytes.into_iter().map(Value::Byte).collect();
    Some(Value::Array("y".to_owned(), bytes))
}

/// Says device rules. `groups` is `/proc/devices`, which has the names that systemd wants for
/// majors.
pub(crate) fn of_devices(rules: &[Rule], groups: &str) -> Vec<Property> {
    let policy = |text: &str| ("DevicePolicy".to_owned(), Value::text(text));
    let allow = |list: Vec<Value>| {
        let list = Value::Array("(ss)".to_owned(), list);
        ("DeviceAllow".to_owned(), list)
    };
    // An empty list clears the one before.
    let closed = lists::lines(rules)
        .ok()
        .filter(|lines| lines.first().is_some_and(|l| l.file == "devices.deny"));
    let Some(lines) = closed.filter(|_| !devices::allow_all(rules)) else {
        return vec![policy("auto"), allow(Vec::new())];
    };
    let entries = lines[1..]
        .iter()
        .filter_map(|line| {
            let mut words = line.text.split(' ');
            let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
            let (major, minor) = numbers.split_once(':')?;
            let kind = if kind == "b" { "block" } else { "char" };
            let name = match (major, minor) {
                ("*", "*") => format!("{kind}-*"),
                // There is no word for these; the group's own program allows them.
                ("*", _) => return None,
                (major, "*") => format!("{kind}-{}", group_name(groups, kind, major)?),
                (major, minor) => format!("/dev/{kind}/{major}:{minor}"),
            };
            Some(Value::Struct(vec![Value::Text(name), Value::text(access)]))
        })
        .collect();
    vec![policy("strict"), allow(Vec::new()), allow(entries)]
}

/// Finds a major's name in `/proc/devices`.
fn group_name<'a>(groups: &'a str, kind: &str, major: &str) -> Option<&'a str> {
    let header = if kind == "block" {
        "Block devices:"
    } else {
        "Character devices:"
    };
    groups
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .find_map(|line| {
            let (number, name) = line.trim().split_once(' ')?;
            (number == major).then_some(name)
        })
}

/// Reads the annotations `org.systemd.property.NAME`.
///
/// # Errors
/// A name is no property's, or a value can't be read.
pub(crate) fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut out = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix("org.systemd.property.") else {
            continue;
        };
        let wrong = |why: &str| {
            Error::new(format!("read annotation {key} = {text}"))
                .cause(why.to_owned())
                .hint("values are written as GVariant text: true, uint64 5, 'text', ['a', 'b']")
        };
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(wrong("it names no property of a unit"));
        }
        let value = text::parse(text).ok_or_else(|| wrong("the value can't be read"))?;
        // Unit files have seconds where the bus has microseconds.
        let seconds = name
            .strip_suffix("Sec")
            .filter(|n| n.ends_with(|c: char| c.is_ascii_lowercase()));
        match seconds {
            Some(stem) => {
                let time = microseconds(&value)
                    .ok_or_else(|| wrong("the value is no number of seconds"))?;
                out.push((format!("{stem}USec"), Value::U64(time)));
            }
            None => out.push((name.to_owned(), value)),
        }
    }
    Ok(out)
}

fn microseconds(value: &Value) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    match *value {
        Value::Byte(n) => Some(u64::from(n) * SECOND),
        Value::U16(n) => Some(u64::from(n) * SECOND),
        Value::U32(n) => Some(u64::from(n) * SECOND),
        Value::U64(n) => n.checked_mul(SECOND),
        Value::I16(n) => u64::try_from(n).ok()?.checked_mul(SECOND),
        Value::I32(n) => u64::try_from(n).ok()?.checked_mul(SECOND),
        Value::I64(n) => u64::try_from(n).ok()?.checked_mul(SECOND),
        Value::Double(n) if n >= 0.0 => Some((n * SECOND as f64) as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::tests::rules;

    #[test]
    fn settings_of_both_versions() {
        let settings = [
            Setting::new("", "memory.max", "100"),
            Setting::new("", "memory.swap.max", "max"),
            Setting::new("", "cpu.max", "1500 100000"),
            Setting::new("", "cpu.weight", 7),
            Setting::new("", "pids.max", "max"),
            Setting::new("", "cpuset.cpus", "0-2,9"),
            Setting::new("", "io.weight", "8:0 5"),
            Setting::new("", "io.max", "8:0 rbps=5"),
        ];
        let cpus = Value::Array("y".to_owned(), vec![Value::Byte(7), Value::Byte(2)]);
        let want = [
            ("MemoryMax", Value::U64(100)),
            ("MemorySwapMax", Value::U64(u64::MAX)),
            ("CPUQuotaPerSecUSec", Value::U64(20_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("CPUWeight", Value::U64(7)),
            ("TasksMax", Value::U64(u64::MAX)),
            ("AllowedCPUs", cpus),
        ]
        .map(|(n, v)| (n.to_owned(), v));
        assert_eq!(of_settings(&settings, 252), want);
        let names =
            |list: Vec<Property>| -> Vec<String> { list.into_iter().map(|p| p.0).collect() };
        let old = names(of_settings(&settings, 239));
        assert!(
            !old.contains(&"AllowedCPUs".to_owned()) && old.len() == 5,
            "{old:?}"
        );
        let settings = [
            Setting::new("", "memory.limit_in_bytes", -1),
            Setting::new("", "cpu.cfs_period_us", 50_000),
            Setting::new("", "cpu.cfs_quota_us", 25_000),
        ];
        let want = [
            ("MemoryLimit".to_owned(), Value::U64(u64::MAX)),
            ("CPUQuotaPerSecUSec".to_owned(), Value::U64(500_000)),
        ];
        assert_eq!(of_settings(&settings, 252), want);
    }

    #[test]
    fn devices_by_name_and_number() {
        let groups = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        let found = of_devices(
            &rules(
                r#"[{"allow":false},{"allow":true,"type":"b","major":8,"access":"r"},
                {"allow":true,"type":"c","major":99}]"#,
            ),
            groups,
        );
        assert_eq!(found[0].1, Value::text("strict"));
        let Value::Array(_, list) = &found[2].1 else {
            panic!("a list");
        };
        let entry = |name, access| Value::Struct(vec![Value::text(name), Value::text(access)]);
        for (name, access) in [
            ("block-*", "m"),
            ("block-sd", "r"),
            ("char-pts", "rwm"),
            ("/dev/char/1:3", "rwm"),
        ] {
            assert!(list.contains(&entry(name, access)), "{name}");
        }
        let open = of_devices(&rules(r#"[{"allow":true}]"#), groups);
        assert_eq!(open[0].1, Value::text("auto"));
    }

    #[test]
    fn annotations() {
        let of = |key: &str, value: &str| {
            let list = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            of_annotations(&list)
        };
        assert_eq!(of("io.podman", "x"), Ok(vec![]));
        let stop = of("org.systemd.property.TimeoutStopSec", "5");
        let want = vec![("TimeoutStopUSec".to_owned(), Value::U64(5_000_000))];
        assert_eq!(stop, Ok(want));
        let mode = of("org.systemd.property.CollectMode", "'inactive'");
        let want = vec![("CollectMode".to_owned(), Value::text("inactive"))];
        assert_eq!(mode, Ok(want));
        assert!(of("org.systemd.property.a.b", "5").is_err());
        assert!(of("org.systemd.property.CollectMode", "inactive").is_err());
        assert!(of("org.systemd.property.TimeoutStopSec", "'x'").is_err());
    }
}
