//! Tables of `linux`.

use serde_json::json;

use super::{check, good, problems};

#[test]
fn namespaces() {
    check(&[
        (
            "/linux/namespaces/0/type",
            json!("net"),
            &["linux.namespaces[0].type: unknown kind of namespace `net`"],
        ),
        (
            "/linux/namespaces/0/type",
            json!("mount"),
            &["linux.namespaces[2].type: `mount` is there twice"],
        ),
        (
            "/linux/namespaces/0/path",
            json!("ns"),
            &["linux.namespaces[0].path: `ns` is not an absolute path"],
        ),
        ("/linux/namespaces/0/path", json!(""), &[]),
        (
            "/linux/namespaces/4",
            json!({"type": "pid"}),
            &[
                "hostname: needs a uts namespace",
                "domainname: needs a uts namespace",
                "linux.namespaces[4].type: `pid` is there twice",
                "linux.sysctl.\"kernel.domainname\": belongs to the uts namespace, and the container has none of its own",
            ],
        ),
        (
            "/linux/uidMappings",
            json!([]),
            &["linux.uidMappings: is required for a new user namespace"],
        ),
        (
            "/linux/gidMappings",
            json!([{"containerID": 1, "hostID": 1, "size": 1}]),
            &["linux.gidMappings: id 0 of the container is not mapped"],
        ),
        (
            "/linux/uidMappings/1/containerID",
            json!(0),
            &["linux.uidMappings[1].containerID: the range overlaps an earlier one"],
        ),
        (
            "/linux/uidMappings/1/hostID",
            json!(1000),
            &["linux.uidMappings[1].hostID: the range overlaps an earlier one"],
        ),
        (
            "/linux/uidMappings/1/size",
            json!(u32::MAX),
            &[
                "linux.uidMappings[1].containerID: the range goes beyond the last id",
                "linux.uidMappings[1].hostID: the range goes beyond the last id",
            ],
        ),
        ("/linux/namespaces/5/path", json!("/proc/1/ns/user"), &[]),
        (
            "/linux/timeOffsets/realtime",
            json!({}),
            &["linux.timeOffsets.realtime: unknown clock"],
        ),
        (
            "/linux/timeOffsets/boottime/nanosecs",
            json!(1_000_000_000),
            &["linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more"],
        ),
        (
            "/linux/namespaces/7/path",
            json!("/proc/1/ns/time"),
            &["linux.timeOffsets: the clocks of a time namespace that is joined can't be set"],
        ),
        (
            "/linux/sysctl/vm.swappiness",
            json!("1"),
            &["linux.sysctl.\"vm.swappiness\": belongs to no namespace of a container"],
        ),
        (
            "/linux/sysctl/kernel.hostname",
            json!("x"),
            &["linux.sysctl.\"kernel.hostname\": is what the field `hostname` is for"],
        ),
        (
            "/linux/netDevices/ens4/name",
            json!("a/b"),
            &["linux.netDevices.ens4.name: `a/b` is no name of a network interface"],
        ),
        (
            "/linux/netDevices/eth0/name",
            json!("ens4"),
            &["linux.netDevices.eth0.name: `ens4` is there twice"],
        ),
        (
            "/linux/netDevices/much-too-long-name",
            json!({"name": "short"}),
            &["linux.netDevices.much-too-long-name: is no name of a network interface"],
        ),
    ]);
}

#[test]
fn without_namespaces() {
    let mut document = good();
    document["linux"]["namespaces"] = json!([]);
    document["mounts"][0]["options"] = json!(["idmap"]);
    let found = problems(&document);
    for place in [
        "mounts",
        "root.readonly",
        "linux.maskedPaths",
        "linux.readonlyPaths",
        "linux.rootfsPropagation",
        "hostname",
        "domainname",
        "linux.uidMappings",
        "linux.gidMappings",
        "linux.timeOffsets",
        "linux.sysctl",
        "linux.netDevices",
    ] {
        assert!(
            found.iter().any(|p| p.starts_with(place)),
            "{place}: {found:?}"
        );
    }
}

#[test]
fn linux() {
    check(&[
        (
            "/linux/devices/0/type",
            json!("x"),
            &["linux.devices[0].type: unknown type of device `x`"],
        ),
        (
            "/linux/devices/0/path",
            json!("dev"),
            &["linux.devices[0].path: `dev` is not an absolute path"],
        ),
        (
            "/linux/devices/0/path",
            json!("//"),
            &["linux.devices[0].path: is the root directory"],
        ),
        (
            "/linux/devices/0/major",
            json!(4096),
            &["linux.devices[0].major: 4096 is not 0 to 4095"],
        ),
        (
            "/linux/devices/0/minor",
            json!(-1),
            &["linux.devices[0].minor: -1 is not 0 to 1048575"],
        ),
        (
            "/linux/devices/0/uid",
            json!(u32::MAX),
            &["linux.devices[0].uid: 4294967295 is no id"],
        ),
        (
            "/linux/devices/1",
            json!({"path": "/x", "type": "c"}),
            &[
                "linux.devices[1].major: is required",
                "linux.devices[1].minor: is required",
            ],
        ),
        (
            "/linux/cgroupsPath",
            json!("\0"),
            &["linux.cgroupsPath: has a null character: `\\0`"],
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "x"}),
            &["linux.intelRdt: resource director technology is not supported"],
        ),
        (
            "/linux/memoryPolicy/mode",
            json!("BIND"),
            &["linux.memoryPolicy.mode: unknown mode `BIND`"],
        ),
        (
            "/linux/memoryPolicy/nodes",
            json!(""),
            &["linux.memoryPolicy.nodes: `MPOL_BIND` needs nodes"],
        ),
        (
            "/linux/memoryPolicy/flags/0",
            json!("X"),
            &["linux.memoryPolicy.flags[0]: unknown flag `X`"],
        ),
        (
            "/linux/rootfsPropagation",
            json!("rw"),
            &["linux.rootfsPropagation: unknown propagation `rw`"],
        ),
        (
            "/linux/maskedPaths/1",
            json!("sys"),
            &["linux.maskedPaths[1]: `sys` is not an absolute path"],
        ),
        (
            "/linux/readonlyPaths/0",
            json!(""),
            &["linux.readonlyPaths[0]: is required"],
        ),
        (
            "/linux/mountLabel",
            json!("\0"),
            &["linux.mountLabel: has a null character: `\\0`"],
        ),
        (
            "/linux/personality/domain",
            json!("BSD"),
            &["linux.personality.domain: unknown domain `BSD`"],
        ),
        (
            "/linux/personality/flags",
            json!(["X"]),
            &["linux.personality.flags: flags are not supported"],
        ),
    ]);
}

