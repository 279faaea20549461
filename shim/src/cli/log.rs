//! Messages: the log file and standard error.
//!
//! Responsible for their forms. Must not decide what is said. Invariant: a line of a JSON log is
//! one object with the members `level`, `msg` and `time`, and a failure's line is the last of
//! level `error` (containerd's runc shim and podman show that one).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use runtime::error::ResultExt;
use runtime::state::timestamp;
use runtime::{Error, Result};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What is done, step by step.
    Debug,
    /// What may be of interest.
    Info,
    /// Something was asked for that is not so.
    Warning,
    /// It did not work.
    Error,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Words for people; in a file, runc's `time="…" level=… msg="…"`.
    Text,
    /// One object a line.
    Json,
}

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
    lowest: Level,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Reads logrus's names, as `--log-level` takes them.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "trace" | "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warning,
            "error" | "fatal" | "panic" => Self::Error,
            _ => return None,
        })
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            file: None,
            format: Format::Text,
            lowest: Level::Info,
        }
    }
}

impl Log {
    /// Opens the log; without a file, messages go to standard error only.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(crate) fn open(path: Option<&OsStr>, format: Format, lowest: Level) -> Result<Self> {
        // Go opens its log with O_CLOEXEC too; a second runtime appends to the same file.
        let open = |path: &OsStr| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .op_path("open log", path)
        };
        Ok(Self {
            file: path.filter(|path| !path.is_empty()).map(open).transpose()?,
            format,
            lowest,
        })
    }

    /// Says what is being done.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.lowest <= Level::Debug {
            self.write(Level::Debug, &text());
        }
    }

    /// Says that something asked for is not so.
    pub(crate) fn warn(&self, text: &str) {
        self.write(Level::Warning, text);
    }

    /// As [`Log::warn`], but not on standard error, which is a program's own by then.
    pub(crate) fn note(&self, text: &str) {
        if self.file.is_some() {
            self.write(Level::Warning, text);
        } else {
            self.debug(|| text.to_owned());
        }
    }

    /// Says why it did not work: in the log, and on standard error in any case.
    pub(crate) fn fail(&self, error: &Error) {
        if self.file.is_some() || self.format == Format::Json {
            self.write(Level::Error, &render(error));
        }
        if self.file.is_some() || self.format == Format::Text {
            let mut text = format!("error: {}\n", chain(error));
            for hint in error.hints() {
                text += &format!("hint: {hint}\n");
            }
            to_stderr(text.as_bytes());
        }
    }

    fn write(&self, level: Level, text: &str) {
        if level < self.lowest {
            return;
        }
        let line = match (self.format, &self.file) {
            (Format::Json, _) => json_line(level, text),
            (Format::Text, Some(_)) => text_line(level, text),
            (Format::Text, None) => format!("{}: {text}\n", level.as_str()),
        };
        match &self.file {
            // One write(2) a line, so that lines of concurrent runtimes stay whole. A full disk
            // must not keep a container from being deleted.
            Some(file) => drop((&mut &*file).write_all(line.as_bytes())),
            None => to_stderr(line.as_bytes()),
        }
    }
}

/// Writes an error, its causes and its hints on one line.
pub(crate) fn render(error: &Error) -> String {
    let mut text = chain(error);
    if !error.hints().is_empty() {
        text += &format!(" (hint: {})", error.hints().join("; "));
    }
    text
}

/// Writes an error and its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn json_line(level: Level, text: &str) -> String {
    let time = timestamp(SystemTime::now());
    let level = level.as_str();
    // The members of logrus, in its order; a string's Display in serde_json is JSON.
    let msg = serde_json::Value::from(text);
    format!("{{\"level\":\"{level}\",\"msg\":{msg},\"time\":\"{time}\"}}\n")
}

fn text_line(level: Level, text: &str) -> String {
    let time = timestamp(SystemTime::now());
    let msg = serde_json::Value::from(text);
    format!("time=\"{time}\" level={} msg={msg}\n", level.as_str())
}

fn to_stderr(bytes: &[u8]) {
    // Nobody is left to tell when standard error is closed.
    drop(std::io::stderr().write_all(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        Error::new("open layer")
            .path("/x")
            .cause("no \"such\"\nthing".to_owned())
            .hint("make it")
    }

    #[test]
    fn lines_of_a_json_log() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log.json");
        let log = Log::open(Some(path.as_os_str()), Format::Json, Level::Info).expect("open");
        log.debug(|| "not shown".into());
        log.warn("careful");
        log.fail(&error());
        let text = std::fs::read_to_string(&path).expect("read");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["level"], "warning");
        assert_eq!(lines[1]["level"], "error");
        assert_eq!(
            lines[1]["msg"],
            "open layer `/x`: no \"such\"\nthing (hint: make it)"
        );
        assert!(lines[1]["time"].as_str().expect("time").ends_with('Z'));
        drop(log);
        let log = Log::open(Some(path.as_os_str()), Format::Text, Level::Debug).expect("open");
        log.debug(|| "shown".into());
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("level=debug msg=\"shown\"\n"), "{text}");
    }
}
