//! What the payload executes, prepared.
//!
//! Responsible for the program's candidates, arguments and environment, and for what a user reads
//! when none can be executed. Must not execute. Invariant: after preparation, executing needs no
//! memory.

use std::ffi::{CStr, CString};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// Where programs are looked for when the environment has no `PATH`; Docker's default.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the paths to try for a program, in order.
pub(super) fn candidates(program: &CStr, env: &[CString]) -> Result<Vec<CString>> {
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
pub(super) fn verdict(so_far: Errno, errno: Errno) -> Result<Errno, Errno> {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Ok(so_far),
        // Another directory may have one that can be executed.
        Errno::ACCESS => Ok(Errno::ACCESS),
        other => Err(other),
    }
}

/// Returns the exit code and the line for the user when nothing could be executed.
pub(super) fn refusal(program: &CStr, errno: Errno) -> (u8, String) {
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
    (code, format!("exec: \"{name}\": {why}\n"))
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
