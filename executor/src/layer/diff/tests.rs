//! Trees that become layers and trees again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use runtime::identity::{Device, IdMap, Identity, Owner, Owners};
use rustix::fs::{Timespec, Timestamps, XattrFlags};

use super::*;
use crate::layer::tar_read::{Limits, TarReader};
use crate::layer::testing::{emulated, own, tree, unpack};

fn diff(dir: &Path) -> Result<(Vec<u8>, DiffStats)> {
    let upper = Root::open_host(dir).expect("open");
    let mut out = Vec::new();
    let stats = write_diff(&upper, with(&own()), &mut out)?;
    assert_eq!(stats.bytes, out.len() as u64);
    Ok((out, stats))
}

fn with(ownership: &Ownership) -> DiffOptions<'_> {
    DiffOptions {
        ownership,
        latest: None,
        without_user: false,
    }
}

fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut reader = TarReader::new(archive, Limits::default());
    std::iter::from_fn(|| reader.next_entry().expect("entry")).collect()
}

fn paths(archive: &[u8]) -> Vec<String> {
    let text = |e: Entry| String::from_utf8(e.path).expect("text");
    entries(archive).into_iter().map(text).collect()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

fn whiteout(path: &Path) {
    let mode = Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, mode, 0)
        .expect("mknod of 0:0, which Linux 5.8 allows for everyone");
}

#[test]
fn nothing_changed_is_an_empty_archive() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (archive, stats) = diff(dir.path()).expect("diff");
    assert_eq!(stats.entries, 0);
    assert_eq!(archive, [0; 1024]);
}

#[test]
fn later_times_are_taken_back_in_the_tree_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |p: &str| dir.path().join(p);
    fs::create_dir(at("d")).expect("mkdir");
    fs::write(at("d/new"), "").expect("write");
    fs::hard_link(at("d/new"), at("e")).expect("link");
    symlink("x", at("link")).expect("symlink");
    fs::write(at("old"), "").expect("write");
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    for (path, time) in [("old", time(99, 5)), ("link", time(100, 5))] {
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)
            .expect("set time");
    }
    let upper = Root::open_host(dir.path()).expect("open");
    let ownership = own();
    let options = DiffOptions {
        latest: Some(100),
        ..with(&ownership)
    };
    let mut first = Vec::new();
    write_diff(&upper, options, &mut first).expect("diff");
    let times = entries(&first).into_iter().map(|e| e.mtime);
    assert_eq!(times.collect::<Vec<_>>(), [100, 100, 100, 100, 99]);
    let (again, _) = diff(dir.path()).expect("diff");
    assert_eq!(again, first);
    for path in ["d", "d/new", "link"] {
        let stat = rustix::fs::lstat(at(path)).expect(path);
        assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (100, 0), "{path}");
    }
}

#[test]
fn user_attributes_can_be_left_out() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("d")).expect("mkdir");
    fs::write(at("d/f"), b"x").expect("write");
    let set = |name| ["d", "d/f"].map(|path| set_xattr(&at(path), name, b"1"));
    if let [Err(e), _] = set("user.mine") {
        return eprintln!("SKIP: no user attributes here: {e}");
    }
    let carried = |archive: &[u8]| {
        let entries = entries(archive).into_iter();
        entries.map(|e| e.xattrs.len()).collect::<Vec<_>>()
    };
    assert_eq!(carried(&diff(dir.path()).expect("diff").0), [1, 1]);
    let upper = Root::open_host(dir.path()).expect("open");
    let ownership = own();
    let options = DiffOptions {
        without_user: true,
        ..with(&ownership)
    };
    let mut first = Vec::new();
    write_diff(&upper, options, &mut first).expect("diff");
    assert_eq!(carried(&first), [0, 0]);
    // The directory is as the archive says.
    assert_eq!(diff(dir.path()).expect("diff").0, first);
}

