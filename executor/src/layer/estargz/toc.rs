//! The table of contents of an eStargz blob.
//!
//! Responsible for what it says about each entry and chunk, and for its text. Must not know how members
//! are made. Invariants: rows are in the order of the archive; the same archive at the same level gives
//! the same text.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::layer::entry::{Entry, EntryKind};

/// The most bytes of a table: more than anybody reads of one.
const MAX_TEXT: usize = 256 << 20;

/// What a table may say about time: years that RFC 3339 can write.
const TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// One entry of the archive, or a chunk of one after the first.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modtime: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_minor: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    /// None for the last chunk, which ends where the file does.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
    /// Which member of its batch it begins.
    #[serde(skip)]
    member: Option<usize>,
    /// Digest of the whole file of which this is the last chunk.
    #[serde(skip)]
    end: Option<Digest>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Row {
    /// Describes an entry, under the name that it has in the archive.
    ///
    /// # Errors
    /// When a name is not UTF-8, which JSON can't hold.
    pub(super) fn new(name: &[u8], entry: &Entry) -> Result<Self> {
        let text = |bytes: &[u8], what: &'static str| {
            String::from_utf8(bytes.to_vec()).map_err(|_| {
                Error::new(format!("eStargz can't hold {what} that is not UTF-8:"))
                    .path_bytes(&entry.path)
                    .hint("use another compression for this layer")
            })
        };
        let xattrs = entry.xattrs.iter().map(|(name, value)| {
            let name = text(name, "the name of an attribute")?;
            Ok((name, STANDARD.encode(value)))
        });
        let is_device = matches!(entry.kind, EntryKind::Char | EntryKind::Block);
        let time = Some(entry.mtime).filter(|time| *time != 0 && TIMES.contains(time));
        let time = time.and_then(|time| jiff::Timestamp::from_second(time).ok());
        let is_empty = entry.kind == EntryKind::File && entry.size == 0;
        Ok(Self {
            name: text(name, "a name")?,
            kind: match entry.kind {
                EntryKind::File => "reg",
                EntryKind::Dir => "dir",
                EntryKind::Symlink => "symlink",
                EntryKind::Hardlink => "hardlink",
                EntryKind::Char => "char",
                EntryKind::Block => "block",
                EntryKind::Fifo => "fifo",
            },
            size: entry.size,
            modtime: time.map(|time| time.to_string()),
            link_name: text(&entry.link, "a link's target")?,
            mode: Some(entry.mode),
            uid: Some(entry.uid),
            gid: Some(entry.gid),
            dev_major: is_device.then_some(entry.rdev.0),
            dev_minor: is_device.then_some(entry.rdev.1),
            xattrs: xattrs.collect::<Result<_>>()?,
            digest: is_empty.then(|| Digest::of(b"")),
            ..Self::default()
        })
    }

    /// Describes a chunk of the file of this name, which is the entry before it, from this offset on.
    pub(super) fn chunk(name: &str, offset: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind: "chunk",
            chunk_offset: offset,
            ..Self::default()
        }
    }

    /// Says in which member of its batch its data is, and how much; `None` for the last of a file.
    pub(super) fn in_member(mut self, member: usize, length: Option<u64>) -> Self {
        self.member = Some(member);
        self.chunk_size = length;
        self
    }

    /// Returns the entry's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the member of its batch.
    pub(super) fn member(&self) -> Option<usize> {
        self.member
    }

    /// Says where in the blob its member is, and the digest of its data.
    pub(super) fn put(&mut self, offset: u64, data: &Digest) {
        self.offset = Some(offset);
        self.chunk_digest = Some(*data);
        if self.kind == "reg" && self.chunk_size.is_none() {
            self.digest = Some(*data);
        }
    }

    /// Says that it is the last chunk of a file with this digest.
    pub(super) fn end(&mut self, whole: Digest) {
        self.end = Some(whole);
    }
}

/// A table under construction.
#[derive(Debug)]
pub(super) struct Toc {
    text: Vec<u8>,
    is_first: bool,
    /// The rows of a file of several chunks whose digest is not known yet.
    held: Vec<Row>,
}

impl Toc {
    pub(super) fn new() -> Self {
        Self {
            text: br#"{"version":1,"entries":["#.to_vec(),
            is_first: true,
            held: Vec::new(),
        }
    }

    /// Adds a row that is in its place.
    ///
    /// # Errors
    /// When the table gets too large.
    pub(super) fn add(&mut self, row: Row) -> Result<()> {
        let waits = row.kind == "reg" && row.chunk_size.is_some();
        if !waits && self.held.is_empty() {
            return self.write(&row);
        }
        let end = row.end;
        self.held.push(row);
        if end.is_some() {
            let mut held = std::mem::take(&mut self.held);
            held[0].digest = end;
            for row in &held {
                self.write(row)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, row: &Row) -> Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, row).expect("a row has string keys only");
        if self.text.len() > MAX_TEXT {
            return Err(Error::new(format!(
                "the layer has too many files for eStargz: its table of contents has more than {} MiB",
                MAX_TEXT >> 20
            ))
            .hint("use another compression for this layer"));
        }
        Ok(())
    }

    /// Ends the table.
    pub(super) fn into_text(mut self) -> Vec<u8> {
        self.text.extend_from_slice(b"]}\n");
        self.text
    }
}
