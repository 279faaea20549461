//! Copies from one tree into another: what is made, what is in the way, and what of files survives.

use super::*;
use runtime::identity::{IdMap, Identity, Record};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use crate::context::digest::{NoDigests, SelectRequest, select};

mod owners;

/// A source and a destination tree.
pub(in crate::build) struct Trees {
    pub(in crate::build) source: tempfile::TempDir,
    pub(in crate::build) dest: tempfile::TempDir,
}

impl Trees {
    pub(in crate::build) fn new() -> Self {
        let dir = || tempfile::tempdir().expect("temporary directory");
        let trees = Self {
            source: dir(),
            dest: dir(),
        };
        // tempfile's own 0700 would hide what the tests look at.
        for dir in [&trees.source, &trees.dest] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        trees
    }

    pub(in crate::build) fn roots(&self) -> (Root, Root) {
        let open = |dir: &tempfile::TempDir| Root::open_host(dir.path()).expect("open root");
        (open(&self.source), open(&self.dest))
    }

    fn run(&self, request: &CopyRequest) -> Result<CopyStats> {
        let (source, dest) = self.roots();
        // As of an image: owners are asked for only by `Owners::Source`.
        let ownership = own();
        let source = Origin {
            root: &source,
            owners: Some(&ownership),
        };
        copy(source, &dest, request, &ownership)
    }

    fn copy(&self, sources: &[&str], dest: &str) -> Result<CopyStats> {
        self.run(&request(sources, dest))
    }

    /// Lists the destination: permissions and path, and what is there.
    pub(in crate::build) fn list(&self) -> Vec<String> {
        let mut out = Vec::new();
        list(self.dest.path(), Path::new(""), &mut out);
        out
    }
}

fn list(root: &Path, below: &Path, out: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(below))
        .expect("list")
        .map(|e| e.expect("entry").file_name())
        .collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let full = root.join(&path);
        let meta = full.symlink_metadata().expect("stat");
        let (mode, shown) = (meta.mode() & 0o7777, path.display());
        if meta.is_dir() {
            out.push(format!("{mode:o} {shown}/"));
            list(root, &path, out);
        } else if meta.is_symlink() {
            let target = fs::read_link(full).expect("link");
            out.push(format!("{shown} -> {}", target.display()));
        } else {
            let text = fs::read(full).expect("read");
            out.push(format!(
                "{mode:o} {shown}={}",
                String::from_utf8_lossy(&text)
            ));
        }
    }
}

/// Tells whether the test's user can give files away: real root, or root with a range of ids.
pub(in crate::build) fn can_chown() -> bool {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::os::unix::fs::chown(file.path(), Some(12), Some(13)).is_ok()
}

/// Ids under which the test's user can own files.
pub(in crate::build) fn own() -> Ownership {
    let first = rustix::process::geteuid().as_raw();
    let (count, identity) = if can_chown() {
        (65_536, Identity::Host)
    } else {
        (u32::MAX, Identity::Emulated)
    };
    Ownership::new(identity, IdMap { first, count })
}

/// The caller's files, whose owners play no part.
fn plain(root: &Root) -> Origin<'_> {
    Origin { root, owners: None }
}

pub(in crate::build) fn request(sources: &[&str], dest: &str) -> CopyRequest {
    CopyRequest {
        pick: Pick::plain(sources.iter().map(|s| (*s).to_owned()).collect()),
        dest: dest.to_owned(),
        ignore: None,
        owners: Owners::Root,
        chmod: None,
    }
}

