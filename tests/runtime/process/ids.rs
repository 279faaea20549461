//! Users, groups and the mask of new files.

use serde_json::json;
use support::{User, for_users};

use super::{SLEEP, bits, field};
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

for_users! {
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
}
