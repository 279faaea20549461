//! A container's life, in every setting of a stock kernel.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bundle::{Container, runtime};
use crate::place::{CGROUPS, Place, Setting, eventually};

/// Where the root can't be pivoted away from, `--no-pivot` still makes containers.
pub(crate) fn no_pivot(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "echo in $(pwd); cat /proc/sys/kernel/hostname")?;
    container.without_group();
    container
        .run_with(&["--no-pivot"])?
        .ok()?
        .prints("in /\nguest")?;
    Ok(())
}

/// There a caller that doesn't know it still gets a container, or is told what to ask for.
pub(crate) fn no_pivot_asked(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "echo in $(pwd)")?;
    container.without_group();
    let ran = container.run()?;
    if ran.code == 0 {
        ran.prints("in /")?;
    } else {
        ran.says("pivot")?;
    }
    Ok(())
}

/// From `create` to `delete`, after which nothing is left.
pub(crate) fn lifecycle(place: &Place) -> Result<()> {
    let container = Container::shell(place, "echo started; exec sleep 1000")?;
    let created = container.create()?.ok()?;
    let state = container.state()?;
    ensure!(state["status"] == "created", "after create: {state}");
    let pid = container.pid()?;
    let group = container.group()?;
    ensure!(created.out_by_now().is_empty(), "it ran before `start`");

    container.plain("start")?.ok()?;
    ensure!(container.state()?["status"] == "running");
    created.comes_to_print("started")?;
    container.plain("start")?.fails()?;
    container.plain("delete")?.fails()?;

    container.verb(&["kill", &container.id, "KILL"])?.ok()?;
    container.becomes("stopped")?;
    container.plain("delete")?.ok()?;
    let gone = if runtime() == "crun" {
        "no such file"
    } else {
        "does not exist"
    };
    container.plain("state")?.fails()?.says(gone)?;
    ensure!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "its first process is there"
    );
    if let Some(path) = place.setting.group_for(&container.id) {
        ensure!(
            group.0 == Path::new(&format!("{CGROUPS}{path}")),
            "its group was {group:?}"
        );
        ensure!(!group.exists(), "the group {group:?} is there");
    }
    Ok(())
}

/// `run` ends as the container's process does, and that as its child here.
pub(crate) fn exit_code(place: &Place) -> Result<()> {
    Container::shell(place, "exit 7")?.run()?.exits(7)?;
    // The first process of a pid namespace gets no signal that it doesn't handle, but KILL.
    Container::shell(place, "sh -c 'kill -TERM $$'; exit $?")?
        .run()?
        .exits(143)?;
    Ok(())
}

/// `exec` joins a running container.
pub(crate) fn exec(place: &Place) -> Result<()> {
    let container = Container::shell(place, "exec sleep 1000")?;
    container.run_detached()?.ok()?;
    container
        .exec("hostname; echo $PATH; cat /proc/1/comm; exit 3")?
        .exits(3)?
        .prints("guest\n/bin\nsleep")?;
    let names = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"];
    let script = names
        .map(|name| format!("readlink /proc/self/ns/{name}"))
        .join("; ");
    let pid = container.pid()?;
    let mut expected = String::new();
    for name in names {
        let link = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
        expected.push_str(&link.to_string_lossy());
        expected.push('\n');
    }
    container.exec(&script)?.ok()?.prints(expected.trim_end())?;
    Ok(())
}

/// A filter of system calls holds for the container and for what is executed in it.
pub(crate) fn seccomp(place: &Place) -> Result<()> {
    let mut container = Container::shell(
        place,
        "mkdir /tmp/a; echo $?; chmod 700 /tmp; echo $?; exec sleep 1000",
    )?;
    container.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
                {
                    "names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
                    "args": [{ "index": 1, "value": 0o700, "op": "SCMP_CMP_EQ" }],
                },
            ],
        }),
    );
    let run = container.run_detached()?.ok()?;
    run.comes_to_print("1\n1")?;
    container
        .exec("mkdir /tmp/b")?
        .exits(1)?
        .says("No space left on device")?;
    container
        .exec("chmod 700 /tmp")?
        .exits(1)?
        .says("Operation not permitted")?;
    container.exec("chmod 755 /tmp")?.ok()?;
    Ok(())
}

/// `kill --all` ends every process of a container that shares our pid namespace.
pub(crate) fn kill_all(place: &Place) -> Result<()> {
    let mut container = Container::shell(
        place,
        "sleep 1000 & setsid sleep 1000 & echo ready; exec sleep 1000",
    )?;
    container.remove("/linux/namespaces", "type", "pid");
    // Without a pid namespace of its own an ordinary user's container gets no new proc.
    if place.setting != Setting::Root {
        container.remove("/mounts", "destination", "/proc");
        container.add(
            "/mounts",
            json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }),
        );
        container.set("/linux/maskedPaths", json!([]));
        container.set("/linux/readonlyPaths", json!([]));
    }
    let run = container.run_detached()?.ok()?;
    run.comes_to_print("ready")?;
    let group = container.group()?;
    let processes = group.read("cgroup.procs")?;
    ensure!(processes.lines().count() == 3, "processes: {processes}");
    container
        .verb(&["kill", "--all", &container.id, "KILL"])?
        .ok()?;
    container.becomes("stopped")?;
    for pid in processes.lines() {
        eventually("all processes' end", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            Ok(status.is_empty() || status.contains("State:\tZ"))
        })?;
    }
    container.plain("delete")?.ok()?;
    ensure!(!group.exists(), "the group {group:?} is there");
    Ok(())
}