#[test]
fn deletions_come_first_and_names_are_sorted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |p: &str| dir.path().join(p);
    for d in ["b", "b/opaque", "a-", "a"] {
        fs::create_dir(at(d)).expect("mkdir");
    }
    for f in ["a/x", "a.b", "B", "b/opaque/new", "b/0"] {
        fs::write(at(f), f).expect("write");
    }
    whiteout(&at("zz"));
    whiteout(&at("b/deleted"));
    if let Err(e) = set_xattr(&at("b/opaque"), "user.overlay.opaque", b"y") {
        println!("SKIP: no user attributes here: {e}");
        return;
    }
    set_xattr(&at("b"), "user.overlay.origin", b"\0").expect("xattr");
    set_xattr(&at("b"), "user.overlay.impure", b"y").expect("xattr");
    let (archive, stats) = diff(dir.path()).expect("diff");
    let expected = [
        ".wh.zz",
        "B",
        "a",
        "a/x",
        "a-",
        "a.b",
        "b",
        "b/.wh.deleted",
        "b/0",
        "b/opaque",
        "b/opaque/.wh..wh..opq",
        "b/opaque/new",
    ];
    assert_eq!(paths(&archive), expected);
    assert_eq!(stats.entries, expected.len() as u64);
    assert!(entries(&archive).iter().all(|e| e.xattrs.is_empty()));
}

#[test]
fn marked_files_are_deletions_where_the_directory_says_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |p: &str| dir.path().join(p);
    for d in ["marks", "plain"] {
        fs::create_dir(at(d)).expect("mkdir");
        for f in ["gone", "stays"] {
            fs::write(at(d).join(f), "").expect("write");
        }
        if let Err(e) = set_xattr(&at(d).join("gone"), "user.overlay.whiteout", b"") {
            println!("SKIP: no user attributes here: {e}");
            return;
        }
    }
    set_xattr(&at("marks"), "user.overlay.opaque", b"x").expect("xattr");
    let (archive, _) = diff(dir.path()).expect("diff");
    let expected = [
        "marks",
        "marks/.wh.gone",
        "marks/stays",
        "plain",
        "plain/gone",
        "plain/stays",
    ];
    assert_eq!(paths(&archive), expected);
}

#[test]
fn what_a_layer_cannot_say_is_an_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |p: &str| dir.path().join(p);
    fs::write(at(".wh.name"), "").expect("write");
    let error = diff(dir.path()).expect_err("a reserved name");
    assert!(error.to_string().contains(".wh.name"), "{error}");
    fs::remove_file(at(".wh.name")).expect("remove");

    fs::create_dir(at("d")).expect("mkdir");
    let Ok(()) = set_xattr(&at("d"), "user.overlay.redirect", b"/x") else {
        println!("SKIP: no user attributes here");
        return;
    };
    let error = diff(dir.path()).expect_err("a redirected directory");
    assert_eq!(error.get_kind(), Kind::Internal);
    fs::remove_dir(at("d")).expect("remove");

    fs::write(at("f"), "").expect("write");
    set_xattr(&at("f"), "user.a=b", b"x").expect("xattr");
    let error = diff(dir.path()).expect_err("an attribute with `=`");
    assert!(error.to_string().contains("user.a=b"), "{error}");
    fs::remove_file(at("f")).expect("remove");

    let upper = Root::open_host(dir.path()).expect("open");
    fs::write(at("mine"), "").expect("write");
    let others = IdMap {
        first: 4_000_000_000,
        count: 1,
    };
    let others = Ownership::new(Identity::Host, others);
    let error = write_diff(&upper, with(&others), &mut Vec::new()).expect_err("a foreign owner");
    assert!(error.to_string().contains("`mine`"), "{error}");
}

