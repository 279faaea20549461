//! Layers that lie, attack, or come from old tools.

mod formats;
mod replacement;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use runtime::identity::{IdMap, Identity, Owner, Ownership};
use runtime::path::Root;
use tempfile::TempDir;

use super::*;
use crate::layer::testing::{RawHeader, RawTar, own, own_ids, tree, unpack};

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
    let ownership = Ownership::new(Identity::Subids, ids);
    let error = apply(&tar[..], &root, &ApplyOptions::layer(&ownership));
    let error = error.expect_err("an owner without an id");
    assert!(error.to_string().contains("0:42"), "{error}");
    assert!(error.to_string().contains("etc/shadow"), "{error}");
    let hint = &error.hints()[0];
    assert!(hint.contains("needs 43 ids"), "{hint}");
    assert!(hint.contains("--isolation=emulated"), "{hint}");
    assert!(!dir.path().join("etc").exists(), "nothing is made");
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
