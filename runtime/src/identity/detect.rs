//! The choice of an identity.
//!
//! Responsible for looking at the caller, its subordinate ids and the kernel's switches, and for
//! saying in words why an identity was chosen and what would give a better one. Must not change
//! anything: entering is `enter`'s. Invariant: a plan maps only ids that this process's own user
//! namespace has.

use std::fs;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use rustix::fs::Access;

use super::subids::{self, Range};
use super::{Choice, EnterPlan, IdMap, Identity, MapWriter};
use crate::error::{Error, Result};

/// Where newuidmap and newgidmap may be when the caller names no directories.
const PROGRAM_DIRS: [&str; 8] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/run/wrappers/bin",
    "/run/current-system/sw/bin",
];

/// The default range of root, far above where people, services and subuid(5) entries are.
const ROOT_RANGE: Range = Range {
    start: 0x4000_0000,
    count: 65_536,
};

/// How many ids to take where there are more.
const WANTED: u32 = 65_536;

/// How many ids an image may expect: 0 to 65534, which is `nobody`.
const EXPECTED: u32 = 65_535;

/// Chooses an identity for this process. newuidmap(1) and newgidmap(1) are looked for in the
/// usual directories.
///
/// # Errors
/// What was asked for is not to be had; the hints say what to change.
pub fn detect(choice: Choice) -> Result<EnterPlan> {
    detect_with(choice, &[])
}

/// Like [`detect()`], looking for the programs in `dirs` first.
pub fn detect_with(choice: Choice, dirs: &[PathBuf]) -> Result<EnterPlan> {
    match choice {
        Choice::Host => host(),
        Choice::Emulated => Ok(emulated("it was asked for".to_owned(), Vec::new())),
        Choice::Subids => with_subids(dirs).map_err(|lack| {
            let mut error = Error::new("no subordinate ids to use").cause(lack.why);
            for advice in lack.advice {
                error = error.hint(advice);
            }
            error
        }),
        Choice::Auto => Ok(with_subids(dirs).unwrap_or_else(|lack| {
            emulated(format!("{}, which is not needed", lack.why), lack.advice)
        })),
    }
}

/// Why there are no subordinate ids, and what to do about it.
struct Lack {
    why: String,
    advice: Vec<String>,
}

fn host() -> Result<EnterPlan> {
    let root = rustix::process::geteuid().is_root() && has(Capability::CAP_SYS_ADMIN);
    if !root {
        return Err(
            Error::new("the host's ids need root with the capability CAP_SYS_ADMIN")
                .hint("use another isolation, which needs no root"),
        );
    }
    Ok(EnterPlan {
        identity: Identity::Host,
        ids: IdMap {
            first: 0,
            count: u32::MAX - 1,
        },
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        writer: MapWriter::None,
        reason: "the host's ids were asked for".to_owned(),
        advice: Vec::new(),
    })
}

fn emulated(reason: String, advice: Vec<String>) -> EnterPlan {
    let extent = |outside| super::Extent {
        inside: 0,
        outside,
        count: 1,
    };
    EnterPlan {
        identity: Identity::Emulated,
        ids: IdMap {
            first: 0,
            count: u32::MAX,
        },
        uid_map: vec![extent(rustix::process::geteuid().as_raw())],
        gid_map: vec![extent(rustix::process::getegid().as_raw())],
        writer: MapWriter::Own,
        reason,
        advice,
    }
}

