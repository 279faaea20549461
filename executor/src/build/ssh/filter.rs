//! What passes between a step and an agent.
//!
//! Responsible for the agent protocol's framing (draft-ietf-sshm-ssh-agent) and for which requests are
//! passed on. Must not know whose connections these are. Invariant: a step can have keys listed and
//! things signed, and nothing else: whatever it asks besides is answered with a failure and never
//! reaches the agent. Memory is that of one message.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

// Messages (section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// The longest message, as in OpenSSH's agent.
const LONGEST: u32 = 256 * 1024;

/// Serves a connection until either end has had enough.
pub(super) fn filter(step: &UnixStream, agent: &UnixStream) -> io::Result<()> {
    loop {
        let request = read(step)?;
        let reply = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                write(agent, &request)?;
                read(agent)?
            }
            _ => vec![FAILURE],
        };
        write(step, &reply)?;
    }
}

/// Passes on everything, both ways, until both ends have had enough.
pub(super) fn relay(step: &UnixStream, agent: &UnixStream) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new();
        thread.spawn_scoped(scope, || pump(step, agent))?;
        pump(agent, step);
        Ok(())
    })
}

fn pump(mut from: &UnixStream, mut to: &UnixStream) {
    // One way or the other, this direction has ended. Who is gone can't be told, either.
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}

fn read(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Memory grows with what comes, not with what is announced.
    let mut message = Vec::new();
    stream.take(length.into()).read_to_end(&mut message)?;
    if message.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(message)
}

fn write(mut stream: &UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step's end, an agent's, and the thread between them.
    fn between(
        serve: fn(&UnixStream, &UnixStream) -> io::Result<()>,
    ) -> (
        UnixStream,
        UnixStream,
        std::thread::JoinHandle<io::Result<()>>,
    ) {
        let (step, ours) = UnixStream::pair().expect("pair");
        let (theirs, agent) = UnixStream::pair().expect("pair");
        let serving = std::thread::spawn(move || serve(&ours, &theirs));
        (step, agent, serving)
    }

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let (step, agent, _serving) = between(filter);
        for kind in (0..=255).filter(|k| ![REQUEST_IDENTITIES, SIGN_REQUEST].contains(k)) {
            write(&step, &[kind, 1, 2]).expect("ask");
            assert_eq!(read(&step).expect("an answer"), [FAILURE], "{kind}");
        }
        for kind in [REQUEST_IDENTITIES, SIGN_REQUEST] {
            write(&step, &[kind, 7]).expect("ask");
            // The first thing that the agent hears at all.
            assert_eq!(read(&agent).expect("a request"), [kind, 7]);
            write(&agent, &[kind + 1]).expect("answer");
            assert_eq!(read(&step).expect("an answer"), [kind + 1]);
        }
    }

    #[test]
    fn lengths_end_a_connection() {
        for length in [0, LONGEST + 1, u32::MAX] {
            let (mut step, agent, serving) = between(filter);
            step.write_all(&length.to_be_bytes()).expect("ask");
            assert!(read(&step).is_err(), "{length}");
            serving.join().expect("join").expect_err("an end");
            assert!(read(&agent).is_err(), "{length}");
        }
        // The longest there is goes through.
        let (step, agent, _serving) = between(filter);
        let mut long = vec![0; LONGEST as usize];
        long[0] = SIGN_REQUEST;
        let copy = long.clone();
        let asking = std::thread::spawn(move || write(&step, &copy).map(|()| step));
        assert!(read(&agent).expect("a request") == long);
        drop(asking.join().expect("join").expect("ask"));
    }

    #[test]
    fn half_a_message_is_none() {
        let (mut step, agent, serving) = between(filter);
        step.write_all(&[0, 0, 0, 9, SIGN_REQUEST]).expect("ask");
        step.shutdown(Shutdown::Write).expect("shutdown");
        serving.join().expect("join").expect_err("an end");
        assert!(read(&agent).is_err());
    }

    #[test]
    fn raw_is_all_of_it_in_both_directions() {
        let (mut step, mut agent, serving) = between(relay);
        step.write_all(&[0; 3]).expect("ask");
        step.shutdown(Shutdown::Write).expect("shutdown");
        let mut heard = Vec::new();
        agent.read_to_end(&mut heard).expect("read");
        assert_eq!(heard, [0; 3]);
        agent.write_all(b"no agent").expect("answer");
        drop(agent);
        let mut heard = Vec::new();
        step.read_to_end(&mut heard).expect("read");
        assert_eq!(heard, b"no agent");
        serving.join().expect("join").expect("an end");
    }
}
