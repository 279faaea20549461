//! Messages between the main process, the spawner and its jobs.
//!
//! Responsible for one message as one packet of a `SOCK_SEQPACKET` pair, with descriptors
//! (unix(7), `SCM_RIGHTS`). Must not know what bodies mean. Invariant: a body of any size goes
//! through; one that does not fit a packet travels as a sealed memory file.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Error, Result, ResultExt};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Main to spawner: the identity to enter, before the first job.
    Configure = 1,
    /// Main to spawner: a job; the first descriptor is its reply socket.
    Submit = 2,
    /// Main to spawner, on the reply socket: a signal number for the job.
    Signal = 3,
    /// Job to main: the handler's bytes.
    Reply = 4,
    /// Job or spawner to main: an [`Error`], as JSON.
    Failed = 5,
    /// Spawner to main: the job is gone; its wait status, as JSON.
    Ended = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Configure,
            Self::Submit,
            Self::Signal,
            Self::Reply,
            Self::Failed,
            Self::Ended,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A received packet.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// The largest body that travels inside the packet, in bytes.
const INLINE: usize = 32 * 1024;

/// The kernel's limit on descriptors in one packet (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// How many descriptors a job may be given; the reply socket and the body need one each.
pub(super) const MAX_JOB_FDS: usize = MAX_FDS - 2;

/// Makes a connected pair.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .op("create socket pair")
}

/// Sends one message. The descriptors are duplicated by the kernel.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    kind: Kind,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<()> {
    let memory;
    let mut all = Vec::with_capacity(fds.len() + 1);
    let (outside, inline) = if body.len() > INLINE {
        memory = memory_file(body)?;
        all.push(memory.as_fd());
        (1, &[][..])
    } else {
        (0, body)
    };
    all.extend_from_slice(fds);
    if all.len() > MAX_FDS {
        return Err(Error::new("too many descriptors for one job"));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !all.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&all)) {
        return Err(Error::new("too many descriptors for one job"));
    }
    let head = [kind as u8, outside];
    let parts = [IoSlice::new(&head), IoSlice::new(inline)];
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)
    });
    sent.map(drop).op("send message")
}

/// Receives one message; `None` when the other side is closed.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Message>> {
    let mut buffer = vec![0; INLINE + 2];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        Err(Errno::CONNRESET) => return Ok(None),
        other => other.op("receive message")?,
    };
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(
            Error::new("receive message: descriptors or bytes were lost")
                .hint("raise the limit on open files (`ulimit -n`)"),
        );
    }
    buffer.truncate(received.bytes);
    let (Some(kind), Some(&outside)) = (
        buffer.first().copied().and_then(Kind::from_byte),
        buffer.get(1),
    ) else {
        return Err(Error::new("receive message: unknown kind"));
    };
    let body = if outside == 1 && !fds.is_empty() {
        read_memory_file(fds.remove(0))?
    } else {
        buffer.split_off(2)
    };
    Ok(Some(Message { kind, body, fds }))
}

fn memory_file(body: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("sandcrab-message", flags).op("create memory file")?;
    let mut file = File::from(fd);
    file.write_all(body).op("write memory file")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).op("seal memory file")?;
    Ok(file.into())
}

fn read_memory_file(fd: OwnedFd) -> Result<Vec<u8>> {
    let mut file = File::from(fd);
    let mut body = Vec::new();
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).op("read memory file")?;
    file.read_to_end(&mut body).op("read memory file")?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_any_size_and_descriptors_arrive() {
        let (a, b) = pair().expect("pair");
        let file = tempfile::tempfile().expect("temporary file");
        for size in [0, 1, INLINE, INLINE + 1, 3 << 20] {
            let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            send(a.as_fd(), Kind::Submit, &body, &[file.as_fd(), a.as_fd()]).expect("send");
            let message = receive(b.as_fd()).expect("receive").expect("a message");
            assert_eq!(message.kind, Kind::Submit);
            assert_eq!(message.body, body);
            assert_eq!(message.fds.len(), 2);
        }
        drop(a);
        assert!(receive(b.as_fd()).expect("receive").is_none());
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (a, _b) = pair().expect("pair");
        let fds = vec![a.as_fd(); MAX_FDS + 1];
        assert!(send(a.as_fd(), Kind::Submit, &[], &fds).is_err());
    }
}
