//! Capabilities, privileges and labels.

use serde_json::json;
use support::for_users;

use super::{SLEEP, bits, field};
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs};

for_users! {
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
