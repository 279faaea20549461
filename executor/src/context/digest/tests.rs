use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;

use runtime::identity::{IdMap, Identity};

/// Remembers everything, and counts.
#[derive(Default)]
struct Memory {
    known: Mutex<HashMap<FileKey, Digest>>,
    inserted: AtomicUsize,
}

impl FileDigests for Memory {
    fn lookup(&self, key: &FileKey) -> Option<Digest> {
        self.known.lock().expect("lock").get(key).copied()
    }

    fn insert(&self, key: &FileKey, digest: Digest, seen: SystemTime) {
        assert!(seen <= SystemTime::now());
        self.inserted.fetch_add(1, Ordering::Relaxed);
        self.known.lock().expect("lock").insert(*key, digest);
    }
}

fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("d/sub")).expect("mkdir");
    fs::write(path("d/a"), "A").expect("write");
    fs::write(path("d/sub/b"), "B").expect("write");
    fs::write(path("d/sub/empty"), "").expect("write");
    symlink("a", path("d/link")).expect("symlink");
    fs::write(path("x.txt"), "X").expect("write");
    dir
}

fn selection(dir: &Path, sources: &[&str], rules: &str, chmod: Option<u32>) -> Selection {
    let root = Root::open_host(dir).expect("open root");
    let rules = Matcher::parse("i", rules.as_bytes()).expect("valid");
    let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
    let chmod = chmod.map(FileMode::Octal);
    let request = SelectRequest {
        pick: &Pick::plain(sources),
        chmod: chmod.as_ref(),
        owners: None,
        whole: false,
    };
    select(&root, &rules, &request, &NoDigests).expect("select")
}

fn digest(dir: &Path) -> Digest {
    selection(dir, &["d", "*.txt"], "", None).digest
}

#[test]
fn what_a_copy_keeps_counts() {
    let base = digest(sample().path());
    type Change = fn(&Path);
    let changes: [(&str, Change); 8] = [
        ("content", |d| fs::write(d.join("d/a"), "B").expect("write")),
        ("name", |d| {
            fs::rename(d.join("d/a"), d.join("d/c")).expect("rename");
        }),
        ("name of a match", |d| {
            fs::rename(d.join("x.txt"), d.join("y.txt")).expect("rename");
        }),
        ("mode", |d| chmod(&d.join("d/a"), 0o755)),
        ("mode of a directory", |d| chmod(&d.join("d/sub"), 0o700)),
        ("link", |d| {
            fs::remove_file(d.join("d/link")).expect("remove");
            symlink("b", d.join("d/link")).expect("symlink");
        }),
        ("an empty directory", |d| {
            fs::create_dir(d.join("d/new")).expect("mkdir");
        }),
        ("a hard link instead of a copy", |d| {
            fs::copy(d.join("d/a"), d.join("d/a2")).expect("copy");
            let copied = digest(d);
            fs::remove_file(d.join("d/a2")).expect("remove");
            fs::hard_link(d.join("d/a"), d.join("d/a2")).expect("link");
            assert_ne!(digest(d), copied);
        }),
    ];
    for (what, change) in changes {
        let dir = sample();
        chmod(&dir.path().join("d/a"), 0o644);
        assert_eq!(digest(dir.path()), base, "{what}");
        change(dir.path());
        assert_ne!(digest(dir.path()), base, "{what}");
    }
}

#[test]
fn what_a_copy_does_not_keep_does_not_count() {
    let base = digest(sample().path());
    let dir = sample();
    let file = fs::File::open(dir.path().join("d/a")).expect("open");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("set time");
    fs::write(dir.path().join("unselected"), "").expect("write");
    chmod(&dir.path().join("d"), 0o700);
    // Only some users can do it; the others' run says nothing about owners.
    if std::os::unix::fs::chown(dir.path().join("d/a"), Some(1), Some(1)).is_err() {
        println!("SKIP: files can't be given away here");
    }
    assert_eq!(digest(dir.path()), base);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn chmod_and_ignore_rules_take_part() {
    let dir = sample();
    let with = |chmod| selection(dir.path(), &["d"], "", chmod).digest;
    let before = with(Some(0o600));
    assert_ne!(with(None), before);
    chmod(&dir.path().join("d/a"), 0o777);
    assert_eq!(with(Some(0o600)), before);

    let all = selection(dir.path(), &["d"], "", None);
    let some = selection(dir.path(), &["d"], "d/sub", None);
    assert_ne!(all.digest, some.digest);
    assert_eq!((all.files, all.bytes), (4, 2));
    assert_eq!((some.files, some.bytes), (2, 1));
    fs::write(dir.path().join("d/sub/b"), "changed").expect("write");
    let again = selection(dir.path(), &["d"], "d/sub", None);
    assert_eq!((again.digest, again.stamp), (some.digest, some.stamp));
}

#[test]
fn known_files_are_not_read_again() {
    let dir = sample();
    // More than a batch, and enough bytes for threads.
    for i in 0..BATCH {
        fs::write(dir.path().join(format!("d/sub/{i}")), vec![1; 30_000]).expect("write");
    }
    let root = Root::open_host(dir.path()).expect("open root");
    let sources = vec!["d".to_owned()];
    let request = SelectRequest {
        pick: &Pick::plain(sources),
        chmod: None,
        owners: None,
        whole: false,
    };
    let memory = Memory::default();
    let rules = Matcher::none();
    let first = select(&root, &rules, &request, &memory).expect("select");
    let read = memory.inserted.swap(0, Ordering::Relaxed);
    assert_eq!(read, BATCH + 3);
    let second = select(&root, &rules, &request, &memory).expect("select");
    assert_eq!(second, first);
    assert_eq!(memory.inserted.load(Ordering::Relaxed), 0);
    let cold = select(&root, &rules, &request, &NoDigests).expect("select");
    assert_eq!(cold, first);
    fs::write(dir.path().join("d/sub/7"), vec![2; 30_000]).expect("write");
    let third = select(&root, &rules, &request, &memory).expect("select");
    assert_ne!(third.digest, first.digest);
    assert_eq!(memory.inserted.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    let dir = sample();
    let root = Root::open_host(dir.path()).expect("open root");
    let stat = root.stat("x.txt", false).expect("stat");
    fs::write(dir.path().join("x.txt"), "longer").expect("write");
    let hashed = hash_file(&root, Path::new("x.txt"), &FileKey::of(&stat), &mut [0; 64]);
    let error = hashed.expect_err("changed");
    assert!(
        error
            .to_string()
            .contains("changed while it was being read: `x.txt`")
    );
}

#[test]
fn owners_count_where_they_are_kept() {
    let dir = sample();
    let root = Root::open_host(dir.path()).expect("open root");
    let sources = vec!["d".to_owned()];
    let kept = |first| {
        let owners = Ownership::new(Identity::Subids, IdMap { first, count: 100 });
        let request = SelectRequest {
            pick: &Pick::plain(sources.clone()),
            chmod: None,
            owners: Some(&owners),
            whole: false,
        };
        select(&root, &Matcher::none(), &request, &NoDigests)
    };
    let given = |id| std::os::unix::fs::chown(dir.path().join("d/a"), Some(id), Some(id));
    if !rustix::process::geteuid().is_root() || given(1).and_then(|()| given(0)).is_err() {
        println!("SKIP: files can't be given away here");
        return;
    }
    let before = kept(0).expect("select").digest;
    given(1).expect("chown");
    assert_ne!(kept(0).expect("select").digest, before);
    let error = kept(1).expect_err("the host's root is no id of the container");
    assert!(
        error.chain().contains("is none of the container's"),
        "{}",
        error.chain()
    );
}
