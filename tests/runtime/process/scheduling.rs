//! When and where the program runs, and with which memory.

use serde_json::json;
use support::{User, for_users};

use super::SLEEP;
use crate::harness::bundle::runtime;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs};

for_users! {
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
}
