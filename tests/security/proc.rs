//! Attacks by way of what the runtime writes to and reads from `/proc`.

use serde_json::json;
use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;

for_users! {
    /// CVE-2025-52881 of runc: what is to be a kernel parameter is another file. Both protections
    /// have to be off: nothing may be mounted there, and if it is, it is not written to.
    fn parameter_is_another_file(world) as [root, subids, plain] {
        let attack = |attempt: crate::attempt::Attempt<'_>| {
            let mut bundle = Bundle::new(world);
            let victim = bundle.write("victim", "untouched");
            bundle.mount("bind", victim.to_str().unwrap(), "/proc/sys/kernel/msgmax", &["bind"]);
            bundle.set("/linux/sysctl", json!({"kernel.msgmax": "12345"}));
            attempt.run(&bundle);
            std::fs::read_to_string(&victim).unwrap() != "untouched"
        };
        fails(world, "OverProc,ProcFiles", attack);
        // One alone is enough.
        for off in ["OverProc", "ProcFiles"] {
            assert!(!attack(crate::attempt::Attempt::with(world, off)), "without {off}");
        }
    }

    /// A container hides its `/proc` behind one of its own, in which groups can't be set: what
    /// `exec` starts would keep those of the caller.
    fn groups_are_kept(world) as [root] {
        fails(world, "ProcFiles", |attempt| {
            let script = "mount -t tmpfs none /proc; mkdir /proc/self; echo deny >/proc/self/setgroups; echo ready; sleep 60";
            let mut bundle = Bundle::with_script(world, script);
            bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_SETGID", "CAP_SETUID"]);
            let container = bundle.start();
            container.wait_for("ready");
            let words = ["exec", &container.id, "id", "-G"];
            let output = attempt.command_after("exec setpriv --groups 0,4 \"$@\"", &words).run();
            output.success().text().split_whitespace().any(|group| group == "4")
        });
    }
}