#[test]
fn resources() {
    check(&[
        (
            "/linux/resources/devices/0/type",
            json!("p"),
            &["linux.resources.devices[0].type: unknown type of device `p`"],
        ),
        (
            "/linux/resources/devices/0/access",
            json!("rx"),
            &["linux.resources.devices[0].access: `rx` is not made of `r`, `w` and `m`"],
        ),
        (
            "/linux/resources/devices/1/major",
            json!(-2),
            &["linux.resources.devices[1].major: -2 is no device number"],
        ),
        (
            "/linux/resources/memory/limit",
            json!(-2),
            &["linux.resources.memory.limit: -2 is below -1"],
        ),
        (
            "/linux/resources/memory/swappiness",
            json!(101),
            &["linux.resources.memory.swappiness: 101 is above 100"],
        ),
        (
            "/linux/resources/memory/swap",
            json!(1),
            &[
                "linux.resources.memory.swap: memory and swap together (1) are below memory alone (536870912)",
            ],
        ),
        (
            "/linux/resources/cpu/cpus",
            json!("3-1"),
            &["linux.resources.cpu.cpus: the range 3-1 is empty"],
        ),
        (
            "/linux/resources/cpu/mems",
            json!("a"),
            &["linux.resources.cpu.mems: is no list of numbers such as 0-3,7"],
        ),
        (
            "/linux/resources/cpu/idle",
            json!(2),
            &["linux.resources.cpu.idle: 2 is neither 0 nor 1"],
        ),
        (
            "/linux/resources/blockIO/weight",
            json!(9),
            &["linux.resources.blockIO.weight: 9 is not 10 to 1000"],
        ),
        (
            "/linux/resources/blockIO/throttleReadIOPSDevice/0/major",
            json!(-1),
            &["linux.resources.blockIO.throttleReadIOPSDevice[0].major: -1 is no device number"],
        ),
        (
            "/linux/resources/hugepageLimits/0/pageSize",
            json!("../2MB"),
            &["linux.resources.hugepageLimits[0].pageSize: `../2MB` is no name of a file"],
        ),
        (
            "/linux/resources/unified/..",
            json!("1"),
            &["linux.resources.unified.\"..\": `..` is no name of a file"],
        ),
        (
            "/linux/resources/unified/a~1b",
            json!("1"),
            &["linux.resources.unified.\"a/b\": `a/b` is no name of a file"],
        ),
    ]);
}

#[test]
fn seccomp() {
    check(&[
        (
            "/linux/seccomp/defaultAction",
            json!(""),
            &["linux.seccomp.defaultAction: is required"],
        ),
        (
            "/linux/seccomp/defaultAction",
            json!("ALLOW"),
            &["linux.seccomp.defaultAction: unknown action `ALLOW`"],
        ),
        (
            "/linux/seccomp/defaultAction",
            json!("SCMP_ACT_ALLOW"),
            &["linux.seccomp.defaultErrnoRet: `SCMP_ACT_ALLOW` takes no error number"],
        ),
        (
            "/linux/seccomp/defaultErrnoRet",
            json!(4096),
            &["linux.seccomp.defaultErrnoRet: 4096 is above 4095"],
        ),
        (
            "/linux/seccomp/architectures/0",
            json!("x86"),
            &["linux.seccomp.architectures[0]: unknown architecture `x86`"],
        ),
        (
            "/linux/seccomp/flags/0",
            json!("LOG"),
            &["linux.seccomp.flags[0]: unknown flag `LOG`"],
        ),
        (
            "/linux/seccomp/listenerPath",
            json!(""),
            &[
                "linux.seccomp.listenerMetadata: needs `listenerPath`",
                "linux.seccomp.syscalls[1].action: `SCMP_ACT_NOTIFY` needs `listenerPath`",
            ],
        ),
        (
            "/linux/seccomp/syscalls/0/names",
            json!([]),
            &["linux.seccomp.syscalls[0].names: is empty"],
        ),
        (
            "/linux/seccomp/syscalls/0/action",
            json!("SCMP_ACT_NOTIFY"),
            &["linux.seccomp.syscalls[0].action: `SCMP_ACT_NOTIFY` can't be used for `write`"],
        ),
        (
            "/linux/seccomp/syscalls/2/args/0/index",
            json!(6),
            &["linux.seccomp.syscalls[2].args[0].index: 6 is not 0 to 5"],
        ),
        (
            "/linux/seccomp/syscalls/2/args/0/op",
            json!("NE"),
            &["linux.seccomp.syscalls[2].args[0].op: unknown comparison `NE`"],
        ),
        (
            "/linux/seccomp/syscalls/3/errnoRet",
            json!(65536),
            &["linux.seccomp.syscalls[3].errnoRet: 65536 is above 65535"],
        ),
    ]);
}
