//! Tables: what is changed in a document without problems, and what is said about it.

use serde_json::{Value, json};

use super::*;

mod linux;
mod property;

const GOOD: &str = include_str!("../../../../tests/fuzz/corpus/config/every-field.json");

fn good() -> Value {
    serde_json::from_str(GOOD).expect("the document")
}

/// Problems of a document.
fn problems(document: &Value) -> Vec<String> {
    let bytes = serde_json::to_vec(document).expect("write");
    let spec = Spec::parse(&bytes).expect("parse");
    validate(&spec).iter().map(Problem::to_string).collect()
}

/// What is at a JSON pointer, made if missing.
fn at<'v>(document: &'v mut Value, pointer: &str) -> &'v mut Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("the parent");
    match parent {
        Value::Array(list) => {
            let index: usize = name.parse().expect("an index");
            list.get_mut(index).expect("the item")
        }
        other => &mut other[name.replace("~1", "/")],
    }
}

/// Each line: a place that is changed, its new value, and the problems.
fn check(table: &[(&str, Value, &[&str])]) {
    for (pointer, value, expected) in table {
        let mut document = good();
        *at(&mut document, pointer) = value.clone();
        assert_eq!(problems(&document), *expected, "{pointer} = {value}");
    }
}

#[test]
fn documents_of_others_have_no_problems() {
    for (name, text) in [
        ("every field", GOOD),
        (
            "runc 1.1.5",
            include_str!("../../../../tests/fuzz/corpus/config/runc.json"),
        ),
        (
            "runc 1.1.5 --rootless",
            include_str!("../../../../tests/fuzz/corpus/config/runc-rootless.json"),
        ),
        (
            "crun 1.8.1",
            include_str!("../../../../tests/fuzz/corpus/config/crun.json"),
        ),
    ] {
        let document = serde_json::from_str(text).expect(name);
        assert_eq!(problems(&document), [""; 0], "{name}");
    }
}

#[test]
fn everything_is_reported_at_once() {
    let document = json!({"hostname": "x", "process": {"cwd": "y"}, "windows": {}});
    assert_eq!(
        problems(&document),
        [
            "ociVersion: is required",
            "root: is required",
            "process.cwd: `y` is not an absolute path",
            "hostname: needs a uts namespace",
            "windows: is for another platform and not supported",
        ]
    );
}

#[test]
fn upper_level() {
    let long = "x".repeat(65);
    check(&[
        (
            "/ociVersion",
            json!("2.0.0"),
            &["ociVersion: version `2.0.0` is not supported, only 1.x is"],
        ),
        (
            "/ociVersion",
            json!("latest"),
            &["ociVersion: `latest` is no version such as 1.3.0"],
        ),
        ("/root/path", json!(""), &["root.path: is required"]),
        (
            "/root/path",
            json!("a\0"),
            &["root.path: has a null character: `a\\0`"],
        ),
        (
            "/hostname",
            json!(long),
            &["hostname: is longer than 64 bytes"],
        ),
        (
            "/domainname",
            json!("a\0b"),
            &["domainname: has a null character: `a\\0b`"],
        ),
        (
            "/annotations/",
            json!("x"),
            &["annotations: a name is empty"],
        ),
        (
            "/solaris",
            json!({}),
            &["solaris: is for another platform and not supported"],
        ),
        (
            "/vm",
            json!({}),
            &["vm: is for another platform and not supported"],
        ),
        (
            "/zos",
            json!({}),
            &["zos: is for another platform and not supported"],
        ),
        (
            "/freebsd",
            json!({}),
            &["freebsd: is for another platform and not supported"],
        ),
        ("/x-unknown", json!({"a": 1}), &[]),
        ("/mounts/0/destination", json!("proc"), &[]),
        (
            "/mounts/0/destination",
            json!("//./"),
            &["mounts[0].destination: the root itself can't be mounted over"],
        ),
        (
            "/mounts/0/type",
            json!(""),
            &["mounts[0].type: is required, unless `bind` is an option"],
        ),
        (
            "/mounts/0/options",
            json!(["tmpcopyup"]),
            &["mounts[0].options: `tmpcopyup` is for tmpfs only"],
        ),
        (
            "/mounts/0/options",
            json!(["copy-symlink"]),
            &["mounts[0].options: `copy-symlink` and `src-nofollow` are for bind mounts only"],
        ),
        (
            "/mounts/0/options",
            json!(["idmap"]),
            &["mounts[0].options: ids can be mapped in bind mounts only"],
        ),
        (
            "/mounts/5/source",
            json!(""),
            &["mounts[5].source: is required for a bind mount"],
        ),
        (
            "/mounts/0/destination",
            json!(""),
            &["mounts[0].destination: is required"],
        ),
        (
            "/mounts/0/type",
            json!("\0"),
            &["mounts[0].type: has a null character: `\\0`"],
        ),
        (
            "/mounts/1/options/2",
            json!("\0"),
            &["mounts[1].options[2]: has a null character: `\\0`"],
        ),
        (
            "/mounts/5/gidMappings",
            json!([]),
            &["mounts[5].gidMappings: is required, since the other mapping is there"],
        ),
        (
            "/mounts/5/uidMappings/0/size",
            json!(0),
            &["mounts[5].uidMappings[0].size: is 0"],
        ),
        (
            "/hooks/prestart/0/path",
            json!("hook"),
            &["hooks.prestart[0].path: `hook` is not an absolute path"],
        ),
        (
            "/hooks/poststop/0/timeout",
            json!(0),
            &["hooks.poststop[0].timeout: 0 is not above 0"],
        ),
        (
            "/hooks/poststop/0/timeout",
            json!(-1),
            &["hooks.poststop[0].timeout: -1 is not above 0"],
        ),
        (
            "/hooks/prestart/0/env/0",
            json!("A"),
            &["hooks.prestart[0].env[0]: has no `=`"],
        ),
        (
            "/hooks/prestart/0/args/1",
            json!("\0"),
            &["hooks.prestart[0].args[1]: has a null character: `\\0`"],
        ),
    ]);
}