/// Makes a tree from lines: `750 d/`, `644 f=text`, `l -> target`.
pub(in crate::build) fn make(root: &Path, lines: &[&str]) {
    for line in lines {
        if let Some((path, target)) = line.split_once(" -> ") {
            symlink(target, root.join(path)).expect("symlink");
            continue;
        }
        let (mode, rest) = line.split_once(' ').expect("mode");
        let path = match rest.split_once('=') {
            Some((path, text)) => {
                fs::write(root.join(path), text).expect("write");
                root.join(path)
            }
            None => {
                fs::create_dir(root.join(rest)).expect("mkdir");
                root.join(rest)
            }
        };
        let mode = u32::from_str_radix(mode, 8).expect("octal");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
}

/// A source with a bit of everything, and a destination with links.
fn sample() -> Trees {
    let trees = Trees::new();
    make(
        trees.source.path(),
        &[
            "644 f=F",
            "600 g=G",
            "700 d/",
            "4755 d/x=X",
            "711 d/sub/",
            "644 d/sub/s=S",
            "d/l -> x",
            "lf -> d/x",
            "ld -> d",
            "gone -> nowhere",
            "755 w/",
            "w/a -> ../d/sub",
            "w/b -> ../f",
            "755 e/",
            "644 e/sub=file",
        ],
    );
    make(
        trees.dest.path(),
        &[
            "750 have/",
            "750 have/sub/",
            "644 have/sub/old=O",
            "600 file=old",
            "abs -> /target",
            "deep -> /new/dir",
            "dir -> have",
            "tofile -> file",
            "755 linked/",
            "linked/sub -> ../have",
        ],
    );
    trees
}

#[test]
fn destinations_are_as_in_buildkit() {
    let before = sample().list();
    for (sources, dest, expected) in [
        (&["f"][..], "/new", &["644 new=F"][..]),
        (&["f"], "/a/b/c", &["755 a/", "755 a/b/", "644 a/b/c=F"]),
        (&["f"], "/a/", &["755 a/", "644 a/f=F"]),
        (&["f"], "/x/../y", &["644 y=F"]),
        (&["/f"], "/new", &["644 new=F"]),
        (&["../f"], "/new", &["644 new=F"]),
        (&["f/"], "/new", &["644 new=F"]),
        (&["f"], "/have", &["644 have/f=F"]),
        (&["f", "g"], "/a/", &["755 a/", "644 a/f=F", "600 a/g=G"]),
        (&["f", "g"], "/have", &["644 have/f=F", "600 have/g=G"]),
        // Links in the destination are followed, dangling ones too.
        (&["f"], "/abs", &["644 target=F"]),
        (&["f"], "/deep", &["755 new/", "644 new/dir=F"]),
        (
            &["f"],
            "/deep/",
            &["755 new/", "755 new/dir/", "644 new/dir/f=F"],
        ),
        (
            &["f"],
            "/deep/q",
            &["755 new/", "755 new/dir/", "644 new/dir/q=F"],
        ),
        (&["f"], "/dir", &["644 have/f=F"]),
        (&["f"], "/tofile", &["644 file=F"]),
        // Of a directory only the contents are copied; what exists below it is merged.
        (
            &["d"],
            "/n",
            &[
                "755 n/",
                "n/l -> x",
                "711 n/sub/",
                "644 n/sub/s=S",
                "4755 n/x=X",
            ],
        ),
        (
            &["d/"],
            "/have",
            &[
                "have/l -> x",
                "711 have/sub/",
                "644 have/sub/s=S",
                "4755 have/x=X",
            ],
        ),
        // Links that a source names are followed, also when a wildcard finds them.
        (&["lf"], "/a/", &["755 a/", "4755 a/lf=X"]),
        (&["ld/sub"], "/a", &["755 a/", "644 a/s=S"]),
        (&["w/*"], "/a/", &["755 a/", "644 a/b=F", "644 a/s=S"]),
        (&["[fg]"], "/a/", &["755 a/", "644 a/f=F", "600 a/g=G"]),
        (&["d/*/s"], "/a/", &["755 a/", "644 a/s=S"]),
        (&["l*/sub"], "/a/", &[]),
        (&["*.none"], "/a/", &[]),
        (&["f/*"], "/a/", &[]),
    ] {
        let trees = sample();
        trees.copy(sources, dest).expect(dest);
        let after = trees.list();
        let changed: Vec<_> = after.iter().filter(|l| !before.contains(l)).collect();
        assert_eq!(changed, expected, "{sources:?} {dest}");
    }
}

#[test]
fn what_is_in_the_way_is_an_error() {
    for (sources, dest, text) in [
        (&["nofile"][..], "/a", "`nofile` not found"),
        (&["gone"], "/a", "`gone` not found"),
        (&["gone*"], "/a", "`gone*` not found"),
        (&["nodir/*"], "/a", "`nodir/*` not found"),
        (&["f/x"], "/a", "`f/x` not found"),
        (&["d"], "/file", "over what is no directory"),
        (&["d"], "/linked", "over what is no directory"),
        (&["e"], "/have", "cannot copy `e/sub` over the directory"),
        (&["f"], "/file/x", "make directory"),
        (
            &["f", "g"],
            "/new",
            "several sources would be copied to one file",
        ),
        (
            &["f", "g"],
            "/file",
            "several sources would be copied to one file",
        ),
        (&["f", "d"], "/new", "over what is no directory"),
        (&["[f"], "/a", "invalid source pattern `[f`"),
    ] {
        let error = sample().copy(sources, dest).expect_err(dest);
        assert!(error.chain().contains(text), "{}", error.chain());
    }
}

#[test]
fn several_files_to_one_name() {
    for (sources, dest, expected, warned) in [
        (&["[fg]"][..], "/new", "600 new=G", true),
        (&["[fg]"], "/file", "600 file=G", true),
        (&["[fg]"], "/have", "600 have/g=G", false),
        (&["f", "g"], "/have", "644 have/f=F", false),
        // The directory is made by the first source.
        (&["d", "f"], "/new", "644 new/f=F", false),
    ] {
        let trees = sample();
        let stats = trees.copy(sources, dest).expect(dest);
        assert!(trees.list().contains(&expected.to_owned()), "{dest}");
        let start = format!("2 files are copied to one, `{dest}`, where `g` is the last");
        let found = stats
            .warnings
            .iter()
            .any(|warning| warning.starts_with(&start));
        assert_eq!(found, warned, "{dest} {:?}", stats.warnings);
    }
}

#[test]
fn chmod_replaces_all_permissions_but_those_of_parents_and_links() {
    let trees = sample();
    let mut request = request(&["d"], "/a/b/");
    request.chmod = Some(FileMode::Octal(0o2710));
    trees.run(&request).expect("copy");
    let copied = [
        "755 a/",
        "2710 a/b/",
        "a/b/l -> x",
        "2710 a/b/sub/",
        "2710 a/b/sub/s=S",
        "2710 a/b/x=X",
    ];
    assert_eq!(&trees.list()[..copied.len()], copied);

    // What stood already keeps its own, and so does what is made for a file.
    for (source, dest, expected) in [("d", "/have", "750 have/"), ("f", "/new/", "755 new/")] {
        let trees = sample();
        let mut request = request.clone();
        (request.pick, request.dest) = (Pick::plain(vec![source.into()]), dest.into());
        trees.run(&request).expect(dest);
        assert!(
            trees.list().contains(&expected.to_owned()),
            "{:?}",
            trees.list()
        );
    }
}

#[test]
fn ignored_files_stay_behind_and_their_parents_come_late() {
    let trees = Trees::new();
    make(
        trees.source.path(),
        &[
            "755 a/",
            "644 a/keep=1",
            "644 a/drop.o=2",
            "755 b/",
            "644 b/drop.o=3",
            "755 c/",
            "755 c/d/",
            "644 c/d/keep=4",
            "644 c/other=5",
            "755 e/",
            "644 e/x=6",
        ],
    );
    let mut request = request(&["."], "/");
    request.ignore = Some(IgnoreFile {
        name: ".dockerignore".into(),
        text: b"**/*.o\nc\n!c/d/keep\ne".to_vec(),
    });
    trees.run(&request).expect("copy");
    assert_eq!(
        trees.list(),
        [
            "755 a/",
            "644 a/keep=1",
            "755 b/",
            "755 c/",
            "755 c/d/",
            "644 c/d/keep=4"
        ]
    );
    request.pick.sources = vec!["*/drop.o".into(), "c".into(), "e*".into()];
    request.dest = "/again/".into();
    trees.run(&request).expect("copy");
    assert!(trees.list().contains(&"644 again/d/keep=4".to_owned()));
    request.pick.sources = vec!["e/x".into()];
    let error = trees.run(&request).expect_err("ignored");
    assert_eq!(
        error.hints(),
        ["`e` is excluded by `e` on line 4 of `.dockerignore`"]
    );
}

#[test]
fn links_holes_times_and_special_files_are_kept() {
    let trees = Trees::new();
    let (from, to) = (trees.source.path(), trees.dest.path());
    make(
        from,
        &["755 d/", "444 d/one=1", "755 d/sub/", "d/link -> one"],
    );
    fs::hard_link(from.join("d/one"), from.join("d/sub/two")).expect("link");
    let sparse = fs::File::create(from.join("d/sparse")).expect("create");
    sparse.set_len(64 << 20).expect("grow");
    sparse.write_all_at(b"middle", 20 << 20).expect("write");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        from.join("d/fifo"),
        Mode::from_raw_mode(0o640),
    )
    .expect("mkfifo");
    let socket = std::os::unix::net::UnixListener::bind(from.join("d/socket")).expect("bind");
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_577_836_800, 5);
    for name in ["d/one", "d/sub"] {
        let file = fs::File::open(from.join(name)).expect("open");
        file.set_modified(old).expect("set time");
    }
    trees.copy(&["d"], "/").expect("copy");
    drop(socket);
    let meta = |p: &str| to.join(p).symlink_metadata().expect(p);
    assert_eq!(meta("one").ino(), meta("sub/two").ino());
    assert_eq!(meta("one").mode() & 0o7777, 0o444);
    for name in ["one", "sub"] {
        assert_eq!(
            (meta(name).mtime(), meta(name).mtime_nsec()),
            (1_577_836_800, 5)
        );
    }
    assert_eq!(meta("sparse").len(), 64 << 20);
    assert!(meta("sparse").blocks() < 1 << 12, "holes were filled");
    let mut middle = [0; 8];
    let copied = fs::File::open(to.join("sparse")).expect("open");
    copied
        .read_exact_at(&mut middle, (20 << 20) - 1)
        .expect("read");
    assert_eq!(&middle, b"\0middle\0");
    assert_eq!(FileType::from_raw_mode(meta("fifo").mode()), FileType::Fifo);
    assert_eq!(meta("fifo").mode() & 0o7777, 0o640);
    assert!(meta("socket").is_file() && meta("socket").len() == 0);
}

