//! Writes layer archives.
//!
//! Responsible for headers and data of a tar stream (POSIX ustar, with PAX records only where a
//! value does not fit). Must not know where entries come from. Invariant: the same entries give
//! the same bytes; no user names, no access times, whole seconds.
//!
//! Of the crate `tar` only the header's layout is used: its builder writes long names as GNU
//! entries and large numbers in base 256, and copies every byte through a buffer of its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use tar::{Header, UstarHeader};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::layer::entry::{Entry, EntryKind, join, split};
use crate::layer::pax;

/// Size of a tar block in bytes.
pub(super) const BLOCK: usize = 512;

/// The key before an extended attribute's name, as GNU tar, Go and libarchive use it.
pub(super) const XATTR_KEY: &[u8] = b"SCHILY.xattr.";

const BUFFER: usize = 256 * 1024;

/// Where in an archive a tree goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The directory that it goes into; empty for the archive's root.
    pub below: Vec<u8>,
    /// The latest time that an entry has, in seconds since the epoch.
    pub latest: Option<i64>,
}

impl Place {
    fn apply(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        if !self.below.is_empty() {
            entry.path = join(&self.below, &entry.path);
            if entry.kind == EntryKind::Hardlink {
                entry.link = join(&self.below, &entry.link);
            }
        }
        entry.mtime = entry.mtime.min(self.latest.unwrap_or(i64::MAX));
        entry
    }
}

