//! An agent of our own, for keys that are given as files.
//!
//! Responsible for the life of the host's `ssh-agent` and for which keys it has. Must not parse keys.
//! Invariant: it ends with its value or, within seconds, with the process, whatever ends that.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::short::Short;
use crate::error::{Error, Result, ResultExt};

/// The socket's name in its directory.
const SOCKET: &str = "agent";

/// What the agent waits for: with a command, it ends within ten seconds of it (ssh-agent(1)), and this
/// one ends with its standard input. A signal on our death would not do: where the program has its
/// set-group-id bit, the kernel forgets it.
const WAIT: [&str; 3] = ["sh", "-c", "echo $SSH_AGENT_PID; exec cat >/dev/null"];

/// The agent.
#[derive(Debug)]
pub struct KeyAgent {
    socket: PathBuf,
    agent: OwnedFd,
    waiter: Child,
    _dir: Short,
}

impl KeyAgent {
    /// Starts an agent with its socket in the new directory `dir`, and gives it keys.
    ///
    /// # Errors
    /// The program is missing; a key can't be read or has a passphrase.
    pub fn start(keys: &[PathBuf], dir: &Path) -> Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(dir).op_path("create", dir)?;
        let short = Short::open(dir).op_path("open", dir)?;
        // The longest that is sure to fit for whoever is given it.
        let long = dir.join(SOCKET);
        let socket = if long.is_absolute() && long.as_os_str().len() < 90 {
            long
        } else {
            short.name(SOCKET)
        };
        let mut waiter = Command::new("ssh-agent")
            .arg("-a")
            .arg(&socket)
            .args(WAIT)
            // A signal from the terminal is for us.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                Error::new("start `ssh-agent`, which holds keys")
                    .source(e)
                    .hint("install OpenSSH's client, or name an agent's socket in place of keys")
            })?;
        let mut line = String::new();
        if let Some(out) = waiter.stdout.take() {
            let read = BufReader::new(out).read_line(&mut line);
            read.op("read from `ssh-agent`")?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let agent = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(agent) = agent else {
            drop(waiter.stdin.take());
            drop(waiter.wait());
            return Err(Error::new("`ssh-agent` did not start"));
        };
        let started = Self {
            socket,
            agent,
            waiter,
            _dir: short,
        };
        for key in keys {
            started.add(key)?;
        }
        Ok(started)
    }

    /// Returns its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Gives it a key.
    fn add(&self, key: &Path) -> Result<()> {
        // By its standard input: as a file, its permissions would have to please the program.
        let file = File::open(key).op_path("open ssh key", key)?;
        let output = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &self.socket)
            // Nobody is asked for a passphrase.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("LC_ALL", "C")
            .process_group(0)
            .stdin(file)
            .output()
            .op("start `ssh-add`, which reads keys")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default().trim();
        let error = Error::new("use as an ssh key").path(key);
        // It has nothing to say when there is no answer to its question.
        Err(if said.is_empty() || said.contains("passphrase") {
            error
                .source("it has a passphrase")
                .hint("give the key to an agent: `ssh-add FILE`, then `--ssh default`")
        } else {
            error
                .source(said.escape_debug().to_string())
                .hint("it must be a private key, as `ssh-keygen` makes them")
        })
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.waiter.stdin.take());
        // It may have ended by itself.
        let _: rustix::io::Result<()> = pidfd_send_signal(&self.agent, Signal::TERM);
        drop(self.waiter.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::ssh::short::connect;

    #[test]
    fn an_agent_that_ends_with_its_value() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for place in ["short".to_owned(), "x".repeat(120)] {
            let place = dir.path().join(place);
            let agent = match KeyAgent::start(&[], &place) {
                Ok(agent) => agent,
                Err(e) if e.chain().contains("start `ssh-agent`") => {
                    println!("SKIP: there is no ssh-agent");
                    return;
                }
                Err(e) => panic!("{}", e.chain()),
            };
            assert!(agent.socket().as_os_str().len() < 90);
            drop(connect(agent.socket()).expect("it listens"));
            drop(agent);
            // It is being ended by then, and a moment later it has.
            while connect(&place.join(SOCKET)).is_ok() {
                std::thread::yield_now();
            }
        }
    }
}
