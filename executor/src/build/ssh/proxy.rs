//! A socket for a step, and the connections that it has made there.
//!
//! Responsible for the socket's life and for how many connections there are. Must not read what they
//! say. Invariant: when this goes, nobody can connect any more and every connection is over; a step
//! costs a bounded number of threads and descriptors.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::filter::{filter, relay};
use super::short::{Short, connect};
use super::{Agent, short};
use crate::error::{Error, Result, ResultExt};

/// How many connections are served at a time; further ones wait.
const MOST: usize = 32;

/// How long nothing is accepted after the kernel refused, as it does when descriptors run out.
const REST: Duration = Duration::from_millis(50);

/// The socket's name in its directory.
pub(in crate::build) const SOCKET: &str = "agent";

/// A socket that stands before an agent as long as this lives.
#[derive(Debug)]
pub(in crate::build) struct Proxy {
    dir: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    agent: Agent,
    listener: UnixListener,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    next: u64,
    /// Both ends of each connection; the agent's is there when it has answered.
    open: BTreeMap<u64, Vec<Arc<UnixStream>>>,
}

impl Proxy {
    /// Listens in the new directory `dir`, which nobody else can enter.
    pub(in crate::build) fn start(agent: &Agent, dir: &Path, mode: u32) -> Result<Self> {
        // What does not answer now is told now, and not by programs that find no keys.
        drop(short::connect(&agent.socket).map_err(|e| {
            Error::new("connect to the ssh agent at")
                .path(&agent.socket)
                .source(e)
                .hint("`ssh-add -l` tells whether it runs")
        })?);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(dir).op_path("create", dir)?;
        let short = Short::open(dir).op_path("open", dir)?;
        let name = short.name(SOCKET);
        let listener = UnixListener::bind(&name).op_path("make a socket in", dir)?;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&name, mode).op_path("set the mode of the socket in", dir)?;
        let shared = Arc::new(Shared {
            agent: agent.clone(),
            listener,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        let accepting = thread.spawn(move || accept(&ours)).op("start thread")?;
        Ok(Self {
            dir: dir.to_owned(),
            shared,
            accepting: Some(accepting),
        })
    }

    #[cfg(test)]
    fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        for stream in state.open.values().flatten() {
            // It may be over already.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(state);
        self.shared.changed.notify_all();
        // A listener that is shut down accepts no more.
        let _: rustix::io::Result<()> =
            rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
        // What is left goes with the session's own directory.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for a connection; `false` when there will be none.
    fn has_room(&self) -> bool {
        let full = |state: &mut State| !state.over && state.open.len() >= MOST;
        let waited = self.changed.wait_while(self.lock(), full);
        !waited.unwrap_or_else(PoisonError::into_inner).over
    }

    /// Adds an end to a connection, so that it can be ended; `false` when all are.
    fn keep(&self, number: u64, stream: &Arc<UnixStream>) -> bool {
        let mut state = self.lock();
        if !state.over {
            let ends = state.open.entry(number).or_default();
            ends.push(Arc::clone(stream));
        }
        !state.over
    }
}

/// Accepts connections until the end.
fn accept(shared: &Arc<Shared>) {
    while shared.has_room() {
        let Ok((step, _)) = shared.listener.accept() else {
            std::thread::sleep(REST);
            continue;
        };
        let step = Arc::new(step);
        let number = {
            let mut state = shared.lock();
            state.next += 1;
            state.next
        };
        if !shared.keep(number, &step) {
            return;
        }
        let open = Open {
            shared: Arc::clone(shared),
            number,
        };
        // Without a thread it is dropped, and closed.
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        drop(thread.spawn(move || open.serve(&step)));
    }
}

/// A connection, which is forgotten with this.
struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Open {
    fn serve(&self, step: &UnixStream) {
        let Ok(agent) = connect(&self.shared.agent.socket) else {
            return;
        };
        let agent = Arc::new(agent);
        if self.shared.keep(self.number, &agent) {
            // Whatever goes wrong, the connection is over.
            drop(match self.shared.agent.raw {
                true => relay(step, &agent),
                false => filter(step, &agent),
            });
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let ends = self.shared.lock().open.remove(&self.number);
        for stream in ends.into_iter().flatten() {
            drop(stream.shutdown(Shutdown::Both));
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read, Write};

    /// An agent that answers each connection's first request.
    fn agent(socket: &Path) -> Agent {
        let dir = Short::open(socket.parent().expect("a directory")).expect("open");
        let listener = UnixListener::bind(dir.name("real")).expect("bind");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut request = [0; 5];
                    while stream.read_exact(&mut request).is_ok() {
                        stream.write_all(&[0, 0, 0, 1, 12]).expect("answer");
                    }
                });
            }
        });
        Agent {
            socket: socket.to_owned(),
            raw: false,
        }
    }

    fn ask(stream: &mut UnixStream) -> io::Result<[u8; 5]> {
        let mut reply = [0; 5];
        stream.write_all(&[0, 0, 0, 1, 11])?;
        stream.read_exact(&mut reply).map(|()| reply)
    }

    #[test]
    fn a_socket_that_ends_with_its_step() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).expect("mkdir");
        let agent = agent(&long.join("real"));
        let proxy = Proxy::start(&agent, &long.join("proxy"), 0o640).expect("start");
        let mode = |path: &Path| std::fs::metadata(path).expect("stat").permissions().mode();
        assert_eq!(mode(&proxy.socket()) & 0o7777, 0o640);
        assert_eq!(mode(&long.join("proxy")) & 0o7777, 0o700);
        // More than there is room for, of which all but one say half of something.
        let mut streams: Vec<UnixStream> = (0..MOST + 8)
            .map(|_| connect(&proxy.socket()).expect("connect"))
            .collect();
        for stream in &mut streams[1..] {
            stream.write_all(&[0, 0]).expect("half a length");
        }
        assert_eq!(ask(&mut streams[0]).expect("an answer"), [0, 0, 0, 1, 12]);
        let mut late = connect(&proxy.socket()).expect("connect");
        drop(streams.split_off(1));
        assert_eq!(ask(&mut late).expect("an answer"), [0, 0, 0, 1, 12]);
        drop(proxy);
        assert!(ask(&mut late).is_err());
        assert!(connect(&long.join("proxy/agent")).is_err());
        assert!(!long.join("proxy").exists());
    }

    #[test]
    fn an_agent_that_does_not_answer() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("gone");
        drop(UnixListener::bind(&socket).expect("bind"));
        let agent = Agent { socket, raw: false };
        let error = Proxy::start(&agent, &dir.path().join("proxy"), 0o600).expect_err("refused");
        assert!(error.chain().contains("connect to the ssh agent at"));
    }
}
