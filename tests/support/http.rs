//! A web server with a few files, for ADD of an URL.
//!
//! Responsible for GET over HTTP/1.1 on loopback, one request a connection. Must not be used for
//! registries.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::hash::sha256;

/// A running server; it ends with the test program.
#[derive(Debug)]
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

/// What the connections share.
#[derive(Debug, Default)]
struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    requests: Mutex<Vec<String>>,
    transfers: Mutex<Vec<String>>,
    /// The `Authorization` that is asked for.
    authorization: Option<String>,
}

impl Server {
    /// Serves these paths, which begin with a slash; any other one is not found.
    ///
    /// # Panics
    /// When there is no loopback port.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        Self::serve(files, None)
    }

    /// Serves them only to who sends this `Authorization`.
    ///
    /// # Panics
    /// When there is no loopback port.
    pub fn closed(files: &[(&str, &[u8])], authorization: &str) -> Self {
        Self::serve(files, Some(authorization.to_owned()))
    }

    fn serve(files: &[(&str, &[u8])], authorization: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            authorization,
            ..Shared::default()
        });
        let server = Self {
            port,
            shared: Arc::clone(&shared),
        };
        for (path, bytes) in files {
            server.put(path, bytes);
        }
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own business.
                drop(answer(stream, &shared));
            }
        });
        server
    }

    /// Adds or replaces a file.
    ///
    /// # Panics
    /// Never: nobody panics with the files.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut files = self.shared.files.lock().expect("nobody panics with it");
        files.insert(path.to_owned(), bytes.to_vec());
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the paths that were asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        self.shared
            .requests
            .lock()
            .expect("nobody panics with it")
            .clone()
    }

    /// Returns the paths whose content was sent, in order.
    ///
    /// # Panics
    /// Never: nobody panics with the list.
    pub fn transfers(&self) -> Vec<String> {
        self.shared
            .transfers
            .lock()
            .expect("nobody panics with it")
            .clone()
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut words = request.split_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let note = |list: &Mutex<Vec<String>>| {
        list.lock()
            .expect("nobody panics with it")
            .push(path.to_owned());
    };
    note(&shared.requests);
    let mut empty = |status: &str| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    if shared.authorization.is_some()
        && headers.get("authorization") != shared.authorization.as_ref()
    {
        return empty("401 Unauthorized");
    }
    let file = shared
        .files
        .lock()
        .expect("nobody panics with it")
        .get(path)
        .cloned();
    let Some(bytes) = file else {
        return empty("404 Not Found");
    };
    let etag = format!("\"{}\"", sha256(&bytes));
    if headers.get("if-none-match") == Some(&etag) {
        return empty("304 Not Modified");
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: {etag}\r\n\
         Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT\r\nConnection: close\r\n\r\n",
        bytes.len()
    )?;
    if method != "HEAD" {
        note(&shared.transfers);
        stream.write_all(&bytes)?;
    }
    stream.flush()
}
