//! Where the checks' lines go.
//!
//! Responsible for whole lines: the host reads this stream and nothing else. Must not be the
//! console, where the kernel writes, too.

use std::io::Write;

/// Writes one line: standard output is the report, which [`crate::init`] opens.
pub(crate) fn line(text: &str) {
    // There is nobody to tell when the host is gone.
    drop(std::io::stdout().write_all(format!("{text}\n").as_bytes()));
}

/// Writes a text of many lines, each marked as belonging to the line before.
pub(crate) fn details(text: &str) {
    for part in text.lines() {
        line(&format!("| {part}"));
    }
}
