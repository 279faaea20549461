//! Names of sockets that are short enough.
//!
//! Responsible for paths that fit into a socket's address, which holds 108 bytes (unix(7)), however
//! long a directory's own path is. Must not make or remove anything.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The longest path that is used as it is, with some room.
const LONGEST: usize = 100;

/// A directory whose entries can be named briefly as long as this lives.
#[derive(Debug)]
pub(super) struct Short(OwnedFd);

impl Short {
    pub(super) fn open(dir: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(dir, flags, Mode::empty()).map(Self)
    }

    /// Names an entry, for this process and for others of the same user.
    pub(super) fn name(&self, name: impl AsRef<Path>) -> PathBuf {
        let fd = self.0.as_raw_fd();
        let dir = format!("/proc/{}/fd/{fd}", std::process::id());
        Path::new(&dir).join(name)
    }
}

/// Connects to a socket.
pub(super) fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    match (socket.parent(), socket.file_name()) {
        (Some(dir), Some(name)) if socket.as_os_str().len() > LONGEST => {
            UnixStream::connect(Short::open(dir)?.name(name))
        }
        _ => UnixStream::connect(socket),
    }
}
