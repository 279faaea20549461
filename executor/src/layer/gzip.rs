//! gzip compressed by several threads into one ordinary member; and members made whole.
//!
//! Responsible for cutting the input into blocks of fixed size, compressing each with the 32 KiB
//! before it as preset dictionary (so that little is lost at the borders), and joining the pieces
//! at byte borders by sync flushes. Blocks that would not become smaller are stored. Must not know
//! what is compressed. Invariant: the output depends on the input and the level only; at most
//! `2 × threads + 1` blocks are in memory.

use std::io::{self, Write};

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::layer::pool::Pool;

/// Input bytes of one block. Part of the output's definition: another value gives other bytes.
pub(super) const BLOCK: usize = 512 * 1024;

/// Room for a compressed block: more than any level's worst case of 9 bits for a byte.
const OUTPUT: usize = BLOCK + BLOCK / 4;

/// Room that a short block needs besides.
const SLACK: usize = 256;

/// How far back deflate can refer (RFC 1951).
const WINDOW: usize = 32 * 1024;

/// RFC 1952: deflate, no flags, no time, no extra flags, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A piece of input, behind the bytes that precede it.
#[derive(Clone, Copy)]
struct Piece<'a> {
    /// Dictionary, then data.
    bytes: &'a [u8],
    /// Where the data begins.
    start: usize,
    /// Whether this one ends the member.
    last: bool,
}

/// A piece that has its bytes.
struct Block {
    /// Dictionary, then data.
    bytes: Vec<u8>,
    /// Where the data begins.
    start: usize,
    /// Whether this one ends the stream.
    last: bool,
}

/// A compressed block, with its input's buffer for another use.
struct Packed {
    bytes: Vec<u8>,
    crc: Crc,
    spare: Vec<u8>,
}

/// Compresses what is written to it; ends the member in [`GzipEncoder::finish`].
pub(super) struct GzipEncoder<W> {
    out: W,
    current: Block,
    crc: Crc,
    length: u32,
    engine: Engine,
}

enum Engine {
    Inline {
        level: flate2::Compression,
        bytes: Vec<u8>,
    },
    Threads {
        pool: Pool<Block, io::Result<Packed>>,
        spare: Vec<Vec<u8>>,
    },
}

impl<W: Write> GzipEncoder<W> {
    /// Starts a member and, for more than one, that many threads.
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let level = flate2::Compression::new(level.min(9));
        let engine = if threads <= 1 {
            Engine::Inline {
                level,
                bytes: Vec::new(),
            }
        } else {
            Engine::Threads {
                pool: Pool::start("gzip", threads, move |block| pack_one(level, block))?,
                spare: Vec::new(),
            }
        };
        Ok(Self {
            out,
            current: Block {
                bytes: Vec::with_capacity(WINDOW + BLOCK),
                start: 0,
                last: false,
            },
            crc: Crc::new(),
            length: 0,
            engine,
        })
    }

    /// Hands over the current block and begins the next with its last bytes as dictionary.
    fn next_block(&mut self, last: bool) -> io::Result<()> {
        let mut bytes = match &mut self.engine {
            Engine::Threads { spare, .. } => spare.pop(),
            Engine::Inline { .. } => None,
        }
        .unwrap_or_else(|| Vec::with_capacity(WINDOW + BLOCK));
        let tail = self.current.bytes.len().saturating_sub(WINDOW);
        bytes.clear();
        bytes.extend_from_slice(&self.current.bytes[tail..]);
        let next = Block {
            start: bytes.len(),
            bytes,
            last: false,
        };
        let mut block = std::mem::replace(&mut self.current, next);
        block.last = last;
        // The trailer has the length modulo 2^32.
        self.length = self
            .length
            .wrapping_add((block.bytes.len() - block.start) as u32);
        match &mut self.engine {
            Engine::Inline { level, bytes } => {
                let crc = pack(*level, block.piece(), bytes)?;
                self.crc.combine(&crc);
                self.out.write_all(bytes)
            }
            Engine::Threads { pool, .. } => {
                if pool.is_full() {
                    self.collect()?;
                }
                self.submit(block)
            }
        }
    }

    fn submit(&mut self, block: Block) -> io::Result<()> {
        match &mut self.engine {
            Engine::Threads { pool, .. } => pool.submit(block),
            Engine::Inline { .. } => Ok(()),
        }
    }

    /// Writes the oldest block that is still with the threads.
    fn collect(&mut self) -> io::Result<()> {
        if let Engine::Threads { pool, spare } = &mut self.engine {
            let packed = pool.collect()??;
            self.crc.combine(&packed.crc);
            spare.push(packed.spare);
            self.out.write_all(&packed.bytes)?;
        }
        Ok(())
    }

    /// Writes the last block and the trailer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.next_block(true)?;
        while matches!(&self.engine, Engine::Threads { pool, .. } if pool.waiting() > 0) {
            self.collect()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.length.to_le_bytes())?;
        if let Engine::Threads { pool, .. } = self.engine {
            pool.stop()?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut room = BLOCK - (self.current.bytes.len() - self.current.start);
        if room == 0 {
            self.next_block(false)?;
            room = BLOCK;
        }
        let n = room.min(buf.len());
        self.current.bytes.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Block {
    fn piece(&self) -> Piece<'_> {
        Piece {
            bytes: &self.bytes,
            start: self.start,
            last: self.last,
        }
    }
}

