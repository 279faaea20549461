//! A conversation with systemd over a unix socket.
//!
//! Responsible for finding the socket, for authentication, for calls and for signals that come
//! meanwhile (D-Bus specification, "Authentication Protocol", "Message Bus"). Must not know units.
//! Invariant: nothing waits for ever.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use super::message::{self, Message};
use super::value::Value;
use crate::error::{Error, Result, ResultExt};

/// How long an answer may take, as in libdbus.
const PATIENCE: Duration = Duration::from_secs(25);

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
    /// Whether there is a bus between us and systemd.
    routed: bool,
}

/// What a method is called on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
}

const DAEMON: Target<'_> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Bus {
    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// None does; the error is about the last one.
    pub(crate) fn connect(addresses: &[String]) -> Result<Self> {
        let mut last = None;
        for address in addresses.iter().flat_map(|list| list.split(';')) {
            if address.is_empty() {
                continue;
            }
            match Self::connect_one(address) {
                Ok(bus) => return Ok(bus),
                Err(e) => last = Some(e),
            }
        }
        let none = || Error::new("connect to systemd").cause("no bus address is known".to_owned());
        Err(last
            .unwrap_or_else(none)
            .hint("without --systemd-cgroup the control group is made without systemd"))
    }

    fn connect_one(address: &str) -> Result<Self> {
        let (name, socket_address) = parse_address(address)?;
        let op = "connect to systemd at";
        let socket = UnixStream::connect_addr(&socket_address).op_path(op, &name)?;
        let mut bus = Self {
            socket,
            serial: 0,
            signals: VecDeque::new(),
            // systemd's own socket has no bus behind it.
            routed: !name.ends_with("/systemd/private"),
        };
        bus.authenticate()
            .and_then(|()| {
                if bus.routed {
                    bus.ask(DAEMON, "Hello", Vec::new())?;
                }
                Ok(())
            })
            .map_err(|e| {
                let source = std::error::Error::source(&e).map(ToString::to_string);
                Error::new(op)
                    .path(&name)
                    .cause(format!("{e}: {}", source.unwrap_or_default()))
            })?;
        Ok(bus)
    }

    /// Says who we are: the kernel tells the other side, so there is nothing to say. (A number of
    /// our own would be wrong in a user namespace.)
    ///
    /// All is said at once, as sd-bus does: when `BEGIN` and the first message reach systemd's own
    /// socket together, it overlooks the message until the next one comes (systemd 252).
    fn authenticate(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line(end)?;
            if line.starts_with("OK ") || line == "OK" {
                return Ok(());
            }
            // The question for data, which is answered already.
            if line != "DATA" && !line.starts_with("DATA ") {
                return Err(Error::new("authenticate").cause(format!("the answer is {line:?}")));
            }
        }
    }

    /// Reads one line of the authentication, byte by byte: what follows the last is no line.
    fn line(&mut self, end: Instant) -> Result<String> {
        let mut line = Vec::new();
        while line.len() < 1024 {
            let mut byte = [0];
            self.receive(&mut byte, end)?;
            match byte[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
                byte => line.push(byte),
            }
        }
        Err(Error::new("authenticate").cause("the answer is too long".to_owned()))
    }

    /// Asks to be told of a signal.
    pub(crate) fn subscribe(&mut self, interface: &str, member: &str) -> Result<()> {
        if self.routed {
            let rule = format!("type='signal',interface='{interface}',member='{member}'");
            self.ask(DAEMON, "AddMatch", vec![Value::text(rule)])?;
        }
        Ok(())
    }

    /// Calls a method; the inner result is the other side's answer.
    ///
    /// # Errors
    /// The conversation doesn't work.
    pub(crate) fn call(
        &mut self,
        target: Target<'_>,
        member: &str,
        body: Vec<Value>,
    ) -> Result<std::result::Result<Vec<Value>, Refusal>> {
        self.serial += 1;
        let serial = self.serial;
        let message = Message {
            kind: message::CALL,
            serial,
            path: target.path.to_owned(),
            interface: target.interface.to_owned(),
            member: member.to_owned(),
            destination: target.destination.to_owned(),
            body,
            ..Message::default()
        };
        self.send(&message.to_bytes())?;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.next(end)?;
            match answer.kind {
                message::SIGNAL => self.signals.push_back(answer),
                message::RETURN if answer.reply_to == Some(serial) => return Ok(Ok(answer.body)),
                message::ERROR if answer.reply_to == Some(serial) => {
                    let text = answer.body.first().and_then(Value::as_str);
                    return Ok(Err(Refusal {
                        text: text.unwrap_or_default().to_owned(),
                        name: answer.error,
                    }));
                }
                // Nobody calls us, and no other answer is waited for.
                _ => {}
            }
        }
    }

    /// Calls a method whose refusal is an error.
    ///
    /// # Errors
    /// As [`Bus::call`], and when the answer is an error.
    pub(crate) fn ask(
        &mut self,
        target: Target<'_>,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>> {
        self.call(target, member, body)?.map_err(|refusal| {
            Error::new(format!("call {}.{member}", target.interface)).cause(refusal.to_string())
        })
    }

    /// Waits for a signal.
    pub(crate) fn signal(
        &mut self,
        member: &str,
        mut wanted: impl FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.next(end)?,
            };
            if message.kind == message::SIGNAL && message.member == member && wanted(&message.body)
            {
                return Ok(message.body);
            }
        }
    }

    fn next(&mut self, end: Instant) -> Result<Message> {
        let mut start = [0; message::FIXED];
        self.receive(&mut start, end)?;
        let broken =
            || Error::new("read message").cause("it is not a valid D-Bus message".to_owned());
        let length = Message::length(&start).ok_or_else(broken)?;
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        self.receive(&mut bytes[message::FIXED..], end)?;
        Message::parse(&bytes).ok_or_else(broken)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let op = "send to systemd";
        self.socket.set_write_timeout(Some(PATIENCE)).op(op)?;
        // A closed socket must be an error and not a signal, which Rust's runtime ignores anyhow.
        self.socket.write_all(bytes).op(op)
    }

    fn receive(&mut self, mut buffer: &mut [u8], end: Instant) -> Result<()> {
        let op = "receive from systemd";
        while !buffer.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(op).cause("no answer in time".to_owned()));
            }
            self.socket.set_read_timeout(Some(left)).op(op)?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(Error::new(op).cause("the connection was closed".to_owned())),
                Ok(n) => buffer = &mut buffer[n..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e).op(op),
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.name)
    }
}

