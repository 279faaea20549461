//! Control groups of version 2: limits that hold, and what reports them. cgroup-v2.rst of the
//! kernel says what each file means.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Skipped;
use crate::bundle::{Container, runtime};
use crate::place::{Place, eventually};

const MIB: u64 = 1 << 20;

/// Who allocates more than its limit is killed; who allocates less isn't.
pub(crate) fn memory(place: &Place) -> Result<()> {
    // dd allocates and fills one block. It is the first process: nobody else may be chosen.
    let allocate = |size: &str| -> Result<Container<'_>> {
        let size = format!("bs={size}M");
        let mut container = Container::new(
            place,
            &["/bin/dd", "if=/dev/zero", "of=/dev/null", &size, "count=1"],
        )?;
        container.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
        Ok(container)
    };
    allocate("32")?.run()?.ok()?;
    allocate("128")?.run()?.exits(137)?;

    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.set(
        "/linux/resources/memory",
        json!({ "limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB }),
    );
    container.run_detached()?.ok()?;
    let group = container.group()?;
    group.says("memory.max", 64 * MIB)?;
    group.says("memory.low", 32 * MIB)?;
    // Version 1's number is of both together.
    group.says("memory.swap.max", 32 * MIB)?;
    Ok(())
}

/// A fork bomb stops at its limit.
pub(crate) fn pids(place: &Place) -> Result<()> {
    // The shell gives up at the first refusal, and its namespace ends with it.
    let mut container = Container::shell(
        place,
        "cat /sys/fs/cgroup/pids.max; for i in $(seq 40); do sleep 1000 & done; echo all",
    )?;
    container.set("/linux/resources/pids", json!({ "limit": 10 }));
    container
        .run()?
        .fails()?
        .prints("10")?
        .says("can't fork: Resource temporarily unavailable")?;
    Ok(())
}

/// A quota of CPU time is kept.
pub(crate) fn cpu_quota(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "while :; do :; done")?;
    container.set(
        "/linux/resources/cpu",
        json!({ "quota": 20_000, "period": 100_000 }),
    );
    container.run_detached()?.ok()?;
    let group = container.group()?;
    group.says("cpu.max", "20000 100000")?;
    eventually("throttling", || {
        Ok(group.number("cpu.stat", "nr_throttled")? > 2)
    })?;
    let used = group.number("cpu.stat", "usage_usec")?;
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let used = group.number("cpu.stat", "usage_usec")? - used;
    let part = used as f64 / started.elapsed().as_micros() as f64;
    ensure!(part < 0.3, "{part} of a processor, which should be 0.2");
    Ok(())
}

/// Version 1's shares become weights of which 1024 is the middle, 100.
pub(crate) fn cpu_weight(place: &Place) -> Result<()> {
    // The curve that runc 1.3 and crun 1.21 changed to; before that, 1024 was 39.
    let curves: &[(u64, &[&str])] = &[
        (2, &["1"]),
        (
            1024,
            if runtime() == "sandcrab-oci" {
                &["100"]
            } else {
                &["100", "39"]
            },
        ),
        (262_144, &["10000"]),
    ];
    for (shares, weights) in curves {
        let mut container = Container::shell(place, "exec sleep 1000")?;
        container.set("/linux/resources/cpu", json!({ "shares": shares }));
        container.run_detached()?.ok()?;
        let group = container.group()?;
        let weight = group.read("cpu.weight")?;
        ensure!(
            weights.contains(&weight.as_str()),
            "{shares} shares became {weight}"
        );
    }
    Ok(())
}

/// A container runs on the processors that it was given.
pub(crate) fn cpuset(place: &Place) -> Result<()> {
    let mut container = Container::shell(
        place,
        "grep Cpus_allowed_list /proc/self/status; exec sleep 1000",
    )?;
    container.set("/linux/resources/cpu", json!({ "cpus": "1", "mems": "0" }));
    let run = container.run_detached()?.ok()?;
    let group = container.group()?;
    run.comes_to_print("Cpus_allowed_list:\t1")?;
    group.says("cpuset.cpus.effective", "1")?;
    group.says("cpuset.mems", "0")?;
    Ok(())
}

