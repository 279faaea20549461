//! Messages between the process that makes a container and the container's own.
//!
//! Responsible for one message as one packet of a `SOCK_SEQPACKET` pair (unix(7)): a number, then a
//! body. Must not know when which is due. Invariant: descriptors travel only where a message says
//! so, and an end that is gone is told from one that is silent.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Error, Result, ResultExt};
use crate::sys;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To the container: ids are mapped and the control group is entered.
    Go = 1,
    /// To the container: the runtime's hooks have run.
    HooksDone = 2,
    /// To the container: wait for `start`.
    Wait = 3,
    /// To the container: execute the program.
    Execute = 4,
    /// From the stage: the process number of the container's process.
    Pid = 10,
    /// From the container: the namespaces are there, the root is not changed yet.
    Hooks = 11,
    /// From the container: all is done but the program's execution.
    Ready = 12,
    /// From the container: something that the user should know.
    Warning = 13,
    /// From the container, with a descriptor: the listener of its filter.
    Listener = 14,
    /// From the container: it ends, and why.
    Failed = 15,
    /// From the container, with a descriptor: the outer side of its terminal. Its name inside.
    Terminal = 16,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Go,
            Self::HooksDone,
            Self::Wait,
            Self::Execute,
            Self::Pid,
            Self::Hooks,
            Self::Ready,
            Self::Warning,
            Self::Listener,
            Self::Failed,
            Self::Terminal,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A message that came.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    pub(crate) fd: Option<OwnedFd>,
}

/// Longest body; errors and warnings are cut to it.
const LONGEST: usize = 16 * 1024;

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Makes both ends.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .op("create socket pair")?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a message. A plain write(2), which nearly every filter of system calls allows.
    pub(crate) fn send(&self, kind: Kind, body: &[u8]) -> Result<()> {
        let body = body.get(..LONGEST).unwrap_or(body);
        let mut packet = Vec::with_capacity(body.len() + 1);
        packet.push(kind as u8);
        packet.extend_from_slice(body);
        let sent = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &packet));
        sent.map(drop).op("send message")
    }

    /// Sends a message with a descriptor.
    pub(crate) fn send_fd(&self, kind: Kind, body: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let head = [kind as u8];
        let parts = [IoSlice::new(&head), IoSlice::new(body)];
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL)
        });
        sent.map(drop).op("send descriptor")
    }

    /// Sends a message with a descriptor that another process, which shares the table of
    /// descriptors, owns.
    pub(crate) fn send_number(&self, kind: Kind, number: RawFd) -> Result<()> {
        // SAFETY: the number is open, as the caller has seen, and stays so: the process that owns
        // it waits for this one's end.
        #[expect(unsafe_code, reason = "part of the clone site")]
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        self.send_fd(kind, &[], fd)
    }

    /// Waits for a message; `None` when the other end is gone.
    pub(crate) fn receive(&self) -> Result<Option<Message>> {
        const OP: &str = "receive message";
        let mut buffer = vec![0; LONGEST + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let length = match received {
            Err(Errno::CONNRESET) => return Ok(None),
            other => other.op(OP)?.bytes,
        };
        let fd = ancillary.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        buffer.truncate(length);
        let Some((first, body)) = buffer.split_first() else {
            return Ok(None);
        };
        let kind = Kind::from_byte(*first)
            .ok_or_else(|| Error::new(OP).cause("its kind is unknown".to_owned()))?;
        Ok(Some(Message {
            kind,
            body: body.to_vec(),
            fd,
        }))
    }

    /// Waits for one kind of message, in the container, and returns its body. Another, or none, means that the other
    /// end has given up.
    pub(crate) fn expect(&self, kind: Kind) -> Result<Vec<u8>> {
        match self.receive()? {
            Some(message) if message.kind == kind => Ok(message.body),
            _ => Err(Error::new("the process that makes the container is gone")),
        }
    }

    /// Closes this end for good.
    pub(crate) fn close(&self) {
        // SAFETY: the process that waits for `start` uses the channel no more and never runs a
        // destructor.
        #[expect(unsafe_code, reason = "part of the clone site")]
        let closed = unsafe { sys::close_fd(&self.0) };
        // Nothing is left to do about one that can't be closed: execve(2) closes it.
        let _: rustix::io::Result<()> = closed;
    }

    /// Says that the container's process ends.
    pub(crate) fn fail(&self, error: &Error) {
        let body = serde_json::to_vec(error).unwrap_or_default();
        // Nobody is left to tell when this can't be sent.
        drop(self.send(Kind::Failed, &body));
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads the body of [`Kind::Failed`].
pub(crate) fn failure(body: &[u8]) -> Error {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Error::new("make container: the process's report is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (a, b) = Channel::pair().expect("pair");
        a.send(Kind::Warning, b"text").expect("send");
        a.send_fd(Kind::Listener, b"z", a.as_fd()).expect("send");
        a.fail(&Error::new("x").path("/y"));
        let message = b.receive().expect("receive").expect("a message");
        assert_eq!(
            (message.kind, &*message.body),
            (Kind::Warning, &b"text"[..])
        );
        assert!(message.fd.is_none());
        let message = b.receive().expect("receive").expect("a message");
        assert!(message.kind == Kind::Listener && message.fd.is_some());
        // A duplicate of the end that is to be closed.
        drop(message);
        let message = b.receive().expect("receive").expect("a message");
        assert_eq!(failure(&message.body), Error::new("x").path("/y"));
        drop(a);
        assert!(b.expect(Kind::Go).is_err());
    }
}
