//! Where the checks' lines go.
//!
//! Responsible for whole lines: the host reads this stream and nothing else. Must not be the
//! console, where the kernel writes, too.

use std::io::Write;

/// Writes one line: standard output is the report, which [`crate::init`] opens.
pub(crate) fn line(text: &str) {
    lines(text, "");
}

/// Writes one line and a text of many, each marked as belonging to the first. Nothing that is
/// written meanwhile comes between.
pub(crate) fn lines(first: &str, details: &str) {
    let mut text = format!("{first}\n");
    for part in details.lines() {
        text.push_str(&format!("| {part}\n"));
    }
    // There is nobody to tell when the host is gone.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}
