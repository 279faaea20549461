//! Execution of programs: execve(2) and execveat(2).
//!
//! Responsible for who may execute a file, and for the credentials that its program gets. Must not
//! load anything: the kernel does. Invariant: the credentials are in place before the program's
//! first instruction, and are taken back at the next call of a caller whose execution failed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::call::{Answer, Call, Caller, Outcome, Stop};
use super::credentials::{Access, Credentials, DUMPABLE, Executable, FileCapabilities};
use super::inode::{Facts, handle_path};
use super::paths::means_handle;
use super::processes::field;
use super::{LIMIT_BASE, State};
use crate::identity::Owner;
use crate::sys::notify;

/// How much of a file the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;

/// How many interpreters may lead to one another, execve(2).
const MAX_INTERPRETERS: usize = 5;

/// How many executions may be under way that change credentials.
const MAX_EXECUTIONS: usize = 256;

/// An execution that changes credentials.
#[derive(Debug)]
pub(super) struct Execution {
    /// Who called, which is its process' only thread when it succeeds.
    tid: Pid,
    /// What it ran before.
    image: Image,
    before: u64,
    after: u64,
}

/// What tells a process' program from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    /// When the process was started, so that another one with its number is not taken for it.
    started: u64,
    /// Where its stack begins, which differs with every execution unless that is switched off.
    stack: u64,
    /// The file's device and inode numbers.
    file: (u64, u64),
}

/// execve(2): path, arguments, environment.
pub(super) fn execve(state: &mut State, call: &Call<'_>) -> Outcome {
    state.execute(call, libc::AT_FDCWD, 0, AtFlags::empty())
}

/// execveat(2): directory, path, arguments, environment, flags.
pub(super) fn execveat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(4));
    state.execute(call, call.int(0), 1, flags)
}

impl State {
    fn execute(&mut self, call: &Call<'_>, dir: i32, path: usize, flags: AtFlags) -> Outcome {
        self.preparing = false;
        let caller = self.caller(call)?;
        let path = call.path(path)?;
        let file = match self.program(call, &caller, dir, &path, flags) {
            Ok(file) => file,
            // Not found here. If the kernel finds it, it is a program without privileges.
            Err(Stop::Kernel) => Executable {
                owner: Owner::ROOT,
                mode: 0o755,
                capabilities: None,
                no_new_privileges: false,
                nosuid: false,
                readable: true,
            },
            Err(stop) => return Err(stop),
        };
        let old = &*caller.credentials;
        let changes = |new: &rustix::io::Result<Credentials>| new.as_ref() != Ok(old);
        let mut new = old.after_exec(&file);
        if changes(&new) && gave_up_privileges(call.tid) {
            new = old.after_exec(&Executable {
                no_new_privileges: true,
                ..file
            });
        }
        let mut new = new?;
        let dumpable = file.readable && old.is_itself() && !new.is_other_than(old);
        new.dumpable = match dumpable {
            true => DUMPABLE,
            false => self.protected.dumpable,
        };
        if new != *old {
            self.start_execution(call, new)?;
        }
        Ok(Answer::Continue)
    }

    /// Finds the file that decides about credentials: the last interpreter, or the program itself.
    fn program(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        dir: i32,
        path: &[u8],
        flags: AtFlags,
    ) -> Result<Executable, Stop> {
        let mut fd = if means_handle(path, flags) {
            self.start(call, dir)?
        } else if let Some(own) = own_file(path) {
            call.open_own(own)?
        } else {
            let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
            self.handle(call, caller, dir, path, follow)?
        };
        for _ in 0..=MAX_INTERPRETERS {
            let facts = self.facts(&fd)?;
            may_execute(caller, &facts)?;
            let head = head(&fd);
            if let Some(interpreter) = interpreter(&head) {
                fd = self.handle(call, caller, libc::AT_FDCWD, interpreter, true)?;
                continue;
            }
            if is_native_32_bit(&head) && !self.emulates_native {
                // Its calls have other numbers, and would go past the supervisor.
                self.note(format!(
                    "`{}` is a 32-bit program: they do not run with the identity `emulated`",
                    String::from_utf8_lossy(path).escape_debug()
                ));
                return Err(Errno::NOEXEC.into());
            }
            return Ok(executable(caller, &fd, &facts));
        }
        Err(Stop::Kernel)
    }

    /// Puts credentials in place, for the time when the kernel has done its part.
    fn start_execution(&mut self, call: &Call<'_>, new: Credentials) -> Result<(), Stop> {
        let image = image(call.tid).ok_or(Stop::Kernel)?;
        let before = notify::realtime_limit(call.tid, None)?;
        let after = LIMIT_BASE + u64::from(self.table.number(new)?);
        call.still_waits()?;
        notify::realtime_limit(call.tid, Some(after))?;
        if self.executions.len() >= MAX_EXECUTIONS {
            self.executions.remove(0);
        }
        self.executions.push(Execution {
            tid: call.tid,
            image,
            before,
            after,
        });
        Ok(())
    }

    /// Takes credentials back from a caller that is there again without running another program.
    pub(super) fn settle_executions(&mut self, tid: Pid) {
        let Some(index) = self.executions.iter().position(|e| e.tid == tid) else {
            return;
        };
        let execution = self.executions.swap_remove(index);
        let failed = image(tid).as_ref() == Some(&execution.image)
            && notify::realtime_limit(tid, None) == Ok(execution.after);
        if failed {
            // A thread that has been killed meanwhile needs nothing.
            let _: rustix::io::Result<u64> = notify::realtime_limit(tid, Some(execution.before));
        }
    }
}

