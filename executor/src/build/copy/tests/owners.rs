//! Whose files copied ones are, with every identity.

use super::*;

#[test]
fn capabilities_survive_the_change_of_owner() {
    use crate::context::xattrs::{self, Attribute};
    let trees = Trees::new();
    make(trees.source.path(), &["755 f=F"]);
    // cap_net_raw=ep, version 2.
    let mut value = vec![1, 0, 0, 2, 0, 0x20, 0, 0];
    value.extend([0; 12]);
    let attribute = Attribute {
        name: xattrs::CAPABILITY.into(),
        value,
    };
    if !can_chown() {
        println!("SKIP: files can't be given away here");
        return;
    }
    let file = fs::File::open(trees.source.path().join("f")).expect("open");
    if let Err(e) = xattrs::write(&file, &attribute, None) {
        println!("SKIP: no file capabilities here: {e}");
        return;
    }
    let (source, dest) = trees.roots();
    for (identity, path) in [(Identity::Host, "host"), (Identity::Subids, "subids")] {
        let mut request = request(&["f"], path);
        request.owners = Owners::Ids { uid: 5, gid: 5 };
        let ownership = Ownership::new(identity, own().ids());
        let stats = copy(plain(&source), &dest, &request, &ownership).expect("copy");
        assert_eq!(stats.warnings, Vec::<String>::new());
        let copied = fs::File::open(trees.dest.path().join(path)).expect("open");
        let read = xattrs::read(&copied).expect("read");
        assert_eq!(read, std::slice::from_ref(&attribute), "{path}");
    }
}

#[test]
fn owners_are_root_the_named_or_the_sources() {
    if !can_chown() {
        println!("SKIP: files can't be given away here");
        return;
    }
    let trees = sample();
    for name in ["d", "d/x", "d/sub", "d/l"] {
        let path = trees.source.path().join(name);
        std::os::unix::fs::lchown(path, Some(12), Some(13)).expect("chown");
    }
    make(
        trees.dest.path(),
        &["755 etc/", "644 etc/passwd=app:x:33:34::/:\n"],
    );
    let owner = |path: &str| {
        let meta = trees.dest.path().join(path).symlink_metadata().expect(path);
        (meta.uid(), meta.gid())
    };
    for (owners, dest, of_parents, of_files) in [
        (Owners::Root, "/r", (0, 0), (0, 0)),
        (Owners::Source, "/s", (0, 0), (12, 13)),
        (Owners::Ids { uid: 5, gid: 6 }, "/i", (5, 6), (5, 6)),
        (Owners::Named("app".into()), "/n", (33, 34), (33, 34)),
    ] {
        let mut request = request(&["d"], &format!("{dest}/t/"));
        request.owners = owners;
        trees.run(&request).expect(dest);
        let path = |name: &str| format!("{}{name}", &dest[1..]);
        for parent in ["", "/t"] {
            assert_eq!(owner(&path(parent)), of_parents, "{dest}");
        }
        for name in ["/t/x", "/t/l", "/t/sub"] {
            assert_eq!(owner(&path(name)), of_files, "{dest}");
        }
    }
    // An existing directory keeps its owner, one merged below it does not.
    let mut request = request(&["d"], "/have");
    request.owners = Owners::Ids { uid: 7, gid: 7 };
    trees.run(&request).expect("copy");
    assert_eq!(owner("have"), (0, 0));
    assert_eq!(owner("have/sub"), (7, 7));
    assert_eq!(owner("have/sub/old"), (0, 0));
}

#[test]
fn an_owner_that_does_not_exist_is_named() {
    let trees = sample();
    let (source, dest) = trees.roots();
    let ids = IdMap {
        first: own().ids().first,
        count: 1,
    };
    let mut request = request(&["f"], "/new");
    request.owners = Owners::Ids { uid: 33, gid: 33 };
    let ownership = Ownership::new(Identity::Subids, ids);
    let error = copy(plain(&source), &dest, &request, &ownership).expect_err("no such id");
    assert!(
        error
            .to_string()
            .contains("owner 33:33 does not exist here"),
        "{error}"
    );
    assert!(error.to_string().contains("`/new`"), "{error}");
    assert!(error.hints()[0].contains("--isolation=emulated"));
}

#[test]
fn recorded_owners_are_kept_and_named() {
    let trees = Trees::new();
    make(
        trees.source.path(),
        &["755 d/", "4755 d/f=x", "660 d/null=", "l -> f"],
    );
    let emulated = crate::layer::testing::emulated();
    let at = fs::File::open(trees.source.path()).expect("open");
    let file = fs::File::options()
        .write(true)
        .open(trees.source.path().join("d/f"))
        .expect("open");
    let www = Owner {
        uid: 33,
        gid: 70_000,
    };
    if emulated.set(&file, www).is_err() {
        println!("SKIP: no user attributes here");
        return;
    }
    emulated
        .set(
            fs::File::open(trees.source.path().join("d")).expect("open"),
            www,
        )
        .expect("set");
    let null = Record {
        owner: www,
        device: Some(runtime::identity::Device {
            block: false,
            major: 1,
            minor: 3,
        }),
    };
    let file = fs::File::open(trees.source.path().join("d/null")).expect("open");
    emulated.set_record(&file, &null).expect("set");
    fs::rename(
        trees.source.path().join("l"),
        trees.source.path().join("d/l"),
    )
    .expect("rename");
    fs::hard_link(
        trees.source.path().join("d/null"),
        trees.source.path().join("d/same"),
    )
    .expect("link");
    drop(at);
    let mut known = runtime::identity::Owners::new();
    known.set(b"d/l".to_vec(), www);
    let owners = crate::layer::testing::emulated().knowing(known);
    let (source, dest) = trees.roots();
    let source = Origin {
        root: &source,
        owners: Some(&owners),
    };
    for (to, how, owner) in [
        ("kept", Owners::Source, www),
        (
            "named",
            Owners::Ids { uid: 7, gid: 8 },
            Owner { uid: 7, gid: 8 },
        ),
    ] {
        let mut request = request(&["d"], &format!("/{to}/d"));
        request.owners = how;
        let given = crate::layer::testing::emulated();
        copy(source, &dest, &request, &given).expect("copy");
        let path = trees.dest.path().join(to).join("d");
        let read = |name: &str| {
            let file = fs::File::open(path.join(name)).expect(name);
            let stat = rustix::fs::fstat(&file).expect("stat");
            (
                given.record(&file, &stat).expect(name),
                stat.st_mode & 0o7777,
            )
        };
        assert_eq!(read("f"), (owner.into(), 0o4755));
        let device = Record { owner, ..null };
        assert_eq!(read("null"), (device, 0o660));
        assert_eq!(read("same"), (device, 0o660));
        let inode = |name: &str| path.join(name).metadata().expect(name).ino();
        assert_eq!(inode("null"), inode("same"));
        let dir = fs::File::open(&path).expect("open");
        let link = runtime::identity::ownership::look_up(&dir, "l".as_ref()).expect("stat");
        assert_eq!(given.take_specials().get(link), Some(owner));
        let uid = path.join("f").metadata().expect("stat").uid();
        assert_eq!(uid, rustix::process::geteuid().as_raw());
    }
}