#[test]
fn directories_made_or_filled_do_not_tell_the_time_of_the_copy() {
    let trees = Trees::new();
    let (from, to) = (trees.source.path(), trees.dest.path());
    make(from, &["755 d/", "644 d/one=1", "644 two=2"]);
    make(to, &["755 old/"]);
    let time = |secs| std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
    for (root, name, secs) in [(from, "d", 1000), (from, "two", 2000), (to, "old", 3000)] {
        let file = fs::File::open(root.join(name)).expect("open");
        file.set_modified(time(secs)).expect("set time");
    }
    for (source, dest) in [
        ("d", "/old"),
        ("two", "/old"),
        ("d", "/new/x"),
        ("two", "/old/y/z"),
    ] {
        trees.copy(&[source], dest).expect(dest);
    }
    for (name, secs) in [
        ("old", 3000),
        ("new", 1000),
        ("new/x", 1000),
        ("old/y", 2000),
    ] {
        let meta = to.join(name).metadata().expect(name);
        assert_eq!(meta.modified().expect("time"), time(secs), "{name}");
    }
}

#[test]
fn attributes_come_along() {
    let trees = Trees::new();
    make(trees.source.path(), &["444 f=F", "755 d/", "755 d/sub/"]);
    let set = |path: &str, name: &str| {
        let file = fs::File::open(trees.source.path().join(path)).expect("open");
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&file, name, b"value", none)
    };
    if let Err(e) = set("d/sub", "user.note").and_then(|()| set("d/sub", "user.overlay.opaque")) {
        println!("SKIP: no user attributes here: {e}");
        return;
    }
    trees.copy(&["d"], "/").expect("copy");
    let copied = fs::File::open(trees.dest.path().join("sub")).expect("open");
    let names: Vec<_> = crate::context::xattrs::read(&copied)
        .expect("read")
        .into_iter()
        .map(|a| a.name)
        .collect();
    assert_eq!(names, ["user.note"]);
    assert!(rustix::fs::fgetxattr_query(&copied, "user.overlay.opaque").is_err());
}

