//! `process` of the configuration: who the program is and what it starts with.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use serde_json::json;
use support::{User, World, for_users};

use crate::harness::bundle::runtime;
use crate::harness::under_test::kind;
use crate::harness::{
    Bundle, ConsoleSocket, Crun, Runc, Sandcrab, assert_error, differs, program, reap,
};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// A line of `/proc/self/status`, without its name.
fn field(lines: &[String], name: &str) -> String {
    let line = lines
        .iter()
        .find(|line| line.starts_with(&format!("{name}:")));
    let line = line.unwrap_or_else(|| panic!("{name} is missing: {lines:?}"));
    line.split_once(':').expect("a colon").1.trim().to_owned()
}

fn bits(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a set of capabilities")
}

/// The bit of some capabilities, capability.h.
fn bit(name: &str) -> u64 {
    let number = match name {
        "CAP_CHOWN" => 0,
        "CAP_KILL" => 5,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_ADMIN" => 12,
        "CAP_NET_RAW" => 13,
        "CAP_SYS_ADMIN" => 21,
        other => panic!("{other}"),
    };
    1 << number
}

for_users! {
    /// The environment is the document's, and nothing of the runtime's.
    fn environment(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/env", json!(["PATH=/bin", "A=1", "B=x=y", "EMPTY=", "A2=two words\nand lines"]));
        bundle.args(&["env"]).save();
        let output = bundle.run_with(&[]).env("SECRET", "1").env("_OCI_SYNCPIPE", "9").ok();
        let text = output.text();
        for line in ["PATH=/bin", "A=1", "B=x=y", "EMPTY=", "A2=two words"] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        for never in ["SECRET", "_OCI", "XDG", "LOGNAME", "LANG", "RUNC", "SANDCRAB", "_LIBCONTAINER"] {
            assert!(!text.contains(never), "{never}: {text}");
        }
    }

    /// The program is looked for in the container's PATH, relative to its root and its directory.
    fn path_lookup(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write_program("rootfs/tmp/tool", "#!/bin/sh\necho found in $PATH as $0\n");
        bundle.set("/process/env", json!(["PATH=/nowhere:/etc:/tmp:/bin"]));
        assert!(bundle.args(&["tool"]).lines()[0].starts_with("found in /nowhere:/etc:/tmp:/bin as /tmp/tool"));
        bundle.set("/process/cwd", json!("/tmp"));
        assert!(bundle.args(&["./tool"]).lines()[0].ends_with("./tool"));
        bundle.set("/process/cwd", json!("/"));
        assert!(bundle.args(&["tmp/tool"]).lines()[0].starts_with("found"));
    }

    /// The working directory; one that isn't there is made, as runc and crun do.
    fn working_directory(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/cwd", json!("/tmp"));
        assert_eq!(bundle.args(&["pwd"]).lines(), ["/tmp"]);
        bundle.set("/process/cwd", json!("/made/by/it"));
        assert_eq!(bundle.args(&["pwd"]).lines(), ["/made/by/it"]);
        if kind() != Crun {
            // crun 1.8.1 takes it as relative to the root.
            bundle.set("/process/cwd", json!("relative"));
            assert_error(bundle.run(), &["cwd"]);
        }
        bundle.set("/process/cwd", json!("/etc/passwd"));
        assert_error(bundle.run(), &["not a directory"]);
        let container = bundle.set("/process/cwd", json!("/tmp")).script(SLEEP).start();
        assert_eq!(container.sh("pwd"), "/tmp\n");
        let output = container.exec(&["--cwd", "/proc"], &["pwd"]).ok();
        assert_eq!(output.text(), "/proc\n");
        assert_error(container.exec(&["--cwd", "/no/such"], &["pwd"]).run(), &[]);
    }

    /// User and group ids.
    fn user(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        let lines = bundle.prints("cat /proc/self/status; id");
        assert_eq!(field(&lines, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(field(&lines, "Gid"), "1001\t1001\t1001\t1001");
        assert_eq!(field(&lines, "Groups").replace(' ', ""), "");
        assert_eq!(bits(&field(&lines, "CapEff")) , 0, "{lines:?}");
        assert!(lines.last().unwrap().starts_with("uid=1000(app) gid=1001(app)"));
    }

    /// Groups beside the first. runc and crun add the first to them, too.
    fn additional_groups(world) as [root, subids] {
        if world.user != User::Root && differs(world, &[(Runc, "refuses groups when rootless")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [50, 5]}));
        let lines = bundle.prints("cat /proc/self/status");
        let mut groups: Vec<u32> = field(&lines, "Groups").split_whitespace().map(|g| g.parse().unwrap()).collect();
        groups.retain(|group| *group != 1001);
        groups.sort_unstable();
        assert_eq!(groups, [5, 50]);
    }

    /// Groups that can't be had are refused by name, or left out with a word; never silently.
    fn groups_of_a_single_id(world) as [plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [50]}));
        let output = bundle.script("grep Groups /proc/self/status").run();
        if output.code == Some(0) {
            assert!(!output.text().contains("50"), "{}", output.all());
            if differs(world, &[(Crun, "leaves them out without a word")]) {
                return;
            }
            assert!(output.stderr.contains("group") || output.stderr.contains("Gid"), "{}", output.all());
        } else {
            assert_error(output, &["group", "gid"]);
        }
    }

    /// An id that the map doesn't have is refused.
    fn unmapped_user(world) as [subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/user", json!({"uid": 200_000, "gid": 0}));
        assert_error(bundle.run(), &["200000", "uid", "user", "invalid argument"]);
    }

    /// The mask of modes; 0022 where none is given.
    fn umask(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        assert_eq!(bundle.prints("umask"), ["0022"]);
        bundle.set("/process/user/umask", json!(0o077));
        assert_eq!(bundle.prints("umask; >/tmp/f; stat -c %a /tmp/f"), ["0077", "600"]);
        let container = bundle.script(SLEEP).start();
        container.wait_for("ready");
        if kind() == Sandcrab {
            // runc 1.1.5 and crun 1.8.1 give an exec another one.
            assert_eq!(container.sh("umask"), "0077\n");
        }
    }

    /// The capability sets, each as the document has it.
    fn capability_sets(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/capabilities", json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
        }));
        let lines = bundle.prints("cat /proc/self/status");
        let two = bit("CAP_CHOWN") | bit("CAP_KILL");
        assert_eq!(bits(&field(&lines, "CapBnd")), two | bit("CAP_NET_RAW"));
        assert_eq!(bits(&field(&lines, "CapAmb")), 0);
        assert_eq!(bits(&field(&lines, "CapInh")), 0);
        // Executed by user id 0, a program has what the bounding set allows.
        assert_eq!(bits(&field(&lines, "CapPrm")), two | bit("CAP_NET_RAW"));
    }

    /// Without capabilities there are none.
    fn no_capabilities(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/capabilities", json!({"bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": []}));
        let lines = bundle.prints("cat /proc/self/status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(bits(&field(&lines, set)), 0, "{set}");
        }
    }

    /// Ambient capabilities reach a program of an ordinary user.
    fn ambient_capabilities(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        let list = json!(["CAP_NET_RAW", "CAP_NET_BIND_SERVICE"]);
        bundle.set("/process/capabilities", json!({
            "bounding": list, "permitted": list, "effective": list, "inheritable": list, "ambient": list,
        }));
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        let lines = bundle.prints("cat /proc/self/status");
        let both = bit("CAP_NET_RAW") | bit("CAP_NET_BIND_SERVICE");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(bits(&field(&lines, set)), both, "{set}");
        }
    }

    /// Inheritable without ambient: in the set, and not effective after execution.
    fn inheritable_capabilities(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/capabilities", json!({
            "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
        }));
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        let lines = bundle.prints("cat /proc/self/status");
        assert_eq!(bits(&field(&lines, "CapInh")), bit("CAP_KILL"));
        assert_eq!(bits(&field(&lines, "CapEff")), 0);
    }

    /// A capability that this kernel doesn't know is left out with a warning.
    fn unknown_capability(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.capabilities(&["CAP_KILL", "CAP_FROBNICATE"]);
        let output = bundle.script("grep CapBnd /proc/self/status").run();
        if differs(world, &[(Crun, "refuses it")]) {
            return;
        }
        let output = output.success();
        assert_eq!(bits(output.text().split_whitespace().last().unwrap()), bit("CAP_KILL"));
        assert!(output.stderr.contains("CAP_FROBNICATE"), "{}", output.stderr);
    }

    /// Capabilities of an exec are the container's.
    fn exec_capabilities(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.capabilities(&["CAP_KILL"]);
        let container = bundle.start();
        let text = container.sh("cat /proc/self/status");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(bits(&field(&lines, "CapBnd")), bit("CAP_KILL"));
        assert_eq!(bits(&field(&lines, "CapEff")), bit("CAP_KILL"));
    }

    /// Resource limits, hard and soft.
    fn rlimits(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            {"type": "RLIMIT_STACK", "hard": 4_194_304, "soft": 1_048_576},
            {"type": "RLIMIT_CPU", "hard": 600, "soft": 300},
            {"type": "RLIMIT_FSIZE", "hard": 1_073_741_824_u64, "soft": 1_073_741_824_u64},
        ]));
        let lines = bundle.prints("cat /proc/self/limits");
        let limit = |name: &str| {
            let line = lines.iter().find(|line| line.starts_with(name)).expect(name);
            line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(limit("Max open files"), "256 512");
        assert_eq!(limit("Max core file size"), "0 0");
        assert_eq!(limit("Max stack size"), "1048576 4194304");
        assert_eq!(limit("Max cpu time"), "300 600");
        assert_eq!(limit("Max file size"), "1073741824 1073741824");
        let container = bundle.script(SLEEP).start();
        if kind() == Sandcrab || (kind() == Runc && world.user == User::Root) {
            // runc 1.1.5 leaves a rootless exec its caller's limits, crun 1.8.1 every exec.
            assert_eq!(container.sh("ulimit -n; ulimit -Hn"), "256\n512\n");
        }
    }

    /// A hard limit above the caller's own: clamped with a word when it may not be raised.
    fn rlimit_above(world) as [subids, plain] {
        if differs(world, &[(Runc, "fails"), (Crun, "fails")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 1_048_576}]));
        let output = bundle.script("ulimit -Hn").run().success();
        assert!(output.stderr.contains("RLIMIT_NOFILE"), "{}", output.stderr);
        assert!(output.text().trim().parse::<u64>().unwrap() <= 1_048_576);
    }

    /// Limits that are none.
    fn bad_rlimits(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_FROBNICATE", "hard": 1, "soft": 1}]));
        assert_error(bundle.run(), &["rlimit_frobnicate"]);
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 100, "soft": 200}]));
        assert_error(bundle.run(), &["rlimit_nofile", "invalid argument", "soft"]);
        if differs(world, &[(Runc, "takes the last of two"), (Crun, "takes the last of two")]) {
            return;
        }
        bundle.set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "hard": 100, "soft": 100}, {"type": "RLIMIT_NOFILE", "hard": 90, "soft": 90}
        ]));
        assert_error(bundle.run(), &["rlimit_nofile"]);
    }

    /// no_new_privs, on and off.
    fn no_new_privileges(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for (wanted, text) in [(true, "1"), (false, "0")] {
            bundle.set("/process/noNewPrivileges", json!(wanted));
            let lines = bundle.prints("cat /proc/self/status");
            assert_eq!(field(&lines, "NoNewPrivs"), text);
        }
        bundle.set("/process/noNewPrivileges", json!(true)).script(SLEEP);
        let container = bundle.start();
        if kind() != Crun {
            // crun 1.8.1 wants it said with every exec.
            assert!(container.sh("grep NoNewPrivs /proc/self/status").contains('1'));
        }
    }

    /// Without noNewPrivileges a set-user-id program has its owner's id.
    fn set_user_id(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        let program = bundle.inside("bin/probe");
        std::os::unix::fs::chown(&program, Some(world.account.uid), Some(world.account.gid)).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        // geteuid(2)
        assert_eq!(bundle.args(&["probe", "call", "107"]).lines(), ["0"]);
        bundle.set("/process/noNewPrivileges", json!(true));
        assert_eq!(bundle.lines(), ["1000"]);
    }

    /// The score of the out-of-memory killer.
    fn oom_score(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/oomScoreAdj", json!(500));
        assert_eq!(bundle.prints("cat /proc/self/oom_score_adj"), ["500"]);
        bundle.set("/process/oomScoreAdj", json!(5000));
        assert_error(bundle.run(), &["oom", "invalid argument"]);
    }

    /// Lowering the score is not an ordinary user's right; the container starts nevertheless.
    fn oom_score_below(world) as [subids, plain] {
        if differs(world, &[(Runc, "fails"), (Crun, "fails")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/process/oomScoreAdj", json!(-500));
        let output = bundle.script("cat /proc/self/oom_score_adj").run().success();
        assert_eq!(output.text(), "0\n");
    }

    /// Scheduling policy and nice value.
    fn scheduler(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no scheduler"), (Crun, "1.8.1 has no scheduler")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.args(&["probe", "sched"]);
        bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
        // Since kernel 6.12 the rest says how long a slice is.
        assert!(bundle.lines()[0].starts_with("3 0 7 0 "));
        bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}));
        // The program is executed, not forked: the flag is still there.
        assert!(bundle.lines()[0].starts_with("0 1 3 0 "));
        bundle.set("/process/scheduler", json!({"policy": "SCHED_IDLE"}));
        assert!(bundle.lines()[0].starts_with("5 0 "));
        bundle.set("/process/scheduler", json!({"policy": "SCHED_FROBNICATE"}));
        assert_error(bundle.run(), &["sched_frobnicate"]);
        bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FROBNICATE"]}));
        assert_error(bundle.run(), &["sched_flag_frobnicate"]);
    }

    /// Real-time and deadline scheduling: what the kernel allows to root, refused to others by name.
    fn real_time_scheduler(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no scheduler"), (Crun, "1.8.1 has no scheduler")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.args(&["probe", "sched"]);
        for (scheduler, wanted) in [
            (json!({"policy": "SCHED_FIFO", "priority": 10}), "1 0 0 10 0 0 0"),
            (json!({"policy": "SCHED_RR", "priority": 20}), "2 0 0 20 0 0 0"),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000, "period": 40_000_000}),
             "6 0 0 0 10000000 30000000 40000000"),
        ] {
            bundle.set("/process/scheduler", scheduler);
            let output = bundle.run();
            if world.user == User::Root {
                if output.code == Some(0) {
                    assert_eq!(output.text().trim(), wanted);
                } else {
                    // A control group without real-time bandwidth, sched(7).
                    assert!(output.stderr.to_lowercase().contains("sched"), "{}", output.stderr);
                }
            } else {
                assert_error(output, &["sched_", "scheduler", "scheduling"]);
            }
        }
    }

    /// I/O priority.
    fn io_priority(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no ioPriority"), (Crun, "1.8.1 has no ioPriority")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
        assert_eq!(bundle.prints("ionice -p 1"), ["best-effort: prio 6"]);
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE"}));
        assert!(bundle.prints("ionice -p 1")[0].starts_with("idle"));
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_FROBNICATE"}));
        assert_error(bundle.run(), &["ioprio_class_frobnicate"]);
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}));
        assert_error(bundle.run(), &["iopriority", "priority"]);
    }

    /// Processors of an exec: those it starts on and those it stays on.
    fn cpu_affinity(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no execCPUAffinity"), (Crun, "1.8.1 has none")]) {
            return;
        }
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
        let container = bundle.start();
        let allowed = |text: &str| text.split_whitespace().last().unwrap().to_owned();
        assert_eq!(allowed(&container.sh("grep Cpus_allowed_list /proc/self/status")), "0");
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(["grep", "Cpus_allowed_list", "/proc/self/status"]);
        process["execCPUAffinity"] = json!({"final": "0-1"});
        let file = bundle.write("process.json", process.to_string());
        let text = runtime(world, ["exec", "--process"]).arg(file).arg(&container.id).ok().text();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(allowed(&text), if cpus > 1 { "0-1" } else { "0" });
        bundle.set("/process/execCPUAffinity", json!({"initial": "x"}));
        assert_error(bundle.run(), &["cpu", "initial"]);
    }

    /// A 32-bit personality.
    fn personality(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no personality"), (Crun, "1.8.1 knows it, but not for every program")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
        assert_eq!(bundle.prints("uname -m"), ["i686"]);
        bundle.set("/linux/personality", json!({"domain": "LINUX"}));
        assert_eq!(bundle.prints("uname -m"), ["x86_64"]);
        bundle.set("/linux/personality", json!({"domain": "FROBNICATE"}));
        assert_error(bundle.run(), &["frobnicate"]);
        bundle.set("/linux/personality", json!({"domain": "LINUX", "flags": ["FROBNICATE"]}));
        assert_error(bundle.run(), &["flags"]);
    }

    /// NUMA memory policy.
    fn memory_policy(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 has no memoryPolicy"), (Crun, "1.8.1 has none")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.args(&["probe", "memory-policy"]);
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
        let output = bundle.run();
        if output.stderr.contains("not implemented") {
            support::skip(&world.test, "a kernel without NUMA");
            return;
        }
        assert_eq!(output.success().text(), "2 1\n");
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
        assert_eq!(bundle.lines(), ["32771 1"]);
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_FROBNICATE", "nodes": "0"}));
        assert_error(bundle.run(), &["mpol_frobnicate"]);
    }

    /// AppArmor: applied where the kernel has it, refused by name elsewhere.
    fn apparmor(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/apparmorProfile", json!("no-such-profile"));
        if differs(world, &[(Runc, "fails with other words"), (Crun, "ignores it where the kernel has none")]) {
            return;
        }
        assert_error(bundle.run(), &["apparmor"]);
        bundle.set("/process/apparmorProfile", json!("")).script(SLEEP);
        let container = bundle.start();
        assert_error(container.exec(&["--apparmor", "no-such-profile"], &["true"]).run(), &["apparmor"]);
    }

    /// SELinux: as AppArmor.
    fn selinux(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        if differs(world, &[(Runc, "ignores or refuses it, depending on the kernel"), (Crun, "ignores it where the kernel has none")]) {
            return;
        }
        bundle.set("/process/selinuxLabel", json!("system_u:system_r:svirt_t:s0"));
        assert_error(bundle.run(), &["selinux"]);
        bundle.set("/process/selinuxLabel", json!("")).script(SLEEP);
        let container = bundle.start();
        let output = container.exec(&["--process-label", "system_u:system_r:svirt_t:s0"], &["true"]).run();
        assert_error(output, &["selinux"]);
        let mut other = Bundle::new(world);
        other.set("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0"));
        let output = other.run();
        assert!(output.stderr.contains("mountLabel"), "without a word: {}", output.all());
    }

    /// The program is the leader of a session of its own.
    fn session(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("cut -d' ' -f1,5,6 /proc/1/stat");
        assert_eq!(lines, ["1 1 1"]);
    }

    /// Nothing of the caller's descriptors reaches the program.
    fn descriptors(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.args(&["ls", "/proc/self/fd"]).save();
        let script = "exec 3</etc/passwd 5</etc/group 9</etc/hosts; exec \"$@\"";
        let path = bundle.path("");
        let id = bundle.id().to_owned();
        let command = with_shell(world, script).args(["run", "--bundle"]).arg(&path).arg(&id);
        // `ls` itself has the directory open.
        assert_eq!(command.ok().text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let container = bundle.script(SLEEP).start();
        let command = with_shell(world, script).args(["exec", &container.id, "ls", "/proc/self/fd"]);
        assert_eq!(command.ok().text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }

    /// `--preserve-fds N` keeps N descriptors after the standard ones.
    fn preserve_fds(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let file = bundle.write("three", "the third\n");
        let script = format!("exec 3<{0} 4<{0} 5</etc/passwd; exec \"$@\"", file.display());
        bundle.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '").save();
        let command = with_shell(world, &script).args(["run", "--preserve-fds", "2", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
        // Two readers of one file each have an offset of their own: it was opened twice.
        assert_eq!(command.ok().text(), "the third\nthe third\n0 1 2 3 4 5 ");
        let container = bundle.script(SLEEP).start();
        let command = with_shell(world, &script).args(["exec", "--preserve-fds=1", &container.id, "sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"]);
        if differs(world, &[(Crun, "has it for run and create only")]) {
            return;
        }
        assert_eq!(command.ok().text(), "the third\n5\n");
        let command = with_shell(world, "exec \"$@\"").args(["run", "--preserve-fds", "7", "--bundle"]).arg(bundle.path("")).arg("other");
        assert_error(command.run(), &[]);
    }

    /// LISTEN_FDS: the descriptors, and the variables as the program needs them.
    fn listen_fds(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let file = bundle.write("three", "the third\n");
        let script = format!("exec 3<{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", file.display());
        bundle.script("cat <&3; echo $LISTEN_FDS $LISTEN_PID").save();
        let command = with_shell(world, &script).args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
        let text = command.ok().text();
        // crun 1.8.1 leaves LISTEN_PID to the program.
        assert_eq!(text, if kind() == Crun { "the third\n1\n" } else { "the third\n1 1\n" });
    }

    /// A terminal over the console socket: its name, the descriptor, what is typed and printed.
    fn console_socket(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("tty; test -t 0 -a -t 1 -a -t 2 && echo all; stty size; read x; echo \"got $x\"; ls -l /dev/console; exit 4");
        bundle.set("/process/consoleSize", json!({"height": 33, "width": 77}));
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        let pid = container.pid();
        container.start();
        terminal.wait_for("33 77");
        assert!(terminal.text.contains("/dev/pts/0") || terminal.text.contains("/dev/console"), "{}", terminal.text);
        assert!(terminal.text.contains("all"), "{}", terminal.text);
        terminal.type_in("hello\n");
        terminal.wait_for("got hello");
        terminal.read_all();
        assert_eq!(reap(pid), 4);
        assert!(container.stdout().is_empty());
    }

    /// The payload beside the console's descriptor is a name.
    fn console_payload(world) as [root, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/process/terminal", json!(true));
        let socket = ConsoleSocket::new(world, "console");
        let _container = bundle.create_with(&["--console-socket", socket.argument()]);
        let (bytes, descriptor) = socket.receive();
        assert!(!bytes.is_empty() && bytes.len() < 4096, "{bytes:?}");
        assert!(rustix::termios::isatty(descriptor.as_fd()));
    }

    /// A terminal resized from outside tells the program; Ctrl-C interrupts it.
    fn console_signals(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("trap 'stty size' WINCH; trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done");
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        let pid = container.pid();
        container.start();
        terminal.wait_for("ready");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal.master(), size).unwrap();
        terminal.wait_for("40 120");
        terminal.type_in("\u{3}");
        terminal.wait_for("interrupted");
        assert_eq!(reap(pid), 8);
    }

    /// The terminal belongs to the program's user.
    fn console_owner(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        bundle.script("stat -c %u $(readlink /proc/self/fd/0); echo x >$(tty) && echo opened");
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        container.start();
        terminal.wait_for("opened");
        assert!(terminal.text.starts_with("1000"), "{}", terminal.text);
    }

    /// `exec --tty` with a console socket.
    fn exec_console_socket(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let socket = ConsoleSocket::new(world, "console");
        let pid_file = bundle.path("pid");
        let flags = ["--tty", "--detach", "--console-socket", socket.argument(), "--pid-file", pid_file.to_str().unwrap()];
        container.leaving(container.exec(&flags, &["sh", "-c", "tty; read x; echo got $x; exit 5"])).success();
        let mut terminal = socket.terminal();
        terminal.type_in("word\n");
        terminal.wait_for("got word");
        let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        assert_eq!(reap(pid), 5);
    }

    /// `run` in the foreground with a terminal: on a terminal, everything passes.
    fn foreground_terminal(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("tty; test -t 0 && echo terminal; exit 6").save();
        let command = format!(
            "{} {} --root {} run --bundle {} {}",
            program().display(),
            if kind() == Crun && world.user != User::Root { "--cgroup-manager=disabled" } else { "" },
            world.path("state").display(), bundle.path("").display(), bundle.id()
        );
        let output = crate::harness::terminal::on_terminal(world, &command).run().exits(6);
        assert!(output.text().contains("terminal\r\n"), "{:?}", output.text());
        let container = bundle.set("/process/terminal", json!(false)).script(SLEEP).start();
        let command = format!(
            "{} --root {} exec --tty {} sh -c 'test -t 1 && echo terminal; exit 7'",
            program().display(), world.path("state").display(), container.id
        );
        if kind() == Crun {
            return;
        }
        let output = crate::harness::terminal::on_terminal(world, &command).run().exits(7);
        assert!(output.text().contains("terminal\r\n"), "{:?}", output.text());
    }

    /// What doesn't go together with a terminal.
    fn terminal_and_detach(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        assert_error(bundle.container().create(&[]), &["console", "terminal", "tty"]);
        assert_error(bundle.container().leaving(bundle.run_with(&["-d"])), &["console", "terminal", "tty"]);
        assert_error(bundle.container().create(&["--console-socket", "/no/such/socket"]), &["/no/such/socket", "no such file", "console"]);
        bundle.set("/process/terminal", json!(false));
        if differs(world, &[(Crun, "ignores the socket")]) {
            return;
        }
        let socket = ConsoleSocket::new(world, "console");
        assert_error(bundle.container().create(&["--console-socket", socket.argument()]), &["console"]);
    }

    /// A session keyring of its own, unless told otherwise.
    fn keyring(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
        bundle.args(&["probe", "call", "250", "0", "-3", "0"]);
        let first = bundle.lines();
        let second = bundle.lines();
        if first[0].starts_with("errno 38") {
            support::skip(&world.test, "a kernel without keys");
            return;
        }
        assert_ne!(first, second, "one keyring for two containers");
        let keep = |bundle: &Bundle| bundle.run_with(&["--no-new-keyring"]).ok().text();
        if world.user == User::Root {
            assert_eq!(keep(&bundle), keep(&bundle));
        }
    }

    /// NOTIFY_SOCKET: that the program is ready reaches the caller's socket, and nothing else.
    fn notify_socket(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 passed nothing on when tried on a hybrid host")]) {
            return;
        }
        let (path, socket) = manager(world);
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.script("echo $NOTIFY_SOCKET; probe notify $NOTIFY_SOCKET FDSTORE=1; probe notify $NOTIFY_SOCKET READY=1").save();
        let running = bundle.run_with(&[]).env("NOTIFY_SOCKET", &path).spawn();
        assert_eq!(hear(&socket).trim_end(), "READY=1");
        assert!(hear(&socket).starts_with("MAINPID="));
        let output = running.wait().success();
        assert!(output.text().starts_with("/run/notify/"), "{}", output.text());
    }

    /// NOTIFY_SOCKET: `start` returns when the program is ready, after the caller's end of the
    /// socket knows of it.
    fn notify_socket_of_start(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 passed nothing on when tried on a hybrid host")]) {
            return;
        }
        let (path, socket) = manager(world);
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.args(&["/bin/sh", "-c", "sleep 1; probe notify $NOTIFY_SOCKET READY=1; sleep 100"]);
        let container = bundle.container();
        let create = runtime(world, ["create"]).env("NOTIFY_SOCKET", &path);
        container.create_by(create, &[]).success();
        let pid = container.pid();
        let mut starting = container.verb(&["start"]).env("NOTIFY_SOCKET", &path).spawn();
        assert_eq!(hear(&socket).trim_end(), "READY=1");
        assert_eq!(hear(&socket).trim_end(), format!("MAINPID={pid}"));
        // runc 1.1.5 waits for a second instead.
        if kind() == Sandcrab {
            assert!(starting.is_running(), "it waits for the barrier");
            assert_eq!(hear(&socket).trim_end(), "BARRIER=1");
        }
        starting.wait().success();
        container.kill("KILL");
        reap(pid);
        container.delete();
    }

    /// Fields of other systems are refused by name or have no effect.
    fn foreign_fields(world) as [root, plain] {
        if differs(world, &[(Runc, "ignores them"), (Crun, "ignores them")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        for (pointer, value, word) in [
            ("/process/commandLine", json!("cmd"), "commandline"),
            ("/process/user/username", json!("app"), "username"),
        ] {
            let before = bundle.config.clone();
            bundle.set(pointer, value);
            assert_error(bundle.run(), &[word]);
            bundle.config = before;
        }
        for platform in ["windows", "solaris", "vm", "zos", "freebsd"] {
            let before = bundle.config.clone();
            bundle.set(&format!("/{platform}"), json!({}));
            assert_error(bundle.run(), &[platform]);
            bundle.config = before;
        }
    }

    /// All that is wrong is said at once.
    fn all_problems(world) as [root, plain] {
        if differs(world, &[(Runc, "says the first"), (Crun, "says the first")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/process/cwd", json!("relative"));
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_FROBNICATE", "hard": 1, "soft": 1}]));
        bundle.push("/linux/namespaces", json!({"type": "frobnicate"}));
        let output = bundle.run();
        let said = output.stderr.to_lowercase();
        for word in ["process.cwd", "rlimit_frobnicate", "linux.namespaces[", "frobnicate"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_error(output, &[]);
    }

    /// Versions of the specification: every 1.x is taken, others are refused.
    fn versions(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.9.0"] {
            if kind() == Crun && !version.starts_with("1.0") {
                continue;
            }
            bundle.set("/ociVersion", json!(version)).run().success();
        }
        if differs(world, &[(Runc, "does not look at the version"), (Crun, "does not parse the version")]) {
            return;
        }
        for version in [json!("2.0.0"), json!("0.9"), json!("frobnicate"), json!("")] {
            assert_error(bundle.set("/ociVersion", version).run(), &["ociversion"]);
        }
    }

    /// Arguments are passed byte by byte.
    fn arguments(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let args = ["printf", "%s|", "", "two words", "line\nline", "ünïcode", "--help", "$HOME", "\\", "'"];
        assert_eq!(bundle.args(&args).run().success().text(), "|two words|line\nline|ünïcode|--help|$HOME|\\|'|");
        bundle.set("/process/args", json!([]));
        assert_error(bundle.run(), &["args", "no program"]);
    }

    /// A script with an interpreter, and one whose interpreter is missing.
    fn interpreters(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write_program("rootfs/bin/script", "#!/bin/sh\necho script $1\n");
        assert_eq!(bundle.args(&["script", "x"]).lines(), ["script x"]);
        bundle.write_program("rootfs/bin/broken", "#!/no/such/interpreter\n");
        let output = bundle.args(&["broken"]).run();
        assert_error(output, &["no such file or directory", "not found"]);
    }

    /// The program's parent doesn't exist in its namespace, and the signals are as at first.
    fn signal_dispositions(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.args(&["cat", "/proc/self/status"]).lines();
        assert_eq!(field(&lines, "PPid"), "0");
        assert_eq!(bits(&field(&lines, "SigBlk")), 0);
        if differs(world, &[(Crun, "ignores a signal"), (Runc, "is written in Go, which changes some")]) {
            return;
        }
        // Whatever the caller ignores, such as a shell's background job. Both signals that C
        // libraries keep for themselves stay as they were, signal(7).
        assert_eq!(bits(&field(&lines, "SigIgn")) & !(3 << 31), 0);
        let mut bundle = Bundle::new(world);
        bundle.args(&["cat", "/proc/self/status"]).save();
        let output = with_shell(world, "trap '' INT QUIT USR1; exec \"$@\"")
            .args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).ok();
        let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
        assert_eq!(bits(&field(&lines, "SigIgn")) & !(3 << 31), 0);
    }
}

/// A socket like a service manager's, sd_notify(3).
fn manager(world: &World) -> (std::path::PathBuf, UnixDatagram) {
    use std::os::unix::fs::PermissionsExt;
    let path = world.short_directory().join("notify");
    std::fs::remove_file(&path).ok();
    let socket = UnixDatagram::bind(&path).expect("bind");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let limit = std::time::Duration::from_secs(20);
    socket.set_read_timeout(Some(limit)).expect("set");
    (path, socket)
}

/// Waits for a message; descriptors that come with it are closed.
fn hear(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    loop {
        match socket.recv(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => {
                let count = other.expect("the message arrives");
                return String::from_utf8_lossy(&bytes[..count]).into_owned();
            }
        }
    }
}

/// A shell that prepares something and then becomes the runtime; verbs follow.
fn with_shell(world: &World, script: &str) -> support::Command {
    let mut command = world
        .command("sh")
        .args(["-c", script, "sh"])
        .arg(program())
        .arg("--root")
        .arg(world.path("state"));
    if kind() == Crun && world.user != User::Root {
        command = command.arg("--cgroup-manager=disabled");
    }
    command
}
