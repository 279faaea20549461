//! One entry's headers: the extensions before it and the header itself.
//!
//! Responsible for the order of precedence: GNU long names over PAX records over header fields,
//! as in Go's reader. Must not read data. Invariant: an extension applies to the one entry after
//! it and to no other header in between.

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader, Header, OldHeader};

use super::extensions::{Extensions, check_global};
use super::fields::{clean, number, string};
use super::{BLOCK, Segment, TarReader, truncated};
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind};

/// Segments of one sparse file.
const MAX_SEGMENTS: usize = 1 << 20;

/// An entry and where its data lies.
pub(super) struct Parsed {
    pub(super) entry: Entry,
    /// The path as the archive has it.
    pub(super) name: Vec<u8>,
    /// Bytes of data in the archive.
    pub(super) stored: u64,
    pub(super) segments: Vec<Segment>,
}

/// Reads headers up to and including the next entry's.
pub(super) fn read<R: Read>(reader: &mut TarReader<R>) -> Result<Option<Parsed>> {
    let mut extensions = Extensions::default();
    let mut pending = false;
    loop {
        let Some(block) = reader.block()? else {
            // Archives without the closing zeros exist, and Docker reads them.
            return if pending { Err(truncated()) } else { Ok(None) };
        };
        if block.iter().all(|b| *b == 0) {
            return if pending {
                Err(truncated())
            } else {
                end(reader)
            };
        }
        reader.headers += 1;
        if reader.headers > reader.limits.entries {
            return Err(Error::new(format!(
                "the archive has more than {} entries, which is the limit",
                reader.limits.entries
            )));
        }
        check_sum(&block)?;
        let header = Header::from_byte_slice(&block);
        let old = header.as_old();
        let size = number(&old.size).ok_or_else(|| malformed(&block, "size"))?;
        let size = u64::try_from(size).map_err(|_| malformed(&block, "size"))?;
        match old.linkflag[0] {
            b'x' => {
                let data = reader.extension(size)?;
                extensions
                    .apply(&data)
                    .map_err(|what| malformed(&block, what))?;
            }
            b'g' => check_global(&reader.extension(size)?)?,
            b'L' => extensions.long_name = Some(string(&reader.extension(size)?).to_vec()),
            b'K' => extensions.long_link = Some(string(&reader.extension(size)?).to_vec()),
            _ => return entry(reader, header, extensions, size).map(Some),
        }
        // A global header is no part of the next entry.
        pending |= old.linkflag[0] != b'g';
    }
}

/// Accepts one block of zeros as an end when nothing but zeros or nothing at all follows.
fn end<R: Read>(reader: &mut TarReader<R>) -> Result<Option<Parsed>> {
    match reader.block()? {
        Some(block) if block.iter().any(|b| *b != 0) => {
            Err(Error::new("the archive goes on behind a block of zeros"))
        }
        _ => Ok(None),
    }
}

/// Compares the checksum, which some old tools computed over signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if FIELD.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    match number(&block[FIELD]) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(Error::new("the archive has a damaged header").hint("is it a tar archive?")),
    }
}

/// A header and the extensions before it.
struct Described<'a> {
    header: &'a Header,
    extensions: &'a Extensions,
    /// The path as the archive has it.
    raw: &'a [u8],
    max_path: usize,
}

fn entry<R: Read>(
    reader: &mut TarReader<R>,
    header: &Header,
    extensions: Extensions,
    size: u64,
) -> Result<Parsed> {
    let own = header.path_bytes();
    let long = extensions.long_name.as_ref().or(extensions.path.as_ref());
    let described = Described {
        header,
        extensions: &extensions,
        raw: long.map_or(&*own, |long| long),
        max_path: reader.limits.path,
    };
    let path = described.path()?;
    let kind = described.kind()?;
    let stored = described.stored(kind, size)?;
    let (uid, gid) = described.owner()?;
    let mut entry = Entry {
        uid,
        gid,
        size: stored,
        mtime: described.mtime()?,
        link: described.link(kind)?,
        rdev: described.device(kind)?,
        ..Entry::new(path, kind, described.mode()?)
    };
    let mut segments = vec![Segment {
        offset: 0,
        len: stored,
    }];
    if header.as_old().linkflag[0] == b'S' {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| described.bad("the entry is a sparse file without a GNU header"))?;
        (entry.size, segments) = sparse_map(reader, gnu, stored, described.raw)?;
    }
    let name = described.raw.to_vec();
    entry.xattrs = extensions.xattrs.into_iter().collect();
    Ok(Parsed {
        entry,
        name,
        stored,
        segments,
    })
}

