use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::layer::testing::{RawHeader, RawTar};

fn pack(archive: &[u8], level: u32, threads: usize) -> Result<Sealed<Vec<u8>>> {
    write(archive, Vec::new(), level, threads)
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut reader = decoder(bytes, Format::Gzip).expect("gzip");
    reader.read_to_end(&mut plain).expect("whole");
    plain
}

/// Bytes that compress, though not to nothing, and differ with the seed.
fn text(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    (0..len).map(|_| b'a' + next()).collect()
}

/// The files of an archive by the names that they have there.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut tar = TarReader::new(archive, Limits::default());
    let mut files = BTreeMap::new();
    while let Some(entry) = tar.next_entry().expect("an archive") {
        let name = String::from_utf8(tar.name().to_vec()).expect("a name");
        let mut data = Vec::new();
        while let Some(chunk) = tar.next_chunk().expect("data") {
            data.extend_from_slice(chunk.bytes);
        }
        if entry.kind == EntryKind::File {
            files.insert(name, data);
        }
    }
    files
}

/// Reads a blob as somebody does who has the footer only, and compares it with the archive.
fn verify(sealed: &Sealed<Vec<u8>>, archive: &[u8]) -> Vec<Value> {
    let blob = &sealed.out;
    let plain = unpack(blob);
    assert!(plain.starts_with(archive));
    assert_eq!(Digest::of(archive), sealed.archive);
    assert_eq!(Digest::of(&plain), sealed.unpacked);
    assert_eq!(plain.len() as u64, sealed.size);
    // To a plain reader the archive ends where it did.
    assert_eq!(files(&plain), files(archive));

    let mut file = tempfile::tempfile().expect("file");
    file.write_all(blob).expect("write");
    let offset = toc_offset(&file).expect("read").expect("a footer") as usize;
    file.seek(SeekFrom::Start(0)).expect("seek");
    let mut own = Vec::new();
    let reader = super::archive(file).expect("read").expect("eStargz");
    reader.take(u64::MAX).read_to_end(&mut own).expect("whole");
    // What was lacking at its end was added.
    assert!(own.starts_with(archive) && own.len() <= archive.len() + 1024);
    let (table, end) = blob[offset..].split_at(blob.len() - offset - FOOTER);
    assert_eq!(end, footer(offset as u64));
    assert_eq!(unpack(end), b"");
    let table = files(&unpack(table));
    let (name, toc) = table.first_key_value().expect("an entry");
    assert_eq!((name.as_bytes(), table.len()), (TOC_NAME, 1));
    assert_eq!(Digest::of(toc), sealed.toc);
    let toc: Value = serde_json::from_slice(toc).expect("json");
    assert_eq!(toc["version"], 1);
    let rows = toc["entries"].as_array().expect("entries").clone();
    verify_data(blob, &rows, &files(archive));
    rows
}

fn verify_data(blob: &[u8], rows: &[Value], files: &BTreeMap<String, Vec<u8>>) {
    let mut seen = 0;
    let mut read: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (n, row) in rows.iter().enumerate() {
        let name = row["name"].as_str().expect("a name").to_owned();
        let kind = row["type"].as_str().expect("a type");
        if !matches!(kind, "reg" | "chunk") {
            continue;
        }
        let data = read.entry(name.clone()).or_default();
        let whole = &files[&name];
        if kind == "reg" {
            seen += 1;
            assert_eq!(row["size"].as_u64().unwrap_or(0), whole.len() as u64);
            assert_eq!(row["digest"], Digest::of(whole).to_string());
            if whole.is_empty() {
                assert!(row.get("offset").is_none() && row.get("chunkDigest").is_none());
                continue;
            }
        } else {
            assert_eq!(rows[n - 1]["name"], name);
        }
        assert_eq!(row["chunkOffset"].as_u64().unwrap_or(0), data.len() as u64);
        let rest = (whole.len() - data.len()) as u64;
        let size = row["chunkSize"].as_u64().unwrap_or(rest);
        assert_eq!(row.get("chunkSize").is_none(), size == rest, "{row}");
        // A gzip header is there, and the data begins with the chunk.
        let offset = row["offset"].as_u64().expect("an offset") as usize;
        let mut chunk = Vec::new();
        let member = flate2::bufread::GzDecoder::new(&blob[offset..]);
        member.take(size).read_to_end(&mut chunk).expect("a member");
        assert_eq!(row["chunkDigest"], Digest::of(&chunk).to_string());
        data.extend(chunk);
    }
    assert_eq!(seen, files.len());
    assert!(&read == files);
}

