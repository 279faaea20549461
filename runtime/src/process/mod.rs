//! How a process of a container comes to be.
//!
//! Responsible for everything between a prepared plan and execve(2). Must not know of state
//! directories or verbs. Invariant: what can fail before the program runs is told to the process
//! that asked, with its name.

pub(crate) mod exec;
pub(crate) mod ids;
pub(crate) mod init;
pub(crate) mod payload;
pub(crate) mod program;
pub(crate) mod protocol;
pub(crate) mod seal;
pub(crate) mod start;
pub(crate) mod task;
