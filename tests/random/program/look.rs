//! What only looks: the stat family, access checks, links' targets.

use std::fmt::Write;

use crate::call::{self, Call};
use crate::paths::{SLOT, some_flags, space};
use crate::random::Random;
use crate::sequence::Run;

/// stat(2), lstat(2), fstat(2), newfstatat(2), statx(2).
pub(crate) fn stat(run: &mut Run<'_>, random: &mut Random) {
    let flags = some_flags(
        random,
        &[
            ("AT_SYMLINK_NOFOLLOW", 0x100, 40),
            ("AT_EMPTY_PATH", 0x1000, 20),
            ("AT_NO_AUTOMOUNT", 0x800, 10),
            ("0x80", 0x80, 2),
        ],
    );
    let which = random.below(10);
    let size = if which >= 8 {
        256
    } else {
        size_of::<libc::stat>()
    };
    let call = match which {
        0..2 => run.path(Call::new("stat", libc::SYS_stat), random),
        2..4 => run.path(Call::new("lstat", libc::SYS_lstat), random),
        4 => run.fd(Call::new("fstat", libc::SYS_fstat), random),
        5..8 => {
            let call = run.dirfd(Call::new("newfstatat", libc::SYS_newfstatat), random);
            empty_or_path(run, call, random)
        }
        _ => {
            let call = run.dirfd(Call::new("statx", libc::SYS_statx), random);
            let call = empty_or_path(run, call, random);
            call.flags(&flags)
                .hex(random.pick(&[0x7ff, 0x7ff, 0xfff, 8, 0]))
        }
    };
    let (address, good) = space(&mut run.memory, random, size);
    let call = call.at(if good { "buffer" } else { "bad" }, address);
    let call = if (5..8).contains(&which) {
        call.flags(&flags)
    } else {
        call
    };
    run.make_and(&call, |run, _| {
        if !good {
            return String::new();
        }
        let bytes = run.memory.read(address, size);
        if which >= 8 {
            statx_words(&bytes)
        } else {
            stat_words(&bytes)
        }
    });
}

fn empty_or_path(run: &mut Run<'_>, call: Call, random: &mut Random) -> Call {
    if random.percent(15) {
        run.text(call, "")
    } else {
        run.path(call, random)
    }
}

/// access(2), faccessat(2), faccessat2(2).
pub(crate) fn access(run: &mut Run<'_>, random: &mut Random) {
    let what = random.pick(&[0, 1, 2, 4, 4, 2, 6, 7, 3, 5, 8]);
    let call = match random.below(10) {
        0..3 => run
            .path(Call::new("access", libc::SYS_access), random)
            .int(what),
        3..5 => {
            let call = run.dirfd(Call::new("faccessat", libc::SYS_faccessat), random);
            run.path(call, random).int(what)
        }
        _ => {
            let call = run.dirfd(Call::new("faccessat2", libc::SYS_faccessat2), random);
            let flags = some_flags(
                random,
                &[
                    ("AT_EACCESS", 0x200, 60),
                    ("AT_SYMLINK_NOFOLLOW", 0x100, 20),
                    ("AT_EMPTY_PATH", 0x1000, 15),
                    ("0x80", 0x80, 2),
                ],
            );
            empty_or_path(run, call, random).int(what).flags(&flags)
        }
    };
    run.make(&call);
}

/// readlink(2), readlinkat(2).
pub(crate) fn readlink(run: &mut Run<'_>, random: &mut Random) {
    let call = if random.percent(50) {
        run.path(Call::new("readlink", libc::SYS_readlink), random)
    } else {
        let call = run.dirfd(Call::new("readlinkat", libc::SYS_readlinkat), random);
        empty_or_path(run, call, random)
    };
    let size = random.pick(&[0, 2, 100, 100, 100]);
    let (address, good) = space(&mut run.memory, random, size);
    let call = call
        .at(if good { "buffer" } else { "bad" }, address)
        .int(i64::try_from(size).unwrap_or_default());
    run.make_and(&call, |run, length| {
        let length = usize::try_from(length).unwrap_or_default();
        let bytes = if good {
            run.memory.read(address, length)
        } else {
            Vec::new()
        };
        String::from_utf8_lossy(&bytes).replace(&run.tree(), "$W")
    });
}

