//! What the command line decides about a container, besides its configuration.
//!
//! Responsible for the shape only. Must not read anything.

use std::path::PathBuf;

use crate::cgroup::Driver;
use crate::process::task::Inherited;
use crate::state::Id;

/// What `create` and `run` are told.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The container's name.
    pub id: Id,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The bytes of its `config.json`: read once, so that nobody changes them in between.
    pub config: Vec<u8>,
    /// Where the number of the first process is written.
    pub pid_file: Option<PathBuf>,
    /// Where the outer side of the first process's terminal is sent.
    pub console_socket: Option<PathBuf>,
    /// Where a descriptor of the first process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Who makes the control group.
    pub driver: Driver,
    /// Address of the bus where systemd answers; none is the system's.
    pub bus: Option<String>,
    /// Whether a control group that can't be made or limited is no error.
    pub rootless: bool,
    /// What the first process gets from the caller.
    pub inherited: Inherited,
    /// Where a service manager waits for the program to be ready (`NOTIFY_SOCKET`, sd_notify(3)).
    pub notify_socket: Option<PathBuf>,
    /// Whether the root is moved instead of pivoted.
    pub no_pivot: bool,
}
