//! Who the process is: ids, groups, capabilities, and what they are governed by.

use crate::call::{self, Call};
use crate::paths::space;
use crate::random::Random;
use crate::sequence::Run;

/// The set*id calls.
pub(crate) fn set_ids(run: &mut Run<'_>, random: &mut Random) {
    const CALLS: [(&str, i64, usize); 8] = [
        ("setuid", libc::SYS_setuid, 1),
        ("setgid", libc::SYS_setgid, 1),
        ("setreuid", libc::SYS_setreuid, 2),
        ("setregid", libc::SYS_setregid, 2),
        ("setresuid", libc::SYS_setresuid, 3),
        ("setresgid", libc::SYS_setresgid, 3),
        ("setfsuid", libc::SYS_setfsuid, 1),
        ("setfsgid", libc::SYS_setfsgid, 1),
    ];
    let (name, number, count) = random.pick(&CALLS);
    let mut call = Call::new(name, number);
    for _ in 0..count {
        call = run.id(call, random);
    }
    run.make(&call);
}

/// setgroups(2), getgroups(2).
pub(crate) fn groups(run: &mut Run<'_>, random: &mut Random) {
    if random.percent(50) {
        let count = random.below(4);
        let list: Vec<i64> = (0..count).map(|_| run.any_id(random)).collect();
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|id| id.to_ne_bytes().into_iter().take(4))
            .collect();
        let address = run.memory.place(&bytes);
        let size = if random.percent(3) {
            70_000
        } else {
            i64::try_from(count).unwrap_or(0)
        };
        let call = Call::new("setgroups", libc::SYS_setgroups).int(size);
        let call = if random.percent(3) {
            call.at("bad", 1)
        } else {
            call.at(format_args!("{list:?}"), address)
        };
        run.make(&call);
    } else {
        let size = random.pick(&[0, 1, 10, 10, 10]);
        let (address, good) = space(&mut run.memory, random, size * 4);
        let call = Call::new("getgroups", libc::SYS_getgroups)
            .int(i64::try_from(size).unwrap_or_default())
            .at(if good { "list" } else { "bad" }, address);
        run.make_and(&call, |run, count| {
            let count = usize::try_from(count).unwrap_or_default();
            if !good || size == 0 {
                return String::new();
            }
            ids(&run.memory.read(address, count * 4))
        });
    }
}

fn ids(bytes: &[u8]) -> String {
    let ids: Vec<String> = bytes
        .chunks_exact(4)
        .map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]]).to_string())
        .collect();
    ids.join(" ")
}

/// The get*id calls.
pub(crate) fn get_ids(run: &mut Run<'_>, random: &mut Random) {
    for (name, number) in [
        ("getuid", libc::SYS_getuid),
        ("geteuid", libc::SYS_geteuid),
        ("getgid", libc::SYS_getgid),
        ("getegid", libc::SYS_getegid),
    ] {
        if random.percent(30) {
            run.make(&Call::new(name, number));
        }
    }
    for (name, number) in [
        ("getresuid", libc::SYS_getresuid),
        ("getresgid", libc::SYS_getresgid),
    ] {
        let addresses = [0; 3].map(|_| run.memory.place(&[0; 4]));
        let call = addresses
            .iter()
            .fold(Call::new(name, number), |call, address| {
                call.at("&id", *address)
            });
        run.make_and(&call, |run, _| {
            ids(&addresses
                .map(|address| run.memory.read(address, 4))
                .concat())
        });
    }
}

/// Docker's default set.
const DEFAULT: u64 = 0xa804_25fb;