/// What the destination's file system can't hold is warned of: ext4 has a block for all attributes of a
/// file, a file system in memory has more.
#[test]
fn attributes_that_do_not_fit_are_left_behind() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return println!("SKIP: no /dev/shm");
    };
    let big = [b'x'; 20_000];
    let none = rustix::fs::XattrFlags::empty();
    fs::write(memory.path().join("f"), "F").expect("write");
    if let Err(e) = rustix::fs::setxattr(memory.path().join("f"), "user.big", &big, none) {
        return println!("SKIP: no large attributes in /dev/shm: {e}");
    }
    let trees = Trees::new();
    let source = Root::open_host(memory.path()).expect("open");
    let origin = Origin {
        root: &source,
        owners: None,
    };
    let (_, dest) = trees.roots();
    let copied = copy(origin, &dest, &request(&["f"], "/"), &own()).expect("copied all the same");
    let to = trees.dest.path().join("f");
    assert_eq!(fs::read(&to).expect("read"), b"F");
    if rustix::fs::getxattr(&to, "user.big", &mut vec![0; 20_000][..]).is_ok() {
        return println!("SKIP: the temporary directory holds large attributes");
    }
    let [warning] = &copied.warnings[..] else {
        panic!("{:?}", copied.warnings);
    };
    assert!(warning.starts_with("attribute `user.big` of `f` was not copied"));
}