/// An archive with entries of all kinds.
fn archive() -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let mut add = |entry: Entry, data: &[u8]| {
        let entry = Entry {
            size: data.len() as u64,
            mtime: 1_700_000_000,
            ..entry
        };
        tar.append_reader(&entry, &mut &data[..]).expect("append");
    };
    let file = |name: &str| Entry::new(name, EntryKind::File, 0o4755);
    add(Entry::new("", EntryKind::Dir, 0o755), b"");
    add(Entry::new("d", EntryKind::Dir, 0o1777), b"");
    add(file("d/empty"), b"");
    add(file("d/small"), b"small");
    add(file("d/chunk"), &text(1, members::CHUNK as usize));
    add(file("d/more"), &text(2, 2 * members::CHUNK as usize + 1));
    add(file("d/after"), &text(3, 600_000));
    let link = |kind, to: &str| Entry {
        link: to.into(),
        ..Entry::new(format!("to-{to}"), kind, 0o777)
    };
    add(link(EntryKind::Symlink, "../x y"), b"");
    add(
        Entry {
            link: b"d/small".to_vec(),
            ..Entry::new("hard", EntryKind::Hardlink, 0o644)
        },
        b"",
    );
    add(
        Entry {
            rdev: (1, 3),
            uid: 70_000,
            gid: 5,
            ..Entry::new("null", EntryKind::Char, 0o666)
        },
        b"",
    );
    let long = format!("{}/ä", "long".repeat(60));
    add(
        Entry {
            xattrs: vec![(b"user.x".to_vec(), vec![0, 0xff])],
            ..file(&long)
        },
        b"x",
    );
    add(Entry::new("d/.wh.gone", EntryKind::File, 0), b"");
    tar.finish().expect("finish")
}

#[test]
fn every_file_can_be_read_by_itself() {
    let archive = archive();
    let sealed = pack(&archive, 5, 2).expect("packed");
    let rows = verify(&sealed, &archive);
    let names: Vec<_> = rows
        .iter()
        .map(|row| (row["name"].as_str().expect("a name"), &row["type"]))
        .collect();
    let long = format!("{}/ä", "long".repeat(60));
    assert_eq!(
        names,
        [
            ("./", "dir"),
            ("d/", "dir"),
            ("d/empty", "reg"),
            ("d/small", "reg"),
            ("d/chunk", "reg"),
            ("d/more", "reg"),
            ("d/more", "chunk"),
            ("d/more", "chunk"),
            ("d/after", "reg"),
            ("to-../x y", "symlink"),
            ("hard", "hardlink"),
            ("null", "char"),
            (&long, "reg"),
            ("d/.wh.gone", "reg"),
        ]
        .map(|(name, kind)| (name, Value::from(kind)))
        .iter()
        .map(|(name, kind)| (*name, kind))
        .collect::<Vec<_>>()
    );
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).expect(name);
    assert_eq!(row("d/")["mode"], 0o1777);
    assert_eq!(row("d/small")["modtime"], "2023-11-14T22:13:20Z");
    assert_eq!(row("to-../x y")["linkName"], "../x y");
    assert_eq!(row("hard")["linkName"], "d/small");
    let null = row("null");
    assert_eq!(
        (&null["devMajor"], &null["devMinor"]),
        (&1.into(), &3.into())
    );
    assert_eq!((&null["uid"], &null["gid"]), (&70_000.into(), &5.into()));
    assert_eq!(row(&long)["xattrs"]["user.x"], STANDARD.encode([0, 0xff]));
}

