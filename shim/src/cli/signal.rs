//! Names of signals.
//!
//! Responsible for the forms in which callers write them. Invariant: a result is a number that
//! kill(2) takes, 0 included, which only asks whether the process is there.

use std::str::FromStr;

use nix::sys::signal::Signal;
use runtime::{Error, Result};

/// The first and the last real-time signal that glibc leaves to programs, signal(7).
const REAL_TIME: (i32, i32) = (34, 64);

/// What `kill` sends when nothing is said.
pub(crate) const TERM: i32 = Signal::SIGTERM as i32;

/// Reads a signal: `9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3`.
///
/// # Errors
/// There is no such signal.
pub(crate) fn parse(word: &str) -> Result<i32> {
    let unknown = || Error::new(format!("unknown signal {word:?}"));
    if let Ok(number) = word.parse::<i32>() {
        return (0..=REAL_TIME.1)
            .contains(&number)
            .then_some(number)
            .ok_or_else(unknown);
    }
    let name = word.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name {
        "IOT" => Some(Signal::SIGABRT as i32),
        "CLD" => Some(Signal::SIGCHLD as i32),
        "POLL" => Some(Signal::SIGIO as i32),
        _ => real_time(name).or_else(|| {
            let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
            Some(signal as i32)
        }),
    };
    number.ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let (base, offset) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (REAL_TIME.0, rest)
    } else {
        (REAL_TIME.1, name.strip_prefix("RTMAX")?)
    };
    let offset = match offset {
        "" => 0,
        signed if signed.starts_with(['+', '-']) => signed.parse::<i32>().ok()?,
        _ => return None,
    };
    let number = base.checked_add(offset)?;
    (REAL_TIME.0..=REAL_TIME.1)
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (word, number) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("hup", 1),
            ("CLD", 17),
            ("SIGWINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(word).expect(word), number, "{word}");
        }
        for word in [
            "",
            "65",
            "-1",
            "NOPE",
            "SIGSIGKILL",
            "RTMIN3",
            "RTMIN+31",
            "RTMAX+1",
            "9x",
        ] {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