#[test]
fn the_stamp_tells_whether_anything_changed() {
    let trees = sample();
    let (source, _) = trees.roots();
    let sources = vec!["d".to_owned(), "f".to_owned()];
    let ask = SelectRequest {
        pick: &Pick::plain(sources),
        chmod: None,
        owners: None,
        whole: false,
    };
    let selected = select(&source, &Matcher::none(), &ask, &NoDigests).expect("select");
    let stats = trees.copy(&["d", "f"], "/a/").expect("copy");
    assert_eq!(stats.stamp, selected.stamp);
    assert_eq!((stats.files, stats.bytes), (selected.files, selected.bytes));
    fs::write(trees.source.path().join("f"), "f").expect("write");
    let stats = trees.copy(&["d", "f"], "/a/").expect("copy");
    assert_ne!(stats.stamp, selected.stamp);
}

#[test]
fn hostile_links_stay_inside_both_trees() {
    let outside = tempfile::tempdir().expect("temporary directory");
    fs::write(outside.path().join("secret"), "secret").expect("write");
    let trees = Trees::new();
    let away = outside.path().to_str().expect("UTF-8");
    symlink(away, trees.source.path().join("out")).expect("symlink");
    symlink("../../../../../../..", trees.source.path().join("up")).expect("symlink");
    for source in ["out/secret", &format!("up{away}/secret")] {
        assert!(trees.copy(&[source], "/x").is_err(), "{source}");
    }
    fs::write(trees.source.path().join("f"), "F").expect("write");
    symlink(away, trees.dest.path().join("out")).expect("symlink");
    trees.copy(&["f"], "/out/f").expect("copy");
    assert!(!outside.path().join("f").exists());
    assert!(trees.dest.path().join(&away[1..]).join("f").exists());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Lines for [`make`]: a few nested directories with files and links in them.
    fn tree() -> impl Strategy<Value = Vec<String>> {
        let entry = (0_usize..4, "[a-c]", 0_u32..8, prop::bool::ANY, "[x-z]{0,3}");
        prop::collection::vec(entry, 0..16).prop_map(|entries| {
            let mut lines = Vec::new();
            let mut dirs = vec![String::new()];
            let mut taken = std::collections::HashSet::new();
            for (depth, name, mode, is_dir, text) in entries {
                let path = format!("{}{name}", dirs[depth % dirs.len()]);
                if !taken.insert(path.clone()) {
                    continue;
                }
                if is_dir {
                    lines.push(format!("7{mode}{mode} {path}"));
                    dirs.push(format!("{path}/"));
                } else if text.is_empty() {
                    lines.push(format!("{path} -> {name}"));
                } else {
                    lines.push(format!("6{mode}4 {path}={text}"));
                }
            }
            lines
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A copied tree has the contents, the permissions and the digest of its source.
        #[test]
        fn a_copy_equals_its_source(lines in tree()) {
            let trees = Trees::new();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            make(trees.source.path(), &lines);
            trees.copy(&["."], "/").expect("copy");
            let mut wanted = Vec::new();
            list(trees.source.path(), Path::new(""), &mut wanted);
            prop_assert_eq!(trees.list(), wanted);
            let sources = vec![".".to_owned()];
            let ask = SelectRequest { pick: &Pick::plain(sources), chmod: None, owners: None, whole: false };
            let (source, dest) = trees.roots();
            let digest = |root| {
                select(root, &Matcher::none(), &ask, &NoDigests).expect("select").digest
            };
            prop_assert_eq!(digest(&source), digest(&dest));
        }
    }
}
