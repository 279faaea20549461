//! The host's `git`, with everything off that a repository or a configuration could turn on.
//!
//! Responsible for the environment and the options of each call, and for telling why one failed.
//! Must not know what is fetched. Invariant: git reads no configuration but a new repository's and
//! what is given here; passwords are in its environment, never in its arguments.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{GitOptions, GitUrl};
use crate::error::{Error, Result};

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
const FOREIGN: [&str; 21] = [
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
        let output = command.output().map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let error = Error::new("start git").source(e);
            if missing {
                error.hint("git repositories need the program git: install the package `git`")
            } else {
                error
            }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let verb = arguments.first().unwrap_or(&"");
        Err(self.refused(verb, message.trim()))
    }

    fn prepare(&self, command: &mut Command) {
        for name in FOREIGN {
            command.env_remove(name);
        }
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        // Whole, with its password, and for submodules relative to it.
        settings.push(("remote.origin.url", &self.url.remote));
        let header;
        if let Some(authorization) = &self.options.authorization {
            header = format!("Authorization: {authorization}");
            settings.push(("http.extraHeader", &header));
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

    /// Returns the ssh command: without an agent that the build was given, there are no keys.
    fn ssh(&self) -> &'static str {
        match self.options.ssh_agent {
            Some(_) => "ssh -F none -o BatchMode=yes -o ForwardAgent=no -o IdentityFile=none",
            None => {
                "ssh -F none -o BatchMode=yes -o ForwardAgent=no -o IdentityFile=none \
                 -o IdentityAgent=none"
            }
        }
    }

    fn refused(&self, verb: &str, message: &str) -> Error {
        let mut end = message.len().min(MAX_MESSAGE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let shown = self.url.shown();
        let message = message[..end].replace(&self.url.remote, &shown);
        let error = Error::new(format!("git {verb}: {message}"));
        if self.url.is_ssh() && message.contains("Permission denied") {
            return match self.options.ssh_agent {
                None => error.hint("give the build an ssh agent: `--ssh default`"),
                Some(_) => error,
            };
        }
        if message.contains("Host key verification failed") {
            let host = self.url.host().unwrap_or_default();
            return error.hint(format!("connect once to make it known: `ssh {host}`"));
        }
        error
    }
}