/// capget(2), capset(2).
pub(crate) fn capabilities(run: &mut Run<'_>, random: &mut Random) {
    // Version 3, which is today's, and some that no longer or never were.
    let version = if random.percent(90) {
        0x2008_0522
    } else {
        random.pick(&[0x1998_0330, 0x2007_1026, 0_u32])
    };
    let header: Vec<u8> = [version.to_ne_bytes(), [0; 4]].concat();
    if random.percent(40) {
        let header = run.memory.place(&header);
        let (address, good) = space(&mut run.memory, random, 24);
        let call = Call::new("capget", libc::SYS_capget)
            .at(format_args!("{version:x}"), header)
            .at(if good { "data" } else { "bad" }, address);
        run.make_and(&call, |run, _| {
            if !good {
                return String::new();
            }
            let data = run.memory.read(address, 24);
            let at = |set: usize| {
                u32::from_ne_bytes([data[set], data[set + 1], data[set + 2], data[set + 3]])
            };
            format!("e {:x} p {:x} i {:x}", at(0), at(4), at(8))
        });
        return;
    }
    let set = |random: &mut Random| match random.below(6) {
        0 => 0,
        1 => DEFAULT | (1 << 21),
        2 | 3 => DEFAULT,
        _ => DEFAULT & random.bits(),
    };
    let permitted = set(random);
    let effective = match random.below(4) {
        0 => 0,
        1 => permitted & random.bits(),
        2 => permitted,
        _ => set(random),
    };
    let inheritable = if random.percent(60) { 0 } else { set(random) };
    let low = |set: u64| (set & 0xffff_ffff).to_ne_bytes()[..4].to_vec();
    let mut data = [low(effective), low(permitted), low(inheritable)].concat();
    data.extend([0; 12]);
    let header = run.memory.place(&header);
    let data = run.memory.place(&data);
    let call = Call::new("capset", libc::SYS_capset)
        .at(format_args!("{version:x}"), header)
        .at(
            format_args!("e {effective:x} p {permitted:x} i {inheritable:x}"),
            data,
        );
    run.make(&call);
}

/// prctl(2), as far as it is about privileges.
pub(crate) fn settings(run: &mut Run<'_>, random: &mut Random) {
    let capability = random.pick(&[0, 1, 3, 4, 7, 21, 99]);
    let bits = random.pick(&[0, 1, 2, 4, 8, 0x10, 0x40, 0x15, 0x100]);
    let call = |name: &str, option: i32, a: i64, b: i64| {
        Call::new("prctl", libc::SYS_prctl)
            .arg(name, i64::from(option))
            .hex(a)
            .int(b)
            .int(0)
            .int(0)
    };
    let call = match random.below(14) {
        0 | 1 => call(
            "PR_SET_KEEPCAPS",
            libc::PR_SET_KEEPCAPS,
            random.pick(&[1, 1, 0, 2]),
            0,
        ),
        2 => call("PR_GET_KEEPCAPS", libc::PR_GET_KEEPCAPS, 0, 0),
        3 | 4 => call("PR_CAPBSET_READ", libc::PR_CAPBSET_READ, capability, 0),
        5 => call("PR_CAPBSET_DROP", libc::PR_CAPBSET_DROP, capability, 0),
        6 | 7 => call(
            "PR_CAP_AMBIENT",
            libc::PR_CAP_AMBIENT,
            random.pick(&[1, 2, 2, 3]),
            capability,
        ),
        8 => call("PR_CAP_AMBIENT", libc::PR_CAP_AMBIENT, 4, 0),
        9 => call("PR_SET_SECUREBITS", libc::PR_SET_SECUREBITS, bits, 0),
        10 => call("PR_GET_SECUREBITS", libc::PR_GET_SECUREBITS, 0, 0),
        11 => call("PR_GET_NO_NEW_PRIVS", libc::PR_GET_NO_NEW_PRIVS, 0, 0),
        12 if random.percent(30) => call("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        12 => call(
            "PR_SET_DUMPABLE",
            libc::PR_SET_DUMPABLE,
            random.pick(&[0, 1]),
            0,
        ),
        _ if run.job.with("dumpable") => call("PR_GET_DUMPABLE", libc::PR_GET_DUMPABLE, 0, 0),
        _ => call("PR_GET_KEEPCAPS", libc::PR_GET_KEEPCAPS, 0, 0),
    };
    run.make(&call);
}

/// `/proc/self/status`, the lines about privileges.
pub(crate) fn status(run: &mut Run<'_>, _: &mut Random) {
    let open = run.text(
        Call::new("openat", libc::SYS_openat).arg("AT_FDCWD", i64::from(libc::AT_FDCWD)),
        "/proc/self/status",
    );
    let open = open.arg("O_RDONLY", 0).int(0);
    run.make_and(&open, |run, fd| {
        let buffer = run.memory.place(&[0; 4096]);
        let length = call::raw(libc::SYS_read, [fd, buffer, 4096, 0, 0, 0]);
        call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        let bytes = run
            .memory
            .read(buffer, usize::try_from(length).unwrap_or(0));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<String> = text
            .lines()
            .filter(|line| {
                ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Umask:"]
                    .iter()
                    .any(|start| line.starts_with(start))
            })
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.join("; ")
    });
}
