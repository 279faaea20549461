//! The last steps before a program is executed, of a RUN step and of an OCI container alike.
//!
//! Responsible for an order that keeps each step permitted, and for naming the one that was
//! refused. Must not allocate, lock or read anything but what was prepared. Invariant: after
//! [`Payload::assume`] the process is what the program will be, and nothing but the descriptors
//! that it is to have stays open over execve(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid, WaitId, WaitIdOptions, waitid};

use super::protocol::{Channel, Kind};
use crate::caps::Sets;
use crate::error::{Error, Result};
use crate::seccomp::Filter;
use crate::sys;
use crate::weaken::{self, Protection};

/// What the process becomes.
pub(crate) struct Payload<'a> {
    /// Whether it gets a session keyring of its own.
    pub(crate) keyring: bool,
    /// Bits that files it makes do not get.
    pub(crate) umask: Option<Mode>,
    pub(crate) capabilities: Sets,
    pub(crate) no_new_privileges: bool,
    pub(crate) filter: Option<&'a Filter>,
    /// Where the listener of a filter that notifies goes.
    pub(crate) listener: Listener<'a>,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// `None` where the kernel allows nobody to set them.
    pub(crate) groups: Option<Vec<Gid>>,
    /// Where it is entered as the user; `None` stays.
    pub(crate) cwd: Option<&'a CStr>,
    /// The first descriptor that the program does not get.
    pub(crate) descriptors: u32,
}

/// Who gets a filter's listener.
#[derive(Clone, Copy)]
pub(crate) enum Listener<'a> {
    /// The filter notifies nobody.
    None,
    /// It is sent away.
    Channel(&'a Channel),
    /// Its number is written, in the form of a report, and it stays open until the program is
    /// executed: the reader takes it from this process.
    Report(&'a OwnedFd),
}

/// A step that was refused.
pub(crate) type Step<T> = std::result::Result<T, Refusal>;

/// The steps, as the report numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    Group,
    UserNamespace,
    MountNamespace,
    GroupNamespace,
    Session,
    Streams,
    Terminal,
    Keyring,
    Limits,
    Bounding,
    Seccomp,
    Groups,
    Gid,
    Uid,
    Capabilities,
    Signals,
    WorkingDirectory,
    Descriptors,
    Privileges,
    Execute,
}

/// Stands for a [`Stage`] where a report holds a listener's number.
const LISTENER: u8 = 0xff;

/// What the child wrote.
pub(crate) enum Report {
    Refusal(Refusal),
    /// The number that the listener has there.
    Listener(i32),
}

impl Report {
    /// Reads a report; nothing when the program was executed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        match bytes {
            [LISTENER, a, b, c, d] => {
                let number = i32::from_ne_bytes([*a, *b, *c, *d]);
                Ok(Some(Self::Listener(number)))
            }
            _ => Ok(Refusal::parse(bytes)?.map(Self::Refusal)),
        }
    }
}

impl Stage {
    const ALL: [(Self, &'static str); 20] = [
        (Self::Group, "enter control group"),
        (Self::UserNamespace, "enter user namespace"),
        (Self::MountNamespace, "lock mounts"),
        (Self::GroupNamespace, "enter control group namespace"),
        (Self::Session, "start session"),
        (Self::Streams, "connect standard streams"),
        (Self::Terminal, "take terminal"),
        (Self::Keyring, "join session keyring"),
        (Self::Limits, "set resource limits"),
        (Self::Bounding, "limit capabilities"),
        (Self::Seccomp, "install seccomp filter"),
        (Self::Groups, "set groups"),
        (Self::Gid, "set group"),
        (Self::Uid, "set user"),
        (Self::Capabilities, "set capabilities"),
        (Self::Signals, "reset signals"),
        (Self::WorkingDirectory, "enter working directory"),
        (Self::Descriptors, "close descriptors"),
        (Self::Privileges, "give up new privileges"),
        (Self::Execute, "execute program"),
    ];
}

/// What the child wrote when a step was refused.
pub(crate) struct Refusal {
    pub(crate) stage: Stage,
    pub(crate) errno: Errno,
}

impl Refusal {
    /// Renders the report.
    pub(crate) fn to_bytes(&self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.raw_os_error().to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    /// Reads a report; nothing when the program was executed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
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
    pub(crate) fn operation(&self) -> &'static str {
        Stage::ALL
            .iter()
            .find(|(stage, _)| *stage == self.stage)
            .map_or("start payload", |(_, name)| name)
    }
}

/// Names the step of an error number.
pub(crate) fn at(stage: Stage) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal { stage, errno }
}

