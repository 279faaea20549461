//! Peers for tests: a server that does as scripted, and Debian's docker-registry.
//!
//! Responsible for HTTP/1.1 at its simplest (one request a connection) with every fault a test
//! asks for. Must not share code with the client it tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(value)
    }

    pub(super) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    fn length(&self) -> usize {
        self.header("content-length")
            .map_or(0, |l| l.parse().expect("length"))
    }
}

/// What the server does.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Close after this many bytes of the body.
    cut: Option<usize>,
    /// Send no length; the end of the connection is the end of the body.
    unsized_body: bool,
    /// Close after this many bytes of the request's body, without a reply.
    refuse_after: Option<usize>,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            unsized_body: false,
            refuse_after: None,
        }
    }

    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub(super) fn unsized_body(mut self) -> Self {
        self.unsized_body = true;
        self
    }

    pub(super) fn hang_up_after(bytes: usize) -> Self {
        Self {
            refuse_after: Some(bytes),
            ..Self::new(0)
        }
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server on a loopback port, until the test ends.
pub(super) struct Mock {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Mock {
    /// Starts it. The script gets each request without its body, and decides.
    pub(super) fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || {
                    // A client that goes away early is part of some tests.
                    drop(serve(stream.expect("accept"), &*script, &log));
                });
            }
        });
        Self { address, seen }
    }

    /// Returns the requests so far, without the probe for `/v2/`.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().expect("lock");
        seen.iter().filter(|s| s.path != "/v2/").cloned().collect()
    }

    pub(super) fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|s| s.is(method, path)).count()
    }
}

fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut first = [0];
    // 22 begins a TLS handshake, which this server does not speak.
    if stream.peek(&mut first)? == 0 || first[0] == 22 {
        return Ok(());
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut request = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let header = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.push(header);
    }
    let reply = script(&request);
    let wanted = reply.refuse_after.unwrap_or_else(|| request.length());
    reader.take(wanted as u64).read_to_end(&mut request.body)?;
    let head_only = request.method == "HEAD";
    log.lock().expect("lock").push(request);
    if reply.refuse_after.is_some() {
        return stream.shutdown(std::net::Shutdown::Both);
    }
    let mut head = format!(
        "HTTP/1.1 {} Scripted\r\nConnection: close\r\n",
        reply.status
    );
    if !reply.unsized_body {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if !head_only {
        let end = reply.cut.unwrap_or(reply.body.len());
        stream.write_all(&reply.body[..end])?;
    }
    stream.shutdown(std::net::Shutdown::Both)
}

/// `user:secret`, as htpasswd -B writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A docker-registry process, until the test ends.
pub(crate) struct DockerRegistry {
    pub(crate) address: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one that wants the password `secret` of `user`.
    pub(crate) fn with_password() -> Option<Self> {
        let auth = "auth:\n  htpasswd:\n    realm: test\n    path: HERE/htpasswd\n";
        Self::start(auth, |dir| {
            std::fs::write(dir.join("htpasswd"), HTPASSWD).expect("write");
        })
    }

    /// Starts one; `extra` is more of its configuration, for files in the directory that
    /// `prepare` fills. `None` when the program is not installed.
    pub(crate) fn start(extra: &str, prepare: impl Fn(&Path)) -> Option<Self> {
        let installed = Command::new("docker-registry")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if installed.is_err() {
            println!("SKIP: docker-registry is not installed");
            return None;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let here = dir.path().display().to_string();
        prepare(dir.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {here}/data\n\
             http:\n  addr: {address}\n{}",
            extra.replace("HERE", &here)
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("write");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry");
        let started = Self {
            address,
            child,
            _dir: dir,
        };
        for _ in 0..500 {
            if TcpStream::connect(&started.address).is_ok() {
                return Some(started);
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not listen");
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