/// Writes a tar archive to `W`, through a buffer of its own.
pub struct TarWriter<W: Write> {
    out: W,
    place: Place,
    /// Bytes not yet written; never grows beyond [`BUFFER`] by much.
    buffer: Vec<u8>,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self::at(out, Place::default())
    }

    /// Starts or continues an archive with a tree that goes into this place of it.
    pub fn at(out: W, place: Place) -> Self {
        Self {
            out,
            place,
            buffer: Vec::with_capacity(BUFFER + BLOCK),
            written: 0,
        }
    }

    /// Returns the number of bytes of the archive so far.
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Tells whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry that has no data: anything but a file, or an empty file.
    ///
    /// # Errors
    /// Those of the writer; [`Kind::Internal`] when the entry announces data.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.append_reader(entry, &mut io::empty())
    }

    /// Adds a file with the data that `data` gives.
    ///
    /// # Errors
    /// When it gives more or less than `entry.size` bytes, when it cannot be read, and those of
    /// the writer.
    pub fn append_reader(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.header(entry)?;
        let read = self.copy(entry, data, entry.size)?;
        if read < entry.size || !ended(data).map_err(|e| reading(entry, e))? {
            return Err(changed(entry));
        }
        self.pad(entry.size)
    }

    /// Adds a file with the data of `file` from its beginning; holes are written as zeros but
    /// not read.
    ///
    /// # Errors
    /// When the file's length is not `entry.size`, when it cannot be read, and those of the
    /// writer.
    pub fn append_sparse(&mut self, entry: &Entry, file: &File) -> Result<()> {
        self.header(entry)?;
        let mut at = 0;
        while at < entry.size {
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data.min(entry.size),
                // No data from here to the end, which is a hole.
                Err(rustix::io::Errno::NXIO) => entry.size,
                Err(e) => return Err(reading(entry, e)),
            };
            self.zeros(data - at)?;
            at = data;
            if at < entry.size {
                let hole = seek(file, SeekFrom::Hole(at)).map_err(|e| reading(entry, e))?;
                let end = hole.min(entry.size);
                seek(file, SeekFrom::Start(at)).map_err(|e| reading(entry, e))?;
                if self.copy(entry, &mut &*file, end - at)? < end - at {
                    return Err(changed(entry));
                }
                at = end;
            }
        }
        let length = seek(file, SeekFrom::End(0)).map_err(|e| reading(entry, e))?;
        if length != entry.size {
            return Err(changed(entry));
        }
        self.pad(entry.size)
    }

    /// Ends the archive with two blocks of zeros; returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> Result<W> {
        self.zeros(2 * BLOCK as u64)?;
        self.drain()?;
        self.out.flush().op("write layer")?;
        Ok(self.out)
    }

    /// Ends this part of an archive, which another writer continues.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn pause(mut self) -> Result<W> {
        self.drain()?;
        self.out.flush().op("write layer")?;
        Ok(self.out)
    }

    fn header(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::File && entry.size != 0 {
            return Err(Error::new("data for an entry that can have none")
                .path_bytes(&entry.path)
                .kind(Kind::Internal));
        }
        self.drain_to_fit(3 * BLOCK)?;
        if self.place == Place::default() {
            build(entry, &mut self.buffer);
        } else {
            build(&self.place.apply(entry), &mut self.buffer);
        }
        Ok(())
    }

    /// Copies up to `size` bytes through the buffer; fewer when the data ends early.
    fn copy(&mut self, entry: &Entry, data: &mut dyn Read, size: u64) -> Result<u64> {
        let mut left = size;
        while left > 0 {
            self.drain_to_fit(BUFFER / 4)?;
            let start = self.buffer.len();
            // At most the buffer's size, so it is an index.
            let room = left.min((BUFFER - start) as u64) as usize;
            self.buffer.resize(start + room, 0);
            let got = read_some(data, &mut self.buffer[start..]);
            self.buffer.truncate(start + *got.as_ref().unwrap_or(&0));
            match got.map_err(|e| reading(entry, e))? {
                0 => break,
                n => left -= n as u64,
            }
        }
        Ok(size - left)
    }

    fn zeros(&mut self, mut count: u64) -> Result<()> {
        const ZEROS: &[u8] = &[0; 64 * 1024];
        if count >= ZEROS.len() as u64 {
            self.drain()?;
        }
        while count >= ZEROS.len() as u64 {
            self.out.write_all(ZEROS).op("write layer")?;
            self.written += ZEROS.len() as u64;
            count -= ZEROS.len() as u64;
        }
        // Less than the buffer holds, so it is a length.
        let rest = count as usize;
        self.drain_to_fit(rest)?;
        self.buffer.extend_from_slice(&ZEROS[..rest]);
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        self.zeros(size.next_multiple_of(BLOCK as u64) - size)
    }

    fn drain_to_fit(&mut self, room: usize) -> Result<()> {
        if self.buffer.len() + room > BUFFER {
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer).op("write layer")?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> std::fmt::Debug for TarWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarWriter")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn seek(file: &File, to: SeekFrom) -> rustix::io::Result<u64> {
    rustix::fs::seek(file.as_fd(), to)
}

