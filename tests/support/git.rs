//! Git repositories on loopback, for ADD and contexts.
//!
//! Responsible for making repositories and for serving them by git's own protocol. Must not be
//! reachable from elsewhere. Invariant: the server ends with its value.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::scratch;

/// Repositories below a directory, and the server that has them.
#[derive(Debug)]
pub struct Server {
    base: PathBuf,
    port: u16,
    daemon: Child,
}

impl Server {
    /// Serves what is below a directory; `None` when there is no git.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn start(base: &Path) -> Option<Self> {
        let output = Command::new("git").arg("--exec-path").output().ok()?;
        // Not `git daemon`: that is a parent, after whose end the daemon goes on.
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let program = Path::new(&directory).join("git-daemon");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        std::fs::create_dir_all(base).expect("a directory");
        let daemon = prepared(Command::new(program), base)
            .args(["--reuseaddr", "--listen=127.0.0.1", "--export-all"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git-daemon");
        scratch::end_with_us(daemon.id());
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            base: base.to_owned(),
            port,
            daemon,
        })
    }

    /// Returns the address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// Returns the directory of a repository.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Runs git in a repository, which is made when it is missing; returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn git(&self, name: &str, arguments: &[&str]) -> String {
        let dir = self.dir(name);
        if !dir.exists() {
            std::fs::create_dir_all(&dir).expect("a directory");
            self.git(name, &["init", "--quiet", "--initial-branch=main"]);
        }
        let output = command(&dir).args(arguments).output().expect("git");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes files and commits them; returns the commit.
    ///
    /// # Panics
    /// When the files can't be written.
    pub fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let dir = self.dir(name);
        self.git(name, &["status"]);
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        self.git(name, &["add", "--all"]);
        self.git(
            name,
            &["commit", "--quiet", "--allow-empty", "--message=change"],
        );
        self.git(name, &["rev-parse", "HEAD"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// Prepares git with an identity and a date of its own, and without anybody's configuration.
fn command(dir: &Path) -> Command {
    prepared(Command::new("git"), dir)
}

fn prepared(mut command: Command, dir: &Path) -> Command {
    command
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "test")
        .env("GIT_AUTHOR_EMAIL", "test@localhost")
        .env("GIT_COMMITTER_NAME", "test")
        .env("GIT_COMMITTER_EMAIL", "test@localhost")
        .env("GIT_AUTHOR_DATE", "1600000000 +0000")
        .env("GIT_COMMITTER_DATE", "1600000000 +0000")
        .env("GIT_ALLOW_PROTOCOL", "git:file");
    command
}
