//! From fork to exec: the process that becomes the payload.
//!
//! Responsible for the last steps, in an order that keeps each permitted, and for reporting the
//! one that was refused. Must not allocate, lock or read anything but what was prepared.
//! Invariant: after the program is executed, nothing of the job remains but standard streams.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::exec;
use crate::error::{Error, Result};
use crate::seccomp::Filter;
use crate::{caps, sys};

/// All that the child needs.
pub(super) struct Prepared<'a> {
    pub(super) user_namespace: Option<&'a OwnedFd>,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) terminal: bool,
    pub(super) seccomp: &'a Filter,
    pub(super) bounding: CapabilitySet,
    pub(super) capabilities: CapabilitySet,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// `None` where the kernel allows nobody to set them.
    pub(super) groups: Option<Vec<Gid>>,
    pub(super) cwd: &'a CStr,
    pub(super) programs: Vec<CString>,
    pub(super) argv: sys::Pointers<'a>,
    pub(super) env: sys::Pointers<'a>,
    pub(super) report: OwnedFd,
}

/// The steps, as the report numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    UserNamespace,
    MountNamespace,
    Session,
    Streams,
    Terminal,
    Keyring,
    Bounding,
    Seccomp,
    Groups,
    Gid,
    Uid,
    Capabilities,
    Signals,
    WorkingDirectory,
    Descriptors,
    Execute,
}

impl Stage {
    const ALL: [(Self, &'static str); 16] = [
        (Self::UserNamespace, "enter user namespace"),
        (Self::MountNamespace, "lock mounts"),
        (Self::Session, "start session"),
        (Self::Streams, "connect standard streams"),
        (Self::Terminal, "take terminal"),
        (Self::Keyring, "join session keyring"),
        (Self::Bounding, "limit capabilities"),
        (Self::Seccomp, "install seccomp filter"),
        (Self::Groups, "set groups"),
        (Self::Gid, "set group"),
        (Self::Uid, "set user"),
        (Self::Capabilities, "set capabilities"),
        (Self::Signals, "reset signals"),
        (Self::WorkingDirectory, "enter working directory"),
        (Self::Descriptors, "close descriptors"),
        (Self::Execute, "execute program"),
    ];
}

/// What the child wrote when a step was refused.
pub(super) struct Refusal {
    pub(super) stage: Stage,
    pub(super) errno: Errno,
}

impl Refusal {
    fn to_bytes(&self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.raw_os_error().to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    /// Reads what [`run`] wrote; nothing when the program was executed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let [stage, errno @ ..] = bytes else {
            return Ok(None);
        };
        let found = Stage::ALL.iter().find(|(s, _)| *s as u8 == *stage);
        match (found, <[u8; 4]>::try_from(errno)) {
            (Some((stage, _)), Ok(errno)) => Ok(Some(Self {
                stage: *stage,
                errno: Errno::from_raw_os_error(i32::from_ne_bytes(errno)),
            })),
            _ => Err(Error::new("start payload: it sent a malformed report")),
        }
    }

    /// Names the step.
    pub(super) fn operation(&self) -> &'static str {
        Stage::ALL
            .iter()
            .find(|(stage, _)| *stage == self.stage)
            .map_or("start payload", |(_, name)| name)
    }
}

/// Becomes the payload. Returns only by ending the process.
pub(super) fn run(p: &Prepared<'_>) -> ! {
    let refusal = match become_payload(p) {
        Ok(never) => match never {},
        Err((stage, errno)) => Refusal { stage, errno },
    };
    // The reader sees either five bytes or an end that it reports as such.
    let _: rustix::io::Result<_> = rustix::io::write(&p.report, &refusal.to_bytes());
    sys::exit(125)
}

fn become_payload(
    p: &Prepared<'_>,
) -> std::result::Result<std::convert::Infallible, (Stage, Errno)> {
    let at = |stage| move |errno| (stage, errno);
    if let Some(user) = p.user_namespace {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(at(Stage::UserNamespace))?;
        // A copy that another user namespace owns: the kernel locks what is in it.
        sys::unshare(libc::CLONE_NEWNS).map_err(at(Stage::MountNamespace))?;
    }
    rustix::process::setsid().map_err(at(Stage::Session))?;
    for (number, fd) in (0..).zip(&p.stdio) {
        sys::dup_onto(fd.as_fd(), number, false).map_err(at(Stage::Streams))?;
    }
    if p.terminal {
        rustix::process::ioctl_tiocsctty(&p.stdio[0]).map_err(at(Stage::Terminal))?;
    }
    match sys::join_session_keyring() {
        // No keyrings in this kernel, an outer filter that forbids them, or a full quota. The
        // payload's own filter forbids their use in any case.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM | Errno::DQUOT) => {}
        Err(errno) => return Err((Stage::Keyring, errno)),
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    caps::limit_bounding(p.bounding).map_err(at(Stage::Bounding))?;
    // While CAP_SYS_ADMIN is there, which spares no-new-privs; the steps below are all allowed.
    p.seccomp.install().map_err(at(Stage::Seccomp))?;
    if let Some(groups) = &p.groups {
        rustix::thread::set_thread_groups(groups).map_err(at(Stage::Groups))?;
    }
    rustix::thread::set_thread_res_gid(p.gid, p.gid, p.gid).map_err(at(Stage::Gid))?;
    rustix::thread::set_thread_res_uid(p.uid, p.uid, p.uid).map_err(at(Stage::Uid))?;
    caps::set(p.capabilities).map_err(at(Stage::Capabilities))?;
    sys::reset_signals().map_err(at(Stage::Signals))?;
    // As the user: what it may not enter it must not be in.
    rustix::process::chdir(p.cwd).map_err(at(Stage::WorkingDirectory))?;
    sys::close_on_exec_from(3).map_err(at(Stage::Descriptors))?;
    let mut errno = Errno::NOENT;
    for program in &p.programs {
        let refused = sys::execve(program, &p.argv, &p.env);
        errno = exec::verdict(errno, refused).map_err(at(Stage::Execute))?;
    }
    Err((Stage::Execute, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for (stage, name) in Stage::ALL {
            let refusal = Refusal {
                stage,
                errno: Errno::PERM,
            };
            let back = Refusal::parse(&refusal.to_bytes())
                .expect("parse")
                .expect("a refusal");
            assert_eq!((back.stage, back.errno), (stage, Errno::PERM));
            assert_eq!(back.operation(), name);
        }
        assert!(Refusal::parse(&[]).expect("parse").is_none());
        assert!(Refusal::parse(&[1, 2]).is_err());
        assert!(Refusal::parse(&[200, 0, 0, 0, 0]).is_err());
    }
}
