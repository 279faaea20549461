//! Ssh agents: the caller's, or one that holds some of the caller's keys.
//!
//! Responsible for the agents' sockets by id and for what stands before them. Must not know keys nor
//! read the environment. Invariant: a step never gets an agent's own socket.

mod filter;
mod keys;
mod proxy;
mod short;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use keys::KeyAgent;
pub(in crate::build) use proxy::{Proxy, SOCKET};

/// The id of a mount that names none, and of the agent by which repositories are fetched.
pub const DEFAULT: &str = "default";

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its socket.
    pub socket: PathBuf,
    /// Whether what a step says to it is passed on unread, since it may be no ssh agent at all.
    pub raw: bool,
}

/// Agents by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agents(BTreeMap<String, Agent>);

impl Agents {
    /// Adds an agent; a later one of the same id replaces it.
    pub fn add(&mut self, id: String, agent: Agent) {
        self.0.insert(id, agent);
    }

    /// Returns an agent.
    pub fn get(&self, id: &str) -> Option<&Agent> {
        self.0.get(id)
    }

    /// Returns the ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the socket of the agent by which repositories are fetched.
    pub fn for_git(&self) -> Option<&Path> {
        self.get(DEFAULT).map(|agent| agent.socket.as_path())
    }
}
