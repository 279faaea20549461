//! The output of one step: cut into lines, and kept until it is known whether the step fails.
//!
//! Responsible for lines that arrive in pieces, for lines that overwrite themselves (carriage
//! return), and for a copy on disk. Must not know how lines are shown. Invariant: memory stays
//! below [`LINE_LIMIT`] per stream and [`TAIL_LIMIT`] per spool, whatever the step writes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A longer line is passed on in pieces of this many bytes.
pub(super) const LINE_LIMIT: usize = 64 * 1024;

/// How much is kept when there is no room on disk, in bytes.
const TAIL_LIMIT: usize = 256 * 1024;

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is complete.
    Whole,
    /// A carriage return went back to its beginning and other text followed.
    Overwritten,
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    returned: bool,
}

impl Lines {
    /// Takes bytes cut anywhere and hands out each line without its end.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8], Fate)) {
        while let Some(&first) = bytes.first() {
            if first == b'\n' {
                emit(&self.held, Fate::Whole);
                self.held.clear();
                self.returned = false;
                bytes = &bytes[1..];
                continue;
            }
            if first == b'\r' {
                self.returned = true;
                bytes = &bytes[1..];
                continue;
            }
            if self.returned {
                if !self.held.is_empty() {
                    emit(&self.held, Fate::Overwritten);
                    self.held.clear();
                }
                self.returned = false;
            }
            let room = LINE_LIMIT - self.held.len();
            let end = bytes
                .iter()
                .take(room)
                .position(|b| matches!(b, b'\n' | b'\r'))
                .unwrap_or_else(|| bytes.len().min(room));
            self.held.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if self.held.len() == LINE_LIMIT {
                emit(&self.held, Fate::Whole);
                self.held.clear();
            }
        }
    }

    /// Hands out what is left when the stream has ended without a line end.
    pub(super) fn flush(&mut self, mut emit: impl FnMut(&[u8], Fate)) {
        if !self.held.is_empty() {
            emit(&self.held, Fate::Whole);
        }
        self.held.clear();
        self.returned = false;
    }

    /// Returns the line that has not ended yet.
    pub(super) fn partial(&self) -> &[u8] {
        &self.held
    }
}

/// A step's log on disk, in a file without a name, or its last part in memory where there is no
/// room.
#[derive(Debug)]
pub(super) struct Spool {
    file: Option<io::BufWriter<File>>,
    tail: Vec<u8>,
    lost: u64,
}

impl Spool {
    /// Makes one; its file is on the file system of `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            file: tempfile::tempfile_in(dir).ok().map(io::BufWriter::new),
            tail: Vec::new(),
            lost: 0,
        }
    }

    /// Appends a line.
    pub(super) fn push(&mut self, stamp: &str, line: &[u8]) {
        let whole = [stamp.as_bytes(), b" ", line, b"\n"].concat();
        if let Some(file) = &mut self.file {
            if file.write_all(&whole).is_ok() {
                return;
            }
            self.spill();
        }
        self.tail.extend_from_slice(&whole);
        self.trim();
    }

    /// Gives up the file and keeps its end.
    fn spill(&mut self) {
        let Some(file) = self.file.take() else { return };
        let (mut file, unwritten) = file.into_parts();
        let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
        self.lost = length.saturating_sub(TAIL_LIMIT as u64);
        if file.seek(SeekFrom::Start(self.lost)).is_err()
            || file.read_to_end(&mut self.tail).is_err()
        {
            self.lost = length;
        }
        self.tail.extend(unwritten.unwrap_or_default());
    }

    fn trim(&mut self) {
        if self.tail.len() > 2 * TAIL_LIMIT {
            let cut = self.tail.len() - TAIL_LIMIT;
            self.lost += cut as u64;
            self.tail.drain(..cut);
        }
    }

    /// Writes all of it.
    pub(super) fn copy_to(mut self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            if file.flush().is_ok() {
                let file = file.get_mut();
                file.rewind()?;
                io::copy(file, out)?;
                return Ok(());
            }
            self.spill();
        }
        if self.lost > 0 {
            writeln!(out, "[{} bytes were not kept: no room on disk]", self.lost)?;
        }
        out.write_all(&self.tail)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Fate)> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line, fate| out.push((line.to_vec(), fate)));
        }
        lines.flush(|line, fate| out.push((line.to_vec(), fate)));
        out
    }

    #[test]
    fn joins_and_folds() {
        let whole = |text: &[u8]| (text.to_vec(), Fate::Whole);
        let over = |text: &[u8]| (text.to_vec(), Fate::Overwritten);
        assert_eq!(split(&[b"a\nb"]), [whole(b"a"), whole(b"b")]);
        assert_eq!(
            split(&[b"a", b"b", b"\n\nc\n"]),
            [whole(b"ab"), whole(b""), whole(b"c")]
        );
        assert_eq!(split(&[b"a\r", b"\nb\r\r\n"]), [whole(b"a"), whole(b"b")]);
        assert_eq!(
            split(&[b"10%\r20%\r", b"30%\n"]),
            [over(b"10%"), over(b"20%"), whole(b"30%")]
        );
        assert_eq!(split(&[b"\r50%\r"]), [whole(b"50%")]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = vec![b'x'; 3 * LINE_LIMIT + 5];
        let sizes: Vec<usize> = split(&[&long]).iter().map(|(l, _)| l.len()).collect();
        assert_eq!(sizes, [LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, 5]);
    }

    #[test]
    fn a_spool_gives_back_everything() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut spool = Spool::new(dir.path());
        spool.push("0.001", b"one");
        spool.push("0.002", b"\xfftwo");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        let mut out = Vec::new();
        spool.copy_to(&mut out).expect("copy");
        assert_eq!(out, b"0.001 one\n0.002 \xfftwo\n");
    }

    #[test]
    fn without_disk_the_end_is_kept() {
        let mut spool = Spool::new(Path::new("/nonexistent"));
        for n in 0..100_000 {
            spool.push("0.000", format!("line {n}").as_bytes());
        }
        assert!(spool.tail.len() <= 2 * TAIL_LIMIT);
        let mut out = Vec::new();
        spool.copy_to(&mut out).expect("copy");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with('[') && text.contains("were not kept"));
        assert!(text.ends_with("0.000 line 99999\n"));
    }

    #[test]
    fn a_file_that_takes_no_more_is_read_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        std::fs::write(&path, "0.000 before\n").expect("write");
        let unwritable = File::open(&path).expect("open");
        let mut spool = Spool {
            file: Some(io::BufWriter::with_capacity(1, unwritable)),
            tail: Vec::new(),
            lost: 0,
        };
        spool.push("1.000", b"after");
        let mut out = Vec::new();
        spool.copy_to(&mut out).expect("copy");
        assert_eq!(out, b"0.000 before\n1.000 after\n");
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(b'b')], 0..64),
            at in 0usize..64,
        ) {
            let at = at.min(bytes.len());
            prop_assert_eq!(split(&[&bytes]), split(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
