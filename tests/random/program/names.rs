//! Making, linking, renaming and removing names.

use crate::call::Call;
use crate::paths::{plain, some_flags};
use crate::random::Random;
use crate::sequence::Run;

/// mkdir(2), mkdirat(2).
pub(crate) fn mkdir(run: &mut Run<'_>, random: &mut Random) {
    let call = if random.percent(50) {
        Call::new("mkdir", libc::SYS_mkdir)
    } else {
        run.dirfd(Call::new("mkdirat", libc::SYS_mkdirat), random)
    };
    let call = run.path(call, random).octal(run.mode(random));
    run.make(&call);
}

/// mknod(2), mknodat(2).
pub(crate) fn mknod(run: &mut Run<'_>, random: &mut Random) {
    const KINDS: [(&str, u32); 6] = [
        ("S_IFIFO", libc::S_IFIFO),
        ("S_IFIFO", libc::S_IFIFO),
        ("S_IFREG", libc::S_IFREG),
        ("0", 0),
        ("S_IFSOCK", libc::S_IFSOCK),
        ("S_IFDIR", libc::S_IFDIR),
    ];
    let call = if random.percent(50) {
        Call::new("mknod", libc::SYS_mknod)
    } else {
        run.dirfd(Call::new("mknodat", libc::SYS_mknodat), random)
    };
    let call = run.path(call, random);
    let mode = run.mode(random);
    let (kind, device) = if run.job.with("wide") && random.percent(40) {
        // Major 0, minor 0 of a character device is what overlayfs hides names with.
        let device = random.pick(&[(5_i64, 77_i64), (7, 0), (0, 0), (255, 300)]);
        let kind = random.pick(&[("S_IFCHR", libc::S_IFCHR), ("S_IFBLK", libc::S_IFBLK)]);
        (
            kind,
            (device.1 & 0xff) | (device.0 << 8) | ((device.1 & !0xff) << 12),
        )
    } else {
        (random.pick(&KINDS), 0)
    };
    let call = call
        .arg(
            format_args!("{}|0{mode:o}", kind.0),
            i64::from(kind.1) | mode,
        )
        .hex(device);
    run.make(&call);
}

/// symlink(2), symlinkat(2).
pub(crate) fn symlink(run: &mut Run<'_>, random: &mut Random) {
    let target = match random.below(10) {
        0 => format!("{}/{}", run.tree(), plain(random)),
        1 => "none".to_owned(),
        _ => plain(random),
    };
    let call = if random.percent(50) {
        run.text(Call::new("symlink", libc::SYS_symlink), &target)
    } else {
        let call = run.text(Call::new("symlinkat", libc::SYS_symlinkat), &target);
        run.dirfd(call, random)
    };
    let call = run.path(call, random);
    run.make(&call);
}

/// link(2), linkat(2).
pub(crate) fn link(run: &mut Run<'_>, random: &mut Random) {
    let call = if random.percent(40) {
        let call = run.path(Call::new("link", libc::SYS_link), random);
        run.path(call, random)
    } else if random.percent(25) {
        // A name for a descriptor, which may have none: O_TMPFILE.
        let call = run.fd(Call::new("linkat", libc::SYS_linkat), random);
        let call = run.text(call, "");
        let call = run.dirfd(call, random);
        run.path(call, random).arg("AT_EMPTY_PATH", 0x1000)
    } else {
        let call = run.dirfd(Call::new("linkat", libc::SYS_linkat), random);
        let call = run.path(call, random);
        let call = run.dirfd(call, random);
        let flags = some_flags(
            random,
            &[
                ("AT_SYMLINK_FOLLOW", 0x400, 40),
                ("AT_EMPTY_PATH", 0x1000, 8),
                ("0x80", 0x80, 2),
            ],
        );
        run.path(call, random).flags(&flags)
    };
    let words = call.words();
    // What counts is the descriptor, also as the start of a path.
    let is_path = words.starts_with("linkat(AT_FDCWD, ") && !words.contains(", \"\", ");
    let is_handle = words.contains("AT_EMPTY_PATH") && !is_path;
    if is_handle && !run.job.with("handle") {
        return run.say("linkat of a descriptor left out");
    }
    run.make(&call);
}

/// unlink(2), unlinkat(2), rmdir(2).
pub(crate) fn unlink(run: &mut Run<'_>, random: &mut Random) {
    let call = match random.below(10) {
        0..3 => Call::new("unlink", libc::SYS_unlink),
        3..6 => Call::new("rmdir", libc::SYS_rmdir),
        _ => {
            let call = run.dirfd(Call::new("unlinkat", libc::SYS_unlinkat), random);
            let flags = some_flags(random, &[("AT_REMOVEDIR", 0x200, 50), ("0x80", 0x80, 2)]);
            let call = run.path(call, random).flags(&flags);
            run.make(&call);
            return;
        }
    };
    let call = run.path(call, random);
    run.make(&call);
}

/// rename(2), renameat(2), renameat2(2).
pub(crate) fn rename(run: &mut Run<'_>, random: &mut Random) {
    let call = match random.below(10) {
        0..3 => {
            let call = run.path(Call::new("rename", libc::SYS_rename), random);
            run.path(call, random)
        }
        which => {
            let (name, number) = if which < 5 {
                ("renameat", libc::SYS_renameat)
            } else {
                ("renameat2", libc::SYS_renameat2)
            };
            let call = run.dirfd(Call::new(name, number), random);
            let call = run.path(call, random);
            let call = run.dirfd(call, random);
            let call = run.path(call, random);
            if which < 5 {
                call
            } else {
                // RENAME_WHITEOUT makes a device that overlayfs refuses to everybody.
                call.flags(&some_flags(
                    random,
                    &[
                        ("NOREPLACE", 1, 30),
                        ("EXCHANGE", 2, 40),
                        ("WHITEOUT", 4, 3),
                        ("8", 8, 1),
                    ],
                ))
            }
        }
    };
    run.make(&call);
}
