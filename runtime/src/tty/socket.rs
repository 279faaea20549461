//! The socket that a caller waits on for a container's terminal (`--console-socket`).
//!
//! Responsible for one message: the descriptor (`SCM_RIGHTS`), with its name as the text, as
//! runc's `docs/terminals.md` has it. Must not know who listens. Invariant: a path of any length
//! will do.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg, socket_with,
};

use crate::error::{Error, Result, ResultExt};

/// Connects to the socket.
///
/// # Errors
/// It is not there or nobody listens.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    const OP: &str = "connect to console socket";
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .op(OP)?;
    // An address holds 107 bytes, unix(7); a longer path goes by way of its directory.
    let mut short: PathBuf = path.to_path_buf();
    let mut _dir: Option<OwnedFd> = None;
    if SocketAddrUnix::new(path) == Err(Errno::NAMETOOLONG)
        && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
    {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty()).op_path(OP, path)?;
        short = format!("/proc/self/fd/{}", dir.as_raw_fd()).into();
        short.push(name);
        _dir = Some(dir);
    }
    let address = SocketAddrUnix::new(&short).op_path(OP, path)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address)).op_path(OP, path)?;
    Ok(socket)
}

/// Sends a terminal's master and its name.
///
/// # Errors
/// The other end is gone.
pub fn send(socket: BorrowedFd<'_>, name: &str, master: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Error::new("send terminal").cause(Errno::NOBUFS));
    }
    let text = [IoSlice::new(name.as_bytes())];
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(socket, &text, &mut control, SendFlags::NOSIGNAL))
            .op("send terminal")?;
    if sent == name.len() {
        Ok(())
    } else {
        Err(Error::new("send terminal").cause(Errno::IO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    fn pass(dir: &Path) {
        let path = dir.join("socket");
        // The listener has the same trouble with a long path.
        let listener = {
            let handle = std::fs::File::open(dir).expect("open directory");
            UnixListener::bind(format!("/proc/self/fd/{}/socket", handle.as_raw_fd()))
        }
        .expect("bind");
        let socket = connect(&path).expect("connect");
        let (theirs, _) = listener.accept().expect("accept");
        let file = std::fs::File::open("/dev/null").expect("open");
        send(socket.as_fd(), "/dev/pts/7", file.as_fd()).expect("send");

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 64];
        let received = recvmsg(
            &theirs,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("receive");
        assert_eq!(&text[..received.bytes], b"/dev/pts/7");
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|m| match m {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn the_descriptor_arrives_with_its_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        pass(dir.path());
        let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&deep).expect("mkdir");
        pass(&deep);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let error = connect(Path::new("/no/such/socket")).expect_err("no socket");
        assert_eq!(
            error.to_string(),
            "connect to console socket `/no/such/socket`"
        );
    }
}