impl Described<'_> {
    fn bad(&self, what: &'static str) -> Error {
        bad_entry(self.raw, what)
    }

    fn old(&self) -> &OldHeader {
        self.header.as_old()
    }

    fn path(&self) -> Result<Vec<u8>> {
        if self.raw.is_empty() {
            return Err(Error::new("the archive has an entry without a name"));
        }
        if self.raw.len() > self.max_path {
            return Err(Error::new(format!(
                "the archive has a path of {} bytes; {} are allowed",
                self.raw.len(),
                self.max_path
            ))
            .path_bytes(&self.raw[..64.min(self.raw.len())]));
        }
        clean(self.raw).ok_or_else(|| self.bad("the entry's path leads out of the root"))
    }

    fn kind(&self) -> Result<EntryKind> {
        if self.extensions.pax_sparse {
            return Err(self
                .bad("the entry is a sparse file in PAX format, which is not supported")
                .hint("write the archive with `tar --format=gnu`, or without `--sparse`"));
        }
        Ok(match self.old().linkflag[0] {
            // V7 had no type for directories.
            0 if self.raw.ends_with(b"/") => EntryKind::Dir,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::Hardlink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::Char,
            b'4' => EntryKind::Block,
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            other => {
                return Err(Error::new(format!(
                    "the archive has an entry of type `{}`, which is not supported",
                    other.escape_ascii()
                ))
                .path_bytes(self.raw));
            }
        })
    }

    fn link(&self, kind: EntryKind) -> Result<Vec<u8>> {
        if !matches!(kind, EntryKind::Symlink | EntryKind::Hardlink) {
            return Ok(Vec::new());
        }
        let extensions = self.extensions;
        let long = extensions.long_link.as_ref().or(extensions.link.as_ref());
        let link = long.map_or_else(|| string(&self.old().linkname), Vec::as_slice);
        let link = if kind == EntryKind::Hardlink {
            clean(link).ok_or_else(|| self.bad("the hard link leads out of the root"))?
        } else {
            link.to_vec()
        };
        if link.is_empty() || link.len() > self.max_path {
            return Err(self.bad("the link's target is empty or too long"));
        }
        Ok(link)
    }

    /// Returns how many bytes of data follow the header.
    fn stored(&self, kind: EntryKind, size: u64) -> Result<u64> {
        if kind != EntryKind::File {
            // Whatever size they claim, no data follows them.
            return Ok(0);
        }
        let stored = match self.extensions.size {
            Some(size) => {
                u64::try_from(size).map_err(|_| self.bad("the entry's size is negative"))?
            }
            None => size,
        };
        if stored > i64::MAX as u64 - BLOCK as u64 {
            return Err(self.bad("the entry's size is impossible"));
        }
        Ok(stored)
    }

    fn owner(&self) -> Result<(u32, u32)> {
        let id = |given: Option<i64>, field| {
            given
                .or_else(|| number(field))
                .and_then(|id| u32::try_from(id).ok())
                // The highest means "leave it" to chown(2).
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| self.bad("the entry's owner is no valid id"))
        };
        Ok((
            id(self.extensions.uid, &self.old().uid)?,
            id(self.extensions.gid, &self.old().gid)?,
        ))
    }

    /// Returns the permission bits; old tools put the file type above them.
    fn mode(&self) -> Result<u32> {
        let mode = number(&self.old().mode);
        let mode = mode.ok_or_else(|| self.bad("the entry's mode is malformed"))?;
        Ok((mode & 0o7777) as u32)
    }

    fn mtime(&self) -> Result<i64> {
        let given = self.extensions.mtime;
        given
            .or_else(|| number(&self.old().mtime))
            .ok_or_else(|| self.bad("the entry's time is malformed"))
    }

    fn device(&self, kind: EntryKind) -> Result<(u32, u32)> {
        if !matches!(kind, EntryKind::Char | EntryKind::Block) {
            return Ok((0, 0));
        }
        let (major, minor) = match (self.header.as_ustar(), self.header.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            (None, None) => return Ok((0, 0)),
        };
        let part = |field: &[u8]| {
            number(field)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| self.bad("the entry's device number is malformed"))
        };
        Ok((part(major)?, part(minor)?))
    }
}

/// Reads the map of an old GNU sparse file; returns the file's size and its runs of data.
fn sparse_map<R: Read>(
    reader: &mut TarReader<R>,
    header: &GnuHeader,
    stored: u64,
    path: &[u8],
) -> Result<(u64, Vec<Segment>)> {
    let bad = || bad_entry(path, "the sparse file's map is malformed");
    let size = u64::try_from(number(&header.realsize).ok_or_else(bad)?).map_err(|_| bad())?;
    let mut segments = Vec::new();
    let mut add = |runs: &[GnuSparseHeader]| -> Option<()> {
        for run in runs.iter().filter(|run| run.numbytes[0] != 0) {
            segments.push(Segment {
                offset: u64::try_from(number(&run.offset)?).ok()?,
                len: u64::try_from(number(&run.numbytes)?).ok()?,
            });
        }
        (segments.len() <= MAX_SEGMENTS).then_some(())
    };
    add(&header.sparse).ok_or_else(bad)?;
    let mut more = header.isextended[0] != 0;
    while more {
        let block = reader.block()?.ok_or_else(truncated)?;
        let mut extension = GnuExtSparseHeader::new();
        extension.as_mut_bytes().copy_from_slice(&block);
        add(&extension.sparse).ok_or_else(bad)?;
        more = extension.isextended[0] != 0;
    }
    let mut end = 0;
    let mut sum = 0;
    for segment in &segments {
        let next = segment.offset.checked_add(segment.len).ok_or_else(bad)?;
        if segment.offset < end || next > size {
            return Err(bad());
        }
        end = next;
        sum += segment.len;
    }
    if sum != stored {
        return Err(bad());
    }
    Ok((size, segments))
}

fn malformed(block: &[u8; BLOCK], what: &'static str) -> Error {
    let name = Header::from_byte_slice(block).path_bytes();
    Error::new(format!("the archive has a malformed {what} at")).path_bytes(&name)
}

fn bad_entry(path: &[u8], what: &'static str) -> Error {
    Error::new(what).path_bytes(path)
}
