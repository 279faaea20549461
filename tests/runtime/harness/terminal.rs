//! The other end of a container's terminal, and of other sockets that get a descriptor.
//!
//! Responsible for receiving what a runtime sends. Must not start anything.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use support::World;

/// A socket for `--console-socket`.
pub(crate) struct ConsoleSocket {
    /// Where it is.
    pub(crate) path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Makes one with a short path: it has at most 107 bytes.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let path = world.short_directory().join(name);
        std::fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path).expect("make a socket");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("open it");
        Self { path, listener }
    }

    /// The path as an argument.
    pub(crate) fn argument(&self) -> &str {
        self.path.to_str().expect("tests use plain names")
    }

    /// Waits for a connection, and returns the bytes and the descriptor that came.
    pub(crate) fn receive(&self) -> (Vec<u8>, OwnedFd) {
        receive_descriptor(&self.accept())
    }

    /// Waits for a connection.
    pub(crate) fn accept(&self) -> UnixStream {
        assert!(
            readable(&self.listener, 20),
            "nobody connected to {}",
            self.path.display()
        );
        self.listener.accept().expect("accept").0
    }

    /// Waits for a terminal.
    pub(crate) fn terminal(&self) -> Terminal {
        Terminal::new(self.receive().1)
    }
}

fn readable(file: &impl std::os::fd::AsFd, seconds: i64) -> bool {
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&limit)).expect("poll") > 0
}

/// Receives one message with one descriptor.
pub(crate) fn receive_descriptor(stream: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut bytes = vec![0; 65536];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    assert!(readable(stream, 20), "no message came");
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("receive a message");
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    assert_eq!(descriptors.len(), 1, "descriptors in the message");
    bytes.truncate(received.bytes);
    (bytes, descriptors.remove(0))
}

/// The master of a container's terminal.
pub(crate) struct Terminal {
    master: File,
    /// What was read so far.
    pub(crate) text: String,
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self {
            master: File::from(master),
            text: String::new(),
        }
    }

    /// The descriptor.
    pub(crate) fn master(&self) -> &File {
        &self.master
    }

    /// Types.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("write to a terminal");
    }

    /// Reads until this was printed.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.text.contains(text) {
            assert!(
                Instant::now() < deadline,
                "never printed {text:?}: {:?}",
                self.text
            );
            if !self.read() {
                assert!(
                    self.text.contains(text),
                    "ended without {text:?}: {:?}",
                    self.text
                );
            }
        }
    }

    /// Reads to the end, which is when no process has the terminal any more.
    pub(crate) fn read_all(&mut self) -> &str {
        while self.read() {}
        &self.text
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        assert!(
            readable(&self.master, 20),
            "the terminal is silent: {:?}",
            self.text
        );
        // EIO is the end of a terminal.
        match self.master.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.text
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
                true
            }
            _ => false,
        }
    }
}

/// Runs a command on a terminal of the tests, by util-linux's `script`.
pub(crate) fn on_terminal(world: &World, command: &str) -> support::Command {
    world
        .command("script")
        .args(["--quiet", "--return", "--command", command])
        .arg(Path::new("/dev/null"))
}