/// Limits and weights of block devices. The disk is 254:0, the first of virtio_blk's.
pub(crate) fn io(place: &Place) -> Result<()> {
    let disk = fs::read_to_string("/sys/block/vda/dev")?;
    let (major, minor) = disk.trim_end().split_once(':').context("a number")?;
    let (major, minor): (u32, u32) = (major.parse()?, minor.parse()?);
    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.set(
        "/linux/resources/blockIO",
        json!({
            "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": MIB }],
            "throttleWriteIOPSDevice": [{ "major": major, "minor": minor, "rate": 50 }],
        }),
    );
    container.run_detached()?.ok()?;
    let group = container.group()?;
    let limits = group.read("io.max")?;
    ensure!(
        limits == format!("{major}:{minor} rbps={MIB} wbps=max riops=max wiops=50"),
        "io.max is {limits:?}"
    );
    Ok(())
}

/// Files of version 2 by their names.
pub(crate) fn unified(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.set(
        "/linux/resources/unified",
        json!({ "memory.high": "50331648", "pids.max": "33", "memory.oom.group": "1" }),
    );
    // What is unified wins over what is converted.
    container.set("/linux/resources/pids", json!({ "limit": 44 }));
    container.run_detached()?.ok()?;
    let group = container.group()?;
    group.says("memory.high", "50331648")?;
    group.says("memory.oom.group", "1")?;
    group.says("pids.max", "33")?;
    Ok(())
}

/// `update` changes what it names and nothing else, by options and by a document.
pub(crate) fn update(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.set("/linux/resources/pids", json!({ "limit": 20 }));
    container.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    container.run_detached()?.ok()?;
    let group = container.group()?;
    let id = container.id.as_str();
    container
        .verb(&["update", "--memory", &(96 * MIB).to_string(), id])?
        .ok()?;
    group.says("memory.max", 96 * MIB)?;
    group.says("pids.max", "20")?;

    let document = place.directory.join("resources.json");
    let resources =
        json!({ "pids": { "limit": 30 }, "cpu": { "quota": 50_000, "period": 100_000 } });
    place.write(&document, &resources.to_string())?;
    let document = document.display().to_string();
    container
        .verb(&["update", "--resources", &document, id])?
        .ok()?;
    group.says("pids.max", "30")?;
    group.says("cpu.max", "50000 100000")?;
    group.says("memory.max", 96 * MIB)?;
    Ok(())
}

/// A paused container stands still, can be killed, and goes on when it is resumed.
pub(crate) fn pause(place: &Place) -> Result<()> {
    let container = Container::shell(
        place,
        "n=0; while :; do n=$((n + 1)); echo $n >/tmp/count; done",
    )?;
    container.run_detached()?.ok()?;
    let group = container.group()?;
    let file = container.bundle.join("rootfs/tmp/count");
    let count = || fs::read_to_string(&file).unwrap_or_default();
    eventually("a first count", || Ok(!count().is_empty()))?;

    container.plain("pause")?.ok()?;
    ensure!(container.state()?["status"] == "paused");
    group.says("cgroup.freeze", "1")?;
    let before = count();
    std::thread::sleep(Duration::from_millis(300));
    ensure!(count() == before, "it counted while it was paused");
    container.exec("true")?.fails()?;

    container.plain("resume")?.ok()?;
    ensure!(container.state()?["status"] == "running");
    eventually("further counting", || {
        let now = count();
        Ok(now != before && !now.is_empty())
    })?;

    container.plain("pause")?.ok()?;
    container
        .verb(&["delete", "--force", &container.id])?
        .ok()?;
    container.plain("state")?.fails()?;
    Ok(())
}

