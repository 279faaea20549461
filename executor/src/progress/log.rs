//! The lines of one step, kept until it is known whether the step fails.
//!
//! Responsible for a copy on disk, or of the end in memory. Must not know how lines are made or
//! shown. Invariant: memory stays below [`TAIL_LIMIT`] twice, whatever the step writes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Kept;

/// How much is kept when there is no room on disk, in bytes.
const TAIL_LIMIT: usize = 256 * 1024;

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

    /// Appends lines.
    pub(super) fn push(&mut self, lines: &[u8]) {
        if let Some(file) = &mut self.file {
            if file.write_all(lines).is_ok() {
                return;
            }
            self.spill();
        }
        self.tail.extend_from_slice(lines);
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
}

impl Kept for Spool {
    fn write_to(mut self, out: &mut dyn Write) -> io::Result<()> {
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
    use super::*;

    #[test]
    fn a_spool_gives_back_everything() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut spool = Spool::new(dir.path());
        spool.push(b"0.001 one\n");
        spool.push(b"0.002 \xfftwo\n");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        let mut out = Vec::new();
        spool.write_to(&mut out).expect("copy");
        assert_eq!(out, b"0.001 one\n0.002 \xfftwo\n");
    }

    #[test]
    fn without_disk_the_end_is_kept() {
        let mut spool = Spool::new(Path::new("/nonexistent"));
        for n in 0..100_000 {
            spool.push(format!("0.000 line {n}\n").as_bytes());
        }
        assert!(spool.tail.len() <= 2 * TAIL_LIMIT);
        let mut out = Vec::new();
        spool.write_to(&mut out).expect("copy");
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
        spool.push(b"1.000 after\n");
        let mut out = Vec::new();
        spool.write_to(&mut out).expect("copy");
        assert_eq!(out, b"0.000 before\n1.000 after\n");
    }
}