fn with_subids(dirs: &[PathBuf]) -> Result<EnterPlan, Lack> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let may_write = has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID);
    let ranges = if may_write {
        let ranges = own_ranges(uid);
        let uids = usable(&ranges.uids, "/proc/self/uid_map", uid);
        let gids = usable(&ranges.gids, "/proc/self/gid_map", gid);
        let source = if uids.is_some() && gids.is_some() {
            ranges.source
        } else {
            "this user namespace"
        };
        Ranges {
            uids: uids.unwrap_or_else(|| highest("/proc/self/uid_map", uid)),
            gids: gids.unwrap_or_else(|| highest("/proc/self/gid_map", gid)),
            source,
            ..ranges
        }
    } else {
        let ranges = own_ranges(uid);
        Ranges {
            uids: subids::without(&ranges.uids, uid),
            gids: subids::without(&ranges.gids, gid),
            ..ranges
        }
    };
    let count = subids::total(&ranges.uids).min(subids::total(&ranges.gids));
    let advice = |name: Option<&str>| vec![subid_advice(name, uid)];
    if count == 0 {
        let (why, advice) = if may_write {
            let why = "this user namespace has no other ids".to_owned();
            (
                why,
                vec!["give the surrounding container more ids".to_owned()],
            )
        } else {
            let advice = advice(ranges.name.as_deref());
            let who = ranges.name.unwrap_or_else(|| uid.to_string());
            let why = format!("`{who}` has no line in both /etc/subuid and /etc/subgid");
            (why, advice)
        };
        return Err(Lack { why, advice });
    }
    let writer = if may_write {
        MapWriter::Parent
    } else {
        programs(dirs)?
    };
    let (how, advice) = match count {
        EXPECTED.. => (format!("{count} subordinate ids"), Vec::new()),
        _ => (
            format!("{count} subordinate ids, fewer than an image may use"),
            advice(ranges.name.as_deref()),
        ),
    };
    Ok(EnterPlan {
        identity: Identity::Subids,
        ids: IdMap { first: 1, count },
        uid_map: subids::lay_out(uid, &ranges.uids, count),
        gid_map: subids::lay_out(gid, &ranges.gids, count),
        reason: format!("{how} from {}", ranges.source),
        writer,
        advice,
    })
}

struct Ranges {
    name: Option<String>,
    uids: Vec<Range>,
    gids: Vec<Range>,
    source: &'static str,
}

/// The ranges that the files give to the caller, and for root some that they need not name.
fn own_ranges(uid: u32) -> Ranges {
    // A missing file gives nobody anything.
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (subuid, subgid) = (read("/etc/subuid"), read("/etc/subgid"));
    let name = user_name(&read("/etc/passwd"), uid);
    let of = |name: Option<&str>, uid| {
        (
            subids::parse(&subuid, name, uid),
            subids::parse(&subgid, name, uid),
        )
    };
    let (mut uids, mut gids) = of(name.as_deref(), uid);
    let mut source = "/etc/subuid and /etc/subgid";
    if uid == 0 && (uids.is_empty() || gids.is_empty()) {
        // "containers" is the entry that other tools use for root's containers.
        (uids, gids) = of(Some("containers"), u32::MAX);
    }
    if uid == 0 && (uids.is_empty() || gids.is_empty()) {
        (uids, gids) = (vec![ROOT_RANGE], vec![ROOT_RANGE]);
        source = "root's default range";
    }
    Ranges {
        name,
        uids,
        gids,
        source,
    }
}

/// Limits ranges to what this user namespace has; `None` when that is nothing.
fn usable(ranges: &[Range], map: &str, caller: u32) -> Option<Vec<Range>> {
    let both = subids::intersect(ranges, &all_but(map, caller));
    (!both.is_empty()).then_some(both)
}

/// Returns the highest ids of this user namespace, for a pod that has ids of its own: those that
/// its users are least likely to have.
fn highest(map: &str, caller: u32) -> Vec<Range> {
    subids::last(&all_but(map, caller), WANTED)
}

fn all_but(map: &str, caller: u32) -> Vec<Range> {
    let text = fs::read_to_string(map).unwrap_or_default();
    subids::without(&subids::available(&subids::parse_map(&text)), caller)
}

fn programs(dirs: &[PathBuf]) -> Result<MapWriter, Lack> {
    let find = |name: &str| {
        find_program(name, dirs).ok_or_else(|| Lack {
            why: format!("the program {name} is not installed"),
            advice: vec![
                "install newuidmap and newgidmap (Debian: package uidmap; Fedora: shadow-utils)"
                    .to_owned(),
            ],
        })
    };
    let (newuidmap, newgidmap) = (find("newuidmap")?, find("newgidmap")?);
    if rustix::thread::no_new_privs() == Ok(true) {
        return Err(Lack {
            why: "no_new_privs is set, so newuidmap cannot work".to_owned(),
            advice: vec![
                "allow privilege escalation (Kubernetes: `allowPrivilegeEscalation: true`)"
                    .to_owned(),
            ],
        });
    }
    Ok(MapWriter::Programs {
        newuidmap,
        newgidmap,
    })
}

