//! What a build is given: named contexts, repositories and URLs, and arguments from files.

use support::git::Server as Daemon;
use support::http::Server;
use support::image::{Tree, assert_file, node};
use support::layer::{Layer, by_root};
use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users, need};

use std::path::Path;

fn has(tree: &Tree, path: &str) -> bool {
    tree.contains_key(Path::new(path))
}

/// Serves repositories below the test's directory.
fn repositories(world: &World) -> Daemon {
    Daemon::start(&world.path("repositories")).expect("git runs")
}

for_users! {
    /// A directory stands for images, stages and mounts, and has its own ignore file.
    fn context_directory(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "main\n");
        world.write("more/f", "more\n");
        world.write("more/deep/g", "deep\n");
        world.write("more/no", "ignored\n");
        world.write("more/.dockerignore", "no\n");
        world.dockerfile(&format!(
            "FROM scratch AS replaced\n\
             COPY f /of-the-stage\n\
             FROM {base}\n\
             COPY --from=more f /copied\n\
             COPY --from=more . /all/\n\
             COPY --from=replaced deep/g /replaced\n\
             COPY --from=0 f /by-number\n\
             RUN --mount=from=more,target=/m cp /m/deep/g /mounted\n"
        ));
        let options = ["--build-context=more=more", "--build-context=replaced=more"];
        let tree = world.tree(options);
        for (path, text) in [
            ("copied", "more\n"),
            ("all/f", "more\n"),
            ("all/deep/g", "deep\n"),
            ("replaced", "deep\n"),
            ("by-number", "more\n"),
            ("mounted", "deep\n"),
        ] {
            assert_file(&tree, path, text);
        }
        assert!(!has(&tree, "all/no") && !has(&tree, "m"), "{tree:?}");
        // Its content counts.
        let all = steps(&world.build(options).ok().stderr).len();
        assert_all_cached(&world.build(options).ok().stderr, all);
        world.write("more/f", "changed\n");
        assert_file(&world.tree(options), "copied", "changed\n");
    }

    /// A directory that a stage starts from is its root file system, in one layer.
    fn from_directory(world) as [root, subids, plain] {
        world.write("files/etc/name", "files\n");
        world.make_dir("files/empty");
        world.dockerfile("FROM files AS base\nFROM base\nCOPY Dockerfile /\n");
        let image = world.built(["--build-context=files=files"]);
        let layers = image.manifest["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 2, "{layers:?}");
        let tree = world.tree(["--build-context=files=files"]);
        assert_file(&tree, "etc/name", "files\n");
        let name = node(&tree, "etc/name");
        assert_eq!((name.uid, name.gid), (0, 0));
        assert!(has(&tree, "empty") && has(&tree, "Dockerfile"), "{tree:?}");
    }

    /// An image stands for another one and for a stage; one for a platform for nobody else's.
    fn context_image(world) as [root, subids, plain] {
        let (busybox, owners) = (base!(world, Busybox), base!(world, Owners));
        world.dockerfile(
            "FROM scratch AS stage\n\
             COPY Dockerfile /\n\
             FROM example.org/replaced:1\n\
             COPY --from=stage /bin/busybox /taken\n",
        );
        let image = format!("--build-context=example.org/replaced:1=docker-image://{owners}");
        let stage = format!("--build-context=stage=docker-image://{busybox}");
        let other = "--build-context=stage::linux/s390x=docker-image://example.org/nowhere:1";
        let tree = world.tree([image.as_str(), stage.as_str(), other]);
        assert!(has(&tree, "taken"), "{tree:?}");
        assert!(!has(&tree, "Dockerfile"), "{tree:?}");
    }

    /// An image in a layout, by name, by digest, and the only one; what is not there is said.
    fn context_layout(world) as [root, subids, plain] {
        world.write("ctx/f", "in the layout\n");
        world.dockerfile("FROM scratch\nLABEL from=layout\nCOPY f /f\n");
        let output = "--output=type=oci,tar=false,dest=layout";
        world.build([output, "-t", "example.org/made:v1"]).ok();
        world.dockerfile("FROM base\nCOPY --from=base /f /copy\n");
        for source in ["layout", "layout:v1"] {
            let context = format!("--build-context=base=oci-layout://{source}");
            let tree = world.tree([context.as_str()]);
            assert_file(&tree, "f", "in the layout\n");
            assert_file(&tree, "copy", "in the layout\n");
        }
        // In a store that doesn't have the image yet.
        let second = world.second_with_context();
        let path = world.path("layout");
        let context = format!("--build-context=base=oci-layout://{}", path.display());
        assert_file(&second.tree([context.as_str()]), "f", "in the layout\n");

        let wrong = "--build-context=base=oci-layout://layout:v2";
        world.build([wrong]).run().exits(1).says(&["the OCI layout has no image `v2`"]);
        let none = "--build-context=base=oci-layout://ctx";
        world.build([none]).run().exits(1).says(&["the OCI layout lacks `oci-layout`"]);
    }

    /// Triggers of a base copy from and mount stages that nothing else needs; those are built, and
    /// what they stand on. One that comes later is refused, as by BuildKit.
    fn trigger_needs_stage(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nONBUILD COPY --from=tools /tool /got\n\
             ONBUILD RUN --mount=from=mounted,target=/m cat /m/mark /got >/all\n"
        ));
        world.build(["--output=type=oci,tar=false,dest=layout"]).ok();
        let stages = format!(
            "FROM {base} AS low\nRUN echo low >/low\n\
             FROM low AS tools\nRUN cp /low /tool\n\
             FROM {base} AS mounted\nRUN echo mark >/mark\n\
             FROM {base} AS unused\nRUN false\n"
        );
        let context = "--build-context=parent=oci-layout://layout";
        world.dockerfile(&format!("{stages}FROM parent\n"));
        let tree = world.tree([context]);
        assert_file(&tree, "got", "low\n");
        assert_file(&tree, "all", "mark\nlow\n");

        world.dockerfile(&format!("FROM parent AS first\n{stages}FROM first\n"));
        let says = "a trigger of the base copies from stage `tools`, which comes later";
        world.build([context]).run().exits(1).says(&["Dockerfile:1", says]);
    }

    /// A stage that comes later, by its number and by its name, when a context replaces it.
    fn context_replaces_later_stage(world) as [subids, plain] {
        world.write("files/f", "named\n");
        world.dockerfile(
            "FROM scratch AS first\nCOPY --from=1 /f /by-number\nCOPY --from=later /f /by-name\n\
             FROM scratch AS later\nFROM first\n",
        );
        let tree = world.tree(["--build-context=later=files"]);
        assert_file(&tree, "by-number", "named\n");
        assert_file(&tree, "by-name", "named\n");
        world.build([]).run().exits(1).says(&["stage `later` is used before it is defined"]);
    }

    /// A layout whose blob is not what its name says is refused.
    fn context_layout_changed(world) as [root, subids, plain] {
        world.write("ctx/f", "right\n");
        world.dockerfile("FROM scratch\nCOPY f /f\n");
        world.build(["--output=type=oci,tar=false,dest=layout"]).ok();
        for blob in std::fs::read_dir(world.path("layout/blobs/sha256")).expect("blobs").flatten() {
            let bytes = std::fs::read(blob.path()).expect("a blob");
            if !bytes.starts_with(b"{") {
                let name = blob.file_name();
                let name = format!("layout/blobs/sha256/{}", name.to_string_lossy());
                world.write(&name, "something else");
            }
        }
        let second = world.second();
        second.dockerfile("FROM base\n");
        let path = world.path("layout");
        let context = format!("--build-context=base=oci-layout://{}", path.display());
        second.build([context.as_str()]).run().exits(1).says(&["from the OCI layout"]);
    }

    /// A repository, an archive and a file by URL.
    fn context_remote(world) as [root, subids, plain] {
        need!(world, "git");
        let daemon = repositories(world);
        daemon.commit("r.git", &[("f", "git\n"), ("sub/g", "deep\n")]);
        let tar = Layer::empty().file("inner", by_root(0o644), b"inner\n").finish();
        let server = Server::start(&[("/a.tar", &tar), ("/plain.txt", b"plain\n")]);
        world.dockerfile(
            "FROM scratch\n\
             COPY --from=git . /git/\n\
             COPY --from=sub g /\n\
             COPY --from=tar inner /\n\
             COPY --from=file plain.txt /\n",
        );
        let options = [
            format!("--build-context=git={}", daemon.url("r.git")),
            format!("--build-context=sub={}#main:sub", daemon.url("r.git")),
            format!("--build-context=tar={}", server.url("/a.tar")),
            format!("--build-context=file={}", server.url("/plain.txt")),
        ];
        let tree = world.tree(options.iter().map(String::as_str));
        for (path, text) in
            [("git/f", "git\n"), ("g", "deep\n"), ("inner", "inner\n"), ("plain.txt", "plain\n")]
        {
            assert_file(&tree, path, text);
        }
        assert!(!has(&tree, "git/.git"), "{tree:?}");
    }

    /// A repository is the context; `.git` is in it where that is asked for.
    fn git_is_the_context(world) as [root, subids, plain] {
        need!(world, "git");
        let daemon = repositories(world);
        let dockerfile = "FROM scratch\nCOPY . /\n";
        daemon.commit(
            "r.git",
            &[("Dockerfile", dockerfile), ("f", "f\n"), ("no", ""), (".dockerignore", "no\n"),
              ("sub/Containerfile", dockerfile), ("sub/g", "g\n")],
        );
        let build = |address: &str, options: &[&str]| {
            let output = "--output=type=oci,dest=built.oci";
            let mut command = world.sandcrab(["build", "--progress=plain", output]);
            command = command.args(options.iter().copied()).arg(address);
            command.ok();
            support::image::flatten(&world.image("built.oci")).expect("a tree")
        };
        let tree = build(&daemon.url("r.git"), &[]);
        assert_file(&tree, "f", "f\n");
        assert!(!has(&tree, "no") && !has(&tree, ".git"), "{tree:?}");
        let tree = build(&format!("{}#main:sub", daemon.url("r.git")), &[]);
        assert_file(&tree, "g", "g\n");
        let keep = "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
        assert!(has(&build(&daemon.url("r.git"), &[keep]), ".git/HEAD"));
    }

    /// An archive by URL is the context; where the URL has a Dockerfile there is none.
    fn url_is_the_context(world) as [root, subids, plain] {
        need!(world, "gzip");
        let tar = Layer::empty()
            .file("Dockerfile", by_root(0o644), b"FROM scratch\nCOPY . /all/\n")
            .file("other/Recipe", by_root(0o644), b"FROM scratch\nCOPY f /by-name\n")
            .file(".dockerignore", by_root(0o644), b"no\n")
            .file("no", by_root(0o644), b"")
            .file("f", by_root(0o640), b"f\n")
            .finish();
        let packed = world.command("gzip").arg("-c").stdin(tar.clone()).ok().stdout;
        let alone = b"FROM scratch\nCOPY <<EOF /alone\nx\nEOF\n";
        let server = Server::start(&[("/c.tar", &tar), ("/c", &packed), ("/Dockerfile", alone)]);
        let build = |options: &[&str], path: &str, stdin: &str| {
            let command = world.sandcrab(["build", "--output=type=oci,dest=built.oci"]);
            command.args(options.iter().copied()).arg(server.url(path)).stdin(stdin).run()
        };
        let tree = |options: &[&str], path: &str, stdin: &str| {
            build(options, path, stdin).success();
            support::image::flatten(&world.image("built.oci")).expect("a tree")
        };
        for path in ["/c.tar", "/c"] {
            let tree = tree(&[], path, "");
            assert_file(&tree, "all/f", "f\n");
            assert_eq!(node(&tree, "all/f").mode, 0o640);
            assert!(!has(&tree, "all/no"), "{tree:?}");
        }
        assert_file(&tree(&["-f", "other/Recipe"], "/c.tar", ""), "by-name", "f\n");
        let given = "FROM scratch\nCOPY f /by-stdin\n";
        assert_file(&tree(&["-f", "-"], "/c.tar", given), "by-stdin", "f\n");
        assert_file(&tree(&[], "/Dockerfile", ""), "alone", "x\n");
        build(&["-f", "x"], "/Dockerfile", "").exits(1).says(&["not an archive with", "leave out -f"]);
        build(&[], "/missing", "").exits(1).says(&["404"]);
    }

    /// A Dockerfile by URL.
    fn dockerfile_by_url(world) as [root, subids, plain] {
        let server = Server::start(&[("/other", b"FROM scratch\nCOPY f /by-url\n")]);
        world.write("ctx/f", "f\n");
        let url = server.url("/other");
        assert_file(&world.tree(["-f", url.as_str()]), "by-url", "f\n");
        let missing = server.url("/missing");
        world.build(["-f", missing.as_str()]).run().exits(1).says(&["404"]);
    }

    /// Of two ignore files podman's counts; of two Dockerfiles docker's.
    fn containerignore(world) as [root, subids, plain] {
        world.write("ctx/.containerignore", "a\n");
        world.write("ctx/.dockerignore", "b\n");
        world.write("ctx/a", "");
        world.write("ctx/b", "");
        world.write("ctx/Containerfile", "FROM nowhere.invalid/x\n");
        world.dockerfile("FROM scratch\nCOPY . /\n");
        let tree = world.tree([]);
        assert!(!has(&tree, "a") && has(&tree, "b"), "{tree:?}");
    }

    /// Arguments from files: comments, the environment, and which of several counts.
    fn argument_file(world) as [root, subids, plain] {
        world.write("first", "# a comment\nA=first\nB=first\n\nSET\nUNSET\n");
        world.write("second", "B=second\nC=second\n");
        world.dockerfile(
            "FROM scratch\nARG A\nARG B\nARG C\nARG SET\nARG UNSET=default\n\
             COPY <<EOF /f\n$A $B $C $SET $UNSET\nEOF\n",
        );
        let files = ["--build-arg-file=first", "--build-arg-file=second", "--build-arg=C=option"];
        let output = ["--output=out"];
        let command = world.build(files.into_iter().chain(output)).env("SET", "outside");
        command.ok();
        let text = std::fs::read_to_string(world.path("out/f")).expect("a file");
        assert_eq!(text, "first second option outside default\n");
        world.write("bad", "A=1\nno name=2\n");
        let said = ["`bad`, line 2: `no name` is no argument's name"];
        world.build(["--build-arg-file=bad"]).run().exits(2).says(&said);
        world.build(["--build-arg-file=gone"]).run().exits(1).says(&["`gone`"]);
    }

    /// What can't be a context is refused by its name.
    fn refused(world) as [root, subids, plain] {
        world.dockerfile("FROM scratch\nCOPY . /\n");
        for (option, code, said) in [
            ("a=target:b", 2, "context `a` can't be a target"),
            ("a=unknown://b", 2, "context `a` has an unknown scheme: `unknown://b`"),
            ("a=nowhere-at-all", 1, "context `a` is not a directory: `nowhere-at-all`"),
            ("a", 2, "--build-context names no source: `a`"),
        ] {
            world.build(["--build-context", option]).run().exits(code).says(&[said]);
        }
    }
}
