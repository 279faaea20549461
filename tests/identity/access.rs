//! Rights: what one user may do with another's files.
//!
//! The table is what the permission bits say by path_resolution(7) and the calls' manual pages; it
//! is worked out here from owners, groups and modes.

use std::fmt::Write;

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

/// Somebody who tries.
struct Who {
    tag: &'static str,
    uid: u32,
    groups: &'static [u32],
}

const WHO: [Who; 2] = [
    Who {
        tag: "www",
        uid: 33,
        groups: &[33],
    },
    Who {
        tag: "app",
        uid: 1000,
        groups: &[33, 50, 1001],
    },
];

const OWNERS: [(u32, u32); 5] = [(0, 0), (33, 33), (1000, 1001), (0, 50), (0, 33)];

impl Who {
    /// The three bits that count for this user.
    fn bits(&self, (uid, gid): (u32, u32), mode: u32) -> u32 {
        if uid == self.uid {
            mode >> 6 & 7
        } else if self.groups.contains(&gid) {
            mode >> 3 & 7
        } else {
            mode & 7
        }
    }
}

fn word(granted: bool) -> &'static str {
    if granted { "ok" } else { "EACCES" }
}

/// Rows for every pair of user, owner and mode.
fn matrix() -> String {
    let mut rows = String::new();
    for who in &WHO {
        let tag = who.tag;
        for owner @ (uid, gid) in OWNERS {
            for mode in [0o600, 0o640, 0o644, 0o666, 0o060, 0o006] {
                let bits = who.bits(owner, mode);
                let [read, write] = [bits & 4 != 0, bits & 2 != 0].map(word);
                let both = word(bits & 6 == 6);
                writeln!(rows, "{tag}.{uid}-{gid}.{mode:03o} = {read} {write} {read} {write} {both} {uid}:{gid}:{} {write}", shown(mode)).expect("write to memory");
            }
            for mode in [0o700, 0o750, 0o755, 0o770, 0o1777, 0o711, 0o070] {
                let bits = who.bits(owner, mode);
                let [list, search] = [bits & 4 != 0, bits & 1 != 0].map(word);
                let status = if bits & 1 != 0 { "0:0:666" } else { "EACCES" };
                let create = word(bits & 3 == 3);
                writeln!(rows, "{tag}.dir.{uid}-{gid}.{} = {list} {search} {status} {search} {create} {search}", mode_name(mode)).expect("write to memory");
            }
            for mode in [0o700, 0o750, 0o711] {
                let bits = who.bits(owner, mode);
                let [read, run] = [bits & 4 != 0, bits & 1 != 0].map(word);
                writeln!(rows, "{tag}.exec.{uid}-{gid}.{mode:o} = {run} {run} {read}")
                    .expect("write to memory");
            }
        }
    }
    rows
}

fn shown(mode: u32) -> String {
    format!("{mode:o}")
}

fn mode_name(mode: u32) -> String {
    format!("{mode:03o}")
}

for_users! {
    /// Reading, writing, searching, executing; directories; what owners alone may do.
    fn rights(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN sh /probe/access.sh\n");
        let mut table = matrix();
        table.push_str("
            own.www = ok 33:33:600 ok ok ok ok EPERM EPERM EPERM EPERM
            others.www = EPERM EPERM ok EPERM EACCES EACCES ok EPERM EPERM
            groups.app = ok EPERM ok 1000:33:644
            set-id.app = ok 1000:1001:6755 ok 1000:50:755
            set-gid-lost.app = ok 1000:42:755
            write-clears.app = ok ok 33:33:777
            sticky.app = EPERM EPERM EPERM EPERM ok ok ok 1000:1001:644
            own-directory.www = ok ok EACCES ENOTEMPTY ok ok 33:33:755 ok 33:33:777 ok 33:33:644 ok 33:33:666 ok 33:33:755
            closed.www = EACCES EACCES EACCES EACCES 0:0:777 EACCES EACCES EACCES EACCES EACCES EACCES EACCES
            root-only.www = EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES
            links.www = ok EACCES EACCES ok 0:0:666
            devices.www = EPERM EPERM ok 33:33:644
            tmpfile.www = ok 33:33:644 EACCES
            absent.www = ENOENT ENOTDIR ENOENT EACCES ENOENT ENOENT
            root = ok ok ok ok ok 0:0:644 ENOENT ok EACCES EACCES ok ok
            inherited.www = ok 33:50:644 ok 33:50:2755 ok 33:50:777 ok 33:50:644 ok 33:50:644
        ");
        // sysctl fs.protected_hardlinks, of Documentation/admin-guide/sysctl/fs.rst.
        let protected = std::fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap_or_default();
        let others = if protected.trim() == "1" { "EPERM EPERM EPERM" } else { "ok ok ok" };
        table.push_str(&format!("hard-links.www = {others} ok\n"));
        assert_printed(world, &table);
    }
}
