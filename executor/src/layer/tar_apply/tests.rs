//! Layers that lie, attack, or come from old tools.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use runtime::identity::{IdMap, Identity};
use runtime::path::Root;
use tempfile::TempDir;

use super::*;
use crate::layer::testing::{RawHeader, RawTar, own_ids, tree, unpack};

/// A root inside of a directory that must stay as it is.
struct Jail {
    outer: TempDir,
}

impl Jail {
    fn new() -> Self {
        let outer = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(outer.path().join("root")).expect("mkdir");
        fs::write(outer.path().join("secret"), "secret").expect("write");
        Self { outer }
    }

    fn root(&self) -> std::path::PathBuf {
        self.outer.path().join("root")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Applied> {
        let result = unpack(archive, &self.root());
        let outside: Vec<_> = tree(self.outer.path())
            .into_keys()
            .filter(|p| !p.starts_with("root"))
            .collect();
        assert_eq!(outside, ["secret"], "something came out");
        let secret = fs::read(self.outer.path().join("secret")).expect("read");
        assert_eq!(secret, b"secret", "the file outside was changed");
        result
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).expect(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }
}

/// Asserts that an archive is refused with this in the message.
fn refused(archive: &[u8], part: &str) {
    let jail = Jail::new();
    let error = jail.unpack(archive).expect_err(part);
    assert!(error.chain().contains(part), "`{part}` in: {error:?}");
}

#[test]
fn paths_out_of_the_root_are_refused() {
    for name in ["../secret", "a/../../secret", "/../secret", ".."] {
        refused(&RawTar::default().file(name, b"x").end(), "leads out");
        refused(&RawTar::default().dir(name).end(), "leads out");
        let link = RawTar::default().hard_link("link", name).end();
        refused(&link, "leads out");
    }
    let pax = RawTar::default()
        .pax(b'x', &[("path", "../secret")])
        .file("harmless", b"x");
    refused(&pax.end(), "leads out");
    let long = RawTar::default()
        .data(
            RawHeader::new("././@LongLink", b'L').size(10),
            b"../secret\0",
        )
        .file("harmless", b"x");
    refused(&long.end(), "leads out");
}

#[test]
fn absolute_names_are_in_the_root() {
    let jail = Jail::new();
    let tar = RawTar::default().file("/etc/../secret", b"mine").end();
    jail.unpack(&tar).expect("unpack");
    assert_eq!(jail.text("secret"), "mine");
}

#[test]
fn links_on_the_way_stay_in_the_root() {
    let jail = Jail::new();
    let tar = RawTar::default()
        .dir("real")
        .symlink("up", "../../../..")
        .symlink("abs", "/real")
        .file("up/secret", b"mine")
        .file("abs/file", b"in real")
        .hard_link("up/linked", "abs/file");
    jail.unpack(&tar.end()).expect("unpack");
    assert_eq!(jail.text("secret"), "mine");
    assert_eq!(jail.text("real/file"), "in real");
    assert_eq!(jail.text("linked"), "in real");
}

#[test]
fn no_file_is_written_through_a_link() {
    let jail = Jail::new();
    symlink("../secret", jail.root().join("a")).expect("symlink");
    symlink("../secret", jail.root().join("b")).expect("symlink");
    let tar = RawTar::default()
        .file("a", b"new")
        .symlink("c", "../../secret")
        .file("c", b"new")
        .header(RawHeader::new("b", b'5').mode(0o700));
    jail.unpack(&tar.end()).expect("unpack");
    assert_eq!(jail.text("a"), "new");
    assert_eq!(jail.text("c"), "new");
    assert!(
        jail.root()
            .join("b")
            .symlink_metadata()
            .expect("b")
            .is_dir()
    );
}

#[test]
fn a_hard_link_to_a_link_is_not_followed() {
    let jail = Jail::new();
    let tar = RawTar::default()
        .symlink("link", "../secret")
        .hard_link("same", "link")
        .file("same", b"mine");
    jail.unpack(&tar.end()).expect("unpack");
    assert_eq!(jail.text("same"), "mine");
    refused(
        &RawTar::default().hard_link("a", "missing").end(),
        "hard link to `missing`",
    );
    refused(&RawTar::default().hard_link("a", "/").end(), "empty");
    let dir = RawTar::default().dir("d").hard_link("a", "d").end();
    refused(&dir, "hard link to `d`");
}

#[test]
fn entries_below_files_are_refused() {
    let tar = RawTar::default().file("f", b"").file("f/x", b"").end();
    refused(&tar, "no directory");
    let tar = RawTar::default().symlink("l", "nowhere").file("l/x", b"");
    refused(&tar.end(), "dangling");
    let tar = RawTar::default().symlink("l", "l").file("l/x", b"").end();
    refused(&tar, "unpack");
}

#[test]
fn the_kept_parent_follows_replacements() {
    let jail = Jail::new();
    let tar = RawTar::default()
        .dir("a")
        .dir("b")
        .file("a/one", b"1")
        .symlink("a", "b")
        .file("a/two", b"2")
        .dir("a")
        .file("a/three", b"3");
    jail.unpack(&tar.end()).expect("unpack");
    let paths: Vec<_> = tree(&jail.root()).into_keys().collect();
    assert_eq!(paths, ["a", "a/three", "b", "b/two"]);
}

#[test]
fn kinds_replace_each_other() {
    for first in 0..3 {
        for second in 0..3 {
            let jail = Jail::new();
            let add = |tar: RawTar, kind| match kind {
                0 => tar.file("x", b"data"),
                1 => tar.dir("x").file("x/inner", b""),
                _ => tar.symlink("x", "/nowhere"),
            };
            jail.unpack(&add(RawTar::default(), first).end())
                .expect("first layer");
            jail.unpack(&add(RawTar::default(), second).end())
                .expect("second layer");
            let kind = jail.root().join("x").symlink_metadata().expect("x");
            assert_eq!(kind.is_file(), second == 0, "{first} {second}");
            assert_eq!(kind.is_dir(), second == 1, "{first} {second}");
            assert_eq!(kind.is_symlink(), second == 2, "{first} {second}");
        }
    }
}

#[test]
fn a_directory_over_a_directory_keeps_its_contents() {
    let jail = Jail::new();
    jail.unpack(&RawTar::default().dir("d").file("d/old", b"").end())
        .expect("first layer");
    let header = RawHeader::new("d/", b'5').mode(0o2711);
    jail.unpack(&RawTar::default().header(header).end())
        .expect("second layer");
    assert!(jail.exists("d/old"));
    let mode = fs::metadata(jail.root().join("d")).expect("stat").mode();
    assert_eq!(mode & 0o7777, 0o2711);
}

#[test]
fn the_root_can_be_described_but_not_replaced() {
    for name in ["./", "/", "."] {
        let jail = Jail::new();
        let tar = RawTar::default().header(RawHeader::new(name, b'5').mode(0o750));
        jail.unpack(&tar.end()).expect("unpack");
        let meta = fs::metadata(jail.root()).expect("stat");
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o750, 0o17));
        refused(&RawTar::default().file(name, b"x").end(), "root");
        refused(&RawTar::default().symlink(name, "/tmp").end(), "root");
    }
    refused(&RawTar::default().file("", b"x").end(), "without a name");
}

