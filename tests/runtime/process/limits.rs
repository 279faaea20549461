//! Resource limits and the out-of-memory score.

use serde_json::json;
use support::{User, for_users};

use super::SLEEP;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

for_users! {
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
}
