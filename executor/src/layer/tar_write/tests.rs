//! Headers against our own reader, against the crate `tar`, and against GNU tar.

use std::io::Seek;

use proptest::prelude::*;

use super::*;
use crate::layer::tar_read::{Limits, TarReader};

fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, data) in entries {
        tar.append_reader(entry, &mut &data[..]).expect("append");
    }
    tar.finish().expect("finish")
}

fn read_back(bytes: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = TarReader::new(bytes, Limits::default());
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().expect("entry") {
        let mut data = Vec::new();
        while let Some(chunk) = reader.next_chunk().expect("chunk") {
            assert_eq!(chunk.offset, data.len() as u64);
            data.extend_from_slice(chunk.bytes);
        }
        all.push((entry, data));
    }
    all
}

#[test]
fn a_plain_entry_is_plain_ustar() {
    let mut entry = Entry::new("etc/passwd", EntryKind::File, 0o4755);
    (entry.size, entry.mtime, entry.uid) = (3, 1_600_000_000, 1000);
    let bytes = archive(&[(entry, b"abc".to_vec())]);
    assert_eq!(bytes.len(), 512 + 512 + 1024);
    assert_eq!(&bytes[..11], b"etc/passwd\0");
    assert_eq!(&bytes[100..108], b"0004755\0");
    assert_eq!(&bytes[108..116], b"0001750\0");
    assert_eq!(&bytes[124..136], b"00000000003\0");
    assert_eq!(&bytes[136..148], b"13727410000\0");
    assert_eq!(bytes[156], b'0');
    assert_eq!(&bytes[257..265], b"ustar\x0000");
    assert_eq!(&bytes[265..329], &[0; 64], "no user names");
    assert_eq!(&bytes[329..345], b"0000000\x000000000\0");
}

#[test]
fn directories_end_in_a_slash() {
    let bytes = archive(&[
        (Entry::new("d", EntryKind::Dir, 0o755), Vec::new()),
        (Entry::new("", EntryKind::Dir, 0o755), Vec::new()),
    ]);
    assert_eq!(&bytes[..3], b"d/\0");
    assert_eq!(&bytes[512..515], b"./\0");
}

#[test]
fn a_size_that_changes_is_an_error() {
    let mut entry = Entry::new("f", EntryKind::File, 0o644);
    entry.size = 4;
    for data in [&b"abc"[..], b"abcde", b""] {
        let mut tar = TarWriter::new(Vec::new());
        let error = tar.append_reader(&entry, &mut &data[..]);
        let error = error.expect_err("another size");
        assert!(error.to_string().contains("changed its size"), "{error}");
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(data).expect("write");
        file.rewind().expect("rewind");
        let mut tar = TarWriter::new(Vec::new());
        assert!(tar.append_sparse(&entry, &file).is_err());
    }
    let dir = Entry {
        kind: EntryKind::Dir,
        ..entry
    };
    let error = TarWriter::new(Vec::new()).append(&dir).expect_err("data");
    assert_eq!(error.get_kind(), Kind::Internal);
}

#[test]
fn sparse_files_are_written_whole() {
    use std::os::unix::fs::FileExt;
    for (len, data) in [
        (0, &[][..]),
        (5_000_000, &[]),
        (5_000_000, &[0, 2_000_000, 4_999_990]),
        (1_000_000, &[999_990]),
    ] {
        let file = tempfile::tempfile().expect("file");
        file.set_len(len).expect("truncate");
        for at in data {
            file.write_all_at(b"0123456789", *at).expect("write");
        }
        let mut entry = Entry::new("f", EntryKind::File, 0o644);
        entry.size = len;
        let mut sparse = TarWriter::new(Vec::new());
        sparse.append_sparse(&entry, &file).expect("append");
        let mut plain = TarWriter::new(Vec::new());
        (&file).rewind().expect("rewind");
        plain.append_reader(&entry, &mut &file).expect("append");
        assert_eq!(sparse.len(), plain.len());
        assert!(sparse.finish().expect("finish") == plain.finish().expect("finish"));
    }
}

