//! Which process a record means.
//!
//! Responsible for telling a process from a later one with the same number. Must not signal.
//! Invariant: a zombie is no process, whoever is late to reap it (runc 1.1 and the specification
//! call its container stopped).

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};

/// A process number and when that process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Number in the runtime's pid namespace.
    pub pid: i32,
    /// Clock ticks since boot, proc_pid_stat(5) field 22.
    pub start_time: u64,
}

impl ProcessId {
    /// Identifies the process that has this number now.
    ///
    /// # Errors
    /// There is none, or `/proc` doesn't show it.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = Stat::read(pid)?.ok_or_else(|| {
            Error::new("identify process")
                .path(format!("/proc/{pid}/stat"))
                .cause(Errno::SRCH)
        })?;
        Ok(Self {
            pid,
            start_time: stat.start_time,
        })
    }

    /// Whether that process exists and is no zombie.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(Stat::read(self.pid)?
            .is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead()))
    }
}

/// The fields of `/proc/PID/stat` that matter.
struct Stat {
    state: u8,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> Result<Option<Self>> {
        const OP: &str = "read process status";
        let path = format!("/proc/{pid}/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::new(OP).path(path).cause(errno)),
        };
        // The kernel gives the whole line to one read; 52 numbers and a name of 64 bytes fit.
        let mut line = [0; 2048];
        let length = match rustix::io::read(&file, &mut line) {
            Ok(length) => length,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(Error::new(OP).path(path).cause(errno)),
        };
        let stat = parse(&line[..length]).ok_or(Errno::INVAL);
        stat.op_path(OP, path).map(Some)
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

fn parse(line: &[u8]) -> Option<Stat> {
    // The name in parentheses may hold blanks and parentheses; field 3 follows the last one.
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(22 - 4)?.parse().ok()?;
    Some(Stat { state, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_cannot_mislead() {
        let line = b"7 (a) R 1 (x) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 0\n";
        let stat = parse(line).expect("parse");
        assert_eq!((stat.state, stat.start_time), (b'Z', 99));
        assert!(stat.is_dead());
        assert!(parse(b"7 (a").is_none() && parse(b"7 (a) R 1").is_none());
    }

    #[test]
    fn processes_come_and_go() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("start sleep");
        let id = ProcessId::of(child.id().cast_signed()).expect("identify");
        assert!(id.is_alive().expect("alive"));
        let other = ProcessId {
            start_time: id.start_time + 1,
            ..id
        };
        assert!(!other.is_alive().expect("another process"));
        child.kill().expect("kill");
        // Not reaped yet: a zombie, or about to be one.
        let dead = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !id.is_alive().expect("status")
        });
        assert!(dead);
        child.wait().expect("reap");
        assert!(!id.is_alive().expect("gone"));
        assert!(ProcessId::of(id.pid).is_err());
    }
}