#[test]
fn records_become_owners_and_devices() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |p: &str| dir.path().join(p);
    let ownership = emulated();
    let www = Owner {
        uid: 33,
        gid: 70_000,
    };
    fs::write(at("f"), "x").expect("write");
    let file = fs::File::options().write(true).open(at("f")).expect("open");
    if ownership.set(&file, www).is_err() {
        eprintln!("SKIP: the temporary directory has no user attributes");
        return;
    }
    fs::set_permissions(at("f"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    set_xattr(&at("f"), "user.mine", b"1").expect("set");
    fs::create_dir(at("d")).expect("mkdir");
    ownership
        .set(fs::File::open(at("d")).expect("open"), www)
        .expect("set");
    fs::write(at("d/zero"), "").expect("write");
    let record = Record {
        owner: www,
        device: Some(Device {
            block: true,
            major: 7,
            minor: 300,
        }),
    };
    ownership
        .set_record(fs::File::open(at("d/zero")).expect("open"), &record)
        .expect("set");
    fs::hard_link(at("d/zero"), at("zz")).expect("link");
    symlink("f", at("link")).expect("symlink");
    fs::write(at("plain"), "").expect("write");
    let mut known = Owners::new();
    known.set(b"link".to_vec(), www);
    let ownership = emulated().knowing(known);
    let upper = Root::open_host(dir.path()).expect("open");
    let mut archive = Vec::new();
    let stats = write_diff(&upper, with(&ownership), &mut archive).expect("diff");
    assert_eq!(stats.stand_ins, 2);
    assert_eq!(stats.skipped_xattrs, BTreeMap::new());
    let all = entries(&archive);
    let of = |path: &str| {
        all.iter()
            .find(|e| e.path == path.as_bytes())
            .expect("entry")
    };
    for path in ["f", "d", "d/zero", "link", "zz"] {
        assert_eq!((of(path).uid, of(path).gid), (33, 70_000), "{path}");
    }
    assert_eq!((of("plain").uid, of("plain").gid), (0, 0));
    assert_eq!(
        (of("d/zero").kind, of("d/zero").rdev),
        (EntryKind::Block, (7, 300))
    );
    assert_eq!(
        (of("zz").kind, &of("zz").link[..]),
        (EntryKind::Hardlink, &b"d/zero"[..])
    );
    assert_eq!(of("f").mode, 0o6755);
    assert_eq!(of("f").xattrs, [(b"user.mine".to_vec(), b"1".to_vec())]);
    // Unpacked again, the same tree.
    let again = tempfile::tempdir().expect("temporary directory");
    let root = Root::open_host(again.path()).expect("open");
    let given = emulated();
    let options = crate::layer::tar_apply::ApplyOptions::layer(&given);
    let applied = crate::layer::tar_apply::apply(&archive[..], &root, &options).expect("unpack");
    assert_eq!((applied.stand_ins, applied.skipped_devices), (1, 0));
    let mut second = Vec::new();
    write_diff(&root, with(&ownership), &mut second).expect("diff");
    assert_eq!(second, archive);
    let inode = runtime::identity::ownership::look_up(
        fs::File::open(again.path()).expect("open"),
        "link".as_ref(),
    );
    assert_eq!(given.take_specials().get(inode.expect("stat")), Some(www));
    // What can't be read is nobody's.
    set_xattr(&at("f"), runtime::identity::record::ATTRIBUTE, b"?").expect("set");
    let error =
        write_diff(&upper, with(&ownership), &mut Vec::new()).expect_err("a damaged record");
    assert!(error.to_string().contains("`f`"), "{error}");
    assert!(error.chain().contains("damaged"), "{}", error.chain());
}

#[test]
fn sockets_are_left_out_and_counted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).expect("bind");
    let (archive, stats) = diff(dir.path()).expect("diff");
    assert!(paths(&archive).is_empty());
    assert_eq!(stats.skipped_sockets, 1);
    assert!(stats.notes()[0].contains("socket"));
}

#[test]
fn deep_trees_need_few_descriptors() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let depth = 1500;
    let mut fd = open_dir(&Root::open_host(dir.path()).expect("open"), b"").expect("open");
    for _ in 0..depth {
        rustix::fs::mkdirat(&fd, "d", Mode::RWXU).expect("mkdir");
        let below = rustix::fs::openat(&fd, "d", OFlags::DIRECTORY, Mode::empty());
        fd = below.expect("open");
        // Found after the walk has come back up.
        rustix::fs::mkdirat(&fd, "e", Mode::RWXU).expect("mkdir");
    }
    drop(fd);
    let (archive, stats) = diff(dir.path()).expect("diff");
    assert_eq!(stats.entries, 2 * depth);
    let copy = tempfile::tempdir().expect("temporary directory");
    unpack(&archive, copy.path()).expect("unpack");
    assert_eq!(diff(copy.path()).expect("diff").1.entries, 2 * depth);
    for dir in [dir, copy] {
        let parent = Root::open_host(dir.path().parent().expect("parent")).expect("open");
        let name = dir.path().file_name().expect("name").to_owned();
        let entry = parent.entry(name).expect("entry").expect("not the root");
        entry.remove_all().expect("remove");
    }
}

#[test]
fn huge_holes_come_back_as_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = fs::File::create(dir.path().join("big")).expect("create");
    file.set_len(200 << 20).expect("truncate");
    file.write_all_at(b"middle", 100 << 20).expect("write");
    let (archive, stats) = diff(dir.path()).expect("diff");
    assert!(stats.bytes > 200 << 20);
    let copy = tempfile::tempdir().expect("temporary directory");
    unpack(&archive, copy.path()).expect("unpack");
    let meta = fs::metadata(copy.path().join("big")).expect("stat");
    assert_eq!(meta.len(), 200 << 20);
    assert!(meta.blocks() * 512 < 10 << 20);
    let copied = fs::File::open(copy.path().join("big")).expect("open");
    let mut bytes = [0; 6];
    copied.read_exact_at(&mut bytes, 100 << 20).expect("read");
    assert_eq!(&bytes, b"middle");
}

