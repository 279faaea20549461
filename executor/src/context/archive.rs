//! Archives that users hand in: what they are compressed with, and whether they are archives.
//!
//! Responsible for telling by content, never by name, as Docker does. Must not interpret entries.
//! Invariant: memory is bounded whatever the stream says.

use std::io::{self, Cursor, Read};

use crate::layer::compress;

/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Memory that an xz stream may ask for, in KiB; the largest preset of xz(1) needs 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// Where a header's checksum is (POSIX.1-2017 pax, "ustar Header Block").
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The beginning of a stream, decompressed, and the stream.
pub struct Opened<'a> {
    /// Whether the stream is compressed by something that Docker knows.
    pub compressed: bool,
    /// Whether its decompressed content begins with a tar header.
    pub tar: bool,
    /// The whole decompressed stream.
    pub reader: Box<dyn Read + Send + 'a>,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("compressed", &self.compressed)
            .field("tar", &self.tar)
            .finish_non_exhaustive()
    }
}

/// Looks at a stream and decompresses it: gzip, bzip2, xz, zstd or nothing.
///
/// # Errors
/// Those of reading the first bytes. A stream that only looks compressed is no error, but no tar
/// either; its reader fails.
pub fn open<'a>(mut stream: impl Read + Send + 'a) -> io::Result<Opened<'a>> {
    let magic = read_up_to(&mut stream, 6)?;
    let other = match magic.as_slice() {
        [b'B', b'Z', b'h', ..] => true,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => true,
        other => compress::Format::detect(other) != compress::Format::None,
    };
    let is_xz = magic.first() == Some(&0xfd);
    let is_bzip2 = magic.starts_with(b"BZh");
    let whole = Cursor::new(magic).chain(stream);
    let mut reader: Box<dyn Read + Send + 'a> = if is_bzip2 {
        Box::new(bzip2::read::MultiBzDecoder::new(whole))
    } else if is_xz && other {
        Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY))
    } else {
        compress::sniff(whole)?.1
    };
    let head = match read_up_to(&mut reader, BLOCK) {
        Ok(head) => head,
        // What can't be decompressed is no archive; whoever reads on gets the error.
        Err(_) if other => Vec::new(),
        Err(e) => return Err(e),
    };
    Ok(Opened {
        compressed: other,
        tar: is_tar_header(&head),
        reader: Box::new(Cursor::new(head).chain(reader)),
    })
}

/// Tells whether a block is the header of an archive's entry, by its checksum.
fn is_tar_header(block: &[u8]) -> bool {
    if block.len() != BLOCK {
        return false;
    }
    let text = block[CHECKSUM]
        .split(|b| matches!(b, 0 | b' '))
        .find(|part| !part.is_empty());
    let stored = text
        .and_then(|t| std::str::from_utf8(t).ok())
        .and_then(|t| u64::from_str_radix(t, 8).ok());
    // The sum is taken with the checksum's own field as spaces; old writers summed signed bytes.
    let blank = 8 * u64::from(b' ');
    let outside = || {
        block
            .iter()
            .enumerate()
            .filter(|(i, _)| !CHECKSUM.contains(i))
            .map(|(_, byte)| *byte)
    };
    let unsigned: u64 = outside().map(u64::from).sum();
    let signed: i64 = outside().map(|b| i64::from(b.cast_signed())).sum();
    stored.is_some_and(|sum| {
        sum == unsigned + blank || i64::try_from(sum).is_ok_and(|s| s == signed + 256)
    })
}

/// Reads exactly `limit` bytes, or all there are.
fn read_up_to(reader: &mut dyn Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(limit);
    reader.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layer::entry::{Entry, EntryKind};
    use crate::layer::tar_write::TarWriter;
    use std::io::Write;

    /// Makes a tar of files, `(name, contents)`.
    pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (name, bytes) in files {
            let mut entry = Entry::new(*name, EntryKind::File, 0o644);
            entry.size = bytes.len() as u64;
            tar.append_reader(&entry, &mut &bytes[..]).expect("append");
        }
        tar.finish().expect("finish")
    }

    /// Compresses with xz(1): the library is built without its encoder.
    fn xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut input = tempfile::tempfile()?;
        input.write_all(bytes)?;
        std::io::Seek::rewind(&mut input)?;
        let output = std::process::Command::new("xz")
            .arg("-c")
            .stdin(input)
            .output()?;
        Ok(output.stdout)
    }

    fn all_forms(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar).expect("gzip");
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(tar).expect("bzip2");
        let mut forms = vec![
            ("plain", tar.to_vec()),
            ("gzip", gzip.finish().expect("gzip")),
            ("bzip2", bzip2.finish().expect("bzip2")),
            ("zstd", zstd::encode_all(tar, 1).expect("zstd")),
        ];
        match xz(tar) {
            Ok(bytes) => forms.push(("xz", bytes)),
            Err(e) => println!("SKIP: xz(1) does not run: {e}"),
        }
        forms
    }

    #[test]
    fn knows_archives_in_every_form() {
        let tar = tar_of(&[("a", b"hello"), ("b", b"")]);
        for (name, bytes) in all_forms(&tar) {
            let mut opened = open(&bytes[..]).expect(name);
            assert!(opened.tar, "{name}");
            assert_eq!(opened.compressed, name != "plain", "{name}");
            let mut out = Vec::new();
            opened.reader.read_to_end(&mut out).expect(name);
            assert_eq!(out, tar, "{name}");
        }
    }

    #[test]
    fn other_files_are_not_archives() {
        let long = "FROM scratch\n".repeat(100);
        let zeros = vec![0; 4096];
        for (name, bytes) in all_forms(long.as_bytes()) {
            assert!(!open(&bytes[..]).expect(name).tar, "{name}");
        }
        for bytes in [
            &b""[..],
            b"B",
            b"BZh",
            b"BZhello",
            b"\x1f\x8b\x08",
            b"\xfd7zXZ\0",
            &zeros,
        ] {
            let mut opened = open(bytes).expect("readable");
            assert!(!opened.tar, "{bytes:?}");
            if !opened.compressed {
                let mut out = Vec::new();
                opened.reader.read_to_end(&mut out).expect("plain");
                assert_eq!(out, bytes);
            }
        }
    }
}