#[test]
fn gnu_tar_reads_it() {
    let mut long = Entry::new("long/".repeat(60) + "file", EntryKind::File, 0o600);
    long.size = 3;
    let mut owned = Entry::new("owned", EntryKind::File, 0o600);
    (owned.uid, owned.gid) = (4_000_000, 3_999_999);
    let mut link = Entry::new("link", EntryKind::Symlink, 0o777);
    link.link = b"t".repeat(150);
    let bytes = archive(&[
        (long.clone(), b"abc".to_vec()),
        (owned, Vec::new()),
        (link.clone(), Vec::new()),
    ]);
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(&bytes).expect("write");
    let listing = std::process::Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(file.path())
        .output();
    let Ok(listing) = listing else {
        println!("SKIP: tar is not installed");
        return;
    };
    assert!(listing.status.success(), "{listing:?}");
    assert!(listing.stderr.is_empty(), "{listing:?}");
    let text = String::from_utf8(listing.stdout).expect("text");
    for part in [&long.path, &b"4000000/3999999".to_vec(), &link.link] {
        let part = std::str::from_utf8(part).expect("text");
        assert!(text.contains(part), "{part} in {text}");
    }
}

fn name(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[a-zA-Z0-9._-]{1,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..40),
    ];
    prop::collection::vec(part, 1..longest).prop_map(|parts| {
        let mut path = parts.join(&b'/');
        // Not a path as entries have them.
        path.retain(|b| *b != 0);
        let parts = path.split(|b| *b == b'/').map(<[u8]>::to_vec);
        let parts: Vec<_> = parts
            .filter(|p| !p.is_empty() && p != b"." && p != b"..")
            .collect();
        if parts.is_empty() {
            b"x".to_vec()
        } else {
            parts.join(&b'/')
        }
    })
}

fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Dir),
        Just(EntryKind::Symlink),
        Just(EntryKind::Hardlink),
        Just(EntryKind::Char),
        Just(EntryKind::Block),
        Just(EntryKind::Fifo),
    ];
    let xattr = (
        "user\\.[a-z]{1,10}",
        prop::collection::vec(any::<u8>(), 0..40),
    );
    (
        (
            name(20),
            kind,
            0..0o10000_u32,
            0..u32::MAX,
            0..u32::MAX,
            -5..20_000_000_000_i64,
        ),
        (name(20), 0..4096_u32, 0..(1_u32 << 20)),
        prop::collection::btree_map(xattr.0, xattr.1, 0..3),
        prop::collection::vec(any::<u8>(), 0..1500),
    )
        .prop_map(
            |((path, kind, mode, uid, gid, mtime), (link, major, minor), xattrs, data)| {
                let is_link = matches!(kind, EntryKind::Symlink | EntryKind::Hardlink);
                let is_device = matches!(kind, EntryKind::Char | EntryKind::Block);
                let data = if kind == EntryKind::File {
                    data
                } else {
                    Vec::new()
                };
                let entry = Entry {
                    path,
                    kind,
                    mode,
                    uid,
                    gid,
                    size: data.len() as u64,
                    mtime,
                    link: if is_link { link } else { Vec::new() },
                    rdev: if is_device { (major, minor) } else { (0, 0) },
                    xattrs: xattrs
                        .into_iter()
                        .map(|(k, v)| (k.into_bytes(), v))
                        .collect(),
                };
                (entry, data)
            },
        )
}

fn has_line_end((entry, _): &(Entry, Vec<u8>)) -> bool {
    let values = entry.xattrs.iter().map(|(_, value)| value);
    let mut texts = [&entry.path, &entry.link].into_iter().chain(values);
    texts.any(|text| text.contains(&b'\n'))
}

proptest! {
    #[test]
    fn entries_are_read_back(entries in prop::collection::vec(entry(), 0..6)) {
        let bytes = archive(&entries);
        let mut expected = entries.clone();
        for (entry, _) in &mut expected {
            entry.mtime = entry.mtime.max(0);
        }
        prop_assert_eq!(read_back(&bytes), expected);
        // Another reader finds the same names and sizes, but it cuts PAX records at line ends.
        if entries.iter().any(has_line_end) {
            return Ok(());
        }
        let mut other = tar::Archive::new(&bytes[..]);
        for (ours, theirs) in entries.iter().zip(other.entries().expect("entries")) {
            let theirs = theirs.expect("entry");
            let path = theirs.path_bytes();
            prop_assert_eq!(path.strip_suffix(b"/").unwrap_or(&path), &ours.0.path[..]);
            prop_assert_eq!(theirs.size(), ours.0.size);
        }
    }
}