/// Reads `unix:path=…` or `unix:abstract=…`; returns a name for messages and the address.
fn parse_address(address: &str) -> Result<(String, SocketAddr)> {
    let wrong =
        |why: &str| Error::new(format!("use bus address {address:?}")).cause(why.to_owned());
    let keys = address
        .strip_prefix("unix:")
        .ok_or_else(|| wrong("only unix sockets are supported"))?;
    for pair in keys.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            continue;
        };
        let value = unescape(value).ok_or_else(|| wrong("it has a broken escape"))?;
        let socket = match key {
            "path" => SocketAddr::from_pathname(&value),
            "abstract" => SocketAddr::from_abstract_name(&value),
            _ => continue,
        };
        let socket = socket.map_err(|e| wrong(&e.to_string()))?;
        let name = if key == "path" {
            value
        } else {
            format!("@{value}")
        };
        return Ok((name, socket));
    }
    Err(wrong("it names no socket"))
}

/// Undoes `%XX`.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, name) in [
            ("unix:path=/run/user/7/bus", "/run/user/7/bus"),
            ("unix:guid=ab,path=/a%20b", "/a b"),
            ("unix:abstract=/tmp/x,guid=1", "@/tmp/x"),
        ] {
            assert_eq!(parse_address(address).expect(address).0, name);
        }
        for address in ["tcp:host=x", "unix:tmpdir=/x", "unix:path=/a%2", "x"] {
            assert!(parse_address(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_real_bus_understands() {
        use std::process::{Command, Stdio};
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("bus");
        let address = format!("unix:path={}", socket.display());
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nosyslog", "--address", &address])
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = daemon else {
            return println!("SKIP: no dbus-daemon");
        };
        for _ in 0..200 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let result = Bus::connect(std::slice::from_ref(&address)).and_then(|mut bus| {
            bus.subscribe("org.example", "Nothing")?;
            let unknown = bus.call(DAEMON, "NoSuchMethod", Vec::new())?;
            Ok((bus.ask(DAEMON, "ListNames", Vec::new())?, unknown))
        });
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
        let (names, unknown) = result.expect("a conversation");
        assert_eq!(names[0].signature(), "as");
        let error = "org.freedesktop.DBus.Error.UnknownMethod";
        assert_eq!(unknown.expect_err("refused").name, error);
    }

    #[test]
    fn no_bus_is_a_clear_error() {
        let addresses = ["unix:path=/nonexistent/bus".to_owned()];
        let error = Bus::connect(&addresses).expect_err("no bus");
        assert_eq!(
            error.to_string(),
            "connect to systemd at `/nonexistent/bus`"
        );
        assert_eq!(error.hints().len(), 1);
        assert!(Bus::connect(&[]).is_err());
    }
}
