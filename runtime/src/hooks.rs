//! Programs that a specification wants run at points of a container's life (config.md,
//! "POSIX-platform Hooks").
//!
//! Responsible for running one list of hooks in the namespaces that the caller is in. Must not
//! know which point it is, or what an error means there. Invariant: a hook gets its own
//! environment, the state on its standard input, and no descriptor of the runtime or of who
//! called it; it is over when this returns.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group};

use crate::error::{Error, Result, ResultExt};
use crate::spec::Hook;
use crate::sys;

/// How much of the end of a hook's output is shown.
const TAIL: usize = 2048;

/// Runs hooks one after the other, each with `state_json` on its standard input, in `directory` as
/// long as that is there: the bundle, as with runc and crun.
///
/// # Errors
/// A hook can't be executed, ends with a status other than 0, or runs longer than its timeout,
/// after which it and its process group are killed. The hooks after it are not run.
pub fn run(hooks: &[Hook], state_json: &[u8], directory: Option<&Path>) -> Result<()> {
    hooks
        .iter()
        .try_for_each(|hook| run_one(hook, state_json, directory))
}

fn run_one(hook: &Hook, state_json: &[u8], directory: Option<&Path>) -> Result<()> {
    let c_string = |text: &String| {
        let nul = |_| Error::new("run hook with a null character").path(&hook.path);
        CString::new(text.as_bytes()).map_err(nul)
    };
    let path = c_string(&hook.path)?;
    let arguments = match hook.args.is_empty() {
        true => vec![path.clone()],
        false => hook.args.iter().map(c_string).collect::<Result<_>>()?,
    };
    let environment: Vec<CString> = hook.env.iter().map(c_string).collect::<Result<_>>()?;

    let directory = directory
        .map(|path| CString::new(path.as_os_str().as_bytes()))
        .transpose()
        .map_err(|_| {
            Error::new("run hook in a directory with a null character").path(&hook.path)
        })?;

    let input = state_file(state_json).op("write state for hooks")?;
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).op("create pipe")?;
    let (pid, pidfd) = sys::spawn(
        &path,
        &sys::pointers(&arguments),
        &sys::pointers(&environment),
        directory.as_deref(),
        [input.as_fd(), theirs.as_fd(), theirs.as_fd()],
    )
    .op_path("run hook", &hook.path)?;
    drop(theirs);

    let mut running = Running { pid, pidfd, output };
    let timeout = hook.timeout.and_then(|s| u64::try_from(s).ok());
    let deadline = timeout.and_then(|s| Instant::now().checked_add(Duration::from_secs(s)));
    let mut tail = Vec::new();
    let ended = running.watch(deadline, &mut tail);
    if !matches!(ended, Ok(true)) {
        running.kill();
    }
    // An ended child can be waited for once, whatever was read before.
    let status = running.reap().op_path("wait for hook", &hook.path)?;
    running.read(&mut tail);
    let why = match (ended, status.exit_status(), status.terminating_signal()) {
        (Err(e), _, _) => return Err(Error::new("watch hook").path(&hook.path).cause(e)),
        (Ok(false), _, _) => format!("killed after {} s", timeout.unwrap_or_default()),
        (Ok(true), Some(0), _) => return Ok(()),
        (Ok(true), Some(status), _) => format!("exit status {status}"),
        (Ok(true), None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    };
    let output = String::from_utf8_lossy(&tail);
    let cause = match output.trim() {
        "" => why,
        output => format!("{why}: {output}"),
    };
    Err(Error::new("run hook").path(&hook.path).cause(cause))
}

/// Puts the state into a file without a name, which a hook may read as slowly as it likes.
fn state_file(state_json: &[u8]) -> rustix::io::Result<OwnedFd> {
    let open = |flags| rustix::fs::memfd_create(c"state", flags);
    let file = match open(MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => open(MemfdFlags::CLOEXEC),
        other => other,
    }?;
    let mut rest = state_json;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

/// A hook that was started.
struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    output: OwnedFd,
}