#[test]
fn deletions() {
    let jail = Jail::new();
    let lower = RawTar::default()
        .dir("d")
        .file("d/a", b"")
        .dir("d/sub")
        .file("d/sub/deep", b"")
        .file("keep", b"")
        .file("gone", b"");
    jail.unpack(&lower.end()).expect("lower");
    let upper = RawTar::default()
        .file(".wh.gone", b"")
        .file(".wh.never-there", b"")
        .file("no/such/.wh.dir", b"")
        .file("d/.wh.sub", b"")
        .file(".wh..wh.plnk", b"")
        .file(".wh..wh.orph/x", b"");
    let applied = jail.unpack(&upper.end()).expect("upper");
    assert_eq!(applied.entries, 6);
    let paths: Vec<_> = tree(&jail.root()).into_keys().collect();
    assert_eq!(paths, ["d", "d/a", "keep"]);
}

#[test]
fn deletions_spare_what_the_layer_brings() {
    let jail = Jail::new();
    let lower = RawTar::default()
        .file("d/old", b"")
        .file("d/sub/old", b"")
        .file("d/other/old", b"")
        .file("e/old", b"");
    jail.unpack(&lower.end()).expect("lower");
    let upper = RawTar::default()
        .file("d/new", b"")
        .file("d/sub/new", b"")
        .file("d/.wh..wh..opq", b"")
        .file("d/late", b"")
        .file("e/new", b"")
        .file(".wh.e", b"")
        .file("f", b"")
        .file(".wh.f", b"");
    jail.unpack(&upper.end()).expect("upper");
    let files: Vec<_> = tree(&jail.root())
        .into_iter()
        .filter(|(_, node)| node.mode & 0o170_000 == 0o100_000)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(files, ["d/late", "d/new", "d/sub/new", "e/new", "f"]);
}

