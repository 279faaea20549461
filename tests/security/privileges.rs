//! Attacks by way of privileges that are left over.

use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;

for_users! {
    /// CVE-2022-29162 of runc, CVE-2022-27650 of crun: capabilities that `exec` gives are not
    /// inheritable, so that programs with inheritable file capabilities gain nothing.
    fn inheritable_capabilities(world) as [root, subids, plain] {
        fails(world, "Inheritable", |attempt| {
            let bundle = Bundle::with_script(world, "sleep 60");
            let container = bundle.start();
            let words = ["exec", "--cap", "CAP_SYS_PTRACE", &container.id, "grep", "CapInh", "/proc/self/status"];
            let text = attempt.command(&words).ok().text();
            text.trim_end() != "CapInh:\t0000000000000000"
        });
    }

    /// Nor are those of a container's own process.
    fn nothing_is_inheritable_by_default(world) as [root, subids, plain] {
        let lines = Bundle::new(world).prints("grep -E 'Cap(Inh|Amb)' /proc/self/status");
        assert_eq!(lines, ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"]);
    }
}
