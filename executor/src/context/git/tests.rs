use super::*;
use std::process::Command;

#[test]
fn references_are_picked_in_gits_order() {
    let commit = |n: u8| format!("{n:040}");
    let lines = |names: &[&str]| -> String {
        let lines = names
            .iter()
            .zip(1..)
            .map(|(name, n)| format!("{}\t{name}\n", commit(n)));
        lines.collect()
    };
    for (names, reference, expected) in [
        (&["HEAD", "refs/remotes/x/HEAD"][..], "HEAD", Some(1)),
        (&["refs/heads/v1", "refs/tags/v1"], "v1", Some(2)),
        (
            &["refs/heads/v1", "refs/tags/v1", "refs/tags/v1^{}"],
            "v1",
            Some(3),
        ),
        (&["refs/heads/v1", "refs/tags/v1"], "refs/heads/v1", Some(1)),
        (&["refs/heads/a/v1"], "v1", None),
        (&["refs/pull/1/head"], "pull/1/head", Some(1)),
        (&[], "x", None),
    ] {
        let found = best(&lines(names), reference);
        assert_eq!(found, expected.map(commit), "{names:?} {reference}");
    }
}

#[test]
fn a_whole_commit_needs_nobody() {
    let commit = "ABCDEF7890123456789012345678901234567890";
    let url = |rest: &str| {
        let text = format!("https://nowhere.invalid/r.git{rest}");
        GitUrl::parse(&text).expect("valid").expect("git")
    };
    let options = GitOptions::default();
    let found = resolve(&url(&format!("#{commit}")), &options).expect("resolved");
    assert_eq!(found, commit.to_ascii_lowercase());
    let found = resolve(&url(&format!("?ref={commit}&checksum=abcdef7")), &options);
    assert_eq!(found.expect("resolved"), commit.to_ascii_lowercase());
    for (checksum, why) in [
        ("1234567", "checksum mismatch: expected commit 1234567"),
        ("abc", "invalid checksum `abc`"),
        ("main", "invalid checksum `main`"),
    ] {
        let url = url(&format!("?ref={commit}&checksum={checksum}"));
        let error = resolve(&url, &options).expect_err(checksum);
        assert!(error.chain().contains(why), "{}", error.chain());
    }
}

/// Files of the host are not fetched, whatever names them.
#[test]
fn only_network_protocols_are_spoken() {
    if Command::new("git").arg("version").output().is_err() {
        println!("SKIP: git does not run");
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = GitOptions::default();
    for remote in ["file:///", "/tmp", "ext::sh -c true"] {
        let url = GitUrl {
            remote: remote.to_owned(),
            ..GitUrl::default()
        };
        let error = fetch(&url, &options, dir.path()).expect_err(remote);
        assert!(error.chain().contains("not allowed"), "{}", error.chain());
    }
}