impl Running {
    /// Collects output until the process ends (true) or the time is over (false).
    ///
    /// The output may stay open for longer: a hook may leave a process behind.
    fn watch(&self, deadline: Option<Instant>, tail: &mut Vec<u8>) -> rustix::io::Result<bool> {
        rustix::fs::fcntl_setfl(&self.output, OFlags::NONBLOCK)?;
        let mut open = true;
        loop {
            let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => Some(Timespec::try_from(left).map_err(|_| Errno::INVAL)?),
                None => None,
            };
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&self.output, PollFlags::IN));
            }
            match poll(&mut fds, left.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = fds.iter().map(|f| !f.revents().is_empty()).collect();
            if ready.get(1) == Some(&true) {
                open = self.read(tail);
            }
            if ready.first() == Some(&true) {
                return Ok(true);
            }
        }
    }

    /// Reads what output there is. Returns whether there may be more.
    fn read(&self, tail: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        // Who writes without end must not keep the runtime here.
        for _ in 0..64 {
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    tail.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    let excess = tail.len().saturating_sub(TAIL);
                    tail.drain(..excess);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Kills the process and those that it started.
    fn kill(&self) {
        // The group's id can't have passed to others: its first process is not waited for yet.
        // Gone already is as good.
        let _: rustix::io::Result<()> = kill_process_group(self.pid, Signal::KILL);
    }

    fn reap(&mut self) -> rustix::io::Result<WaitIdStatus> {
        let wait =
            || rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        rustix::io::retry_on_intr(wait)?.ok_or(Errno::CHILD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".to_owned(),
            args: ["name", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["A=1".to_owned(), "A=2".to_owned()],
            timeout,
        }
    }

    fn cause(result: Result<()>) -> String {
        let error = result.expect_err("a hook that does not work");
        format!("{error}: {}", error.source().expect("a cause"))
    }

    #[test]
    fn it_gets_the_state_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let out = dir.path().join("out");
        // A descriptor that its owner forgot to close on exec.
        let leak = std::fs::File::open("/etc/passwd").expect("open");
        let leak = rustix::io::fcntl_dupfd_cloexec(&leak, 77).expect("duplicate");
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).expect("leak");
        let script = format!(
            "exec >{}; cat; tr '\\0' ' ' </proc/$$/environ; echo /proc/$$/fd/??; \
             cut -d' ' -f5 /proc/$$/stat; echo $$ $0",
            out.display()
        );
        let state = format!("{{\"x\":\"{}\"}}\n", "y".repeat(300_000));
        run(&[shell(&script, Some(20))], state.as_bytes(), None).expect("run");
        let text = std::fs::read_to_string(out).expect("read");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(state.trim_end()));
        let descriptors = lines.next().expect("environment and descriptors");
        assert!(descriptors.starts_with("A=1 A=2 /proc/"), "{descriptors}");
        assert!(descriptors.ends_with("/fd/??"), "{descriptors}");
        let (group, own) = (lines.next().expect("group"), lines.next().expect("pid"));
        assert_eq!(own, format!("{group} name"));
    }

    #[test]
    fn errors_name_the_hook_and_show_the_end_of_its_output() {
        let status = run(&[shell("echo words >&2; exit 3", None)], b"{}", None);
        assert_eq!(cause(status), "run hook `/bin/sh`: exit status 3: words");
        let signal = run(&[shell("kill -9 $$", None)], b"{}", None);
        assert_eq!(cause(signal), "run hook `/bin/sh`: killed by signal 9");
        let mut missing = shell("", None);
        missing.path = "/no/such".to_owned();
        assert_eq!(
            cause(run(&[missing], b"{}", None)),
            "run hook `/no/such`: no such file or directory"
        );
    }

    #[test]
    fn the_first_error_ends_the_list() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let touch = shell(&format!("echo >{}/made", dir.path().display()), None);
        assert!(run(&[shell("exit 1", None), touch], b"{}", None).is_err());
        assert!(!dir.path().join("made").exists());
    }

    #[test]
    fn a_timeout_kills_the_whole_group() {
        let start = Instant::now();
        let result = run(
            &[shell("echo slow; sleep 60 & sleep 60", Some(1))],
            b"{}",
            None,
        );
        assert_eq!(cause(result), "run hook `/bin/sh`: killed after 1 s: slow");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        let start = Instant::now();
        run(&[shell("sleep 3 & exit 0", None)], b"{}", None).expect("run");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