#[test]
fn file_capabilities_travel_as_revision_2() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("ping");
    fs::write(&path, "").expect("write");
    let value = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    if let Err(e) = set_xattr(&path, "security.capability", value) {
        println!("SKIP: cannot set file capabilities: {e}");
        return;
    }
    let (archive, _) = diff(dir.path()).expect("diff");
    let xattrs = &entries(&archive)[0].xattrs;
    assert_eq!(*xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
    let copy = tempfile::tempdir().expect("temporary directory");
    unpack(&archive, copy.path()).expect("unpack");
    assert_eq!(tree(copy.path()), tree(dir.path()));
}

/// One thing to make in a random tree.
#[derive(Debug, Clone)]
struct Item {
    dir: Vec<u8>,
    name: u8,
    what: u8,
    mode: u32,
    mtime: i64,
    content: Vec<u8>,
}

fn item() -> impl Strategy<Value = Item> {
    (
        prop::collection::vec(0..3_u8, 0..4),
        0..6_u8,
        0..10_u8,
        0..0o10000_u32,
        0..3_000_000_000_i64,
        prop::collection::vec(any::<u8>(), 0..2000),
    )
        .prop_map(|(dir, name, what, mode, mtime, content)| Item {
            dir,
            name,
            what,
            mode,
            mtime,
            content,
        })
}

fn build(base: &Path, items: &[Item]) {
    let root = rustix::process::geteuid().is_root();
    let mut times = BTreeMap::new();
    let mut last_file = None;
    for item in items {
        let mut path = base.to_path_buf();
        for part in &item.dir {
            path.push(format!("d{part}"));
            if !path.exists() {
                fs::create_dir(&path).expect("mkdir");
            }
            times.insert(path.clone(), item.mtime);
        }
        path.push(format!(
            "{}{}",
            item.name,
            "n".repeat(usize::from(item.name) * 30)
        ));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match item.what {
            0 => fs::create_dir(&path).expect("mkdir"),
            1 => symlink("x".repeat(item.content.len() / 4 + 1), &path).expect("symlink"),
            2 => {
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR).expect("mkfifo");
            }
            3 => match &last_file {
                Some(target) => {
                    fs::hard_link(target, &path).expect("link");
                    continue;
                }
                None => continue,
            },
            4 => {
                let file = fs::File::create(&path).expect("create");
                file.set_len(item.content.len() as u64 * 1000)
                    .expect("truncate");
            }
            _ => {
                fs::write(&path, &item.content).expect("write");
                last_file = Some(path.clone());
            }
        }
        if root {
            let owner = Some(item.mode);
            std::os::unix::fs::lchown(&path, owner, Some(7)).expect("chown");
        }
        if item.what != 1 {
            // A user must be able to read what is to be packed; root in a sandbox always is.
            let mode = if root { item.mode } else { item.mode | 0o700 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        if matches!(item.what, 0 | 5..) && item.mode % 3 == 0 {
            // Not everywhere are there user attributes.
            let value = &item.content[..item.content.len().min(50)];
            if set_xattr(&path, "user.test", value).is_err() {
                continue;
            }
        }
        times.insert(path, item.mtime);
    }
    for (path, time) in times.iter().rev() {
        let time = Timespec {
            tv_sec: *time,
            tv_nsec: 0,
        };
        let both = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, path, &both, AtFlags::SYMLINK_NOFOLLOW)
            .expect("utimens");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn trees_survive(items in prop::collection::vec(item(), 0..25)) {
        let from = tempfile::tempdir().expect("temporary directory");
        build(from.path(), &items);
        let (archive, _) = diff(from.path()).expect("diff");
        let to = tempfile::tempdir().expect("temporary directory");
        unpack(&archive, to.path()).expect("unpack");
        prop_assert_eq!(tree(to.path()), tree(from.path()));
        prop_assert!(diff(to.path()).expect("diff").0 == archive, "not reproducible");
        // Once more over itself: every replacement of equal by equal.
        unpack(&archive, to.path()).expect("unpack");
        prop_assert_eq!(tree(to.path()), tree(from.path()));
    }
}