/// Finds an executable program in `dirs`, then in the usual directories.
pub(crate) fn find_program(name: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    dirs.iter()
        .map(PathBuf::as_path)
        .chain(PROGRAM_DIRS.iter().map(Path::new))
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
}

fn subid_advice(name: Option<&str>, uid: u32) -> String {
    let texts = ["/etc/subuid", "/etc/subgid"].map(|f| fs::read_to_string(f).unwrap_or_default());
    let Some(free) = subids::unassigned(&[&texts[0], &texts[1]], WANTED) else {
        return "free a range of 65536 ids in /etc/subuid and /etc/subgid".to_owned();
    };
    let Range { start, count } = free;
    match name {
        Some(name) => {
            let range = format!("{start}-{}", start + (count - 1));
            format!("as root: `usermod --add-subuids {range} --add-subgids {range} {name}`")
        }
        None => {
            format!("as root: add a line `{uid}:{start}:{count}` to /etc/subuid and /etc/subgid")
        }
    }
}

/// Returns the name of a user in the text of a passwd(5) file. Other name services are not asked:
/// their users are found by number.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Says which switch of the kernel forbids user namespaces to this process, and what to change.
/// `None` when no known switch does.
pub(crate) fn forbidden() -> Option<(&'static str, &'static str)> {
    let is =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let root = has(Capability::CAP_SYS_ADMIN);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Some((
            "user.max_user_namespaces is 0",
            "as root: `sysctl user.max_user_namespaces=15000`",
        ));
    }
    if !root && is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some((
            "kernel.unprivileged_userns_clone is 0",
            "as root: `sysctl kernel.unprivileged_userns_clone=1`",
        ));
    }
    if !root
        && is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        )
    {
        return Some((
            "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "install an AppArmor profile for this program that allows `userns`, or as root: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ));
    }
    None
}

/// Describes why the kernel refused a user namespace.
pub(crate) fn explain(op: &'static str, errno: rustix::io::Errno) -> Error {
    if let Some((why, hint)) = forbidden() {
        return Error::new(op).cause(why.to_owned()).hint(hint);
    }
    let error = Error::new(op).cause(errno);
    match errno {
        rustix::io::Errno::NOSPC | rustix::io::Errno::USERS => error.hint(
            "too many user namespaces, or too deeply nested; see `sysctl user.max_user_namespaces`",
        ),
        rustix::io::Errno::PERM => error.hint(
            "a seccomp filter, a security module or a chroot forbids user namespaces; in a container, run it with a seccomp and AppArmor profile that allow them",
        ),
        rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS => {
            error.hint("this kernel is built without user namespaces (CONFIG_USER_NS)")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbroken\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn emulated_ids_are_always_possible() {
        let plan = detect(Choice::Emulated).expect("detect");
        assert_eq!(plan.ids.to_executor(u32::MAX - 1), Some(u32::MAX - 1));
        assert_eq!(plan.ids.to_executor(u32::MAX), None);
        assert_eq!(plan.uid_map.len(), 1);
        assert_eq!(plan.uid_map[0].count, 1);
        assert_eq!(plan.uid_map[0].outside, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn auto_never_chooses_the_host() {
        let plan = detect(Choice::Auto).expect("detect");
        assert_ne!(plan.identity, Identity::Host);
        if plan.identity == Identity::Subids {
            let mapped: u32 = plan.uid_map.iter().map(|e| e.count).sum();
            assert_eq!(mapped, plan.ids.first + plan.ids.count);
        }
    }

    #[test]
    fn a_pod_with_few_ids_uses_what_it_has() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let map = dir.path().join("map");
        fs::write(&map, "0 1000000 65536\n").expect("write");
        let map = map.to_str().expect("utf-8");
        assert_eq!(usable(&[ROOT_RANGE], map, 0), None);
        let ranges = highest(map, 0);
        assert_eq!(
            ranges,
            [Range {
                start: 1,
                count: 65_535
            }]
        );
    }
}
