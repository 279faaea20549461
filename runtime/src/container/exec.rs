//! Adding a process to a container.
//!
//! Responsible for what the process gets from the container's configuration, and for its way into
//! the container. Must not read documents or command lines.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::console::Console;
use super::create::set_oom_score;
use super::entrance::Entrance;
use super::foreground::{Exit, follow};
use super::{Container, send_pidfd, write_pid_file};
use crate::cgroup::enter_legacy;
use crate::error::{Error, Result, ResultExt};
use crate::process::exec::{self, Kept, Place};
use crate::process::protocol::{Channel, Kind};
use crate::process::start::{Way, start};
use crate::process::task::{Inherited, Task};
use crate::procfs::Proc;
use crate::signals::Forwarder;
use crate::spec::{Linux, Process};
use crate::state::Status;
use crate::validate;

const STOPPED: &str = "cannot exec in a stopped container";

/// What `exec` is told.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The process. What it leaves open of capabilities, limits and labels is as the container's
    /// own (as with runc 1.1).
    pub process: Process,
    /// Whether to return once the program runs.
    pub detached: bool,
    /// Where the number of the process is written.
    pub pid_file: Option<PathBuf>,
    /// Where the outer side of the process's terminal is sent.
    pub console_socket: Option<PathBuf>,
    /// Where a descriptor of the process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Groups below the container's: `PATH`, or `CONTROLLER:PATH` in version 1.
    pub cgroup: Vec<String>,
    /// What the process gets from the caller.
    pub inherited: Inherited,
    /// Whether to go on with a frozen container; the process then waits for its thawing.
    pub ignore_paused: bool,
}

impl Container<'_> {
    /// Runs a program in the container. Returns how it ended, unless detached.
    ///
    /// # Errors
    /// The container is stopped or frozen, something that the process asks for is refused, or the
    /// program can't be executed.
    pub fn exec(
        &self,
        options: &ExecOptions,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<Exit>> {
        match self.status()? {
            Status::Stopped => {
                return Err(Error::new(STOPPED));
            }
            Status::Paused if !options.ignore_paused => {
                return Err(Error::new("cannot exec in a paused container")
                    .hint("`--ignore-paused` waits for it"));
            }
            _ => {}
        }
        let spec = self.spec()?;
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let process = complete(&options.process, spec.process.as_ref());
        let problems = validate::validate_process(&process, "process");
        if !problems.is_empty() {
            return Err(validate::error(&problems));
        }

        let signals = (!options.detached).then(Forwarder::all).transpose()?;
        let socket = options.console_socket.as_deref();
        let mut console = Console::new(process.terminal, socket, !options.detached)?;
        let task = Task::new(&process, linux, &options.inherited, warn)?;
        let proc = Proc::open(Path::new("/proc")).op_path("open", "/proc")?;
        let init = self.open_init()?;
        let (pid, init) = init.ok_or_else(|| Error::new(STOPPED))?;
        let place = Place::find(pid.as_raw_pid(), init)?;
        let group = self.record.cgroup.below(&options.cgroup)?;
        let entrance = Entrance::open(&group)?;
        let score = process.oom_score_adj;
        let join = |channel: &Channel| {
            if let Some(score) = score {
                // Inherited by the process, whose own file belongs to the host's root once it is in
                // another user namespace (proc(5), "dumpable"). What can't be set is said below.
                drop(std::fs::write(
                    "/proc/self/oom_score_adj",
                    score.to_string(),
                ));
            }
            let kept = Kept {
                proc: &proc,
                files: entrance.files(),
            };
            place.join(&task, &kept, channel)
        };
        let way = Way {
            join: Some(&join),
            new: 0,
            cgroup: entrance.directory(),
        };
        let mut child = start(&way, &mut |channel| {
            enter_legacy(entrance.files()).op("enter control group")?;
            exec::run(&place, &task, &process.user, &proc, channel)
        })?;
        if let Some(score) = process.oom_score_adj {
            set_oom_score(child.pid.as_raw_pid(), score, warn)?;
        }
        entrance.move_in(child.pid, warn)?;
        child.channel.send(Kind::Go, &[])?;
        while let Some(message) = child.channel.receive()? {
            match message.kind {
                Kind::Warning => warn(String::from_utf8_lossy(&message.body).into_owned()),
                Kind::Terminal => console.receive(message)?,
                Kind::Listener => {
                    self.pass_listener(linux, Status::Running, child.pid, &message)?;
                }
                Kind::Failed => return Err(crate::process::protocol::failure(&message.body)),
                _ => return Err(Error::new("set up process: unexpected message")),
            }
        }
        if let Some(path) = &options.pidfd_socket {
            send_pidfd(path, child.pidfd.as_fd())?;
        }
        if let Some(path) = &options.pid_file {
            write_pid_file(path, child.pid.as_raw_pid())?;
        }
        child.release();
        let Some(signals) = signals else {
            return Ok(None);
        };
        follow(&child.pidfd, &signals, console.into_master(), None).map(Some)
    }
}

/// Takes from the container's own process what another one leaves open.
fn complete(process: &Process, own: Option<&Process>) -> Process {
    let mut process = process.clone();
    let Some(own) = own else {
        return process;
    };
    if process.capabilities.is_none() {
        process.capabilities.clone_from(&own.capabilities);
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile.clone_from(&own.apparmor_profile);
    }
    if process.selinux_label.is_empty() {
        process.selinux_label.clone_from(&own.selinux_label);
    }
    if process.cwd.is_empty() {
        process.cwd.clone_from(&own.cwd);
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    #[test]
    fn what_is_left_open_is_the_containers() {
        let own = Process {
            cwd: "/a".to_owned(),
            capabilities: Some(spec::Capabilities::default()),
            apparmor_profile: "p".to_owned(),
            ..Process::default()
        };
        let process = Process {
            apparmor_profile: "q".to_owned(),
            ..Process::default()
        };
        let all = complete(&process, Some(&own));
        assert_eq!(
            (all.cwd.as_str(), all.apparmor_profile.as_str()),
            ("/a", "q")
        );
        assert!(all.capabilities.is_some());
        assert_eq!(complete(&process, None), process);
    }
}