fn may_execute(caller: &Caller, facts: &Facts) -> Result<(), Stop> {
    if facts.kind() != FileType::RegularFile {
        return Err(Stop::Kernel);
    }
    let credentials = &caller.credentials;
    if facts.device.is_some()
        || !credentials.access(facts.owner, facts.mode, false, Access::EXECUTE)
    {
        return Err(Errno::ACCESS.into());
    }
    Ok(())
}

/// Returns which of the caller's own files a path in proc means, where a link there is no path.
fn own_file(path: &[u8]) -> Option<&str> {
    let path = std::str::from_utf8(path).ok()?;
    let own = path
        .strip_prefix("/proc/self/")
        .or_else(|| path.strip_prefix("/proc/thread-self/"))
        .or_else(|| {
            path.strip_prefix("/dev/")
                .filter(|own| own.starts_with("fd/"))
        })?;
    let number = |fd: &str| !fd.is_empty() && fd.bytes().all(|b| b.is_ascii_digit());
    (own == "exe" || own.strip_prefix("fd/").is_some_and(number)).then_some(own)
}

/// Reads the beginning of a file; nothing, when that can't be read.
fn head(fd: &OwnedFd) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut head = vec![0; HEAD];
    let read = rustix::fs::open(handle_path(fd), flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).read_at(&mut head, 0));
    head.truncate(read.unwrap_or_default());
    head
}

/// Returns the interpreter that the first line of a script names.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|b| matches!(b, b'\n' | 0)).next()?;
    let start = line.iter().position(|b| !is_blank(b))?;
    line[start..].split(is_blank).next()
}

/// Machine numbers (elf(5), `elf-em.h`) of the 32-bit programs that this processor executes. Those of
/// others are an emulator's, which makes the usual calls.
const NATIVE_32: &[u16] = if cfg!(target_arch = "x86_64") {
    &[3, 6, 62]
} else if cfg!(target_arch = "aarch64") {
    &[40]
} else if cfg!(target_arch = "s390x") {
    &[22]
} else {
    &[]
};

fn is_native_32_bit(head: &[u8]) -> bool {
    const CLASS_32: u8 = 1;
    const LITTLE: u8 = 1;
    let Some([CLASS_32, order, ..]) = head.strip_prefix(b"\x7fELF") else {
        return false;
    };
    let machine = head.get(18..20).map_or([0; 2], |m| [m[0], m[1]]);
    let machine = match *order {
        LITTLE => u16::from_le_bytes(machine),
        _ => u16::from_be_bytes(machine),
    };
    NATIVE_32.contains(&machine)
}

fn executable(caller: &Caller, fd: &OwnedFd, facts: &Facts) -> Executable {
    let mut attribute = [0; 64];
    let attribute = rustix::fs::getxattr(handle_path(fd), "security.capability", &mut attribute)
        .ok()
        .and_then(|length| FileCapabilities::decode(&attribute[..length]));
    let mount = rustix::fs::fstatvfs(fd);
    Executable {
        owner: facts.owner,
        mode: facts.mode & 0o7777,
        capabilities: attribute,
        no_new_privileges: false,
        readable: caller
            .credentials
            .access(facts.owner, facts.mode, false, Access::READ),
        nosuid: mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOSUID)),
    }
}

/// Says whether a thread has given up new privileges, prctl(2).
fn gave_up_privileges(tid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("{}/status", tid.as_raw_pid()));
    status.is_ok_and(|status| status.contains("\nNoNewPrivs:\t1\n"))
}

/// Returns what a thread's process runs.
fn image(tid: Pid) -> Option<Image> {
    let tid = tid.as_raw_pid();
    let stat = std::fs::read_to_string(format!("{tid}/stat")).ok()?;
    let number = |index| field(&stat, index)?.parse().ok();
    let file = rustix::fs::stat(format!("{tid}/exe")).ok()?;
    Some(Image {
        started: number(22)?,
        stack: number(28)?,
        file: (file.st_dev, file.st_ino),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_name_interpreters() {
        for (head, expected) in [
            (&b"#!/bin/sh\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/usr/bin/env  python3\n", Some(b"/usr/bin/env")),
            (b"#!/bin/sh", Some(b"/bin/sh")),
            (b"#!\n/bin/sh\n", None),
            (b"#!   \n", None),
            (b"\x7fELF", None),
            (b"", None),
        ] {
            assert_eq!(interpreter(head), expected, "{head:?}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn old_programs_are_known() {
        let head = |class: u8, machine: u8| {
            let mut head = b"\x7fELF".to_vec();
            head.extend([class, 1, 1]);
            head.resize(18, 0);
            head.extend([machine, 0]);
            head
        };
        assert!(is_native_32_bit(&head(1, 3)));
        assert!(is_native_32_bit(&head(1, 62)), "x32");
        assert!(!is_native_32_bit(&head(1, 40)), "arm");
        assert!(!is_native_32_bit(&head(2, 62)));
        assert!(!is_native_32_bit(b"\x7fELF"));
    }

    #[test]
    fn links_that_are_no_paths_are_known() {
        assert_eq!(own_file(b"/proc/self/exe"), Some("exe"));
        assert_eq!(own_file(b"/proc/self/fd/12"), Some("fd/12"));
        assert_eq!(own_file(b"/dev/fd/3"), Some("fd/3"));
        assert_eq!(own_file(b"/proc/self/fd/../exe"), None);
        assert_eq!(own_file(b"/proc/self/root"), None);
        assert_eq!(own_file(b"/dev/exe"), None);
    }
}
