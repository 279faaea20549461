//! Handing a filter's notifications to an agent outside.
//!
//! Responsible for the message that goes to `listenerPath` (config-linux.md, "Seccomp"; the
//! container process state of the same section). Must not decide on calls. Invariant: the agent
//! gets one document and one descriptor, in the same message.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, send, sendmsg, socket_with,
};
use serde::Serialize;

use crate::error::{Error, Result, ResultExt};

/// `ContainerProcessState` of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a, S> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a S,
}

/// Writes the document that goes with the listener: `pid` is the process that has the filter, as
/// the agent sees it, `state` the container's state document.
pub fn container_process_state(
    oci_version: &str,
    pid: i32,
    metadata: &str,
    state: &impl Serialize,
) -> Result<Vec<u8>> {
    let document = ContainerProcessState {
        oci_version,
        fds: ["seccompFd"],
        pid,
        metadata,
        state,
    };
    serde_json::to_vec(&document)
        .map_err(|e| Error::new("write container process state").cause(e.to_string()))
}

/// Sends the listener with its document to the agent's socket.
pub fn send_listener(path: &Path, state: &[u8], listener: BorrowedFd<'_>) -> Result<()> {
    let op = "send seccomp listener";
    let address = SocketAddrUnix::new(path).op_path(op, path)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .op_path(op, path)?;
    connect(&socket, &address).op_path(op, path)?;

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Error::new(op).path(path).cause(Errno::NOBUFS));
    }
    let flags = SendFlags::NOSIGNAL;
    let data = [IoSlice::new(state)];
    let mut sent = sendmsg(&socket, &data, &mut control, flags).op_path(op, path)?;
    while sent < state.len() {
        sent += send(socket.as_fd(), &state[sent..], flags).op_path(op, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_agent_gets_the_document_and_the_descriptor() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("agent");
        let agent = UnixListener::bind(&path).expect("bind");
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let state = serde_json::json!({"id": "x", "status": "creating"});
        let document = container_process_state("1.3.0", 42, "", &state).expect("a document");

        send_listener(&path, &document, writer.as_fd()).expect("send");
        drop(writer);
        let (stream, _) = agent.accept().expect("accept");
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&stream, &mut data, &mut control, flags).expect("receive");
        let mut fds: Vec<_> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(fds.len(), 1);
        let mut file = std::fs::File::from(fds.remove(0));
        file.write_all(b"same").expect("write");
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "same");
        let document: serde_json::Value =
            serde_json::from_slice(&bytes[..got.bytes]).expect("JSON");
        assert_eq!(
            document,
            serde_json::json!({
                "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 42, "state": state,
            })
        );
    }

    #[test]
    fn an_agent_that_is_not_there_is_an_error_with_its_path() {
        let (_reader, writer) = std::io::pipe().expect("pipe");
        let error = send_listener(Path::new("/nonexistent/agent"), b"{}", writer.as_fd())
            .expect_err("no agent");
        assert_eq!(
            error.to_string(),
            "send seccomp listener `/nonexistent/agent`"
        );
    }
}
