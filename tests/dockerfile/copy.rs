//! COPY: its sources, its destinations and its flags, as the tables of `COVERAGE.md` list them.

use std::os::unix::fs::PermissionsExt;

use support::image::{NodeKind, Tree, assert_file, flatten, node};
use support::layer::{Layer, by_root};
use support::progress::assert_all_cached;
use support::{base, for_users};

/// Lists what is below a directory.
fn below(tree: &Tree, dir: &str) -> Vec<String> {
    let names = tree.keys().filter_map(|path| path.strip_prefix(dir).ok());
    let names = names.filter(|path| !path.as_os_str().is_empty());
    names.map(|path| path.display().to_string()).collect()
}

for_users! {
    /// Here-documents are files with a fixed mode and time, expanded unless their names are quoted.
    fn heredocs(world) as [root, subids, plain] {
        world.write("ctx/beside", "beside\n");
        let lines = "FROM scratch\n\
             ARG WHO=world\n\
             COPY <<EOF /greeting\nhello $WHO\nEOF\n\
             COPY <<'EOF' /literal\nhello $WHO\nEOF\n\
             COPY --chmod=4751 --chown=3:4 <<-one <<two beside /dir/\n\tfirst\n\t\tmore\n\tone\ntwo's\ntwo\n\
             ADD <<tar.gz /added/\nno archive\ntar.gz\n\
             COPY --from=0 <<x greeting /\nX\nx\n"
            .replace("COPY --from=0", "FROM scratch\nCOPY --from=0");
        world.dockerfile(&lines);
        let tree = world.tree(["--target=0"]);
        assert_file(&tree, "greeting", "hello world\n");
        assert_file(&tree, "literal", "hello $WHO\n");
        assert_file(&tree, "dir/one", "first\nmore\n");
        assert_file(&tree, "dir/two", "two's\n");
        assert_file(&tree, "dir/beside", "beside\n");
        assert_file(&tree, "added/tar.gz", "no archive\n");
        let greeting = node(&tree, "greeting");
        assert_eq!((greeting.mode, greeting.uid, greeting.gid, greeting.mtime), (0o644, 0, 0, 0));
        let one = node(&tree, "dir/one");
        assert_eq!((one.mode, one.uid, one.gid), (0o4751, 3, 4));
        // Beside files of another stage.
        let tree = world.tree([]);
        assert_file(&tree, "x", "X\n");
        assert_file(&tree, "greeting", "hello world\n");
    }

    /// A here-document is part of its step's key, and its layer the same every time.
    fn heredocs_are_cached_by_content(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let write = |text: &str| {
            world.dockerfile(&format!("FROM {base}\nCOPY <<EOF /f\n{text}\nEOF\n"));
        };
        write("one");
        world.build(["--iidfile=first"]).ok();
        assert_all_cached(&world.build([]).ok().stderr, 1);
        world.build(["--iidfile=again", "--no-cache"]).ok();
        let diff_ids = || world.built([]).config["rootfs"].clone();
        let first = diff_ids();
        write("two");
        assert_ne!(diff_ids(), first);
        write("one");
        assert_eq!(diff_ids(), first);
    }

    /// A name that is no file's is refused, with its place.
    fn heredoc_names(world) as [plain] {
        for name in ["..", "a/b"] {
            world.dockerfile(&format!("FROM scratch\nCOPY <<{name} /d/\nx\n{name}\n"));
            world.build([]).run().exits(1).says(&["can't be a file's", "Dockerfile:2"]);
        }
    }

    /// Octal and symbolic modes, for files and directories; a destination that is made is 0755 before.
    fn chmod(world) as [root, subids, plain] {
        for (file, mode) in [("d/plain", 0o600), ("d/program", 0o700), ("d/sub/f", 0o640)] {
            let path = world.write(&format!("ctx/{file}"), "x");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let sub = world.path("ctx/d/sub");
        std::fs::set_permissions(sub, std::fs::Permissions::from_mode(0o700)).unwrap();
        world.dockerfile(
            "FROM scratch\n\
             ARG MODE=u=rwX,go=rX\n\
             COPY --chmod=$MODE d /symbolic\n\
             COPY --chmod=+x d /executable\n\
             COPY --chmod=g=u,o+t,u+s d /several\n\
             COPY --chmod=04711 d /octal\n\
             ADD --chmod=0 d/plain /none\n",
        );
        let tree = world.tree([]);
        let modes = |dir: &str| {
            ["", "/plain", "/program", "/sub", "/sub/f"]
                .map(|name| node(&tree, &format!("{dir}{name}")).mode)
        };
        assert_eq!(modes("symbolic"), [0o755, 0o644, 0o755, 0o755, 0o644]);
        assert_eq!(modes("executable"), [0o755, 0o711, 0o711, 0o711, 0o751]);
        assert_eq!(modes("several"), [0o4775, 0o4660, 0o4770, 0o4770, 0o4660]);
        assert_eq!(modes("octal"), [0o4711, 0o4711, 0o4711, 0o4711, 0o4711]);
        assert_eq!(node(&tree, "none").mode, 0);
    }

    /// Modes that are none are refused, with their place.
    fn chmod_refused(world) as [plain] {
        world.write("ctx/f", "");
        for (mode, why) in [
            ("10000", "from 0 to 07777"),
            ("8", "from 0 to 07777"),
            ("u+q", "unknown permission `q`"),
        ] {
            world.dockerfile(&format!("FROM scratch\nARG M={mode}\nCOPY --chmod=$M f /\n"));
            world.build([]).run().exits(1).says(&[why, "Dockerfile:3:14"]);
            world.dockerfile(&format!("FROM scratch\nCOPY --chmod={mode} f /\n"));
            world.build([]).run().exits(1).says(&[why, "Dockerfile:2:14"]);
        }
    }

    /// A mode is part of the key: the same files with another one are another layer.
    fn chmod_counts(world) as [subids, plain] {
        let base = base!(world, Busybox);
        let build = |mode: &str| {
            world.dockerfile(&format!(
                "FROM {base}\nRUN echo x >/f\nFROM scratch\nCOPY --from=0 --chmod={mode} /f /f\n"
            ));
            node(&world.tree([]), "f").mode
        };
        assert_eq!(build("u=rw,go="), 0o600);
        assert_eq!(build("u=rw,go=r"), 0o644);
        assert_eq!(build("600"), 0o600);
    }

    /// What is left out: by patterns as in ignore files, relative to each source.
    fn exclude(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        for file in ["d/a.txt", "d/b.md", "d/sub/c.txt", "d/sub/keep.txt", "d/deep/x/y.md", "e.md"] {
            world.write(&format!("ctx/{file}"), file);
        }
        world.dockerfile(&format!(
            "FROM {base} AS other\n\
             COPY d /src\n\
             FROM scratch\n\
             ARG KIND=md\n\
             COPY --exclude=*.$KIND d /top\n\
             COPY --exclude=**/*.md --exclude=a* d /deep\n\
             COPY --exclude=sub --exclude=!sub/keep.txt d /again\n\
             COPY --exclude=*.md e.* d /files/\n\
             ADD --exclude=deep d /add\n\
             COPY --from=other --exclude=sub/*.txt --exclude=*.txt /src /stage\n"
        ));
        let tree = world.tree([]);
        let below = |dir: &str| below(&tree, dir);
        let md = ["deep", "deep/x", "deep/x/y.md"];
        let sub = ["sub", "sub/c.txt", "sub/keep.txt"];
        assert_eq!(below("top"), [&["a.txt"], &md[..], &sub[..]].concat());
        assert_eq!(below("deep"), [&md[..2], &sub[..]].concat());
        let again = [&["a.txt", "b.md"], &md[..], &["sub", "sub/keep.txt"][..]].concat();
        assert_eq!(below("again"), again);
        assert_eq!(below("files"), [&["a.txt"], &md[..], &sub[..]].concat());
        assert_eq!(below("add"), [&["a.txt", "b.md"], &sub[..]].concat());
        assert_eq!(below("stage"), [&["b.md"], &md[..], &["sub"][..]].concat());
    }

    /// What is left out is not part of the key, and a malformed pattern is an error.
    fn exclude_and_the_cache(world) as [plain] {
        world.write("ctx/d/used", "1");
        world.write("ctx/d/log", "1");
        world.dockerfile("FROM scratch\nCOPY --exclude=log d /\n");
        world.build([]).ok();
        world.write("ctx/d/log", "2");
        assert_all_cached(&world.build([]).ok().stderr, 1);
        world.write("ctx/d/used", "2");
        assert!(!world.build([]).ok().stderr.contains("CACHED"));
        world.dockerfile("FROM scratch\nCOPY --exclude=[ d /\n");
        world.build([]).run().exits(1).says(&["`[` of `--exclude`", "Dockerfile:2"]);
    }

    /// `--parents` keeps the directories of a source's path, from the pivot on if there is one.
    fn parents(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        for file in ["x/a.txt", "x/y/b.txt", "x/y/z/c.txt", "x/y/z/d.md", "w/a.txt"] {
            world.write(&format!("ctx/{file}"), file);
        }
        let y = world.path("ctx/x/y");
        std::fs::set_permissions(y, std::fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink("y/b.txt", world.path("ctx/x/link")).unwrap();
        world.dockerfile(&format!(
            "FROM {base} AS other\n\
             COPY x /srv/x\n\
             FROM scratch\n\
             COPY --parents x/a.txt w /plain/\n\
             COPY --parents ./x/./y/b.txt /pivot/\n\
             COPY --parents x/**/*.txt /deep/\n\
             COPY --parents x/*/b.txt x/none* /star/\n\
             COPY --parents ./ /all\n\
             COPY --parents ./x/./ /empty\n\
             COPY --parents ./x/link /link\n\
             COPY --parents --exclude=**/z x/./** /excluded\n\
             COPY --parents --from=other /srv/./x/y/z/d.md /stage\n"
        ));
        let tree = world.tree([]);
        let below = |dir: &str| below(&tree, dir);
        assert_eq!(below("plain"), ["w", "w/a.txt", "x", "x/a.txt"]);
        assert_eq!(below("pivot"), ["y", "y/b.txt"]);
        assert_eq!(node(&tree, "pivot/y").mode, 0o711, "as the source's");
        assert_eq!(below("deep"), ["x", "x/a.txt", "x/y", "x/y/b.txt", "x/y/z", "x/y/z/c.txt"]);
        assert_eq!(below("star"), ["x", "x/y", "x/y/b.txt"]);
        assert_eq!(below("all").len(), 11, "{:?}", below("all"));
        assert_eq!(below("empty").len(), 7, "{:?}", below("empty"));
        assert_eq!(below("link"), ["x", "x/link"]);
        assert_eq!(below("excluded"), ["a.txt", "link", "y", "y/b.txt"]);
        assert_eq!(below("stage"), ["x", "x/y", "x/y/z", "x/y/z/d.md"]);
    }

    /// Paths without wildcards have to exist; links on the way are not followed, nor out of the tree.
    fn parents_refused(world) as [root, plain] {
        world.write("outside/secret", "secret");
        world.write("ctx/x/a.txt", "");
        std::os::unix::fs::symlink("x", world.path("ctx/way")).unwrap();
        let outside = world.path("outside");
        std::os::unix::fs::symlink(&outside, world.path("ctx/out")).unwrap();
        for (source, why) in [
            ("x/b.txt", "`x/b.txt` not found"),
            ("x/./a.tx", "did you mean `x/a.txt`?"),
            ("way/a.txt", "leads through a symbolic link"),
            ("out/secret", "`out/secret` not found"),
            ("out/./secret", "`out` not found"),
        ] {
            world.dockerfile(&format!("FROM scratch\nCOPY --parents {source} /d/\n"));
            world.build([]).run().exits(1).says(&[why, "Dockerfile:2"]);
        }
        // Only matching links themselves are taken.
        world.dockerfile("FROM scratch\nCOPY --parents **/secret out /d/\n");
        let tree = world.tree([]);
        assert!(matches!(node(&tree, "d/out").kind, NodeKind::Symlink(_)));
        assert_eq!(tree.len(), 2);
    }

    /// The layer of `--link` does not depend on what is below: it replaces links and makes its own
    /// parents, and is the same blob on every base.
    fn link(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/d/f", "linked");
        let build = |below: &str, flag: &str| {
            world.dockerfile(&format!(
                "FROM {base}\n\
                 RUN mkdir -p /real /kept && echo x >/kept/x && {below}\n\
                 COPY {flag} --chown=5:6 d /way/in/\n\
                 COPY {flag} d/f /kept/\n\
                 RUN test \"$(cat /way/in/f)\" = linked && ls /kept >/seen && stat -c %a / >>/seen\n"
            ));
            let image = world.built([]);
            let ids = image.config["rootfs"]["diff_ids"].as_array().unwrap().clone();
            (flatten(&image).unwrap(), ids)
        };
        let (tree, first) = build("ln -s /real /way", "--link");
        assert_eq!(node(&tree, "way").kind, NodeKind::Directory);
        let f = node(&tree, "way/in/f");
        assert_eq!((f.mode, f.uid, f.gid), (0o644, 5, 6));
        assert_eq!(below(&tree, "real"), [""; 0]);
        assert_eq!(below(&tree, "kept"), ["f", "x"]);
        assert_file(&tree, "seen", "f\nx\n755\n");

        // Another base: nothing is copied again, and the layers are the same.
        let (tree, second) = build("mkdir /way && echo y >/way/y", "--link");
        assert_ne!(first[first.len() - 4], second[second.len() - 4]);
        assert_eq!(first[first.len() - 3..first.len() - 1], second[second.len() - 3..second.len() - 1]);
        assert_eq!(below(&tree, "way"), ["in", "in/f", "y"]);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo other\nCOPY --link --chown=5:6 d /way/in/\nRUN test -f /way/in/f\n"
        ));
        let steps = support::progress::steps(&world.build([]).ok().stderr);
        let cached: Vec<bool> = steps.iter().map(|step| step.cached).collect();
        assert_eq!(cached[cached.len() - 3..], [false, true, false]);

        // Without it, the link in the destination is followed.
        let (tree, _) = build("ln -s /real /way", "");
        assert!(matches!(node(&tree, "way").kind, NodeKind::Symlink(_)));
        assert_eq!(below(&tree, "real"), ["in", "in/f"]);
    }

    /// The blob of a layer made by `--link` unpacks to what the build saw.
    fn link_unpacks_to_the_same(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "linked");
        let dockerfile = |name: &str| format!(
            "FROM {base}\nRUN ln -s /tmp /way; mkdir -p /dir/sub; echo {name}\n\
             COPY --link f /way/f\nCOPY --link f /dir\n\
             RUN ls -ld /way/f /dir && test ! -L /way && test -f /dir && ! test -e /tmp/f\n"
        );
        for name in ["made", "recalled"] {
            world.dockerfile(&dockerfile(name));
            world.build([]).ok();
        }
    }

    /// Names of owners are no use where there are no users.
    fn link_with_names(world) as [plain] {
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY --link --chown=me f /\n");
        world.build([]).run().exits(1).says(&["can't look up `me`", "--chown=1000:1000", "Dockerfile:2:21"]);
    }

    /// Attributes `user.*` are in layers, unless they are not wanted, which is a step of its own.
    fn user_attributes(world) as [root, subids, plain] {
        let base = base!(world, Layered);
        let note = |path: &std::path::Path| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, "user.note", b"kept", flags).expect("set an attribute");
        };
        note(&world.write("ctx/f", "f"));
        note(&world.make_dir("ctx/d/sub"));
        note(&world.write("ctx/d/sub/g", "g"));
        let tar = Layer::empty()
            .file_with("packed", by_root(0o644), b"x", &[("user.note", b"kept")])
            .finish();
        world.write("ctx/a.tar", tar);
        world.dockerfile(&format!(
            "FROM {base} AS one\n\
             COPY f d /c/\n\
             RUN chmod 600 /data/attr /c/f\n\
             FROM scratch\n\
             ADD a.tar /\n\
             COPY --from=one /c /data/attr /s/\n"
        ));
        let paths = ["packed", "s/f", "s/sub", "s/sub/g", "s/attr"];
        for (options, wanted) in [(&[][..], 1), (&["--no-user-xattrs"], 0), (&[], 1)] {
            let tree = world.tree(options.iter().copied());
            let found = paths.map(|path| node(&tree, path).xattrs.len());
            assert_eq!(found, [wanted; 5], "{options:?} {tree:?}");
        }
        let again = world.build(["--no-user-xattrs"]).ok();
        assert_all_cached(&again.stderr, 4);
    }
}
