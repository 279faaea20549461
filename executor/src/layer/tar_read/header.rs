//! One entry's headers: the extensions before it and the header itself.
//!
//! Responsible for the order of precedence: GNU long names over PAX records over header fields,
//! as in Go's reader. Must not read data. Invariant: an extension applies to the one entry after
//! it and to no other header in between.

use std::collections::BTreeMap;
use std::io::Read;

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader, Header, OldHeader};

use super::fields::{clean, decimal, number, string, time};
use super::{BLOCK, Segment, TarReader, truncated};
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::pax;
use crate::layer::tar_write::XATTR_KEY;

/// Segments of one sparse file.
const MAX_SEGMENTS: usize = 1 << 20;

/// An entry and where its data lies.
pub(super) struct Parsed {
    pub(super) entry: Entry,
    /// Bytes of data in the archive.
    pub(super) stored: u64,
    pub(super) segments: Vec<Segment>,
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<i64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
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

/// Global records would apply to all later entries. Docker ignores them, GNU tar obeys them: those
/// on which the tree would depend are refused, so that nobody is misled.
fn check_global(data: &[u8]) -> Result<()> {
    for record in pax::records(data) {
        let (key, _) =
            record.map_err(|_| Error::new("the archive has a malformed global header"))?;
        let matters = matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
            || key.starts_with(XATTR_KEY)
            || key.starts_with(b"GNU.sparse.");
        if matters {
            return Err(Error::new(format!(
                "the archive sets `{}` in a global header, which is not supported",
                key.escape_ascii()
            )));
        }
    }
    Ok(())
}

impl Extensions {
    /// Takes over PAX records. The error says what is malformed.
    fn apply(&mut self, data: &[u8]) -> std::result::Result<(), &'static str> {
        for record in pax::records(data) {
            let (key, value) = record.map_err(|_| "PAX header")?;
            if let Some(name) = key.strip_prefix(XATTR_KEY) {
                if name.is_empty() || name.contains(&0) {
                    return Err("extended attribute");
                }
                self.xattrs.insert(name.to_vec(), value.to_vec());
                continue;
            }
            if key.starts_with(b"GNU.sparse.") {
                return Err(
                    "sparse file (PAX sparse files are not supported; the old GNU format is)",
                );
            }
            // An empty value takes the record back (POSIX).
            let given = !value.is_empty();
            match key {
                b"path" | b"linkpath" if value.contains(&0) => return Err("path"),
                b"path" => self.path = given.then(|| value.to_vec()),
                b"linkpath" => self.link = given.then(|| value.to_vec()),
                b"size" => self.size = optional(given, decimal(value), "size")?,
                b"uid" => self.uid = optional(given, decimal(value), "owner")?,
                b"gid" => self.gid = optional(given, decimal(value), "group")?,
                b"mtime" => self.mtime = optional(given, time(value), "time")?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn optional(
    given: bool,
    value: Option<i64>,
    what: &'static str,
) -> std::result::Result<Option<i64>, &'static str> {
    match (given, value) {
        (false, _) => Ok(None),
        (true, Some(value)) => Ok(Some(value)),
        (true, None) => Err(what),
    }
}

fn entry<R: Read>(
    reader: &mut TarReader<R>,
    header: &Header,
    extensions: Extensions,
    size: u64,
) -> Result<Parsed> {
    let old = header.as_old();
    let raw = extensions
        .long_name
        .or(extensions.path)
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let bad = |what: &'static str| bad_entry(&raw, what);
    if raw.is_empty() {
        return Err(Error::new("the archive has an entry without a name"));
    }
    if raw.len() > reader.limits.path {
        return Err(Error::new(format!(
            "the archive has a path of {} bytes; {} are allowed",
            raw.len(),
            reader.limits.path
        ))
        .path_bytes(&raw[..64.min(raw.len())]));
    }
    let path =
        clean(&raw).ok_or_else(|| bad_entry(&raw, "the entry's path leads out of the root"))?;
    let sparse = old.linkflag[0] == b'S';
    let kind = kind(old, &raw).ok_or_else(|| {
        let flag = old.linkflag[0];
        Error::new(format!(
            "the archive has an entry of type `{}`, which is not supported",
            flag.escape_ascii()
        ))
        .path_bytes(&raw)
    })?;
    let link = extensions
        .long_link
        .or(extensions.link)
        .unwrap_or_else(|| string(&old.linkname).to_vec());
    let link = match kind {
        EntryKind::Symlink => link,
        EntryKind::Hardlink => {
            clean(&link).ok_or_else(|| bad("the hard link leads out of the root"))?
        }
        _ => Vec::new(),
    };
    if matches!(kind, EntryKind::Symlink | EntryKind::Hardlink)
        && (link.is_empty() || link.len() > reader.limits.path)
    {
        return Err(bad("the link's target is empty or too long"));
    }
    let stored = match kind {
        EntryKind::File => match extensions.size {
            Some(size) => u64::try_from(size).map_err(|_| bad("the entry's size is negative"))?,
            None => size,
        },
        // Whatever size they claim, no data follows them.
        _ => 0,
    };
    if stored > i64::MAX as u64 - BLOCK as u64 {
        return Err(bad("the entry's size is impossible"));
    }
    let field = |given: Option<i64>, field: &[u8]| given.or_else(|| number(field));
    let id = |given, raw_field| {
        field(given, raw_field)
            .and_then(|id| u32::try_from(id).ok())
            // The highest means "leave it" to chown(2).
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| bad("the entry's owner is no valid id"))
    };
    let rdev = match kind {
        EntryKind::Char | EntryKind::Block => {
            device(header).ok_or_else(|| bad("the entry's device number is malformed"))?
        }
        _ => (0, 0),
    };
    let (uid, gid) = (id(extensions.uid, &old.uid)?, id(extensions.gid, &old.gid)?);
    let mode = number(&old.mode).ok_or_else(|| bad("the entry's mode is malformed"))?;
    let mtime =
        field(extensions.mtime, &old.mtime).ok_or_else(|| bad("the entry's time is malformed"))?;
    let (size, segments) = match header.as_gnu() {
        Some(gnu) if sparse => sparse_map(reader, gnu, stored, &raw)?,
        _ if sparse => return Err(bad("the entry is a sparse file without a GNU header")),
        _ => (
            stored,
            vec![Segment {
                offset: 0,
                len: stored,
            }],
        ),
    };
    Ok(Parsed {
        entry: Entry {
            path,
            kind,
            // Old tools put the file type above the permission bits.
            mode: (mode & 0o7777) as u32,
            uid,
            gid,
            size,
            mtime,
            link,
            rdev,
            xattrs: extensions.xattrs.into_iter().collect(),
        },
        stored,
        segments,
    })
}

fn kind(header: &OldHeader, path: &[u8]) -> Option<EntryKind> {
    Some(match header.linkflag[0] {
        // V7 had no type for directories.
        0 if path.ends_with(b"/") => EntryKind::Dir,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::Hardlink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Char,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Dir,
        b'6' => EntryKind::Fifo,
        _ => return None,
    })
}

fn device(header: &Header) -> Option<(u32, u32)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => return Some((0, 0)),
    };
    Some((
        u32::try_from(number(major)?).ok()?,
        u32::try_from(number(minor)?).ok()?,
    ))
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
