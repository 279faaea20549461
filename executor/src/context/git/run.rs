//! The host's `git`, with everything off that a repository or a configuration could turn on.
//!
//! Responsible for the environment and the options of each call, and for telling why one failed.
//! Must not know what is fetched. Invariant: git reads no configuration but a new repository's and
//! what is given here; passwords are in its environment, never in its arguments. When the transfer is
//! cancelled, git and what it has started are gone.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use url::Url;

use super::{GitOptions, GitUrl};
use crate::error::{Error, Result, ResultExt};
use crate::redact;

/// Settings of every call.
const SETTINGS: [(&str, &str); 12] = [
    ("advice.detachedHead", "false"),
    ("core.autocrlf", "false"),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("credential.helper", ""),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("init.defaultBranch", "main"),
    ("init.templateDir", ""),
    ("maintenance.auto", "false"),
];

/// Variables by which a caller's environment would make git do something else (git(1)).
const FOREIGN: [&str; 22] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_SYSTEM",
    "GIT_DIR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "GIT_TEMPLATE_DIR",
    "GIT_TRACE_REDACT",
    "GIT_WORK_TREE",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
];

/// How much of git's complaint is shown, in bytes.
const MAX_MESSAGE: usize = 2_000;

/// Calls git for one remote.
#[derive(Debug)]
pub(super) struct Git<'a> {
    url: &'a GitUrl,
    options: &'a GitOptions,
}

impl<'a> Git<'a> {
    pub(super) fn new(url: &'a GitUrl, options: &'a GitOptions) -> Self {
        Self { url, options }
    }

    /// Runs git in a directory; returns what it prints.
    pub(super) fn run(&self, dir: Option<&Path>, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.args(arguments).stdin(Stdio::null());
        // Without one it looks for a repository in the caller's directory.
        command.current_dir(dir.unwrap_or_else(|| Path::new("/")));
        self.prepare(&mut command);
        let output = self.output(&mut command)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        self.options.cancel.check()?;
        let message = String::from_utf8_lossy(&output.stderr);
        let verb = arguments.first().unwrap_or(&"");
        Err(self.refused(verb, message.trim()))
    }

    /// Runs git to its end, or to the cancellation.
    fn output(&self, command: &mut Command) -> Result<Output> {
        self.options.cancel.check()?;
        // A group of its own has all that it starts.
        let child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let error = Error::new("start git").source(e);
            if missing {
                error.hint("git repositories need the program git: install the package `git`")
            } else {
                error
            }
        })?;
        let pid = Pid::from_child(&child);
        let kill = move || {
            // It may have ended by itself.
            let _: rustix::io::Result<()> = kill_process_group(pid, Signal::KILL);
        };
        let registration = self.options.cancel.on_raise(kill);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let read = std::thread::scope(|scope| {
            let errors = scope.spawn(|| err.map(|mut err| err.read_to_end(&mut stderr)));
            let read = out.map(|mut out| out.read_to_end(&mut stdout));
            drop(errors.join());
            read
        });
        // As long as it is not waited for, its number is nobody else's.
        let ended = rustix::io::retry_on_intr(|| {
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
        });
        drop(registration);
        let status = child.wait().op("wait for git")?;
        ended.op("wait for git")?;
        read.transpose().op("read what git says")?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    fn prepare(&self, command: &mut Command) {
        for name in FOREIGN {
            command.env_remove(name);
        }
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        // Whole, with its password, and for submodules relative to it.
        settings.push(("remote.origin.url", &self.url.remote));
        let (header, scope);
        if let Some(authorization) = &self.options.authorization
            && let Ok(url) = Url::parse(&self.url.remote)
        {
            header = format!("Authorization: {authorization}");
            // Submodules may be elsewhere.
            scope = format!("http.{}/.extraHeader", url.origin().ascii_serialization());
            settings.push((&scope, &header));
        }
        command
            .env("GIT_CONFIG_COUNT", settings.len().to_string())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_SSH_COMMAND", self.ssh())
            .env("XDG_CONFIG_HOME", "/dev/null")
            .env("LC_ALL", "C");
        for (number, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(socket) = &self.options.ssh_agent {
            command.env("SSH_AUTH_SOCK", socket);
        }
    }

    /// Returns the ssh command, which a shell reads: without an agent that the build was given, there are
    /// no keys, and a host that is not known is not asked for anything.
    fn ssh(&self) -> OsString {
        let mut command = OsString::from(
            "ssh -F none -o BatchMode=yes -o ForwardAgent=no -o IdentityFile=none \
             -o StrictHostKeyChecking=yes -o UpdateHostKeys=no",
        );
        if self.options.ssh_agent.is_none() {
            command.push(" -o IdentityAgent=none");
        }
        if let Some(known) = &self.options.known_hosts {
            command.push(" -o ");
            command.push(quoted(known));
        }
        command
    }

    fn refused(&self, verb: &str, message: &str) -> Error {
        let mut end = message.len().min(MAX_MESSAGE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let shown = self.url.shown();
        // Of submodules' addresses, too.
        let message = redact::text(&message[..end].replace(&self.url.remote, &shown));
        let error = Error::new(format!("git {verb}: {message}"));
        if self.url.is_ssh() && message.contains("Permission denied") {
            return match self.options.ssh_agent {
                None => error.hint("give the build an ssh agent: `--ssh default`"),
                Some(_) => error.hint("`ssh-add -l` lists the keys that the agent has"),
            };
        }
        if message.contains("Host key verification failed") {
            let mut host = self.url.host().unwrap_or_default();
            if let Some(port) = self.url.port() {
                host = format!("-p {port} {host}");
            }
            return error.hint(format!(
                "ssh must know the host: `ssh {host}` shows its key and keeps it"
            ));
        }
        error
    }
}

/// Writes `UserKnownHostsFile=` for a shell, and for ssh, which splits the value into words and expands
/// `%` (ssh_config(5)).
fn quoted(path: &Path) -> OsString {
    let mut value = b"'UserKnownHostsFile=\"".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => value.extend(b"%%"),
            b'"' | b'\\' => value.extend([b'\\', *byte]),
            b'\'' => value.extend(br"'\''"),
            _ => value.push(*byte),
        }
    }
    value.extend(b"\"'");
    OsString::from_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_path_for_a_shell_and_ssh() {
        for (path, expected) in [
            (
                "/h/.ssh/known_hosts",
                r#"'UserKnownHostsFile="/h/.ssh/known_hosts"'"#,
            ),
            ("/a b/$x%d", r#"'UserKnownHostsFile="/a b/$x%%d"'"#),
            (r#"/it's "\"#, r#"'UserKnownHostsFile="/it'\''s \"\\"'"#),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }

    #[test]
    fn a_cancellation_ends_it() {
        let url = GitUrl::default();
        let options = GitOptions::default();
        let git = Git::new(&url, &options);
        let cancel = options.cancel.clone();
        let dir = tempfile::tempdir().expect("temporary directory");
        let started = dir.path().join("started");
        // A child of the child has the output open, too.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & touch started; wait"]);
        command.current_dir(dir.path());
        let ending = std::thread::spawn(move || {
            while !started.exists() {
                std::thread::yield_now();
            }
            cancel.raise(crate::cancel::Cause::Signal(2));
        });
        let output = git.output(&mut command).expect("it was started");
        ending.join().expect("join");
        assert_eq!(output.status.signal(), Some(9));
        assert!(git.run(None, &["version"]).is_err());
    }
}
