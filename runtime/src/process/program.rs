//! The program that a process of a container executes, prepared.
//!
//! Responsible for its candidates, arguments and environment, and for what a user reads when none
//! can be executed. Must not choose who executes it. Invariant: after preparation, neither looking
//! for it nor executing it needs memory.

use std::ffi::{CStr, CString};

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys;

/// Where programs are looked for when the environment has no `PATH`; Docker's default.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and environment.
pub(crate) struct Program<'a> {
    /// The paths to try, in order.
    candidates: Vec<CString>,
    argv: sys::Pointers<'a>,
    env: sys::Pointers<'a>,
}

impl<'a> Program<'a> {
    /// Prepares `argv`, which names the program first.
    pub(crate) fn new(argv: &'a [CString], env: &'a [CString]) -> Result<Self> {
        let Some(name) = argv.first() else {
            return Err(Error::new("run container: no program"));
        };
        Ok(Self {
            candidates: candidates(name, env)?,
            argv: sys::pointers(argv),
            env: sys::pointers(env),
        })
    }

    /// Looks for the first candidate that the calling process may execute, inside its root, and
    /// keeps no other. Usable in a forked child.
    pub(crate) fn find(&mut self) -> rustix::io::Result<()> {
        let mut errno = Errno::NOENT;
        for (index, candidate) in self.candidates.iter().enumerate() {
            match check(candidate) {
                Ok(()) => {
                    self.candidates.swap(0, index);
                    self.candidates.truncate(1);
                    return Ok(());
                }
                Err(refused) => errno = verdict(errno, refused)?,
            }
        }
        Err(errno)
    }

    /// Executes the first candidate that the kernel executes. Returns only the error. Usable in a
    /// forked child.
    pub(crate) fn execute(&self) -> Errno {
        let mut errno = Errno::NOENT;
        for candidate in &self.candidates {
            let refused = sys::execve(candidate, &self.argv, &self.env);
            match verdict(errno, refused) {
                Ok(so_far) => errno = so_far,
                Err(last) => return last,
            }
        }
        errno
    }
}

/// Says whether a file looks as if it could be executed. What a filter of system calls keeps
/// unanswered is left to execve(2).
fn check(path: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) | Err(Errno::PERM | Errno::NOSYS) => {}
        Err(errno) => return Err(errno),
    }
    match rustix::fs::stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            Err(Errno::ACCESS)
        }
        _ => Ok(()),
    }
}

/// Returns the paths to try for a program, in order.
fn candidates(program: &CStr, env: &[CString]) -> Result<Vec<CString>> {
    let name = program.to_bytes();
    if name.contains(&b'/') {
        return Ok(vec![program.to_owned()]);
    }
    let path = env
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(|b| *b == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { b"." } else { dir };
            CString::new([dir, b"/", name].concat())
                .map_err(|_| Error::new("a program's name holds a zero byte"))
        })
        .collect()
}

/// Decides what a failed attempt means for the next candidate: `Some` ends the search.
fn verdict(so_far: Errno, errno: Errno) -> Result<Errno, Errno> {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Ok(so_far),
        // Another directory may have one that can be executed.
        Errno::ACCESS => Ok(Errno::ACCESS),
        other => Err(other),
    }
}

/// Returns the exit code and the line for the user when nothing could be executed.
pub(crate) fn refusal(program: &CStr, errno: Errno) -> (u8, String) {
    let (code, name, why) = explain(program, errno);
    (code, format!("exec: \"{name}\": {why}\n"))
}

/// Returns the error of a program that could not be executed, in the words of Go's os/exec, which
/// callers of runc look for.
pub(crate) fn refused(program: &CStr, errno: Errno) -> Error {
    let (_, name, why) = explain(program, errno);
    Error::new(format!("exec: \"{name}\"")).cause(why)
}

/// Returns the error of a program that was found and could not be executed: what is missing is then
/// not the file but what interprets it.
pub(crate) fn not_executed(program: &CStr, errno: Errno) -> Error {
    let name = program.to_string_lossy();
    Error::new(format!("exec: \"{name}\"")).cause(errno)
}

fn explain(program: &CStr, errno: Errno) -> (u8, std::borrow::Cow<'_, str>, String) {
    let name = program.to_string_lossy();
    let (code, why) = match errno {
        Errno::NOENT | Errno::NOTDIR if !name.contains('/') => {
            (127, "executable file not found in $PATH".to_owned())
        }
        Errno::NOENT | Errno::NOTDIR => (127, "no such file or directory".to_owned()),
        Errno::ACCESS | Errno::PERM => (126, "permission denied".to_owned()),
        Errno::NOEXEC => (126, "exec format error".to_owned()),
        other => (126, crate::error::Cause::from(other).to_string()),
    };
    (code, name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(text: &str) -> CString {
        CString::new(text).expect("no zero byte")
    }

    #[test]
    fn the_containers_path_is_searched() {
        let env = [c("A=b"), c("PATH=/x::/y z")];
        assert_eq!(
            candidates(&c("sh"), &env).expect("candidates"),
            [c("/x/sh"), c("./sh"), c("/y z/sh")]
        );
        assert_eq!(
            candidates(&c("./sh"), &env).expect("candidates"),
            [c("./sh")]
        );
        assert_eq!(candidates(&c("sh"), &[]).expect("candidates").len(), 6);
    }

    #[test]
    fn refusals_are_shells_codes() {
        for (program, errno, code) in [
            ("x", Errno::NOENT, 127),
            ("/x", Errno::NOENT, 127),
            ("x", Errno::ACCESS, 126),
            ("x", Errno::NOEXEC, 126),
        ] {
            assert_eq!(refusal(&c(program), errno).0, code);
        }
    }

    #[test]
    fn a_program_that_may_not_run_is_remembered() {
        assert_eq!(verdict(Errno::NOENT, Errno::ACCESS), Ok(Errno::ACCESS));
        assert_eq!(verdict(Errno::ACCESS, Errno::NOENT), Ok(Errno::ACCESS));
        assert_eq!(verdict(Errno::NOENT, Errno::NOEXEC), Err(Errno::NOEXEC));
    }
}
