//! Owners, modes, sizes, times and extended attributes.

use crate::call::Call;
use crate::paths::{some_flags, space};
use crate::random::Random;
use crate::sequence::Run;

/// AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH, and a flag that there is not.
const FLAGS: [(&str, i64, usize); 3] = [
    ("AT_SYMLINK_NOFOLLOW", 0x100, 40),
    ("AT_EMPTY_PATH", 0x1000, 15),
    ("0x80", 0x80, 2),
];

/// chown(2), lchown(2), fchown(2), fchownat(2).
pub(crate) fn chown(run: &mut Run<'_>, random: &mut Random) {
    let call = match random.below(10) {
        0..3 => run.path(Call::new("chown", libc::SYS_chown), random),
        3..5 => run.path(Call::new("lchown", libc::SYS_lchown), random),
        5..7 => run.fd(Call::new("fchown", libc::SYS_fchown), random),
        7 => {
            let call = run.fd(Call::new("fchownat", libc::SYS_fchownat), random);
            let call = run.text(call, "");
            let call = run.id(call, random);
            let call = run.id(call, random).arg("AT_EMPTY_PATH", 0x1000);
            run.make(&call);
            return;
        }
        _ => {
            let call = run.dirfd(Call::new("fchownat", libc::SYS_fchownat), random);
            let call = run.path(call, random);
            let call = run.id(call, random);
            let call = run.id(call, random).flags(&some_flags(random, &FLAGS));
            run.make(&call);
            return;
        }
    };
    let call = run.id(call, random);
    let call = run.id(call, random);
    run.make(&call);
}

/// chmod(2), fchmod(2), fchmodat(2), fchmodat2(2).
pub(crate) fn chmod(run: &mut Run<'_>, random: &mut Random) {
    /// Since Linux 6.6.
    const FCHMODAT2: i64 = 452;
    let mode = run.mode(random);
    let call = match random.below(10) {
        0..4 => run
            .path(Call::new("chmod", libc::SYS_chmod), random)
            .octal(mode),
        4..6 => run
            .fd(Call::new("fchmod", libc::SYS_fchmod), random)
            .octal(mode),
        6..8 => {
            let call = run.dirfd(Call::new("fchmodat", libc::SYS_fchmodat), random);
            run.path(call, random).octal(mode)
        }
        _ => {
            let call = run.dirfd(Call::new("fchmodat2", FCHMODAT2), random);
            run.path(call, random)
                .octal(mode)
                .flags(&some_flags(random, &FLAGS))
        }
    };
    run.make(&call);
}

/// truncate(2), ftruncate(2).
pub(crate) fn truncate(run: &mut Run<'_>, random: &mut Random) {
    let call = if random.percent(60) {
        run.path(Call::new("truncate", libc::SYS_truncate), random)
    } else {
        run.fd(Call::new("ftruncate", libc::SYS_ftruncate), random)
    };
    let call = call.int(random.pick(&[0, 1, 5, 20, -1]));
    run.write(&call);
}

/// utimensat(2) in its forms, utime(2), utimes(2).
pub(crate) fn times(run: &mut Run<'_>, random: &mut Random) {
    const NOW: i64 = (1 << 30) - 1;
    const OMIT: i64 = (1 << 30) - 2;
    let (word, times) = random.pick(&[
        ("NULL", None),
        ("NULL", None),
        ("{now, now}", Some([0, NOW, 0, NOW])),
        ("{omit, omit}", Some([0, OMIT, 0, OMIT])),
        ("{now, omit}", Some([0, NOW, 0, OMIT])),
        ("{5, 7}", Some([5, 0, 7, 0])),
        ("{5, omit}", Some([5, 0, 0, OMIT])),
        ("{bad}", Some([5, 2_000_000_000, 7, 0])),
    ]);
    let call = match random.below(10) {
        0 | 1 => {
            let call = run.path(Call::new("utime", libc::SYS_utime), random);
            let times = run.memory.place(&bytes(&[5, 7]));
            let call = if random.percent(50) {
                call.at("NULL", 0)
            } else {
                call.at("{5, 7}", times)
            };
            run.make(&call);
            return;
        }
        2 => run
            .fd(Call::new("utimensat", libc::SYS_utimensat), random)
            .at("NULL", 0),
        _ => {
            let call = run.dirfd(Call::new("utimensat", libc::SYS_utimensat), random);
            run.path(call, random)
        }
    };
    let address = times.map_or(0, |times| run.memory.place(&bytes(&times)));
    let call = call.at(word, address).flags(&some_flags(
        random,
        &[FLAGS[0], ("AT_EMPTY_PATH", 0x1000, 5)],
    ));
    run.make(&call);
}

fn bytes(numbers: &[i64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect()
}

/// A valid capability of a file, version 2, as the kernel stores it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// setxattr(2), getxattr(2), listxattr(2), removexattr(2), each by path, by link, by descriptor.
pub(crate) fn xattr(run: &mut Run<'_>, random: &mut Random) {
    let mut name = random.pick(&[
        "user.a",
        "user.a",
        "user.b",
        "security.capability",
        "security.capability",
        "trusted.t",
        "nonsense",
        "",
        "user.",
        "security.other",
    ]);
    if run.job.with("record") && random.percent(3) {
        name = "user.rootlesscontainers";
    }
    let verb = random.below(10);
    let (names, numbers): ([&str; 3], [i64; 3]) = match verb {
        0..4 => (
            ["setxattr", "lsetxattr", "fsetxattr"],
            [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr],
        ),
        4..6 => (
            ["getxattr", "lgetxattr", "fgetxattr"],
            [libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr],
        ),
        6..8 => (
            ["listxattr", "llistxattr", "flistxattr"],
            [
                libc::SYS_listxattr,
                libc::SYS_llistxattr,
                libc::SYS_flistxattr,
            ],
        ),
        _ => (
            ["removexattr", "lremovexattr", "fremovexattr"],
            [
                libc::SYS_removexattr,
                libc::SYS_lremovexattr,
                libc::SYS_fremovexattr,
            ],
        ),
    };
    let form = random.below(3);
    let call = Call::new(names[form], numbers[form]);
    let call = if form == 2 {
        run.fd(call, random)
    } else {
        run.path(call, random)
    };
    match verb {
        0..4 => {
            let value: &[u8] = if name == "security.capability" && random.percent(85) {
                &CAPABILITY
            } else {
                b"value"
            };
            let call = run.text(call, name);
            let address = run.memory.place(value);
            let flags = some_flags(random, &[("XATTR_CREATE", 1, 15), ("XATTR_REPLACE", 2, 15)]);
            let call = call
                .at("value", address)
                .int(i64::try_from(value.len()).unwrap_or_default())
                .flags(&flags);
            run.make(&call);
        }
        4..8 => {
            let call = if verb < 6 { run.text(call, name) } else { call };
            let size = random.pick(&[0, 3, 100, 100]);
            let (address, good) = space(&mut run.memory, random, size);
            let call = call
                .at(if good { "buffer" } else { "bad" }, address)
                .int(i64::try_from(size).unwrap_or_default());
            run.make_and(&call, |run, length| {
                let length = usize::try_from(length).unwrap_or_default();
                if !good || length > size {
                    return String::new();
                }
                shown(&run.memory.read(address, length), verb >= 6)
            });
        }
        _ => {
            let call = run.text(call, name);
            run.make(&call);
        }
    }
}

/// A value, or a list of names in a sorted form.
pub(crate) fn shown(bytes: &[u8], list: bool) -> String {
    if !list {
        return String::from_utf8_lossy(bytes).escape_debug().to_string();
    }
    let mut names: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names.join(" ")
}
