//! Documents that are wrong, or of another version.

use serde_json::json;
use support::for_users;

use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs};

for_users! {
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
}
