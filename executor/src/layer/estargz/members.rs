//! The members of an eStargz blob, compressed by several threads.
//!
//! Responsible for cutting the archive into members, for compressing many of them at a time, and for
//! telling the table of contents where they came to be. Must not read archives. Invariants: how the
//! archive is cut depends on its content only; members of less than half a MiB are handed over together;
//! some 32 MiB of the archive are in memory at most.

use std::io::{self, Sink, Write};

use sha2::{Digest as _, Sha256};

use super::toc::{Row, Toc};
use crate::error::{Result, ResultExt};
use crate::image::digest::{Digest, HashingWriter};
use crate::layer::gzip;
use crate::layer::pool::Pool;

/// Bytes of a file's data that are a member of their own, as in the original.
pub(super) const CHUNK: u64 = 4 << 20;

/// Bytes that are worth handing over.
const BATCH: usize = 512 * 1024;

/// Bytes for each thread that may be under way.
const UNDER_WAY: usize = 8 << 20;

/// Some members with their rows.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    members: Vec<Member>,
    rows: Vec<Row>,
}

struct Member {
    /// Where it begins.
    start: usize,
    /// How many bytes at its beginning are a file's data; headers follow them.
    data: usize,
}

/// A compressed batch.
struct Packed {
    bytes: Vec<u8>,
    members: Vec<Place>,
    rows: Vec<Row>,
    /// How many bytes it was.
    input: usize,
}

/// A member in a compressed batch.
struct Place {
    start: usize,
    /// Digest of the data.
    data: Digest,
}

/// Takes an archive in its order: what is between the data of files, entries, and data.
pub(super) struct Members<W> {
    out: W,
    written: u64,
    plain: HashingWriter<Sink>,
    pool: Pool<Batch, io::Result<Packed>>,
    batch: Batch,
    under_way: usize,
    /// How many bytes may be.
    limit: usize,
    toc: Toc,
}

/// What is left when all members are written.
pub(super) struct Finished<W> {
    pub(super) out: W,
    /// How many bytes were written.
    pub(super) written: u64,
    /// The hash of all that was compressed.
    pub(super) plain: HashingWriter<Sink>,
    pub(super) toc: Toc,
}

impl<W: Write> Members<W> {
    /// Starts the threads.
    pub(super) fn start(out: W, level: u32, threads: usize) -> Result<Self> {
        let pool = Pool::start("estargz", threads, move |batch| pack(level, batch));
        Ok(Self {
            out,
            written: 0,
            plain: HashingWriter::new(io::sink()),
            pool: pool.op("start compression")?,
            batch: Batch::default(),
            under_way: 0,
            limit: threads.max(1) * UNDER_WAY,
            toc: Toc::new(),
        })
    }

    /// Returns the number of bytes taken.
    pub(super) fn count(&self) -> u64 {
        self.plain.count()
    }

    /// Returns the digest of the bytes taken.
    pub(super) fn so_far(&mut self) -> Digest {
        self.plain.so_far()
    }

    /// Takes bytes that are no file's data.
    pub(super) fn between(&mut self, bytes: &[u8]) -> Result<()> {
        self.hand_over_full()?;
        if self.batch.members.is_empty() {
            self.batch.members.push(Member { start: 0, data: 0 });
        }
        self.take(bytes)
    }

    /// Takes an entry without data.
    pub(super) fn entry(&mut self, row: Row) {
        self.batch.rows.push(row);
    }

    /// Begins a file that has data.
    pub(super) fn file(&mut self, row: Row, size: u64) -> FileData<'_, W> {
        FileData {
            members: self,
            name: row.name().to_owned(),
            row: Some(row),
            size,
            done: 0,
            left: 0,
            whole: (size > CHUNK).then(Sha256::new),
        }
    }

    /// Compresses the rest.
    pub(super) fn finish(mut self) -> Result<Finished<W>> {
        self.hand_over()?;
        while self.pool.waiting() > 0 {
            self.collect()?;
        }
        self.pool.stop().op("write blob")?;
        Ok(Finished {
            out: self.out,
            written: self.written,
            plain: self.plain,
            toc: self.toc,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.batch.bytes.extend_from_slice(bytes);
        self.plain.write_all(bytes).op("hash layer")
    }

    fn hand_over_full(&mut self) -> Result<()> {
        if self.batch.bytes.len() >= BATCH {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let size = batch.bytes.len();
        let limit = self.limit;
        let is_too_much = |under_way| under_way > 0 && under_way + size > limit;
        while self.pool.is_full() || is_too_much(self.under_way) {
            self.collect()?;
        }
        self.under_way += size;
        self.pool.submit(batch).op("write blob")
    }

    /// Writes the oldest batch that is under way.
    fn collect(&mut self) -> Result<()> {
        let packed = self.pool.collect().and_then(|packed| packed);
        let packed = packed.op("write blob")?;
        self.under_way -= packed.input;
        for mut row in packed.rows {
            if let Some(member) = row.member() {
                let place = &packed.members[member];
                row.put(self.written + place.start as u64, &place.data);
            }
            self.toc.add(row)?;
        }
        self.out.write_all(&packed.bytes).op("write blob")?;
        self.written += packed.bytes.len() as u64;
        Ok(())
    }
}

/// A file whose data is being taken.
pub(super) struct FileData<'a, W> {
    members: &'a mut Members<W>,
    name: String,
    /// The file's row, until its first chunk begins.
    row: Option<Row>,
    size: u64,
    done: u64,
    /// Bytes of the current chunk that are to come.
    left: u64,
    /// Hashes data of more than one chunk.
    whole: Option<Sha256>,
}

impl<W: Write> FileData<'_, W> {
    /// Returns the number of bytes taken.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Takes data; all of it is no more than the file's size.
    pub(super) fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.begin()?;
            }
            let n = bytes
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(n);
            if let Some(whole) = &mut self.whole {
                whole.update(now);
            }
            if let Some(member) = self.members.batch.members.last_mut() {
                member.data += n;
            }
            self.members.take(now)?;
            self.done += n as u64;
            self.left -= n as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Begins a chunk.
    fn begin(&mut self) -> Result<()> {
        let members = &mut *self.members;
        members.hand_over_full()?;
        self.left = CHUNK.min(self.size - self.done);
        let batch = &mut members.batch;
        let row = match self.row.take() {
            Some(row) => row,
            None => Row::chunk(&self.name, self.done),
        };
        let is_last = self.done + self.left == self.size;
        let length = (!is_last).then_some(self.left);
        batch.rows.push(row.in_member(batch.members.len(), length));
        batch.members.push(Member {
            start: batch.bytes.len(),
            data: 0,
        });
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(self) {
        if let (Some(whole), Some(row)) = (self.whole, self.members.batch.rows.last_mut()) {
            row.end(Digest::from_bytes(whole.finalize().into()));
        }
    }
}

/// Compresses members, each as if it was alone.
fn pack(level: u32, batch: Batch) -> io::Result<Packed> {
    let mut bytes = Vec::new();
    let mut members = Vec::with_capacity(batch.members.len());
    let ends = batch.members.iter().skip(1).map(|member| member.start);
    let ends = ends.chain([batch.bytes.len()]);
    for (member, end) in batch.members.iter().zip(ends) {
        members.push(Place {
            start: bytes.len(),
            data: Digest::of(&batch.bytes[member.start..member.start + member.data]),
        });
        gzip::member(level, &batch.bytes[member.start..end], &mut bytes)?;
    }
    Ok(Packed {
        bytes,
        members,
        rows: batch.rows,
        input: batch.bytes.len(),
    })
}