fn read_some(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match data.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn ended(data: &mut dyn Read) -> io::Result<bool> {
    Ok(read_some(data, &mut [0])? == 0)
}

fn reading(entry: &Entry, e: impl Into<io::Error>) -> Error {
    Error::new("read").path_bytes(&entry.path).source(e.into())
}

fn changed(entry: &Entry) -> Error {
    Error::new("file changed its size while it was copied").path_bytes(&entry.path)
}

/// Appends the header of an entry, with the PAX header that it needs before it.
fn build(entry: &Entry, out: &mut Vec<u8>) {
    let mut path = entry.path.clone();
    if path.is_empty() {
        path.extend_from_slice(b"./");
    } else if entry.kind == EntryKind::Dir {
        path.push(b'/');
    }
    let mut header = Header::new_ustar();
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut text = |key: &[u8], value: &[u8]| records.push((key.to_vec(), value.to_vec()));
    if let Some(ustar) = header.as_ustar_mut() {
        if !put_path(ustar, &path) {
            text(b"path", &path);
        }
        if !put(&mut ustar.linkname, &entry.link) {
            text(b"linkpath", &entry.link);
        }
        let mut number = |field: &mut [u8], key: &[u8], value: u64| {
            if !put_octal(field, value) {
                text(key, value.to_string().as_bytes());
            }
        };
        number(&mut ustar.uid, b"uid", u64::from(entry.uid));
        number(&mut ustar.gid, b"gid", u64::from(entry.gid));
        number(&mut ustar.size, b"size", entry.size);
        // ustar has no times before the epoch, and tools disagree on other ways to write them.
        number(&mut ustar.mtime, b"mtime", entry.mtime.max(0) as u64);
        put_octal(&mut ustar.mode, u64::from(entry.mode & 0o7777));
        // A kernel device number has at most 12 bits of major and 20 of minor: seven digits.
        put_octal(&mut ustar.dev_major, u64::from(entry.rdev.0));
        put_octal(&mut ustar.dev_minor, u64::from(entry.rdev.1));
        ustar.typeflag = [match entry.kind {
            EntryKind::File => b'0',
            EntryKind::Hardlink => b'1',
            EntryKind::Symlink => b'2',
            EntryKind::Char => b'3',
            EntryKind::Block => b'4',
            EntryKind::Dir => b'5',
            EntryKind::Fifo => b'6',
        }];
    }
    let is_text = |(key, value): &(Vec<u8>, Vec<u8>)| {
        !matches!(&key[..], b"path" | b"linkpath") || std::str::from_utf8(value).is_ok()
    };
    if !records.iter().all(is_text) {
        records.push((b"hdrcharset".to_vec(), b"BINARY".to_vec()));
    }
    for (name, value) in &entry.xattrs {
        records.push(([XATTR_KEY, name].concat(), value.clone()));
    }
    if !records.is_empty() {
        records.sort();
        let mut data = Vec::new();
        for (key, value) in &records {
            pax::append_record(&mut data, key, value);
        }
        extension(&entry.path, &data, out);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// Appends a PAX header, named so that a tool which does not know it leaves a sensible file.
fn extension(path: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        let (_, name) = split(path);
        let mut label = b"PaxHeaders.0/".to_vec();
        label.extend_from_slice(&name[..name.len().min(80)]);
        put(&mut ustar.name, &label);
        for field in [&mut ustar.mode, &mut ustar.uid, &mut ustar.gid] {
            put_octal(field, 0);
        }
        put_octal(&mut ustar.mtime, 0);
        put_octal(&mut ustar.size, data.len() as u64);
        put_octal(&mut ustar.dev_major, 0);
        put_octal(&mut ustar.dev_minor, 0);
        ustar.typeflag = [b'x'];
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    // The buffer itself need not be aligned: it may have been drained amid a file.
    let padding = data.len().next_multiple_of(BLOCK) - data.len();
    out.resize(out.len() + padding, 0);
}

/// Puts a string into a field, whole; tells whether it fits. What does not fit is cut.
fn put(field: &mut [u8], value: &[u8]) -> bool {
    let n = value.len().min(field.len());
    field[..n].copy_from_slice(&value[..n]);
    n == value.len()
}

/// Puts a path into the name field, or splits it at a slash into prefix and name.
fn put_path(header: &mut UstarHeader, path: &[u8]) -> bool {
    if path.len() <= header.name.len() {
        return put(&mut header.name, path);
    }
    // The last slash that leaves a prefix that fits; the name must not be empty.
    let limit = (header.prefix.len() + 1).min(path.len() - 1);
    if let Some(at) = path[..limit].iter().rposition(|b| *b == b'/')
        && at > 0
        && path.len() - at - 1 <= header.name.len()
    {
        put(&mut header.prefix, &path[..at]);
        return put(&mut header.name, &path[at + 1..]);
    }
    put(&mut header.name, path)
}

/// Puts an octal number with a closing NUL into a field; leaves zeros when it does not fit.
fn put_octal(field: &mut [u8], value: u64) -> bool {
    let width = field.len() - 1;
    let fits = value.checked_ilog2().unwrap_or(0) < 3 * width as u32;
    let mut rest = if fits { value } else { 0 };
    for digit in field[..width].iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[width] = 0;
    fits
}

#[cfg(test)]
mod tests;
