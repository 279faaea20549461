//! The `docker-credential-*` programs.
//!
//! Responsible for their protocol (a verb as argument, JSON or a registry's address on standard
//! input, JSON on standard output) and for not waiting for one for ever. Must not know which
//! helper serves which registry.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Credential, Secret};
use crate::error::{Error, Kind, Result};

/// How long a helper may take; some ask the user something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is read of what a helper prints, in bytes.
const LIMIT: u64 = 256 << 10;

/// What a helper says, on standard output and with status 1, when it has no credential.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// Asks a helper for a registry's credential; `None` when it has none.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such program; otherwise when it does not work.
pub(super) fn get(name: &str, key: &str, path: Option<&OsStr>) -> Result<Option<Credential>> {
    let output = run(name, "get", key.as_bytes(), path)?;
    if !output.status.success() {
        if output.says(NOT_FOUND) {
            return Ok(None);
        }
        return Err(output.refusal(name, "get"));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| {
        Error::new(format!(
            "`docker-credential-{name} get` did not print a credential"
        ))
    })?;
    Ok(match (answer.username.as_str(), answer.secret.as_str()) {
        (_, "") => None,
        ("<token>", token) => Some(Credential::IdentityToken(Secret::new(token))),
        (username, secret) => Some(Credential::Password {
            username: username.to_owned(),
            password: Secret::new(secret),
        }),
    })
}

/// Gives a helper a user's password to keep.
pub(super) fn store(
    name: &str,
    key: &str,
    username: &str,
    password: &Secret,
    path: Option<&OsStr>,
) -> Result<()> {
    let entry = Entry {
        server: key,
        username,
        secret: password.expose(),
    };
    let input = serde_json::to_vec(&entry).expect("three strings can be written as JSON");
    let output = run(name, "store", &input, path)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(output.refusal(name, "store"))
    }
}

/// Makes a helper forget a registry's credential; tells whether it had one.
pub(super) fn erase(name: &str, key: &str, path: Option<&OsStr>) -> Result<bool> {
    let output = run(name, "erase", key.as_bytes(), path)?;
    if output.status.success() {
        return Ok(true);
    }
    if output.says(NOT_FOUND) {
        return Ok(false);
    }
    Err(output.refusal(name, "erase"))
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn says(&self, text: &str) -> bool {
        [&self.stdout, &self.stderr]
            .iter()
            .any(|out| String::from_utf8_lossy(out).contains(text))
    }

    /// By protocol, a helper that ends badly has printed its reason and no secret.
    fn refusal(&self, name: &str, verb: &str) -> Error {
        let text = [&self.stderr, &self.stdout]
            .iter()
            .map(|out| String::from_utf8_lossy(out).trim().to_owned())
            .find(|text| !text.is_empty())
            .unwrap_or_else(|| self.status.to_string());
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        Error::new(format!("`docker-credential-{name} {verb}`"))
            .source(line.escape_debug().to_string())
    }
}

fn run(name: &str, verb: &'static str, input: &[u8], path: Option<&OsStr>) -> Result<Output> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(Error::new(format!(
            "invalid credential helper name `{}`",
            name.escape_debug()
        )));
    }
    let program = format!("docker-credential-{name}");
    let mut command = Command::new(&program);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            let missing = e.kind() == io::ErrorKind::NotFound;
            let error = Error::new(format!("run credential helper `{program}`")).source(e);
            if missing {
                error.kind(Kind::NotFound)
            } else {
                error
            }
        })?;
    // A helper that does not read its input has its own reasons; its status tells.
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all(input).and_then(|()| stdin.write_all(b"\n")));
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, &program)?;
    Ok(Output {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            drop(pipe.take(LIMIT).read_to_end(&mut bytes));
        }
        bytes
    })
}

fn wait(child: &mut Child, program: &str) -> Result<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                let seconds = PATIENCE.as_secs();
                return Err(Error::new(format!(
                    "credential helper `{program}` did not answer within {seconds} s"
                )));
            }
            Err(e) => {
                return Err(
                    Error::new(format!("wait for credential helper `{program}`")).source(e),
                );
            }
        }
    }
}
