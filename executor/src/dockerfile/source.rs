//! Physical lines of a Dockerfile.
//!
//! Responsible for line ends and the byte order mark. Must not know comments or continuations. BuildKit,
//! too, takes off every carriage return at the end of a line, but keeps them in here-documents: what a
//! file holds here does not depend on how an editor or git wrote its lines.

use std::ops::Range;

/// UTF-8's byte order mark, which editors on Windows write.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Splits into lines: byte ranges without `\n` and the `\r` before it, the first one without a byte order mark.
#[derive(Debug, Clone)]
pub(super) struct PhysicalLines<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> PhysicalLines<'a> {
    /// Starts at the first line.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let next = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
        Self { bytes, next }
    }

    /// Returns where the next line begins.
    pub(super) fn offset(&self) -> usize {
        self.next.min(self.bytes.len())
    }
}

impl Iterator for PhysicalLines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.next;
        if start >= self.bytes.len() {
            return None;
        }
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|b| *b == b'\n');
        let mut end = start + length.unwrap_or(rest.len());
        self.next = end + 1;
        while end > start && self.bytes[end - 1] == b'\r' {
            end -= 1;
        }
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_byte_order_mark() {
        let bytes = b"\xef\xbb\xbfa\r\nb\r\r\n\n\rc";
        let lines: Vec<_> = PhysicalLines::new(bytes).map(|l| &bytes[l]).collect();
        assert_eq!(lines, [&b"a"[..], b"b", b"", b"\rc"]);
        assert_eq!(PhysicalLines::new(b"").count(), 0);
        assert_eq!(PhysicalLines::new(b"a\n").count(), 1);
    }
}
