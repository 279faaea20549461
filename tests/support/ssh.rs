//! Ssh agents, keys and servers of a world's account.
//!
//! Responsible for starting them and for making keys. Must not touch anybody's own, nor be reachable from
//! elsewhere. Invariant: an agent and a server end with their values.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::World;
use crate::process::{Running, find};

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    _running: Running,
}

impl Agent {
    /// Starts an agent with a key that has `comment`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(world: &World, comment: &str) -> Self {
        let key = key(world, comment, "");
        let socket = world.short_directory().join(comment);
        let running = world
            .command("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .spawn();
        for _ in 0..500 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let agent = Self {
            socket,
            _running: running,
        };
        let add = world.command("ssh-add").env("SSH_AUTH_SOCK", &agent.socket);
        add.arg("-q").arg(key).ok();
        agent
    }

    /// Returns its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns what it lists.
    pub fn list(&self, world: &World) -> String {
        let list = world.command("ssh-add").env("SSH_AUTH_SOCK", &self.socket);
        String::from_utf8_lossy(&list.arg("-l").ok().stdout).into_owned()
    }
}

/// Makes a key in the file of that name.
///
/// # Panics
/// When it can't be made.
pub fn key(world: &World, name: &str, passphrase: &str) -> PathBuf {
    let path = world.path(name);
    let make = world
        .command("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase]);
    make.args(["-C", name, "-f"]).arg(&path).ok();
    path
}

/// An ssh server on loopback, for the world's account only, and repositories that it gives.
#[derive(Debug)]
pub struct Server {
    port: u16,
    host_key: PathBuf,
    repositories: PathBuf,
    user: String,
    _running: Running,
}

impl Server {
    /// Starts a server that lets in who has the key in `allowed`, a public key's file.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(world: &World, allowed: &Path) -> Self {
        let host_key = key(world, "host_key", "");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let lines = [
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("HostKey {}", host_key.display()),
            format!("AuthorizedKeysFile {}", allowed.display()),
            // What is above the test's directory is not the account's.
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "PidFile none".to_owned(),
        ];
        let config = world.write("sshd_config", lines.join("\n") + "\n");
        // It starts itself again, by its path.
        let program = find("sshd").expect("the test has looked");
        let running = world
            .command(program)
            .args(["-D", "-e", "-f"])
            .arg(config)
            .spawn();
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            port,
            host_key,
            repositories: world.make_dir("repositories"),
            user: world.account.name.clone(),
            _running: running,
        }
    }

    /// Makes a repository with one file.
    pub fn repository(&self, world: &World, name: &str, file: &str, text: &str) {
        let dir = self.repositories.join(name);
        let git = |arguments: &[&str]| {
            let command = world.command("git").arg("-C").arg(&dir).args(arguments);
            let command = ["AUTHOR", "COMMITTER"]
                .iter()
                .fold(command, |command, who| {
                    let set = command.env(&format!("GIT_{who}_NAME"), "test");
                    set.env(&format!("GIT_{who}_EMAIL"), "test@localhost")
                });
            drop(command.ok());
        };
        world.command("mkdir").arg(&dir).ok();
        git(&["init", "--quiet"]);
        world.write(&format!("repositories/{name}/{file}"), text);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message=first"]);
    }

    /// Returns the address of a repository.
    pub fn url(&self, name: &str) -> String {
        let (user, port) = (&self.user, self.port);
        let path = self.repositories.join(name);
        format!("ssh://{user}@127.0.0.1:{port}{}", path.display())
    }

    /// Returns the line by which ssh knows the server.
    ///
    /// # Panics
    /// When the key is not there.
    pub fn known(&self) -> String {
        let key = std::fs::read_to_string(self.host_key.with_extension("pub")).expect("a key");
        format!("[127.0.0.1]:{} {key}", self.port)
    }
}