impl Payload<'_> {
    /// Takes all steps but the last.
    pub(crate) fn assume(&self) -> Step<()> {
        if self.keyring {
            match sys::join_session_keyring() {
                // No keyrings in this kernel, an outer filter that forbids them, or a full quota.
                // The program's own filter usually forbids their use in any case.
                Ok(()) | Err(Errno::NOSYS | Errno::PERM | Errno::DQUOT) => {}
                Err(errno) => return Err(at(Stage::Keyring)(errno)),
            }
        }
        if let Some(umask) = self.umask {
            rustix::process::umask(umask);
        }
        self.capabilities
            .limit_bounding()
            .map_err(at(Stage::Bounding))?;
        if !self.no_new_privileges {
            // While CAP_SYS_ADMIN is there, which spares no-new-privs.
            self.install()?;
        }
        if let Some(groups) = &self.groups {
            rustix::thread::set_thread_groups(groups).map_err(at(Stage::Groups))?;
        }
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid).map_err(at(Stage::Gid))?;
        if !self.capabilities.permitted.is_empty() {
            // Cleared by execve(2).
            rustix::thread::set_keep_capabilities(true).map_err(at(Stage::Uid))?;
        }
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid).map_err(at(Stage::Uid))?;
        self.capabilities.apply().map_err(at(Stage::Capabilities))?;
        sys::reset_signals().map_err(at(Stage::Signals))?;
        if let Some(cwd) = self.cwd {
            // As the user: what it may not enter it must not be in.
            rustix::process::chdir(cwd).map_err(at(Stage::WorkingDirectory))?;
        }
        if !weaken::off(Protection::Descriptors) {
            sys::close_on_exec_from(self.descriptors).map_err(at(Stage::Descriptors))?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(at(Stage::Privileges))?;
        }
        Ok(())
    }

    /// Installs the filter, if that was left: with no-new-privs it can come this late, and need
    /// not allow the steps before.
    pub(crate) fn seal(&self) -> Step<()> {
        if self.no_new_privileges {
            self.install()
        } else {
            Ok(())
        }
    }

    fn install(&self) -> Step<()> {
        let Some(filter) = self.filter else {
            return Ok(());
        };
        let messenger = match self.listener {
            Listener::Channel(channel) if filter.notifies() => {
                Some(Messenger::start(channel).map_err(at(Stage::Seccomp))?)
            }
            _ => None,
        };
        let listener = filter.install().map_err(at(Stage::Seccomp))?;
        if let Some(messenger) = messenger {
            messenger.finish();
        }
        if let (Listener::Report(pipe), Some(listener)) = (self.listener, listener) {
            let [a, b, c, d] = listener.as_raw_fd().to_ne_bytes();
            let report = [LISTENER, a, b, c, d];
            rustix::io::write(pipe, &report).map_err(at(Stage::Seccomp))?;
            // Closed by execve(2), which the reader answers.
            std::mem::forget(listener);
        }
        Ok(())
    }
}

/// A process that sends the listener away, since any call of the process that has the filter may
/// wait for an answer. It shares that one's descriptors, not its filter.
struct Messenger(OwnedFd);

impl Messenger {
    /// Starts it, right before the filter is installed.
    fn start(channel: &Channel) -> rustix::io::Result<Self> {
        // The kernel gives out the lowest free number: first to the messenger's own descriptor,
        // then to the listener.
        let lowest = || rustix::io::fcntl_dupfd_cloexec(channel, 0);
        let (first, second) = (lowest()?, lowest()?);
        let number = second.as_raw_fd();
        drop((first, second));
        // SAFETY: the process is single-threaded, and the child ends by `exit`.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork(libc::CLONE_FILES as u64) };
        match fork? {
            sys::Fork::Child => Self::run(number, channel),
            sys::Fork::Parent(_, pidfd) => Ok(Self(pidfd)),
        }
    }

    fn run(number: i32, channel: &Channel) -> ! {
        let followed = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if followed.is_ok() {
            while !sys::is_open(number) {
                rustix::thread::sched_yield();
            }
            sys::exit(i32::from(
                channel.send_number(Kind::Listener, number).is_err(),
            ));
        }
        sys::exit(1)
    }

    /// Waits for its end, as far as the filter lets one. If the listener was not sent, the other
    /// end of the channel misses it.
    fn finish(self) {
        let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED)
        });
    }
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
