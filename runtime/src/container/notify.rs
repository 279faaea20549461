//! What a container's program says about itself to a service manager, sd_notify(3).
//!
//! Responsible for a socket of the container's own and for passing on that the program is ready.
//! Must not pass on anything else: what a program in a container writes must not make it, or
//! another process, the service's main process, nor store descriptors with the manager. Invariant:
//! the container sees a directory that holds the socket alone, read-only.
//!
//! Paths and messages are those of runc 1.1 (`notify_socket.go`), which waits in `start` and in a
//! detached `run` until the program is ready.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use crate::error::{Error, Result, ResultExt};
use crate::spec::{Mount, Spec};
use crate::state::Dir;

/// Where the directory is in the container.
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Longest message, as systemd 252 reads it (`NOTIFY_BUFFER_MAX`).
const LONGEST: usize = 4096;
/// How long the manager may take to read that the program is ready, as with runc 1.1.
const PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// A socket that the container's program can write to.
#[derive(Debug)]
pub(super) struct Notify {
    socket: OwnedFd,
    /// The manager's.
    manager: PathBuf,
}

/// Makes the directory of the socket, and puts it and its name into a container's configuration.
pub(super) fn prepare(dir: &Dir, spec: &mut Spec) -> Result<()> {
    let source = dir.make_notify()?;
    let source = source.to_str().ok_or_else(|| {
        let error = Error::new("make notify socket").path(&source);
        error.cause("the path is no text".to_owned())
    })?;
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_owned(),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"]
            .map(str::to_owned)
            .into(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        let own = format!("{VARIABLE}=");
        process.env.retain(|entry| !entry.starts_with(&own));
        process.env.push(format!("{own}{INSIDE}/{SOCKET}"));
    }
    Ok(())
}

impl Notify {
    /// Opens the container's socket; `None` when it was made without.
    pub(super) fn listen(dir: &Dir, manager: &Path) -> Result<Option<Self>> {
        const OP: &str = "make notify socket";
        let Some(own) = dir.notify()? else {
            return Ok(None);
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = rustix::net::socket_with(family, kind, flags, None).op(OP)?;
        match rustix::fs::unlinkat(&own, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).op(OP),
        }
        // By its directory's handle, so that a path of any length will do.
        let path = format!("/proc/self/fd/{}/{SOCKET}", own.as_raw_fd());
        let address = SocketAddrUnix::new(path).op(OP)?;
        rustix::net::bind(&socket, &address).op(OP)?;
        // The program may be any user. Nobody else writes here before it runs.
        let mode = Mode::from_raw_mode(0o777);
        rustix::fs::chmodat(&own, SOCKET, mode, AtFlags::empty()).op(OP)?;
        Ok(Some(Self {
            socket,
            manager: manager.to_path_buf(),
        }))
    }

    /// Waits until the program is ready, or has ended. `pid` is what the manager then takes for
    /// the service's main process.
    pub(super) fn wait(&self, process: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(process, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))
                .op("wait for readiness")?;
            let ended = !fds[1].revents().is_empty();
            if self.is_ready() {
                let link = self.tell(pid)?;
                return settle(&link);
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Passes on what has come, while this process stays and is the main process itself.
    pub(super) fn pass(&self) {
        if self.is_ready() {
            // A manager that has gone away must not disturb the program.
            drop(self.tell(rustix::process::getpid().as_raw_pid()));
        }
    }

    /// Whether one of the messages that have come says that the program is ready. Descriptors that
    /// come with one are closed by the kernel, as there is no room for them (unix(7)).
    fn is_ready(&self) -> bool {
        let mut buffer = [0; LONGEST];
        let mut ready = false;
        while let Ok((_, read)) = rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            let text = buffer.get(..read).unwrap_or_default();
            ready |= says_ready(text);
        }
        ready
    }

    fn tell(&self, pid: i32) -> Result<OwnedFd> {
        const OP: &str = "notify manager";
        let bytes = self.manager.as_os_str().as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(&self.manager),
        };
        let address = address.op_path(OP, &self.manager)?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let link = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).op(OP)?;
        rustix::net::connect(&link, &address).op_path(OP, &self.manager)?;
        for text in ["READY=1\n".to_owned(), format!("MAINPID={pid}\n")] {
            let send = || rustix::net::send(&link, text.as_bytes(), SendFlags::NOSIGNAL);
            rustix::io::retry_on_intr(send).op_path(OP, &self.manager)?;
        }
        Ok(link)
    }
}

/// Waits until the manager has read everything: it can tell whose a message is only while the
/// sender lives, sd_notify_barrier(3).
fn settle(link: &OwnedFd) -> Result<()> {
    const OP: &str = "wait for manager";
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).op(OP)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [theirs.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let text = [IoSlice::new(b"BARRIER=1")];
    rustix::net::sendmsg(link, &text, &mut control, SendFlags::NOSIGNAL).op(OP)?;
    drop(theirs);
    let mut fds = [PollFd::new(&ours, PollFlags::empty())];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&PATIENCE))).op(OP)?;
    Ok(())
}

fn says_ready(message: &[u8]) -> bool {
    let mut lines = message.split(|byte| *byte == b'\n');
    lines.any(|line| line == b"READY=1")
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Process;
    use crate::state::{Id, Record, Root};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn only_readiness_is_passed_on() {
        let place = tempfile::tempdir().expect("temporary directory");
        let root = Root::make(&place.path().join("state")).expect("root");
        let id = Id::new("x").expect("id");
        let record = Record::new(id.clone(), "/b".into(), "/b/r".into()).expect("record");
        let (dir, _lock) = root.create(&record, b"{}").expect("create");
        let manager = place.path().join("manager");
        let received = UnixDatagram::bind(&manager).expect("bind");
        let none = Notify::listen(&dir, &manager).expect("listen");
        assert!(none.is_none(), "made without");

        let mut spec = Spec {
            process: Some(Process {
                env: vec!["NOTIFY_SOCKET=/other".to_owned(), "A=b".to_owned()],
                ..Process::default()
            }),
            ..Spec::default()
        };
        prepare(&dir, &mut spec).expect("prepare");
        let process = spec.process.expect("a process");
        assert_eq!(
            process.env,
            ["A=b", "NOTIFY_SOCKET=/run/notify/notify.sock"]
        );
        let inside = PathBuf::from(&spec.mounts[0].source).join(SOCKET);
        let notify = Notify::listen(&dir, &manager).expect("listen");
        let notify = notify.expect("made with it");
        let program = UnixDatagram::unbound().expect("socket");
        let say = |text: &str| {
            program.send_to(text.as_bytes(), &inside).expect("send");
            notify.pass();
        };
        received.set_nonblocking(true).expect("set");
        say("MAINPID=1\nREADY=0");
        say("FDSTORE=1");
        let mut buffer = [0; 64];
        let mut hear = || {
            let read = received.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
        };
        assert_eq!(hear(), None);
        say("STATUS=up\nREADY=1\nMAINPID=1");
        assert_eq!(hear().as_deref(), Some("READY=1\n"));
        let own = format!("MAINPID={}\n", std::process::id());
        assert_eq!(hear(), Some(own));
        assert_eq!(hear(), None);
        // Another listener takes the place, and all of it can be removed.
        Notify::listen(&dir, &manager).expect("listen").expect("it");
        root.remove(&id, &dir).expect("remove");
        assert!(root.find(&id).expect("find").is_none());
    }
}
