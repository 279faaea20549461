//! What becomes of what was there before: replacement and deletion.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;

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
    let ownership = own();
    let options = ApplyOptions::archive(&ownership, Path::new("/dest/"));
    let options = ApplyOptions {
        owner: Some(Owner::ROOT),
        ..options
    };
    let tar = RawTar::default()
        .dir("./")
        .header(RawHeader::new(".wh.x", b'0').put(108, b"0000007\x000000007\0"))
        .hard_link("y", ".wh.x")
        .end();
    apply(&tar[..], &root, &options).expect("unpack");
    let paths: Vec<_> = tree(&jail.root()).into_keys().collect();
    assert_eq!(paths, ["dest", "dest/.wh.x", "dest/x", "dest/y"]);
    let owner = fs::metadata(jail.root().join("dest/y"))
        .expect("stat")
        .uid();
    assert_eq!(owner, own_ids().first);
}
