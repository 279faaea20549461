//! Standard output.
//!
//! Responsible for data on it. Invariant: what could not be written is an error, except that a
//! reader who has seen enough may leave.

use std::io::{ErrorKind, Write};

use runtime::Error;
use serde::Serialize;

use super::verb::Outcome;

/// Prints data and ends well.
pub(crate) fn print(data: impl AsRef<[u8]>) -> Outcome {
    write(data.as_ref())?;
    Ok(0)
}

fn write(data: &[u8]) -> runtime::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new("write to standard output").cause(e))
        }
        _ => Ok(()),
    }
}

/// Prints data and the end of a line.
///
/// # Errors
/// It can't be written.
pub(crate) fn print_line(mut data: Vec<u8>) -> runtime::Result<()> {
    data.push(b'\n');
    write(&data)
}

/// Writes a document on one line.
///
/// # Errors
/// A path in it is not UTF-8, which JSON can't hold.
pub(crate) fn json(document: &impl Serialize) -> runtime::Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::new("write document").cause(e.to_string()))
}

/// Writes a document on many lines, `indent` for each level.
///
/// # Errors
/// As [`json`].
pub(crate) fn pretty(document: &impl Serialize, indent: &[u8]) -> runtime::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, format);
    document
        .serialize(&mut writer)
        .map_err(|e| Error::new("write document").cause(e.to_string()))?;
    Ok(bytes)
}
