//! eStargz: a layer in gzip of which single files can be read.
//!
//! Responsible for the format (stargz-snapshotter, `docs/estargz.md`): the data of each file begins a
//! gzip member, and so does each 4 MiB of it; the archive's last entry is a table of contents that says
//! where they are, in a member of its own; a footer says where that is. Must not know descriptors or the
//! store. Invariants: what a blob unpacks to begins with the archive, byte for byte, and whoever reads
//! that to its end sees the archive's entries only; the blob depends on the archive and the level only.

mod members;
mod toc;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use self::members::Members;
use self::toc::Row;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::layer::compress::{Format, decoder};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::gzip::GzipEncoder;
use crate::layer::tar_read::{Limits, TarReader};
use crate::layer::tar_write::{BLOCK, TarWriter};

/// Annotation of a layer with the digest of its table of contents, by which a reader checks that.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// Annotation of a layer with the number of bytes that it unpacks to.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// Path of the table of contents in the archive.
const TOC_NAME: &[u8] = b"stargz.index.json";

/// Bytes of the footer.
const FOOTER: usize = 51;

/// What the footer has in its name field behind the number.
const MAGIC: &[u8] = b"STARGZ";

/// A blob that was written.
#[derive(Debug)]
pub struct Sealed<W> {
    /// Where it was written to.
    pub out: W,
    /// Digest of the archive as it came.
    pub archive: Digest,
    /// Digest of all that the blob unpacks to: the archive and the table of contents.
    pub unpacked: Digest,
    /// The bytes of that.
    pub size: u64,
    /// Digest of the table of contents.
    pub toc: Digest,
}

/// Compresses an archive to `out` with this many threads. What is in memory at a time are some 32 MiB of
/// the archive, and the table of contents: about 330 bytes for each file.
///
/// # Errors
/// When the archive is malformed, has an entry that a table of contents can't hold, or has one already;
/// when it cannot be read, and those of the writer.
pub fn write<W: Write>(
    archive: impl Read,
    out: W,
    level: u32,
    threads: usize,
) -> Result<Sealed<W>> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let mut tar = TarReader::recording(archive, limits);
    let mut members = Members::start(out, level, threads)?;
    let mut between = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        tar.take_raw(&mut between);
        members.between(&between)?;
        between.clear();
        if entry.path == TOC_NAME {
            return Err(Error::new(
                "the layer has a file where eStargz has its table of contents:",
            )
            .path_bytes(TOC_NAME)
            .hint("use another compression, or another name for the file"));
        }
        let row = Row::new(tar.name(), &entry)?;
        if entry.kind == EntryKind::File && entry.size > 0 {
            file(&mut tar, &mut members, row, &entry)?;
        } else {
            members.entry(row);
        }
    }
    let data_end = members.count().next_multiple_of(BLOCK as u64);
    tar.take_raw(&mut between);
    members.between(&between)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match tar.rest(&mut buffer)? {
            0 => break,
            n => members.between(&buffer[..n])?,
        }
    }
    let archive = members.so_far();
    // Without these, whoever reads the archive would read on, and find the table to be a file.
    let end = 2 * BLOCK as u64;
    let lacking = end - end.min(members.count() - data_end);
    members.between(&vec![0; lacking as usize])?;
    seal(members, archive, level, threads)
}

/// Compresses the data of a file.
fn file<R: Read, W: Write>(
    tar: &mut TarReader<R>,
    members: &mut Members<W>,
    row: Row,
    entry: &Entry,
) -> Result<()> {
    let mut file = members.file(row, entry.size);
    while let Some(chunk) = tar.next_chunk()? {
        if chunk.offset != file.done() {
            return Err(sparse(entry));
        }
        file.data(chunk.bytes)?;
    }
    if file.done() != entry.size {
        return Err(sparse(entry));
    }
    file.finish();
    Ok(())
}

fn sparse(entry: &Entry) -> Error {
    Error::new("eStargz can't hold the sparse file")
        .path_bytes(&entry.path)
        .hint("use another compression for this layer")
}

/// Writes the table of contents and the footer.
fn seal<W: Write>(
    members: Members<W>,
    archive: Digest,
    level: u32,
    threads: usize,
) -> Result<Sealed<W>> {
    let finished = members.finish()?;
    let text = finished.toc.into_text();
    let table = Entry {
        size: text.len() as u64,
        ..Entry::new(TOC_NAME, EntryKind::File, 0o444)
    };
    let both = Both {
        packed: GzipEncoder::new(finished.out, level, threads).op("start compression")?,
        plain: finished.plain,
    };
    let mut writer = TarWriter::new(both);
    writer.append_reader(&table, &mut &text[..])?;
    let both = writer.finish()?;
    let mut out = both.packed.finish().op("write blob")?;
    out.write_all(&footer(finished.written)).op("write blob")?;
    let (_, unpacked, size) = both.plain.finish();
    Ok(Sealed {
        out,
        archive,
        unpacked,
        size,
        toc: Digest::of(&text),
    })
}

/// Writes the same to two writers.
struct Both<A, B> {
    packed: A,
    plain: B,
}

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.packed.write(buf)?;
        self.plain.write_all(&buf[..n])?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the footer: an empty member whose extra field (RFC 1952, 2.3.1.1) has the offset of the table's.
fn footer(offset: u64) -> [u8; FOOTER] {
    let mut footer = [0; FOOTER];
    footer[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    footer[10..16].copy_from_slice(&[26, 0, b'S', b'G', 22, 0]);
    footer[16..32].copy_from_slice(format!("{offset:016x}").as_bytes());
    footer[32..38].copy_from_slice(MAGIC);
    // A last block that is stored and empty, then checksum and length of nothing.
    footer[38..43].copy_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer
}

/// Reads the archive of which a blob was made, without the table of contents; `None` when the blob is no
/// eStargz. What is read is not verified.
///
/// # Errors
/// Those of reading.
pub fn archive(blob: File) -> io::Result<Option<Box<dyn Read + Send>>> {
    match toc_offset(&blob)? {
        Some(offset) => decoder(blob.take(offset), Format::Gzip).map(Some),
        None => Ok(None),
    }
}

/// Tells whether a blob ends with the footer of eStargz; returns the offset of the table of contents'
/// member.
///
/// # Errors
/// Those of reading.
pub fn toc_offset(blob: &File) -> io::Result<Option<u64>> {
    let Some(at) = blob.metadata()?.len().checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    let mut footer = [0; FOOTER];
    blob.read_exact_at(&mut footer, at)?;
    let known = footer.starts_with(&[0x1f, 0x8b, 8, 4])
        && footer[10..16] == [26, 0, b'S', b'G', 22, 0]
        && footer[32..38] == *MAGIC;
    let offset = std::str::from_utf8(&footer[16..32]).ok();
    let offset = offset.and_then(|text| u64::from_str_radix(text, 16).ok());
    Ok(offset.filter(|offset| known && *offset < at))
}

#[cfg(test)]
mod tests;