#[test]
fn process() {
    check(&[
        ("/process/cwd", json!(""), &["process.cwd: is required"]),
        ("/process/args", json!([]), &[]),
        (
            "/process/args/0",
            json!("\0"),
            &["process.args[0]: has a null character: `\\0`"],
        ),
        (
            "/process/env/0",
            json!("PATH"),
            &["process.env[0]: has no `=`"],
        ),
        (
            "/process/env/0",
            json!("=x"),
            &["process.env[0]: has no name before `=`"],
        ),
        (
            "/process/env/1",
            json!("A=\0"),
            &["process.env[1]: has a null character"],
        ),
        (
            "/process/commandLine",
            json!("x"),
            &["process.commandLine: is for Windows and not supported"],
        ),
        (
            "/process/user/username",
            json!("x"),
            &["process.user.username: is for Windows and not supported"],
        ),
        (
            "/process/user/uid",
            json!(u32::MAX),
            &["process.user.uid: 4294967295 is no id"],
        ),
        (
            "/process/user/additionalGids/1",
            json!(u32::MAX),
            &["process.user.additionalGids[1]: 4294967295 is no id"],
        ),
        (
            "/process/user/umask",
            json!(512),
            &["process.user.umask: 512 is above 511 (octal 777)"],
        ),
        (
            "/process/oomScoreAdj",
            json!(-1001),
            &["process.oomScoreAdj: -1001 is not -1000 to 1000"],
        ),
        (
            "/process/capabilities/permitted",
            json!(["CAP_NONSENSE"]),
            &["process.capabilities.effective[0]: `CAP_KILL` is not among the permitted ones"],
        ),
        (
            "/process/capabilities/bounding",
            json!(["CAP_CHOWN"]),
            &["process.capabilities.inheritable[0]: `CAP_KILL` is not among the bounding ones"],
        ),
        (
            "/process/capabilities/ambient",
            json!(["CAP_CHOWN", "nonsense"]),
            &[],
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_X"),
            &["process.rlimits[0].type: unknown limit `RLIMIT_X`"],
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_NOFILE"),
            &["process.rlimits[1].type: `RLIMIT_NOFILE` is there twice"],
        ),
        (
            "/process/rlimits/1/soft",
            json!(5000),
            &["process.rlimits[1].soft: 5000 is above the hard limit 4096"],
        ),
        (
            "/process/ioPriority/class",
            json!("RT"),
            &["process.ioPriority.class: unknown class `RT`"],
        ),
        (
            "/process/ioPriority/priority",
            json!(8),
            &["process.ioPriority.priority: 8 is not 0 to 7"],
        ),
        (
            "/process/scheduler/policy",
            json!("RR"),
            &["process.scheduler.policy: unknown policy `RR`"],
        ),
        (
            "/process/scheduler/flags/0",
            json!("X"),
            &["process.scheduler.flags[0]: unknown flag `X`"],
        ),
        (
            "/process/scheduler/nice",
            json!(20),
            &["process.scheduler.nice: 20 is not -20 to 19"],
        ),
        (
            "/process/scheduler/priority",
            json!(1),
            &["process.scheduler.priority: only `SCHED_FIFO` and `SCHED_RR` have one"],
        ),
        (
            "/process/execCPUAffinity/final",
            json!("x"),
            &["process.execCPUAffinity.final: is no list of numbers such as 0-3,7"],
        ),
        (
            "/process/apparmorProfile",
            json!("\0"),
            &["process.apparmorProfile: has a null character: `\\0`"],
        ),
        (
            "/process/selinuxLabel",
            json!("\0"),
            &["process.selinuxLabel: has a null character: `\\0`"],
        ),
    ]);
}
