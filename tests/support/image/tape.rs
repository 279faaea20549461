//! Reading tar archives: ustar, GNU long names, pax records.
//!
//! Responsible for entries exactly as they were written. The `tar` crate takes a newline for the
//! end of a pax record, which breaks names and attributes that contain one; those are what a
//! comparer must not stumble over.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};

/// The header of an entry, with its extensions applied.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Name, as written.
    pub path: Vec<u8>,
    /// Type flag of the format.
    pub kind: u8,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of data.
    pub size: u64,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Calls `visit` for each entry, with a reader of its data. What `visit` leaves unread is skipped.
pub(super) fn entries(
    tape: &mut dyn Read,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut global = Records::new();
    let mut local = Records::new();
    let mut long_path = None;
    let mut long_link = None;
    loop {
        let mut block = [0; 512];
        if !fill(tape, &mut block)? || block == [0; 512] {
            return Ok(());
        }
        verify(&block)?;
        let kind = block[156];
        let header_size = number(&block[124..136])?;
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            ensure!(
                header_size <= 1 << 20,
                "an extension of {header_size} bytes"
            );
            let mut data = Vec::new();
            Read::take(&mut *tape, padded(header_size)).read_to_end(&mut data)?;
            data.truncate(usize::try_from(header_size)?);
            match kind {
                b'x' => local = records(&data)?,
                b'g' => global.extend(records(&data)?),
                b'L' => long_path = Some(text(&data)),
                _ => long_link = Some(text(&data)),
            }
            continue;
        }
        let mut all = global.clone();
        all.append(&mut local);
        let entry = entry(&block, kind, &all, long_path.take(), long_link.take())?;
        let shown = String::from_utf8_lossy(&entry.path).into_owned();
        let size = entry.size;
        let mut data = Read::take(&mut *tape, size);
        visit(entry, &mut data).context(shown)?;
        let rest = data.limit() + padded(size) - size;
        let skipped = io::copy(&mut Read::take(&mut *tape, rest), &mut io::sink())?;
        ensure!(skipped == rest, "the archive is cut off");
    }
}

fn entry(
    block: &[u8; 512],
    kind: u8,
    pax: &Records,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
) -> Result<Entry> {
    if kind == b'S' || pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
        bail!("a sparse entry can't be compared");
    }
    let mut path = text(&block[..100]);
    // In GNU's own form these bytes hold other things.
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        path = [&text(&block[345..500]), b"/".as_slice(), &path].concat();
    }
    let value = |key: &str| pax.get(key.as_bytes());
    let decimal = |key: &str, field: &[u8]| match value(key) {
        Some(text) => Ok(std::str::from_utf8(text)?.parse::<u64>()?),
        None => number(field),
    };
    let mtime = match value("mtime") {
        Some(text) => {
            let text = std::str::from_utf8(text)?;
            text.split('.').next().unwrap_or(text).parse()?
        }
        None => i64::try_from(number(&block[136..148])?)?,
    };
    let size = decimal("size", &block[124..136])?;
    let mut xattrs = BTreeMap::new();
    for (key, value) in pax {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            xattrs.insert(String::from_utf8_lossy(name).into_owned(), value.clone());
        }
    }
    Ok(Entry {
        path: value("path").cloned().or(long_path).unwrap_or(path),
        kind,
        link: value("linkpath")
            .cloned()
            .or(long_link)
            .unwrap_or_else(|| text(&block[157..257])),
        mode: u32::try_from(number(&block[100..108])? & 0o7777)?,
        uid: decimal("uid", &block[108..116])?,
        gid: decimal("gid", &block[116..124])?,
        mtime,
        // Only these kinds are followed by data, whatever their headers say.
        size: if matches!(kind, b'0' | 0 | b'7') {
            size
        } else {
            0
        },
        device: (
            u32::try_from(number(&block[329..337])?)?,
            u32::try_from(number(&block[337..345])?)?,
        ),
        xattrs,
    })
}

/// Reads a whole block; false at the end.
fn fill(tape: &mut dyn Read, block: &mut [u8; 512]) -> Result<bool> {
    let mut count = 0;
    while count < block.len() {
        match tape.read(&mut block[count..])? {
            0 if count == 0 => return Ok(false),
            0 => bail!("the archive is cut off"),
            more => count += more,
        }
    }
    Ok(true)
}

fn verify(block: &[u8; 512]) -> Result<()> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            u64::from(if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            })
        })
        .sum();
    ensure!(
        sum == number(&block[148..156])?,
        "wrong checksum of a header"
    );
    Ok(())
}

/// Reads a number: octal digits, or big-endian bytes behind a set first bit.
fn number(field: &[u8]) -> Result<u64> {
    if field[0] & 0x80 != 0 {
        ensure!(field[0] == 0x80, "a number that is negative or too big");
        return field[1..].iter().try_fold(0_u64, |value, byte| {
            let shifted = value.checked_mul(256).context("a number that is too big")?;
            Ok(shifted + u64::from(*byte))
        });
    }
    let digits = text(field);
    let digits = std::str::from_utf8(&digits)?.trim();
    if digits.is_empty() {
        Ok(0)
    } else {
        Ok(u64::from_str_radix(digits, 8)?)
    }
}

fn text(field: &[u8]) -> Vec<u8> {
    field
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(512)
}

/// Reads records of the form `LENGTH KEY=VALUE\n`, where the length is that of the whole record.
fn records(mut data: &[u8]) -> Result<Records> {
    let mut records = Records::new();
    while !data.is_empty() {
        let space = data
            .iter()
            .position(|byte| *byte == b' ')
            .context("a broken pax record")?;
        let length: usize = std::str::from_utf8(&data[..space])?.parse()?;
        let record = data
            .get(space + 1..length)
            .context("a pax record that is cut off")?;
        let record = record
            .strip_suffix(b"\n")
            .context("a pax record without an end")?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .context("a pax record")?;
        records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        data = &data[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Layer, owned};

    fn read(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut found = Vec::new();
        entries(&mut &*tar, |entry, data| {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes)?;
            found.push((entry, bytes));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn attributes_may_contain_newlines() {
        let value = b"a\nb=c\n\xff";
        let tar = Layer::empty()
            .file_with(
                "f",
                owned(0o4755, 1, 3_000_000),
                b"data",
                &[("user.x", value)],
            )
            .file("g", owned(0o600, 0, 0), &[7; 1000])
            .finish();
        let found = read(&tar).unwrap();
        assert_eq!(found[0].0.xattrs["user.x"], value);
        assert_eq!((found[0].0.mode, found[0].0.gid), (0o4755, 3_000_000));
        assert_eq!(found[0].1, b"data");
        assert_eq!(found[1].0.xattrs.len(), 0);
        assert_eq!(found[1].1, [7; 1000]);
    }

    #[test]
    fn long_names_are_whole() {
        let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        let tar = Layer::empty()
            .file(&name, owned(0o644, 0, 0), b"")
            .symlink("l", &name)
            .finish();
        let found = read(&tar).unwrap();
        assert_eq!(found[0].0.path, name.as_bytes());
        assert_eq!(found[1].0.link, name.as_bytes());
    }

    #[test]
    fn damage_is_an_error() {
        let tar = Layer::empty()
            .file("f", owned(0o644, 0, 0), &[1; 600])
            .finish();
        assert!(read(&tar[..900]).is_err());
        let mut changed = tar.clone();
        changed[0] = b'g';
        assert!(read(&changed).is_err());
    }
}