/// `events --stats` reports what the group's files say.
pub(crate) fn stats(place: &Place) -> Result<()> {
    if runtime() == "crun" {
        return Err(Skipped("crun has no `events`".to_owned()).into());
    }
    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.set("/linux/resources/pids", json!({ "limit": 20 }));
    container.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    container.run_detached()?.ok()?;
    let ran = container
        .verb(&["events", "--stats", &container.id])?
        .ok()?;
    let event: Value =
        serde_json::from_str(&ran.out).with_context(|| format!("parse {:?}", ran.out))?;
    ensure!(event["type"] == "stats", "{event}");
    ensure!(event["id"] == container.id, "{event}");
    let data = &event["data"];
    ensure!(data["pids"]["current"] == 1, "{data}");
    ensure!(data["pids"]["limit"] == 20, "{data}");
    ensure!(data["memory"]["usage"]["limit"] == 64 * MIB, "{data}");
    for pointer in ["/memory/usage/usage", "/cpu/usage/total"] {
        let value = data.pointer(pointer).and_then(Value::as_u64);
        ensure!(value.is_some_and(|value| value > 0), "{pointer}: {data}");
    }
    Ok(())
}

/// What `exec` starts is in the container's group.
pub(crate) fn exec_in_group(place: &Place) -> Result<()> {
    let container = Container::shell(place, "exec sleep 1000")?;
    container.run_detached()?.ok()?;
    let group = container.group()?;
    let id = container.id.as_str();
    container
        .verb(&["exec", "--detach", id, "/bin/sleep", "1000"])?
        .ok()?;
    let processes = group.read("cgroup.procs")?;
    ensure!(processes.lines().count() == 2, "processes: {processes}");
    container
        .exec("cat /proc/self/cgroup")?
        .ok()?
        .prints("0::/")?;
    Ok(())
}

/// A group namespace shows the container's group as the root, and its limits by the usual path.
pub(crate) fn group_namespace(place: &Place) -> Result<()> {
    let mut container = Container::shell(
        place,
        "cat /proc/self/cgroup /sys/fs/cgroup/pids.max; ls -d /sys/fs/cgroup/*.slice",
    )?;
    container.set("/linux/resources/pids", json!({ "limit": 21 }));
    container.run()?.exits(1)?.prints("0::/\n21")?;

    // Without one, what the container is in is seen by its name.
    container.remove("/linux/namespaces", "type", "cgroup");
    container.config["process"]["args"] = json!(["/bin/cat", "/proc/self/cgroup"]);
    let group = place.setting.group_for(&container.id).unwrap_or_default();
    container.run()?.ok()?.prints(&format!("0::{group}"))?;
    Ok(())
}

/// The mount of the groups is as read-only or writable as it was asked for.
pub(crate) fn group_read_only(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "mkdir /sys/fs/cgroup/new")?;
    container.run()?.exits(1)?.says("Read-only file system")?;

    container.remove("/mounts", "destination", "/sys/fs/cgroup");
    container.add(
        "/mounts",
        json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "rw"],
        }),
    );
    container.run()?.ok()?;
    Ok(())
}

/// Only the devices that are allowed can be opened, whoever makes nodes of them.
pub(crate) fn devices(place: &Place) -> Result<()> {
    // Root needs no further right to open these two.
    let number = |path: &str| -> Result<(u32, u32)> {
        let number = fs::metadata(path)?.rdev();
        Ok((rustix::fs::major(number), rustix::fs::minor(number)))
    };
    let disk = number("/dev/vda")?;
    let latency = number("/dev/cpu_dma_latency")?;
    let script = format!(
        "mknod /tmp/disk b {} {}; mknod /tmp/latency c {} {}
        head -c 1 /tmp/disk >/dev/null && echo read
        true >>/tmp/disk && echo written
        head -c 1 /tmp/latency >/dev/null && echo latency
        true >/dev/null && echo null
        exec sleep 1000",
        disk.0, disk.1, latency.0, latency.1
    );
    let all = json!([{ "allow": true, "access": "rwm" }]);
    let disk_alone = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "b", "access": "r", "major": disk.0, "minor": disk.1 },
    ]);
    for (rules, expected) in [
        // What isn't refused here proves nothing below.
        (all, "read\nwritten\nlatency\nnull"),
        (disk_alone, "read\nnull"),
    ] {
        let mut container = Container::shell(place, &script)?;
        container.set("/linux/resources/devices", rules);
        let run = container.run_detached()?.ok()?;
        run.comes_to_print(expected)?;
        // `exec` is no way around it.
        if !expected.contains("written") {
            container
                .exec("true >>/tmp/disk")?
                .fails()?
                .says("Operation not permitted")?;
        }
    }
    Ok(())
}
