//! Entering an identity: the executor's user namespace and its private mount namespace.
//!
//! Responsible for unshare(2) and the id maps, in the spawner process. Must not choose: the plan
//! says what to do. Invariant: after success the process holds all capabilities in its namespace
//! and mounts made here are seen nowhere else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::subids::render;
use super::{EnterPlan, MapWriter, detect};
use crate::error::{Error, Result, ResultExt};
use crate::sys;

/// Enters. The process must be single-threaded.
pub(crate) fn enter(plan: &EnterPlan) -> Result<()> {
    match &plan.writer {
        MapWriter::None => unshare(CloneFlags::CLONE_NEWNS).op("enter mount namespace")?,
        MapWriter::Own => {
            unshare_user()?;
            write_own(plan)?;
        }
        MapWriter::Parent | MapWriter::Programs { .. } => {
            let helper = Helper::start(plan)?;
            unshare_user()?;
            helper.finish()?;
        }
    }
    // Downstream, not private: what the host unmounts must not stay busy because of us.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).map_err(|errno| match errno {
        // A security module may allow the namespace and then take its capabilities away.
        Errno::PERM | Errno::ACCESS => detect::explain("make mounts private", errno),
        _ => Error::new("make mounts private").cause(errno),
    })
}

fn unshare_user() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
        detect::explain(
            "enter user namespace",
            Errno::from_raw_os_error(errno as i32),
        )
    })
}

fn write_own(plan: &EnterPlan) -> Result<()> {
    let write = |file: &str, text: &str| {
        let path = Path::new("/proc/self").join(file);
        write_map(&path, text).map_err(|e| match e.errno() {
            Some(libc::EPERM | libc::EACCES) => detect::explain("write id map", Errno::PERM),
            _ => e,
        })
    };
    // Without the privilege to set groups, a group map is only allowed once they can't be dropped.
    write("setgroups", "deny")?;
    write("uid_map", &render(&plan.uid_map))?;
    write("gid_map", &render(&plan.gid_map))
}

/// A map must arrive in one write(2).
pub(crate) fn write_map(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options()
        .write(true)
        .open(path)
        .op_path("write id map", path)?;
    file.write_all(text.as_bytes())
        .op_path("write id map", path)
}

/// A child that stays in the parent namespace and writes the maps of the process that forked it.
struct Helper {
    pid: Pid,
    go: File,
    answer: File,
}

impl Helper {
    fn start(plan: &EnterPlan) -> Result<Self> {
        let target = rustix::process::getpid();
        let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC).op("create pipe")?;
        let (answer_read, answer_write) = pipe_with(PipeFlags::CLOEXEC).op("create pipe")?;
        // SAFETY: the spawner is single-threaded, and the child ends by `exit`.
        #[expect(unsafe_code, reason = "a clone site")]
        let fork = unsafe { sys::fork_whole() }.op("fork helper")?;
        match fork {
            sys::Fork::Child => {
                drop(go_write);
                drop(answer_read);
                let mut byte = [0];
                // End of file: the namespace was refused, there is nothing to write.
                if File::from(go_read).read_exact(&mut byte).is_ok() {
                    let answer = match map_process(plan, target) {
                        Ok(()) => serde_json::to_vec(&None::<Error>),
                        Err(error) => serde_json::to_vec(&Some(error)),
                    };
                    let mut file = File::from(answer_write);
                    // The parent reads what arrives; nothing is an error there.
                    drop(file.write_all(&answer.unwrap_or_default()));
                }
                sys::exit(0);
            }
            sys::Fork::Parent(pid, _) => Ok(Self {
                pid,
                go: go_write.into(),
                answer: answer_read.into(),
            }),
        }
    }

    fn finish(mut self) -> Result<()> {
        self.go.write_all(&[1]).op("start helper")?;
        let mut answer = Vec::new();
        self.answer.read_to_end(&mut answer).op("read helper")?;
        match serde_json::from_slice::<Option<Error>>(&answer) {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(Error::new("write id map: the helper process died")),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Closing the pipe ends a helper that was never told to go.
        if let Ok((null, _)) = pipe_with(PipeFlags::CLOEXEC) {
            self.go = null.into();
        }
        let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED)
        });
    }
}

fn map_process(plan: &EnterPlan, target: Pid) -> Result<()> {
    match &plan.writer {
        MapWriter::Programs {
            newuidmap,
            newgidmap,
        } => {
            let uids = start_program(newuidmap, target, &plan.uid_map)?;
            let gids = start_program(newgidmap, target, &plan.gid_map)?;
            finish_program(newuidmap, uids)?;
            finish_program(newgidmap, gids)
        }
        _ => {
            let dir = Path::new("/proc").join(target.to_string());
            let explain = |e: Error| match e.errno() {
                Some(libc::EPERM) => e.hint(
                    "the capabilities CAP_SETUID, CAP_SETGID and CAP_SETFCAP are needed to map ids",
                ),
                _ => e,
            };
            write_map(&dir.join("uid_map"), &render(&plan.uid_map)).map_err(explain)?;
            write_map(&dir.join("gid_map"), &render(&plan.gid_map)).map_err(explain)
        }
    }
}

pub(crate) fn start_program(
    program: &Path,
    target: Pid,
    map: &[super::Extent],
) -> Result<std::process::Child> {
    let numbers = map
        .iter()
        .flat_map(|e| [e.inside, e.outside, e.count])
        .map(|n| n.to_string());
    Command::new(program)
        .arg(target.to_string())
        .args(numbers)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .op_path("start program", program)
}

pub(crate) fn finish_program(program: &Path, child: std::process::Child) -> Result<()> {
    let output = child.wait_with_output().op_path("run program", program)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let error = Error::new("map ids with").path(program).cause(text);
    let set_id = fs::metadata(program).is_ok_and(|m| {
        use std::os::unix::fs::PermissionsExt;
        m.permissions().mode() & 0o6000 != 0
    });
    Err(if set_id {
        error.hint("check the lines in /etc/subuid and /etc/subgid; the ids must not be in use by this process")
    } else {
        error.hint("the program is neither set-user-id nor, perhaps, has it the file capability to set ids; reinstall the package (Debian: uidmap)")
    })
}
