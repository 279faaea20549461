//! Archives that are damaged, that lie about sizes, or that old tools wrote.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;

#[test]
fn truncated_archives_are_refused() {
    let whole = RawTar::default().file("f", &[7; 1000]).end();
    for len in [100, 600, 1200, 1500] {
        refused(&whole[..len], "truncated");
    }
    let extension_only = RawTar::default().pax(b'x', &[("path", "p")]).0;
    refused(&extension_only, "truncated");
    // Without the closing zeros it is complete, as for Docker.
    let jail = Jail::new();
    jail.unpack(&whole[..1536]).expect("no trailer");
    jail.unpack(&whole[..2048]).expect("half a trailer");
    assert_eq!(jail.text("f").len(), 1000);
}

#[test]
fn sizes_that_lie_are_refused() {
    let huge = RawTar::default().data(RawHeader::new("f", b'0').size(1 << 32), b"short");
    refused(&huge.end(), "truncated");
    let negative = RawHeader::new("f", b'0').put(124, &[0xff; 12]);
    refused(&RawTar::default().header(negative).end(), "malformed size");
    let pax = RawTar::default()
        .pax(b'x', &[("size", "-1")])
        .file("f", b"");
    refused(&pax.end(), "negative");
    let pax = RawTar::default()
        .pax(b'x', &[("size", "9223372036854775807")])
        .file("f", b"");
    refused(&pax.end(), "impossible");
    let extension = RawTar::default().header(RawHeader::new("x", b'x').size(1 << 33));
    refused(&extension.end(), "extension header");
}

#[test]
fn a_pax_size_does_not_reach_other_headers() {
    // If it did, the long name would swallow the next header (tar smuggling).
    let jail = Jail::new();
    let tar = RawTar::default()
        .pax(b'x', &[("size", "3")])
        .data(RawHeader::new("././@LongLink", b'L').size(5), b"name\0")
        .data(RawHeader::new("x", b'0').size(600), b"abc")
        .file("after", b"");
    jail.unpack(&tar.end()).expect("unpack");
    assert_eq!(jail.text("name"), "abc");
    assert!(jail.exists("after"));
}

#[test]
fn damaged_headers_are_refused() {
    let mut tar = RawTar::default().file("f", b"").end();
    tar[0] ^= 1;
    refused(&tar, "damaged header");
    refused(&vec![b'x'; 1024], "damaged header");
    let kind = RawTar::default().header(RawHeader::new("v", b'V')).end();
    refused(&kind, "type `V`");
    let mut gap = RawTar::default().file("f", b"").0;
    gap.resize(1024, 0);
    gap.extend(RawTar::default().file("g", b"").end());
    refused(&gap, "behind a block of zeros");
}

#[test]
fn names_with_nul_are_refused() {
    let tar = RawTar::default()
        .pax(b'x', &[("path", "a\0b")])
        .file("f", b"");
    refused(&tar.end(), "malformed path");
    let tar = RawTar::default()
        .pax(b'x', &[("linkpath", "a\0b")])
        .symlink("f", "x");
    refused(&tar.end(), "malformed path");
}

#[test]
fn limits_hold() {
    let jail = Jail::new();
    let root = Root::open_host(&jail.root()).expect("root");
    let with = |limits: Limits, tar: &[u8]| {
        let ownership = own();
        let mut options = ApplyOptions::layer(&ownership);
        options.limits = limits;
        apply(tar, &root, &options).map_err(|e| e.chain())
    };
    let all = Limits::default();
    let tar = RawTar::default().file("a", &[1; 5000]).file("b", b"").end();
    assert!(with(all, &tar).is_ok());
    let error = with(Limits { bytes: 5000, ..all }, &tar).expect_err("bytes");
    assert!(error.contains("more bytes"), "{error}");
    let error = with(Limits { entries: 1, ..all }, &tar).expect_err("entries");
    assert!(error.contains("more than 1 entries"), "{error}");
    // What comes after the end counts as well.
    let padded = [&tar[..], &[0; 50_000]].concat();
    assert!(
        with(
            Limits {
                bytes: 20_000,
                ..all
            },
            &padded
        )
        .is_err()
    );
    let long = RawTar::default()
        .pax(b'x', &[("path", &"a/".repeat(3000))])
        .file("f", b"");
    let error = with(all, &long.end()).expect_err("path");
    assert!(error.contains("path of 6000 bytes"), "{error}");
}