#[test]
fn neither_threads_nor_reads_show() {
    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);
    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buf.len());
            self.0.read(&mut buf[..n])
        }
    }
    let archive = archive();
    for level in [0, 1, 5] {
        let one = pack(&archive, level, 1).expect("packed");
        verify(&one, &archive);
        for (threads, cut) in [(2, 1000), (5, 700_001), (16, 1 << 20)] {
            let other = write(Slow(&archive, cut), Vec::new(), level, threads).expect("packed");
            assert!(one.out == other.out, "level {level}, {threads} threads");
            assert_eq!((one.toc, one.unpacked), (other.toc, other.unpacked));
        }
    }
}

#[test]
fn many_small_entries_share_batches() {
    let mut tar = RawTar::default();
    for n in 0..3000 {
        tar = tar.dir(&format!("d{n}/"));
        if n % 3 == 0 {
            tar = tar.file(&format!("d{n}/f"), &text(n, n));
        }
    }
    let archive = tar.end();
    let sealed = pack(&archive, 1, 3).expect("packed");
    assert_eq!(verify(&sealed, &archive).len(), 4000);
}

#[test]
fn the_archive_ends_before_the_table() {
    let tar = RawTar::default().file("./a", b"a").0;
    let zeros = |n: usize| vec![0; n];
    for archive in [
        Vec::new(),
        zeros(512),
        zeros(10_240),
        tar.clone(),
        [&tar[..], &zeros(512)].concat(),
        [&tar[..], &zeros(1024)].concat(),
        [&tar[..], &zeros(10_240), b"whatever follows"].concat(),
    ] {
        let sealed = pack(&archive, 5, 2).expect("packed");
        verify(&sealed, &archive);
    }
}

#[test]
fn what_it_cannot_hold_is_refused() {
    let sparse = {
        let mut header = RawHeader::new("holes", b'S').size(512);
        // One run, a MiB from the beginning.
        header = header.put(386, b"00004000000\0").put(398, b"00000001000\0");
        header.put(483, b"00004001000\0")
    };
    for (tar, wanted) in [
        (
            RawTar::default().file("stargz.index.json", b"{}"),
            "has a file where",
        ),
        (
            RawTar::default().file("./stargz.index.json", b""),
            "`stargz.index.json`",
        ),
        (RawTar::default().data(sparse, &[1; 512]), "`holes`"),
        (
            RawTar::default().data(RawHeader::new("", b'0').put(0, b"\xff"), b""),
            "not UTF-8",
        ),
    ] {
        let error = pack(&tar.end(), 5, 2).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(
            error
                .hints()
                .iter()
                .any(|hint| hint.contains("compression"))
        );
    }
    assert!(pack(&archive()[..100_000], 5, 2).is_err());
    // Only at the root is it a table of contents.
    let archive = RawTar::default().file("d/stargz.index.json", b"{}").end();
    verify(&pack(&archive, 5, 1).expect("packed"), &archive);
}

#[test]
fn other_blobs_have_no_footer() {
    let mut gzip = Vec::new();
    crate::layer::gzip::member(5, &[7; 1000], &mut gzip).expect("gzip");
    let mut damaged = footer(5).to_vec();
    damaged[20] = b'x';
    for blob in [Vec::new(), vec![0; 51], gzip, damaged, footer(51).to_vec()] {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&blob).expect("write");
        assert_eq!(toc_offset(&file).expect("read"), None);
        assert!(super::archive(file).expect("read").is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_sizes(
        sizes in prop::collection::vec(
            prop_oneof![0..2000_usize, 500_000..530_000_usize, 4_190_000..4_200_000_usize],
            0..7,
        ),
        threads in 1..4_usize,
    ) {
        let mut tar = RawTar::default();
        for (n, size) in sizes.iter().enumerate() {
            tar = tar.file(&format!("f{n}"), &text(n, *size));
        }
        let archive = tar.end();
        let sealed = pack(&archive, 1, threads).expect("packed");
        verify(&sealed, &archive);
    }
}
