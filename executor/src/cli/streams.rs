//! What is known about standard output and standard error.
//!
//! Responsible for asking the kernel about them and for writing data to standard output. Must not
//! decide what is written. Invariant: a reader that has gone away (`| head`) is not an error.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::progress::{Mode, Output};

/// Returns what the renderer has to know about standard error.
pub(super) fn progress_output(
    title: &'static str,
    environment: &Environment,
    spool: PathBuf,
) -> Output {
    let is_terminal = io::stderr().is_terminal();
    Output {
        title,
        writer: Box::new(io::stderr()),
        is_terminal: is_terminal && environment.has_terminal(),
        colour: environment.colour(is_terminal),
        size: Box::new(size),
        spool,
    }
}

/// Settles a mode that was left open: a CI job's log is plain even if it has a terminal.
pub(super) fn settle(mode: Mode, environment: &Environment) -> Mode {
    match mode {
        Mode::Auto if environment.is_ci() => Mode::Plain,
        mode => mode,
    }
}

/// Returns columns and rows of the terminal on standard error.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Returns how wide text on standard error may be.
pub(super) fn columns() -> usize {
    match size() {
        Some((columns @ 40.., _)) => columns.into(),
        _ => 100,
    }
}

/// Prints for people. A closed standard error is no reason for another exit code.
pub(super) fn complain(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Tells whether text on standard error has colours.
pub(super) fn colour(environment: &Environment) -> bool {
    environment.colour(io::stderr().is_terminal())
}

/// Writes data to standard output.
///
/// # Errors
/// When it can't be written, but for a reader that has gone away.
pub(crate) fn write_data(data: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new("write to standard output").source(e))
        }
        _ => Ok(()),
    }
}
