//! ADD: URLs, repositories and archives, as the table of `COVERAGE.md` lists them.

use support::git::Server as Daemon;
use support::hash::sha256;
use support::http::Server;
use support::image::{NodeKind, assert_file, node};
use support::layer::{Layer, by_root};
use support::progress::steps;
use support::{World, for_users, need};

/// Serves repositories below the test's directory.
fn repositories(world: &World) -> Daemon {
    Daemon::start(&world.path("repositories")).expect("git runs")
}

for_users! {
    /// Archives are unpacked where they are local, or where the flag says so.
    fn unpack(world) as [root, subids, plain] {
        let tar = Layer::empty().file("inner", by_root(0o640), b"inner\n").finish();
        world.write("ctx/a.tar", &tar);
        let server = Server::start(&[("/a.tar", &tar), ("/text", b"text\n")]);
        let (archive, text) = (server.url("/a.tar"), server.url("/text"));
        world.dockerfile(&format!(
            "FROM scratch\n\
             ADD a.tar /local/\n\
             ADD --unpack=false a.tar /kept/\n\
             ADD {archive} /remote/\n\
             ADD --unpack --chown=3:4 {archive} /unpacked/\n\
             ADD --unpack=true {text} /plain\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "local/inner", "inner\n");
        assert_file(&tree, "kept/a.tar", &tar);
        assert_file(&tree, "remote/a.tar", &tar);
        assert_file(&tree, "unpacked/inner", "inner\n");
        let inner = node(&tree, "unpacked/inner");
        assert_eq!((inner.uid, inner.gid, inner.mode), (3, 4, 0o640));
        assert_file(&tree, "plain", "text\n");

        // Unpacked or not is not the same step.
        for (flag, path) in [("", "x/inner"), ("--unpack=false", "x/a.tar"), ("--unpack=true", "x/inner")] {
            world.dockerfile(&format!("FROM scratch\nADD {flag} a.tar /x/\n"));
            let tree = world.tree([]);
            assert!(tree.contains_key(std::path::Path::new(path)), "{flag} {tree:?}");
        }
    }

    /// A URL is asked for again by every build, but transferred only when it changed.
    fn url_again(world) as [root, subids, plain] {
        let server = Server::start(&[("/f", b"one")]);
        let url = server.url("/f");
        world.dockerfile(&format!("FROM scratch\nADD {url} /f\n"));
        assert_file(&world.tree([]), "f", "one");
        assert_file(&world.tree([]), "f", "one");
        assert_eq!((server.requests().len(), server.transfers().len()), (2, 1));
        // The content is still here for another step, which also has mode and time from there.
        world.dockerfile(&format!("FROM scratch\nADD {url} /dir/\n"));
        let tree = world.tree([]);
        assert_file(&tree, "dir/f", "one");
        let file = node(&tree, "dir/f");
        assert_eq!((file.mode, file.mtime), (0o600, 1_600_000_000));
        assert_eq!((server.requests().len(), server.transfers().len()), (3, 1));
        server.put("/f", b"two");
        assert_file(&world.tree([]), "dir/f", "two");
        assert_eq!(server.transfers().len(), 2);
        // What has a checksum and is here is not asked for.
        let two = sha256(b"two");
        world.dockerfile(&format!("FROM scratch\nADD --checksum=sha256:{two} {url} /f\n"));
        assert_file(&world.tree([]), "f", "two");
        assert_eq!(server.requests().len(), 4);
        let one = sha256(b"one");
        world.dockerfile(&format!("FROM scratch\nADD --checksum=sha256:{one} {url} /f\n"));
        world.build([]).run().exits(1).says(&["checksum mismatch", &one, &two]);
    }

    /// A download in the store that was changed is noticed.
    fn url_changed_in_the_store(world) as [plain] {
        let server = Server::start(&[("/f", b"content")]);
        let url = server.url("/f");
        world.dockerfile(&format!("FROM scratch\nADD {url} /f\n"));
        world.build([]).ok();
        let blob = world.store().join("blobs/sha256").join(sha256(b"content"));
        std::fs::write(&blob, b"CONTENT").unwrap();
        world.dockerfile(&format!("FROM scratch\nADD {url} /other\n"));
        world.build([]).run().exits(1).says(&["is corrupt in the store"]);
    }

    /// Secrets named after the host authorize.
    fn url_secrets(world) as [subids, plain] {
        world.write("token", "s3cret\n");
        world.write("header", "Digest s3cret");
        for (secret, expected) in [
            ("id=HTTP_AUTH_TOKEN_127.0.0.1,src=token", "Bearer s3cret"),
            ("id=HTTP_AUTH_HEADER_127.0.0.1,src=header", "Digest s3cret"),
        ] {
            let server = Server::closed(&[("/f", b"for you\n")], expected);
            world.dockerfile(&format!("FROM scratch\nADD {} /f\n", server.url("/f")));
            world.build([]).run().exits(1).says(&["401"]);
            let output = world.build([&format!("--secret={secret}")[..]]).ok();
            assert!(!output.all().contains("s3cret"), "{}", output.all());
        }
    }

    /// A repository: both forms of its address, references of all kinds, and a directory of it.
    fn git(world) as [root, subids, plain] {
        let server = repositories(world);
        let first = server.commit("r.git", &[("f", "one"), ("sub/g", "deep"), ("sub/x/h", "")]);
        server.git("r.git", &["tag", "-a", "-m", "annotated", "v1"]);
        server.git("r.git", &["branch", "old"]);
        std::os::unix::fs::symlink("f", server.dir("r.git").join("link")).unwrap();
        let second = server.commit("r.git", &[("f", "two"), ("run", "")]);
        let url = server.url("r.git");
        world.dockerfile(&format!(
            "FROM scratch\n\
             ADD {url} /head\n\
             ADD {url}#v1 /tag/\n\
             ADD {url}#old:sub /branch\n\
             ADD {url}?branch=main&subdir=sub /query\n\
             ADD {url}?ref=v1&checksum={first} /checked\n\
             ADD {url}#{first} /commit\n\
             ADD --checksum={} --chown=5:6 --chmod=u=rwX,go= --exclude=sub {url} /flags\n",
            &second[..10],
        ));
        let tree = world.tree([]);
        for (path, text) in [
            ("head/f", "two"),
            ("head/sub/g", "deep"),
            ("tag/f", "one"),
            ("branch/g", "deep"),
            ("query/g", "deep"),
            ("checked/f", "one"),
            ("commit/f", "one"),
            ("flags/f", "two"),
        ] {
            assert_file(&tree, path, text);
            assert_eq!(node(&tree, path).mtime, 1_600_000_000, "{path}");
        }
        assert_eq!(node(&tree, "head/link").kind, NodeKind::Symlink(b"f".to_vec()));
        let modes = ["head/f", "head/sub"].map(|path| node(&tree, path).mode);
        assert_eq!(modes, [0o644, 0o755]);
        let flags = node(&tree, "flags/f");
        assert_eq!((flags.mode, flags.uid, flags.gid), (0o600, 5, 6));
        assert!(!tree.keys().any(|path| path.ends_with(".git")));
        assert!(!tree.keys().any(|path| path.starts_with("flags/sub")));
    }

    /// The commit is the key: the step runs again when the branch moves.
    fn git_is_cached_by_commit(world) as [subids, plain] {
        let server = repositories(world);
        server.commit("r.git", &[("f", "one")]);
        let url = server.url("r.git");
        world.dockerfile(&format!("FROM scratch\nADD {url}#main /\n"));
        let cached = || steps(&world.build([]).ok().stderr).iter().all(|step| step.cached);
        assert!(!cached());
        assert!(cached());
        server.commit("r.git", &[("f", "two")]);
        assert!(!cached());
        let diff_ids = || world.built(["--no-cache"]).config["rootfs"].clone();
        assert_eq!(diff_ids(), diff_ids(), "the same every time");
    }

    /// `.git` is kept where it is wanted.
    fn git_keep_git_dir(world) as [root, plain] {
        let server = repositories(world);
        let commit = server.commit("r.git", &[("f", "one"), ("sub/g", "")]);
        let url = server.url("r.git");
        world.dockerfile(&format!(
            "FROM scratch\n\
             ADD --keep-git-dir {url} /flag\n\
             ADD {url}?keep-git-dir=true&subdir=sub /query\n\
             ADD --keep-git-dir=false {url} /without\n"
        ));
        let tree = world.tree([]);
        for dir in ["flag", "query"] {
            assert_file(&tree, &format!("{dir}/.git/HEAD"), format!("{commit}\n"));
        }
        assert!(!tree.keys().any(|path| path.starts_with("without/.git")));
        world.dockerfile(&format!(
            "FROM scratch\nADD --keep-git-dir=false {url}?keep-git-dir=true /\n"
        ));
        world.build([]).run().exits(1).says(&["`--keep-git-dir` contradicts"]);
    }

    /// Submodules come along, by relative addresses too, unless they are not wanted.
    fn git_submodules(world) as [subids, plain] {
        let server = repositories(world);
        server.commit("inner.git", &[("i", "inner")]);
        server.commit("r.git", &[("f", "outer")]);
        let inner = server.url("inner.git");
        server.git("r.git", &["submodule", "--quiet", "add", &inner, "absolute"]);
        server.git("r.git", &["config", "-f", ".gitmodules", "submodule.absolute.url", "../inner.git"]);
        server.commit("r.git", &[]);
        let url = server.url("r.git");
        world.dockerfile(&format!(
            "FROM scratch\nADD {url} /with\nADD {url}?submodules=false /without\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "with/absolute/i", "inner");
        assert!(!tree.keys().any(|path| path.starts_with("without/absolute/i")));
        assert!(!tree.keys().any(|path| path.ends_with(".git")));
    }

    /// What is not there, or not what was promised, is named.
    fn git_refused(world) as [plain] {
        let server = repositories(world);
        let commit = server.commit("r.git", &[("f", "one")]);
        let url = server.url("r.git");
        let absent = server.url("absent.git");
        for (source, why) in [
            (format!("{url}#nowhere"), "has no reference `nowhere`"),
            (format!("{url}#:nowhere"), "has no directory `nowhere`"),
            (format!("{url}#{}", "0".repeat(40)), "no branch and no tag has commit"),
            (format!("{url}?checksum=0000000&ref=main"), "checksum mismatch"),
            (format!("--checksum={} {url}?checksum=0000000&ref=main", &commit[..8]), "contradicts"),
            (format!("{url}?depth=1"), "unknown `depth`"),
            (absent, "absent.git"),
        ] {
            world.dockerfile(&format!("FROM scratch\nADD {source} /\n"));
            world.build([]).run().exits(1).says(&[why, "Dockerfile:2"]);
        }
        world.dockerfile(&format!("FROM scratch\nCOPY {url} /\n"));
        world.build([]).run().exits(1).says(&["the source of COPY can't be a git repository"]);
    }

    /// Links of a repository lead nowhere outside, as a directory of it or in the destination.
    fn git_hostile(world) as [root, plain] {
        let secret = world.write("outside/secret", "secret");
        let outside = secret.parent().unwrap();
        let server = repositories(world);
        server.commit("r.git", &[("f", "one"), ("hooks/post-checkout", "#!/bin/sh\ntouch /hooked\n")]);
        std::os::unix::fs::symlink(outside, server.dir("r.git").join("out")).unwrap();
        std::os::unix::fs::symlink("../../..", server.dir("r.git").join("up")).unwrap();
        server.commit("r.git", &[(".gitattributes", "* filter=x\n")]);
        let url = server.url("r.git");
        world.dockerfile(&format!("FROM scratch\nADD {url}#:out /\n"));
        world.build([]).run().exits(1).says(&["has no directory `out`"]);
        world.dockerfile(&format!("FROM scratch\nADD {url}#:up /up\nADD {url} /whole\nADD {url} /whole/out/\n"));
        let output = world.build([]).run();
        assert!(matches!(output.code, Some(0 | 1)), "{}", output.all());
        assert!(!output.all().contains("secret\n"));
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1);
    }

    /// Without git the error names what to install.
    fn git_missing(world) as [plain] {
        need!(world, "git");
        world.dockerfile("FROM scratch\nADD git://127.0.0.1:1/r.git /\n");
        world.build([]).env("PATH", "/nowhere").run().exits(1).says(&["install the package `git`"]);
    }
}