#[test]
fn deletions_stay_in_the_root() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(
            &RawTar::default().file(name, b"").end(),
            "malformed deletion",
        );
    }
    let jail = Jail::new();
    symlink("..", jail.root().join("up")).expect("symlink");
    let tar = RawTar::default()
        .file("up/.wh.secret", b"")
        .file("up/../.wh.secret", b"")
        .file("inner", b"")
        .file("up/.wh..wh..opq", b"");
    jail.unpack(&tar.end()).expect("unpack");
}

#[test]
fn archives_of_users_have_no_deletions() {
    let jail = Jail::new();
    fs::create_dir(jail.root().join("dest")).expect("mkdir");
    fs::write(jail.root().join("dest/x"), "").expect("write");
    let root = Root::open_host(&jail.root()).expect("root");
    let options = ApplyOptions::archive(own_ids(), Identity::Host, Path::new("/dest/"));
    let tar = RawTar::default()
        .dir("./")
        .file(".wh.x", b"literal")
        .hard_link("y", ".wh.x")
        .end();
    apply(&tar[..], &root, &options).expect("unpack");
    let paths: Vec<_> = tree(&jail.root()).into_keys().collect();
    assert_eq!(paths, ["dest", "dest/.wh.x", "dest/x", "dest/y"]);
}

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
        let mut options = ApplyOptions::layer(own_ids(), Identity::Host);
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
fn owners_that_do_not_exist_are_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = Root::open_host(dir.path()).expect("root");
    let ids = IdMap {
        first: rustix::process::geteuid().as_raw(),
        count: 1,
    };
    let tar = RawTar::default()
        .header(RawHeader::new("etc/shadow", b'0').put(116, b"0000052\0"))
        .end();
    for (identity, hint) in [
        (Identity::Single, "no range of ids"),
        (Identity::Subids, "needs 43 ids"),
    ] {
        let error = apply(&tar[..], &root, &ApplyOptions::layer(ids, identity));
        let error = error.expect_err("an owner without an id");
        assert!(error.to_string().contains("0:42"), "{error}");
        assert!(error.to_string().contains("etc/shadow"), "{error}");
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
        assert!(!dir.path().join("etc").exists(), "nothing is made");
    }
    for id in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x80\0\0\0\xff\xff\xff\xff",
    ] {
        let tar = RawTar::default().header(RawHeader::new("f", b'0').put(108, id));
        refused(&tar.end(), "no valid id");
    }
}

#[test]
fn overlay_attributes_are_refused() {
    for name in ["user.overlay.opaque", "trusted.overlay.redirect"] {
        let record = format!("SCHILY.xattr.{name}");
        let tar = RawTar::default().pax(b'x', &[(&record, "y")]).dir("d");
        refused(&tar.end(), "overlayfs");
        let tar = RawTar::default()
            .pax(b'x', &[(&record, "y")])
            .symlink("l", "x");
        refused(&tar.end(), "overlayfs");
    }
}

