//! What is about processes: fork, execve, signals, the working directory, the mask of modes.

use std::io::Result;

use crate::call::{self, Call, must};
use crate::random::Random;
use crate::sequence::Run;
use crate::tree::PROGRAM;

/// Forks; 0 in the child.
pub(crate) fn fork_process() -> Result<i64> {
    must(libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0, 0, 0, 0])
}

/// Waits for a child and returns its status.
pub(crate) fn wait(child: i64) -> Result<i32> {
    let mut status = 0_i32;
    let arguments = [child, (&raw mut status) as i64, 0, 0, 0, 0];
    must(libc::SYS_wait4, arguments).map(|_| status)
}

/// Ends this process.
pub(crate) fn end(code: i64) -> ! {
    call::raw(libc::SYS_exit_group, [code, 0, 0, 0, 0, 0]);
    std::process::abort()
}

/// No sequence takes longer than this, whatever it waits for.
pub(crate) fn deadline() {
    call::raw(libc::SYS_alarm, [20, 0, 0, 0, 0, 0]);
}

/// A child with calls of its own.
pub(crate) fn fork(run: &mut Run<'_>, random: &mut Random) {
    let count = 2 + random.below(6);
    if run.above.len() >= 2 {
        return run.say("fork left out");
    }
    run.flush();
    match fork_process() {
        Ok(0) => {
            deadline();
            run.above.push(run.next - 1);
            run.next = 0;
            run.end = u64::try_from(count).unwrap_or(2);
            run.all();
            end(0)
        }
        Ok(child) => match wait(child) {
            Ok(status) => run.say(&format!("fork = {status:#x}")),
            Err(error) => run.say(&format!("wait4 = {error}")),
        },
        Err(error) => run.say(&format!("fork = {error}")),
    }
}

/// execve(2) of this program, of a copy with set-id bits, or of what is no program at all.
pub(crate) fn execute(run: &mut Run<'_>, random: &mut Random) {
    let job = run.job;
    let skipped: Vec<&str> = job.skipped.iter().map(String::as_str).collect();
    let above: Vec<String> = run.above.iter().map(u64::to_string).collect();
    let words = [
        PROGRAM.to_owned(),
        "continue".to_owned(),
        job.index.to_string(),
        job.seed.to_string(),
        job.sequence.to_string(),
        job.kept.to_string(),
        job.without.clone(),
        skipped.join(","),
        above.join("."),
        run.next.to_string(),
        run.end.to_string(),
    ];
    let words: Vec<String> = words.into_iter().map(|word| format!("{word}\0")).collect();
    let mut pointers: Vec<i64> = words.iter().map(|word| word.as_ptr() as i64).collect();
    pointers.push(0);
    let call = match random.below(10) {
        0..3 => {
            let call = Call::new("execve", libc::SYS_execve);
            run.text(call, PROGRAM)
        }
        3..6 => {
            let call = Call::new("execve", libc::SYS_execve);
            run.text(call, "x")
        }
        6..8 => run.path(Call::new("execve", libc::SYS_execve), random),
        _ => {
            let call = run.dirfd(Call::new("execveat", libc::SYS_execveat), random);
            run.path(call, random)
        }
    };
    let is_at = call.words().starts_with("execveat");
    let call = call.at("…", pointers.as_ptr() as i64);
    let nothing = [0_i64];
    let call = call.at("{}", nothing.as_ptr() as i64);
    let call = if is_at {
        call.flags(&crate::paths::some_flags(
            random,
            &[
                ("AT_EMPTY_PATH", 0x1000, 15),
                ("AT_SYMLINK_NOFOLLOW", 0x100, 20),
            ],
        ))
    } else {
        call
    };
    run.say(&call.words());
    run.flush();
    let result = call.make();
    if !run.job.with("exec") {
        // Any call of this process, before a child makes one.
        call::raw(libc::SYS_getuid, [0; 6]);
    }
    run.say(&format!("execve = {}", call::result(result)));
}

/// The first words of a program that was executed.
pub(crate) fn executed(run: &mut Run<'_>) {
    let mut text = "executed".to_owned();
    if run.job.with("auxv") {
        for (name, key) in [
            ("uid", libc::AT_UID),
            ("euid", libc::AT_EUID),
            ("gid", libc::AT_GID),
            ("egid", libc::AT_EGID),
            ("secure", libc::AT_SECURE),
        ] {
            // SAFETY: it only reads what the kernel gave this process.
            let value = unsafe { libc::getauxval(key) };
            text.push_str(&format!(" {name} {value}"));
        }
    }
    run.say(&text);
    // Every number in it is one that programs act on.
    let mut random = Random::new(0, &[]);
    crate::credentials::get_ids(run, &mut random);
    if run.job.with("status") {
        crate::credentials::status(run, &mut random);
    }
}

/// kill(2) with no signal: only whether it would be allowed.
pub(crate) fn signal(run: &mut Run<'_>, random: &mut Random) {
    let parent = call::raw(libc::SYS_getppid, [0; 6]);
    let (word, target) = random.pick(&[("parent", parent), ("parent", parent), ("self", 0)]);
    let target = if word == "self" {
        call::raw(libc::SYS_getpid, [0; 6])
    } else {
        target
    };
    let call = Call::new("kill", libc::SYS_kill).arg(word, target).int(0);
    run.make(&call);
}

/// Calls that nobody may make in a step.
pub(crate) fn refused(run: &mut Run<'_>, random: &mut Random) {
    let (name, number) = random.pick(&[
        ("unshare", libc::SYS_unshare),
        ("mount", libc::SYS_mount),
        ("setns", libc::SYS_setns),
        ("sethostname", libc::SYS_sethostname),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("keyctl", libc::SYS_keyctl),
        ("bpf", libc::SYS_bpf),
        ("pivot_root", libc::SYS_pivot_root),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("clone3", libc::SYS_clone3),
        ("userfaultfd", libc::SYS_userfaultfd),
    ]);
    let call = Call::new(name, number)
        .hex(0x1000_0000)
        .int(0)
        .int(0)
        .int(0)
        .int(0);
    run.make(&call);
}

/// chdir(2), fchdir(2), chroot(2), getcwd(2).
pub(crate) fn change_directory(run: &mut Run<'_>, random: &mut Random) {
    let call = match random.below(12) {
        0..6 => run.path(Call::new("chdir", libc::SYS_chdir), random),
        6..8 => run.fd(Call::new("fchdir", libc::SYS_fchdir), random),
        8 if run.job.with("chroot") => run.path(Call::new("chroot", libc::SYS_chroot), random),
        8 | 9 => {
            let tree = run.tree();
            run.text(Call::new("chdir", libc::SYS_chdir), &tree)
        }
        _ => {
            let buffer = run.memory.place(&[0; 100]);
            let call = Call::new("getcwd", libc::SYS_getcwd)
                .at("buffer", buffer)
                .int(100);
            let tree = run.tree();
            // The length would tell how long the tree's own path is.
            run.make_and(&call, |run, length| {
                let length = usize::try_from(length).unwrap_or_default();
                let bytes = run.memory.read(buffer, length.min(100));
                String::from_utf8_lossy(&bytes)
                    .trim_end_matches('\0')
                    .replace(&tree, "$W")
            });
            return;
        }
    };
    run.make(&call);
}

/// umask(2).
pub(crate) fn umask(run: &mut Run<'_>, random: &mut Random) {
    let mask = random.pick(&[0, 0o22, 0o22, 0o27, 0o77, 0o777, 0o7022]);
    let call = Call::new("umask", libc::SYS_umask).octal(mask);
    run.make(&call);
}