/// statfs(2), whose result is only whether the path may be walked.
pub(crate) fn statfs(run: &mut Run<'_>, random: &mut Random) {
    let call = run.path(Call::new("statfs", libc::SYS_statfs), random);
    let (address, good) = space(&mut run.memory, random, size_of::<libc::statfs>());
    let call = call.at(if good { "buffer" } else { "bad" }, address);
    run.make(&call);
}

/// The names in a directory, sorted: open(2) and getdents64(2).
pub(crate) fn list(run: &mut Run<'_>, random: &mut Random) {
    let flags = i64::from(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK);
    let call = run.dirfd(Call::new("openat", libc::SYS_openat), random);
    let call = run.path(call, random).arg("O_DIRECTORY", flags).int(0);
    run.make_and(&call, |run, fd| {
        let buffer = run.memory.place(&[0; 4096]);
        let length = call::raw(libc::SYS_getdents64, [fd, buffer, 4096, 0, 0, 0]);
        call::raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        let bytes = run
            .memory
            .read(buffer, usize::try_from(length).unwrap_or(0));
        let mut names = names(&bytes);
        names.sort();
        names.join(" ")
    });
}

/// The names in what getdents64(2) returned: 8 bytes number, 8 offset, 2 length, 1 kind, the name.
fn names(mut bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some([low, high]) = bytes.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let Some((entry, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        let name = entry[19..]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        // Numbers of processes and descriptors are nobody's business.
        names.push(String::from_utf8_lossy(name).into_owned());
        bytes = rest;
    }
    names.retain(|name| name != "." && name != "..");
    names
}

/// What fstat(2) says of one of the sequence's descriptors.
pub(crate) fn of_slot(run: &mut Run<'_>, slot: i64) -> String {
    let size = size_of::<libc::stat>();
    let buffer = run.memory.place(&vec![0; size]);
    match call::raw(libc::SYS_fstat, [SLOT + slot, buffer, 0, 0, 0, 0]) {
        0 => stat_words(&run.memory.read(buffer, size)),
        error => format!("fstat: {}", call::result(error)),
    }
}

/// What `struct stat` of x86-64 says, without numbers of inodes and times.
pub(crate) fn stat_words(bytes: &[u8]) -> String {
    let long = |at: usize| number(&bytes[at..at + 8]);
    let int = |at: usize| number(&bytes[at..at + 4]);
    words(int(24), int(28), int(32), long(16), long(48), long(40))
}

fn statx_words(bytes: &[u8]) -> String {
    let long = |at: usize| number(&bytes[at..at + 8]);
    let int = |at: usize| number(&bytes[at..at + 4]);
    let device = (int(128) << 8) | int(132);
    let mode = number(&bytes[28..30]);
    format!(
        "mask {:x} {}",
        // What a caller didn't ask for the kernel may give or not.
        int(0) & 0x1f,
        words(mode, int(20), int(24), int(16), long(40), device)
    )
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The sizes and links of directories are the file system's own affair.
fn words(mode: u64, uid: u64, gid: u64, links: u64, size: u64, device: u64) -> String {
    let kind = match mode >> 12 {
        1 => "fifo",
        2 => "chr",
        4 => "dir",
        6 => "blk",
        8 => "reg",
        10 => "lnk",
        12 => "sock",
        _ => "?",
    };
    let mut text = format!("{kind} {:o} {uid}:{gid}", mode & 0o7777);
    match kind {
        "dir" => {}
        "chr" | "blk" => {
            let _ = write!(text, " n{links} {device:x}");
        }
        _ => {
            let _ = write!(text, " n{links} s{size}");
        }
    }
    text
}