fn pack_one(level: flate2::Compression, block: Block) -> io::Result<Packed> {
    let mut bytes = Vec::new();
    let crc = pack(level, block.piece(), &mut bytes)?;
    Ok(Packed {
        bytes,
        crc,
        spare: block.bytes,
    })
}

/// Appends a whole member to `out`, whose bytes depend on the data and the level only.
pub(super) fn member(level: u32, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&HEADER);
    let level = flate2::Compression::new(level.min(9));
    let mut crc = Crc::new();
    let mut packed = Vec::new();
    let mut at = 0_usize;
    loop {
        let (begin, end) = (at.saturating_sub(WINDOW), data.len().min(at + BLOCK));
        let piece = Piece {
            bytes: &data[begin..end],
            start: at - begin,
            last: end == data.len(),
        };
        crc.combine(&pack(level, piece, &mut packed)?);
        out.extend_from_slice(&packed);
        if piece.last {
            break;
        }
        at = end;
    }
    out.extend_from_slice(&crc.sum().to_le_bytes());
    // Modulo 2^32.
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    Ok(())
}

/// Compresses or stores one block to `out` and returns its checksum.
///
/// Starts from nothing each time: after a reset, zlib-rs still lets stale bytes of its window
/// decide between equally valid matches. The room for output depends on the data's length only, because
/// at level 0 it decides how the data is cut.
fn pack(level: flate2::Compression, block: Piece<'_>, out: &mut Vec<u8>) -> io::Result<Crc> {
    let data = &block.bytes[block.start..];
    let mut crc = Crc::new();
    crc.update(data);
    if is_incompressible(block)? {
        store(data, block.last, out);
        return Ok(crc);
    }
    let mut compress = Compress::new(level, false);
    if block.start > 0 {
        compress.set_dictionary(&block.bytes[..block.start])?;
    }
    let flush = if block.last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let room = OUTPUT.min(data.len() + data.len() / 4 + SLACK);
    out.resize(room, 0);
    let status = compress.compress(data, out, flush)?;
    // Both are bounded by the buffers' sizes.
    let (read, written) = (compress.total_in() as usize, compress.total_out() as usize);
    let complete = if block.last {
        status == Status::StreamEnd
    } else {
        read == data.len() && written < room
    };
    if !complete {
        return Err(io::Error::other("a block has grown beyond all bounds"));
    }
    out.truncate(written);
    Ok(crc)
}

/// Tells whether compressing a block is not worth the time, which deflate needs most of for data
/// that is compressed or encrypted already: its bytes are all equally frequent, and zstd, a dozen
/// times as fast, saves less than a 64th of it.
fn is_incompressible(block: Piece<'_>) -> io::Result<bool> {
    let data = &block.bytes[block.start..];
    if data.len() < SAMPLE || !is_even(data) {
        return Ok(false);
    }
    let size = zstd::bulk::compress(block.bytes, 1)?.len();
    Ok(size > block.bytes.len() - block.bytes.len() / 64)
}

/// Bytes of a block that are counted, at least.
const SAMPLE: usize = 64 * 1024;

/// Tells whether all byte values are about equally frequent.
fn is_even(data: &[u8]) -> bool {
    let step = data.len() / SAMPLE;
    let mut counts = [0_u64; 256];
    let mut total = 0;
    for byte in data.iter().step_by(step) {
        counts[usize::from(*byte)] += 1;
        total += 1;
    }
    // 256 × the sum of squares is total² when all are equal, and otherwise larger.
    let squares: u64 = counts.iter().map(|n| n * n).sum();
    256 * squares < total * total * 11 / 10
}

/// Writes stored blocks (RFC 1951, 3.2.4); `out` begins at a byte border, and so does what
/// follows.
fn store(data: &[u8], last: bool, out: &mut Vec<u8>) {
    out.clear();
    let mut pieces = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(piece) = pieces.next() {
        let length = piece.len() as u16;
        out.push(u8::from(last && pieces.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
}
