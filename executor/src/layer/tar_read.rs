//! Reads archives: headers with all their extensions become [`Entry`]s, data comes in chunks.
//!
//! Responsible for the formats that layers come in (V7, ustar, PAX, GNU with long names, base-256
//! numbers and old sparse files), read the way Go's `archive/tar` reads them, so that an image
//! means the same here as in Docker. Must not touch the file system. Invariant: memory is bounded
//! whatever the archive says, and no entry is returned whose path leads out of the root.
//!
//! Of the crate `tar` only the header's layout is used: its reader keeps extension headers of any
//! size in memory, cannot read numbers that are blank or negative, and hides PAX sparse files.

mod extensions;
mod fields;
mod header;

use std::io::{self, BufRead, BufReader, Read};

use crate::error::{Error, Result, ResultExt};
use crate::layer::entry::Entry;

/// What an archive may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Headers in it.
    pub entries: u64,
    /// Bytes of one path.
    pub path: usize,
}

impl Default for Limits {
    /// 256 GiB, 16 million headers, and the kernel's longest path.
    fn default() -> Self {
        Self {
            bytes: 256 << 30,
            entries: 16_000_000,
            path: 4095,
        }
    }
}

/// Bytes of one PAX header or GNU long name; Linux allows 64 KiB for an attribute.
const MAX_EXTENSION: u64 = 1 << 20;

const BUFFER: usize = 256 * 1024;

const BLOCK: usize = super::tar_write::BLOCK;

/// Reads an archive entry by entry.
#[derive(Debug)]
pub struct TarReader<R> {
    input: BufReader<Counted<R>>,
    limits: Limits,
    headers: u64,
    /// Where the current entry's stored data belongs in the file, in order.
    segments: std::vec::IntoIter<Segment>,
    segment: Segment,
    /// Bytes handed out and not yet consumed.
    lent: usize,
    /// Bytes of data and padding up to the next header, apart from what `segments` tells.
    stored: u64,
    padding: u64,
    /// The current entry's path as the archive has it.
    name: Vec<u8>,
    /// Everything but data since it was last taken, where that is wanted.
    raw: Option<Vec<u8>>,
}

/// A run of data in a file.
#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    offset: u64,
    len: u64,
}

/// A piece of an entry's data.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Where in the file it belongs. Chunks come in ascending order; what lies between is zeros.
    pub offset: u64,
    /// The bytes; never empty.
    pub bytes: &'a [u8],
}

impl<R: Read> TarReader<R> {
    /// Starts to read an archive, already decompressed.
    pub fn new(reader: R, limits: Limits) -> Self {
        let counted = Counted {
            inner: reader,
            left: limits.bytes,
            count: 0,
        };
        Self {
            input: BufReader::with_capacity(BUFFER, counted),
            limits,
            headers: 0,
            segments: Vec::new().into_iter(),
            segment: Segment::default(),
            lent: 0,
            stored: 0,
            padding: 0,
            name: Vec::new(),
            raw: None,
        }
    }

    /// As [`Self::new`], for whoever wants the archive's own bytes, too: data comes in chunks, and all
    /// that is between by [`Self::take_raw`], and by [`Self::rest`] what follows the archive's end. Data
    /// that is not asked for counts as being between.
    pub fn recording(reader: R, limits: Limits) -> Self {
        Self {
            raw: Some(Vec::new()),
            ..Self::new(reader, limits)
        }
    }

    /// Moves the bytes since the last call that are no data of files to the end of `out`.
    pub fn take_raw(&mut self, out: &mut Vec<u8>) {
        if let Some(raw) = &mut self.raw {
            out.append(raw);
        }
    }

    /// Returns the path of the current entry as the archive has it.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Reads on behind the archive's end; returns the number of bytes, 0 at the end of the stream.
    ///
    /// # Errors
    /// When the stream cannot be read or exceeds the limit.
    pub fn rest(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.input.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.op("read archive"),
            }
        }
    }

    /// Returns the next entry, skipping what is left of the one before; `None` at the archive's
    /// end.
    ///
    /// # Errors
    /// When the archive is truncated, malformed, over a limit, of a kind that is not supported,
    /// or names a path outside of the root.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_data()?;
        let Some(parsed) = header::read(self)? else {
            return Ok(None);
        };
        self.stored = parsed.stored;
        self.padding = parsed.stored.next_multiple_of(BLOCK as u64) - parsed.stored;
        self.segments = parsed.segments.into_iter();
        self.name = parsed.name;
        self.segment = Segment::default();
        Ok(Some(parsed.entry))
    }

    /// Returns the next piece of the current entry's data, `None` after the last.
    ///
    /// # Errors
    /// When the archive is truncated or cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        self.return_lent();
        while self.segment.len == 0 {
            match self.segments.next() {
                Some(segment) => self.segment = segment,
                None => return Ok(None),
            }
        }
        let (offset, wanted) = (self.segment.offset, self.segment.len);
        let available = self.fill()?.len();
        let n = wanted.min(available as u64);
        self.lent = n as usize;
        self.segment.offset += n;
        self.segment.len -= n;
        self.stored -= n;
        Ok(Some(Chunk {
            offset,
            bytes: &self.input.buffer()[..self.lent],
        }))
    }

    /// Reads the rest of the stream after the archive's end, so that whoever hashes it below has
    /// seen all of it. Returns the number of bytes of the whole stream.
    ///
    /// # Errors
    /// When the stream cannot be read or exceeds the limit.
    pub fn drain(mut self) -> Result<u64> {
        self.skip_data()?;
        io::copy(&mut self.input, &mut io::sink()).op("read archive")?;
        Ok(self.input.get_ref().count)
    }

    fn return_lent(&mut self) {
        self.input.consume(self.lent);
        self.lent = 0;
    }

    fn skip_data(&mut self) -> Result<()> {
        self.return_lent();
        let mut left = self.stored + self.padding;
        while left > 0 {
            let n = left.min(self.fill()?.len() as u64);
            if let Some(raw) = &mut self.raw {
                raw.extend_from_slice(&self.input.buffer()[..n as usize]);
            }
            self.input.consume(n as usize);
            left -= n;
        }
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    /// Returns at least one byte of input.
    fn fill(&mut self) -> Result<&[u8]> {
        let bytes = loop {
            match self.input.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new("read archive").source(e)),
                Ok(bytes) => break bytes.len(),
            }
        };
        if bytes == 0 {
            return Err(truncated());
        }
        Ok(self.input.buffer())
    }

    /// Reads one block; `None` when the stream ends just before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut len = 0;
        while len < BLOCK {
            match self.input.read(&mut block[len..]) {
                Ok(0) if len == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new("read archive").source(e)),
            }
        }
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(&block);
        }
        Ok(Some(block))
    }

    /// Reads the data of an extension header, with its padding.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::new(format!(
                "the archive has an extension header of {size} bytes; {MAX_EXTENSION} are allowed"
            )));
        }
        // Within the limit just checked.
        let size = size as usize;
        let mut data = Vec::new();
        while data.len() < size.next_multiple_of(BLOCK) {
            let block = self.block()?.ok_or_else(truncated)?;
            data.extend_from_slice(&block);
        }
        data.truncate(size);
        Ok(data)
    }
}

fn truncated() -> Error {
    Error::new("the archive is truncated")
}

/// Counts what is read and stops at a limit.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    left: u64,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it unpacks to more bytes than are allowed",
            )
        })?;
        Ok(n)
    }
}
