//! Opening, making, reading and writing files.
//!
//! Responsible for open(2), openat(2), openat2(2), creat(2) and what is done with a descriptor.

use crate::call::Call;
use crate::look;
use crate::paths::{pick_slot, some_flags};
use crate::random::Random;
use crate::sequence::Run;

/// open(2) and its successors. Never waits for a fifo's other end.
pub(crate) fn open(run: &mut Run<'_>, random: &mut Random) {
    let mut flags = vec![random.pick(&[
        ("O_RDONLY", i64::from(libc::O_RDONLY)),
        ("O_RDONLY", i64::from(libc::O_RDONLY)),
        ("O_WRONLY", i64::from(libc::O_WRONLY)),
        ("O_RDWR", i64::from(libc::O_RDWR)),
        ("O_RDWR", i64::from(libc::O_RDWR)),
    ])];
    if random.percent(2) {
        flags = vec![("3", 3)];
    }
    flags.extend(some_flags(
        random,
        &[
            ("O_CREAT", i64::from(libc::O_CREAT), 40),
            ("O_EXCL", i64::from(libc::O_EXCL), 15),
            ("O_TRUNC", i64::from(libc::O_TRUNC), 15),
            ("O_APPEND", i64::from(libc::O_APPEND), 5),
            ("O_NOFOLLOW", i64::from(libc::O_NOFOLLOW), 10),
            ("O_DIRECTORY", i64::from(libc::O_DIRECTORY), 8),
            ("O_PATH", i64::from(libc::O_PATH), 10),
            ("O_NOATIME", i64::from(libc::O_NOATIME), 5),
            ("O_TMPFILE", i64::from(libc::O_TMPFILE), 6),
            ("O_CLOEXEC", i64::from(libc::O_CLOEXEC), 40),
            ("O_NONBLOCK", i64::from(libc::O_NONBLOCK), 100),
        ],
    ));
    let close_on_exec = flags.iter().any(|(name, _)| *name == "O_CLOEXEC");
    let mode = run.mode(random);
    let slot = pick_slot(random);
    let call = match random.below(10) {
        0..3 => {
            let call = Call::new("open", libc::SYS_open);
            run.path(call, random).flags(&flags).octal(mode)
        }
        3..9 => {
            let call = run.dirfd(Call::new("openat", libc::SYS_openat), random);
            run.path(call, random).flags(&flags).octal(mode)
        }
        _ => openat2(run, random, &flags, mode),
    };
    run.make_and(&call, |run, fd| {
        Run::keep(fd, slot, close_on_exec);
        look::of_slot(run, slot)
    });
    // The number of the descriptor is the same for all who run this.
}

fn openat2(run: &mut Run<'_>, random: &mut Random, flags: &[(&str, i64)], mode: i64) -> Call {
    // The mode is an error without a flag that makes a file.
    let makes = flags
        .iter()
        .any(|(name, _)| ["O_CREAT", "O_TMPFILE"].contains(name));
    let mode = if makes || random.percent(5) { mode } else { 0 };
    let resolve = some_flags(
        random,
        &[
            ("NO_XDEV", 1, 5),
            ("NO_MAGICLINKS", 2, 20),
            ("NO_SYMLINKS", 4, 20),
            ("BENEATH", 8, 20),
            ("IN_ROOT", 16, 10),
        ],
    );
    let sum = |flags: &[(&str, i64)]| flags.iter().fold(0, |sum, (_, bits)| sum | bits);
    let names: Vec<&str> = flags
        .iter()
        .chain(&resolve)
        .map(|(name, _)| *name)
        .collect();
    let how: Vec<u8> = [sum(flags), mode, sum(&resolve)]
        .iter()
        .flat_map(|part| part.to_ne_bytes())
        .collect();
    let size = random.pick(&[24, 24, 24, 24, 24, 24, 24, 24, 16, 25]);
    let call = run.dirfd(Call::new("openat2", libc::SYS_openat2), random);
    let call = run.path(call, random);
    let how = run.memory.place(&how);
    call.at(format_args!("{{{} 0{mode:o}}}", names.join("|")), how)
        .int(size)
}

/// creat(2).
pub(crate) fn create(run: &mut Run<'_>, random: &mut Random) {
    let call = Call::new("creat", libc::SYS_creat);
    let slot = pick_slot(random);
    // It would wait for a reader of a fifo; root's listing has no names that begin so.
    let call = run.path(call, random).octal(run.mode(random));
    if run.is_fifo(&call) {
        return run.say("creat of a fifo left out");
    }
    run.make_and(&call, |run, fd| {
        Run::keep(fd, slot, false);
        look::of_slot(run, slot)
    });
}

/// Reading from, writing to and closing a descriptor.
pub(crate) fn descriptor(run: &mut Run<'_>, random: &mut Random) {
    let address = run.memory.place(b"0123456789");
    let length = i64::try_from(random.below(11)).unwrap_or_default();
    let call = match random.below(10) {
        0..3 => run
            .fd(Call::new("read", libc::SYS_read), random)
            .at("buffer", address)
            .int(length),
        3..8 => run
            .fd(Call::new("write", libc::SYS_write), random)
            .at("buffer", address)
            .int(length),
        8 => run
            .fd(Call::new("lseek", libc::SYS_lseek), random)
            .int(length)
            .int(0),
        _ => run.fd(Call::new("close", libc::SYS_close), random),
    };
    run.write(&call);
}

impl Run<'_> {
    /// Makes a call that may write to a descriptor.
    pub(crate) fn write(&mut self, call: &Call) {
        let writes = ["write(", "ftruncate("];
        if !self.job.with("setgid")
            && writes.iter().any(|name| call.words().starts_with(name))
            && self.has_bare_set_gid(call.first())
        {
            return self.say("write to a set-group-id file that its group can't execute left out");
        }
        self.make(call);
    }

    /// Whether a descriptor is of a regular file with a set-group-id bit that only those of other
    /// groups lose by writing.
    fn has_bare_set_gid(&mut self, fd: i64) -> bool {
        const MODE: usize = 24;
        let size = size_of::<libc::stat>();
        let buffer = self.memory.place(&vec![0_u8; size]);
        if crate::call::raw(libc::SYS_fstat, [fd, buffer, 0, 0, 0, 0]) != 0 {
            return false;
        }
        let stat = self.memory.read(buffer, size);
        let mode = u32::from(stat[MODE]) | u32::from(stat[MODE + 1]) << 8;
        mode & libc::S_IFMT == libc::S_IFREG && mode & 0o2010 == 0o2000
    }

    /// Whether a path leads to a fifo, as far as this process may know. Its own question is part of
    /// no output.
    fn is_fifo(&mut self, call: &Call) -> bool {
        let stat = vec![0_u8; size_of::<libc::stat>()];
        let buffer = self.memory.place(&stat);
        let arguments = [call.first(), buffer, 0, 0, 0, 0];
        crate::call::raw(libc::SYS_stat, arguments) == 0
            && look::stat_words(&self.memory.read(buffer, stat.len())).starts_with("fifo")
    }
}