#[test]
fn foreign_attributes_are_counted() {
    let jail = Jail::new();
    let records = [
        ("SCHILY.xattr.security.selinux", "label"),
        ("SCHILY.xattr.trusted.x", "1"),
    ];
    let tar = RawTar::default()
        .pax(b'x', &records)
        .file("f", b"")
        .pax(b'x', &records[..1])
        .dir("d");
    let applied = jail.unpack(&tar.end()).expect("unpack");
    let skipped: Vec<_> = applied.skipped_xattrs.into_iter().collect();
    let expected = [
        ("security.selinux".to_owned(), 2),
        ("trusted.x".to_owned(), 1),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn whiteout_devices_are_never_made() {
    let jail = Jail::new();
    fs::write(jail.root().join("w"), "").expect("write");
    let header = RawHeader::new("w", b'3')
        .put(329, b"0000000\0")
        .put(337, b"0000000\0");
    let applied = jail
        .unpack(&RawTar::default().header(header).end())
        .expect("unpack");
    assert_eq!(applied.skipped_devices, 1);
    assert!(!jail.exists("w"), "the file in the way has gone");
}

#[test]
fn devices_are_made_where_they_can_be() {
    let jail = Jail::new();
    let header = RawHeader::new("null", b'3')
        .mode(0o666)
        .put(329, b"0000001\0")
        .put(337, b"0000003\0");
    let applied = jail
        .unpack(&RawTar::default().header(header).end())
        .expect("unpack");
    if applied.skipped_devices == 1 {
        assert!(!jail.exists("null"));
        assert!(applied.notes()[0].contains("device"));
    } else {
        let meta = jail.root().join("null").symlink_metadata().expect("stat");
        assert!(meta.file_type().is_char_device());
        assert_eq!((meta.mode() & 0o7777, meta.rdev()), (0o666, 0x103));
    }
}

#[test]
fn modes_and_times() {
    let jail = Jail::new();
    let tar = RawTar::default()
        .dir("d")
        .header(RawHeader::new("d/suid", b'0').mode(0o104_755))
        .header(RawHeader::new("d/sticky", b'5').mode(0o1777))
        .header(RawHeader::new("d/fifo", b'6').mode(0o602))
        .symlink("d/link", "suid")
        .pax(b'x', &[("mtime", "-5.25")])
        .file("d/old", b"");
    jail.unpack(&tar.end()).expect("unpack");
    let nodes = tree(&jail.root());
    for (path, mode, time) in [
        ("d", 0o40_755, 15),
        ("d/suid", 0o104_755, 15),
        ("d/sticky", 0o41_777, 15),
        ("d/fifo", 0o10_602, 15),
        ("d/link", 0o120_777, 15),
        ("d/old", 0o100_644, -6),
    ] {
        assert_eq!(
            (nodes[path].mode, nodes[path].mtime),
            (mode, time),
            "{path}"
        );
    }
}

#[test]
fn directories_without_entries_do_not_depend_on_the_clock() {
    let jail = Jail::new();
    let lower = RawTar::default().dir("old").symlink("link", "old");
    jail.unpack(&lower.end()).expect("lower");
    fs::set_permissions(jail.root(), fs::Permissions::from_mode(0o700)).expect("chmod");
    let upper = RawTar::default()
        .file("old/f", b"")
        .file("link/g", b"")
        .file("new/deep/f", b"");
    jail.unpack(&upper.end()).expect("upper");
    let nodes = tree(&jail.root());
    assert_eq!(nodes["old"].mtime, 15);
    assert_eq!((nodes["new"].mtime, nodes["new"].mode), (0, 0o40_755));
    assert_eq!(nodes["new/deep"].mtime, 0);
}

#[test]
fn old_formats() {
    let jail = Jail::new();
    let v7 = |name: &str| RawHeader::new(name, 0).put(257, &[0; 8]);
    let tar = RawTar::default()
        .header(v7("dir/"))
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
    use std::os::unix::fs::FileExt;
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
    let options = ApplyOptions::layer(own_ids(), Identity::Host);
    let applied = apply(&mut rest, &root, &options).expect("unpack");
    assert!(rest.is_empty());
    assert_eq!(applied.bytes, tar.len() as u64);
}

proptest::proptest! {
    /// Whatever the bytes: no panic, and nothing outside of the root.
    #[test]
    fn garbage_is_contained(
        edits in proptest::collection::vec((0_usize..4096, proptest::prelude::any::<u8>()), 0..12),
        names in proptest::collection::vec("[./a-c]{1,8}", 1..5),
    ) {
        let mut tar = RawTar::default();
        for (i, name) in names.iter().enumerate() {
            tar = match i % 4 {
                0 => tar.dir(name),
                1 => tar.symlink(name, "../.."),
                2 => tar.hard_link(name, &names[0]),
                _ => tar.file(name, b"data"),
            };
        }
        let mut bytes = tar.end();
        for (at, byte) in edits {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        // Damage behind the checksum, not only in front of it.
        for block in bytes.chunks_exact_mut(512).filter(|b| b.iter().any(|x| *x != 0)) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        drop(Jail::new().unpack(&bytes));
    }
}