#[test]
fn global_headers() {
    let jail = Jail::new();
    let tar = RawTar::default()
        .pax(b'g', &[("comment", "0123456789abcdef")])
        .file("f", b"x");
    jail.unpack(&tar.end()).expect("unpack");
    assert_eq!(jail.text("f"), "x");
    for key in ["path", "size", "SCHILY.xattr.user.x"] {
        let tar = RawTar::default().pax(b'g', &[(key, "1")]).file("f", b"");
        refused(&tar.end(), "global header");
    }
}

#[test]
fn old_formats() {
    let jail = Jail::new();
    let v7 = |name: &str| RawHeader::new(name, 0).put(257, &[0; 8]);
    let tar = RawTar::default()
        .header(v7("dir/").mode(0o755))
        .data(v7("dir/file").size(3), b"abc")
        .header(RawHeader::new("blank", b'0').put(108, &[b' '; 16]))
        .data(RawHeader::new("contiguous", b'7').size(1), b"c");
    jail.unpack(&tar.end()).expect("unpack");
    assert!(jail.root().join("dir").is_dir());
    assert_eq!(jail.text("dir/file"), "abc");
    assert_eq!(jail.text("contiguous"), "c");
}

#[test]
fn old_sparse_files_have_holes() {
    let jail = Jail::new();
    let sparse = |map: &[(u64, u64)], size: u64, stored: u64| {
        let mut header = RawHeader::new("s", b'S').size(stored);
        for (i, (offset, len)) in map.iter().enumerate() {
            let run = format!("{offset:011o}\0{len:011o}\0");
            header = header.put(386 + 24 * i, run.as_bytes());
        }
        header.put(483, format!("{size:011o}\0").as_bytes())
    };
    let good = sparse(&[(4096, 3), (10_000, 2), (1 << 30, 0)], 1 << 30, 5);
    let tar = RawTar::default().data(good, b"abcde").file("after", b"");
    jail.unpack(&tar.end()).expect("unpack");
    let meta = fs::metadata(jail.root().join("s")).expect("stat");
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() < 1000, "holes take no space");
    let mut bytes = [1; 3];
    let file = fs::File::open(jail.root().join("s")).expect("open");
    file.read_exact_at(&mut bytes, 4096).expect("read");
    assert_eq!(&bytes, b"abc");
    file.read_exact_at(&mut bytes, 9999).expect("read");
    assert_eq!(&bytes, b"\0de");
    assert!(jail.exists("after"));
    for (map, size, stored) in [
        (&[(0, 5)][..], 10, 4),
        (&[(8, 5)], 10, 5),
        (&[(5, 2), (4, 2)], 10, 4),
        (&[(u64::MAX >> 31, 5)], 10, 5),
    ] {
        let tar = RawTar::default().data(sparse(map, size, stored), b"abcde");
        refused(&tar.end(), "map is malformed");
    }
    let pax = RawTar::default()
        .pax(b'x', &[("GNU.sparse.major", "1")])
        .file("f", b"");
    refused(&pax.end(), "sparse");
}

#[test]
fn zeros_become_holes() {
    let jail = Jail::new();
    let mut data = vec![0_u8; 3 << 20];
    data[1 << 20] = 1;
    jail.unpack(&RawTar::default().file("z", &data).end())
        .expect("unpack");
    assert_eq!(fs::read(jail.root().join("z")).expect("read"), data);
    let meta = fs::metadata(jail.root().join("z")).expect("stat");
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}

#[test]
fn the_stream_is_read_to_its_end() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = Root::open_host(dir.path()).expect("root");
    let tar = [&RawTar::default().file("f", b"x").end()[..], &[0; 9000]].concat();
    let mut rest = &tar[..];
    let ownership = own();
    let options = ApplyOptions::layer(&ownership);
    let applied = apply(&mut rest, &root, &options).expect("unpack");
    assert!(rest.is_empty());
    assert_eq!(applied.bytes, tar.len() as u64);
}
