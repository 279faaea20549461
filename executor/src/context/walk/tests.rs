use super::*;
use crate::error::Kind;
use std::fs;
use std::os::unix::fs::symlink;

fn tree_of(files: &[&str]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().expect("temporary directory");
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        if file.ends_with('/') {
            fs::create_dir_all(path).expect("mkdir");
        } else {
            fs::write(path, file).expect("write");
        }
    }
    let root = Root::open_host(dir.path()).expect("open root");
    (dir, root)
}

fn rules(text: &str) -> Matcher {
    Matcher::parse(".dockerignore", text.as_bytes()).expect("valid")
}

/// Walks everything from the root, as `+dir`, `file`, `-dir`.
fn walked(root: &Root, rules: &Matcher) -> Vec<String> {
    let tree = Tree::new(root, rules);
    let mut out = Vec::new();
    for from in tree.matches(&[".".to_owned()]).expect("matches") {
        tree.walk(&from, &mut |step| {
            let (sign, node) = match step {
                Step::Enter(node) => ("+", node),
                Step::Item(node) => ("", node),
                Step::Leave(node) => ("-", node),
            };
            assert_eq!(node.path, node.below);
            out.push(format!("{sign}{}", node.below.display()));
            Ok(())
        })
        .expect("walk");
    }
    out
}

#[test]
fn order_is_by_name_and_directories_nest() {
    let (_dir, root) = tree_of(&["b", "a/2", "a/1", "a-", "c/"]);
    let none = Matcher::none();
    assert_eq!(
        walked(&root, &none),
        ["+", "+a", "a/1", "a/2", "-a", "a-", "b", "+c", "-c", "-"]
    );
}

#[test]
fn parents_of_what_is_included_again_come_late() {
    let (_dir, root) = tree_of(&["a/b/c", "a/b/d", "a/x", "e/f"]);
    assert_eq!(
        walked(&root, &rules("*\n!a/b/c")),
        ["+", "+a", "+a/b", "a/b/c", "-a/b", "-a", "-"]
    );
    assert_eq!(walked(&root, &rules("*\n!a/b/z")), ["+", "-"]);
    assert_eq!(walked(&root, &rules("**/f\na")), ["+", "+e", "-e", "-"]);
}

#[test]
fn a_missing_source_has_hints() {
    let (dir, root) = tree_of(&["src/main.c", "deep/er/config.toml", "Makefile", "build.o"]);
    symlink("nowhere", dir.path().join("dangling")).expect("symlink");
    let ignore = rules("*.o\ndeep");
    let tree = Tree::new(&root, &ignore);
    for (source, hints) in [
        ("Makefil", vec!["did you mean `Makefile`?"]),
        ("/src/mian.c", vec!["did you mean `src/main.c`?"]),
        ("scr/main.c", vec!["did you mean `src/main.c`?"]),
        ("scr/*.c", vec!["did you mean `src`?"]),
        ("main.c", vec!["did you mean `src/main.c`?"]),
        ("something-else", vec![]),
        // What is excluded is not suggested, but explained.
        ("config.toml", vec![]),
        (
            "build.o",
            vec!["`build.o` is excluded by `*.o` on line 1 of `.dockerignore`"],
        ),
        (
            "deep/er/config.toml",
            vec!["`deep` is excluded by `deep` on line 2 of `.dockerignore`"],
        ),
        (
            "dangling",
            vec!["`dangling` leads through symbolic links to `nowhere`, which does not exist"],
        ),
    ] {
        let error = tree.matches(&[source.to_owned()]).expect_err(source);
        assert_eq!(error.to_string(), format!("`{source}` not found"));
        assert_eq!(error.get_kind(), Kind::NotFound);
        assert_eq!(error.hints(), hints, "{source}");
    }
}

#[test]
fn links_resolve_inside_the_tree_that_is_left() {
    let (dir, root) = tree_of(&["real/file", "hidden/file", "real/up/x"]);
    for (target, link) in [
        ("/real", "abs"),
        ("hidden", "to-hidden"),
        ("../../real/file", "real/up/back"),
        ("/../../../real/file", "high"),
        ("real/up/..", "dots"),
        ("loop", "loop"),
    ] {
        symlink(target, dir.path().join(link)).expect("symlink");
    }
    let ignore = rules("hidden\nignored-link");
    let tree = Tree::new(&root, &ignore);
    let found = |source: &str| {
        let matches = tree.matches(&[source.to_owned()]);
        matches.map(|m| m.into_iter().map(|m| (m.path, m.name)).collect::<Vec<_>>())
    };
    for (source, path, name) in [
        ("abs/file", "real/file", "file"),
        ("real/up/back", "real/file", "back"),
        ("high", "real/file", "high"),
        ("dots", "real", "dots"),
        ("abs/f*", "real/file", "file"),
        ("/", "", ""),
    ] {
        let expected = vec![(PathBuf::from(path), OsString::from(name))];
        assert_eq!(found(source).expect(source), expected, "{source}");
    }
    for source in ["to-hidden/file", "hidden/file", "hidden", "loop"] {
        assert!(found(source).is_err(), "{source}");
    }
    assert!(found("hid*").expect("no match").is_empty());
}

#[test]
fn an_entry_that_goes_away_or_is_replaced_is_an_error() {
    let (dir, root) = tree_of(&["d/a", "d/b"]);
    let none = Matcher::none();
    let tree = Tree::new(&root, &none);
    let matches = tree.matches(&["d".to_owned()]).expect("matches");
    let (a, b) = (dir.path().join("d/a"), dir.path().join("d/b"));
    let error = tree
        .walk(&matches[0], &mut |step| {
            if let Step::Item(node) = step
                && node.name == "a"
            {
                // Both names now exist, but `a` is another file.
                fs::rename(&b, &a).expect("rename");
                fs::write(&b, "new").expect("write");
                return node.open().map(drop);
            }
            Ok(())
        })
        .expect_err("replaced");
    assert!(
        error
            .to_string()
            .contains("changed while it was being read: `d/a`")
    );
    let error = tree
        .walk(&matches[0], &mut |step| {
            if let Step::Item(node) = step
                && node.name == "a"
            {
                fs::remove_file(&b).expect("remove");
            }
            Ok(())
        })
        .expect_err("gone");
    assert!(
        error
            .to_string()
            .contains("changed while it was being read: `d/b`")
    );
}

#[test]
fn deep_nesting_is_refused() {
    let (dir, root) = tree_of(&[]);
    let mut at = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .expect("open");
    for _ in 0..MAX_DEPTH {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).expect("mkdir");
        at = rustix::fs::openat(&at, "d", OFlags::PATH, Mode::empty()).expect("open");
    }
    let none = Matcher::none();
    let tree = Tree::new(&root, &none);
    let matches = tree.matches(&[".".to_owned()]).expect("matches");
    let error = tree.walk(&matches[0], &mut |_| Ok(())).expect_err("deep");
    assert!(error.to_string().contains("nested more than"));
}
