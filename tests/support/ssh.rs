//! Ssh agents and keys of a world's account.
//!
//! Responsible for starting an agent and for making keys. Must not touch anybody's own. Invariant: an
//! agent ends with its value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::World;
use crate::process::Running;

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
