//! A container under test.
//!
//! Responsible for calling the runtime's verbs on one id, and for its processes' ends. Must not
//! know what is in it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::Value;
use support::{Command, Output, World};

use super::bundle::runtime;

/// A container, which may not exist yet or any more.
pub(crate) struct Container<'w> {
    /// Its id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) world: &'w World,
    bundle: PathBuf,
}

impl<'w> Container<'w> {
    pub(crate) fn new(world: &'w World, id: &str, bundle: &Path) -> Self {
        // Containers that lost their creator become this program's children, so that it learns
        // how they ended, as conmon and containerd's shim do.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("subreaper");
        Self {
            id: id.to_owned(),
            world,
            bundle: bundle.to_owned(),
        }
    }

    /// Calls a verb with the id at the end.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        runtime(self.world, words).arg(&self.id)
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.bundle.join(format!("{}.{kind}", self.id))
    }

    /// `create`.
    pub(crate) fn create(&self, flags: &[&str]) -> Output {
        self.create_by(runtime(self.world, ["create"]), flags)
    }

    /// `create` by a command that has the verb already.
    pub(crate) fn create_by(&self, command: Command, flags: &[&str]) -> Output {
        let command = command
            .arg("--bundle")
            .arg(&self.bundle)
            .args(flags)
            .arg(&self.id);
        self.leaving(command)
    }

    /// Runs a command which leaves a process in the container, with output in the bundle.
    pub(crate) fn leaving(&self, command: Command) -> Output {
        command
            .timeout(Duration::from_secs(60))
            .run_into(&self.file("out"), &self.file("err"))
    }

    /// `start`, which has to succeed.
    #[track_caller]
    pub(crate) fn start(&self) {
        self.verb(&["start"]).ok();
    }

    /// `state`.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        let output = self.verb(&["state"]).ok();
        serde_json::from_slice(&output.stdout).expect("state prints JSON")
    }

    /// The status that `state` names.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    /// The process id that `state` names.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().expect("a process id");
        i32::try_from(pid).expect("a process id")
    }

    /// Sends a signal, which has to succeed.
    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) {
        self.verb(&["kill"]).arg(signal).ok();
    }

    /// Makes an `exec` of a program.
    pub(crate) fn exec(&self, flags: &[&str], args: &[&str]) -> Command {
        self.exec_flags(flags).args(args)
    }

    fn exec_flags(&self, flags: &[&str]) -> Command {
        runtime(self.world, ["exec"]).args(flags).arg(&self.id)
    }

    /// Executes a script in it, expects success, and returns what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.exec(&[], &["/bin/sh", "-c", script]).ok().text()
    }

    /// `delete`, which has to succeed.
    #[track_caller]
    pub(crate) fn delete(&self) {
        self.verb(&["delete"]).ok();
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn finish(&self) -> i32 {
        let pid = self.pid();
        self.start();
        reap(pid)
    }

    /// What its process wrote on standard output.
    pub(crate) fn stdout(&self) -> String {
        let bytes = std::fs::read(self.file("out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its output has this in it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} in the output"), || {
            self.stdout().contains(text)
        });
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let state = self.verb(&["state"]).run();
        let pid = serde_json::from_slice::<Value>(&state.stdout)
            .ok()
            .and_then(|state| state["pid"].as_i64());
        if state.code == Some(0) {
            self.verb(&["delete", "--force"]).run();
        }
        if let Some(pid) = pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            // No zombie is left where it was ours.
            waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
    }
}

/// Waits for a process that lost its parent, and returns how it ended, as a shell would.
///
/// # Panics
/// After half a minute, or where it belongs to somebody else.
#[track_caller]
pub(crate) fn reap(pid: i32) -> i32 {
    let pid = Pid::from_raw(pid).expect("a process id");
    let mut ended = None;
    eventually(&format!("process {pid:?} ends"), || {
        let waited = waitpid(Some(pid), WaitOptions::NOHANG);
        ended = waited.unwrap_or_else(|error| panic!("wait for {pid:?}: {error}"));
        ended.is_some()
    });
    let (_, status) = ended.expect("waited for");
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .expect("it ended in one of two ways")
}

/// Returns whether a process exists and is no zombie.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some(Some(state)) if state != 'Z' && state != 'X')
}

/// Waits for something to become true.
///
/// # Panics
/// After half a minute.
#[track_caller]
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
