//! Bad input: what is said, how it ends, and that nothing stays behind.

use support::{World, base, for_users};

/// Expects that the store holds nothing half-written.
#[track_caller]
fn assert_store_clean(world: &World) {
    support::store::assert_clean(&world.store());
    world.assert_nothing_left(world.path("ctx").to_str().unwrap());
}

for_users! {
    /// No Dockerfile, no context.
    fn missing_input(world) as [root, subids, plain] {
        world.make_dir("ctx");
        world.build([]).run().exits(1).says(&["Dockerfile"]);
        world.sandcrab(["build", "nowhere"]).run().exits(1).says(&["nowhere"]);
        world.build(["--file=absent"]).run().exits(1).says(&["absent"]);
        world.write("plain-file", "");
        world.sandcrab(["build", "plain-file"]).run().exits(1).says(&["plain-file"]);
        world.dockerfile("");
        world.build([]).run().exits(1);
        assert_store_clean(world);
    }

    /// Wrong usage is code 2, with the word that is wrong.
    fn usage(world) as [plain] {
        world.dockerfile("FROM scratch\n");
        world.sandcrab(["biuld"]).run().exits(2).says(&["biuld", "build"]);
        world.build(["--tga=x"]).run().exits(2).says(&["--tga"]);
        world.build(["--output=type=nonsense,dest=x"]).run().exits(2).says(&["nonsense"]);
        world.sandcrab(["build", "--progress=loud", "ctx"]).run().exits(2).says(&["loud"]);
        world.build(["--network=moon"]).run().exits(2).says(&["moon"]);
        world.build(["--tag=x/UPPER/case"]).run().exits(2).says(&["x/UPPER/case"]);
        world.sandcrab(["build"]).run().exits(2);
        let help = world.sandcrab(["build", "--help"]).ok();
        assert!(help.text().contains("--build-arg"), "{}", help.all());
        let version = world.sandcrab(["version"]).ok();
        assert!(version.text().contains("0.1.0"), "{}", version.all());
    }

    /// Every error of a Dockerfile in one run, each with its line and a caret.
    fn several_errors(world) as [plain] {
        world.dockerfile(
            "FROM scratch\nCPOY a /\nRUN --mont=x true\nEXPOSE notaport\nCOPY onlyone\n",
        );
        let output = world.build([]).run().exits(1);
        let output = output.says(&["CPOY", "COPY", "--mont", "notaport", "COPY onlyone", "^"]);
        for line in 2..=5 {
            let found = [format!("Dockerfile:{line}"), format!("{line} |")];
            assert!(found.iter().any(|text| output.stderr.contains(text.as_str())), "line {line}");
        }
        assert_store_clean(world);
    }

    /// Stages that are not there, and stages that need each other.
    fn stages(world) as [plain] {
        world.dockerfile("FROM scratch AS builder\nFROM scratch\nCOPY --from=bilder /a /b\n");
        world.build([]).run().exits(1).says(&["bilder", "builder"]);
        world.dockerfile("FROM scratch AS one\n");
        world.build(["--target=two"]).run().exits(1).says(&["two"]);
        world.dockerfile("FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n");
        world.build(["--target=a"]).run().exits(1).says(&[
            "Dockerfile:2:13",
            "the stages need each other: `a` needs `b` needs `a`",
            "Dockerfile:4:13",
            "of the same circle: `b` needs `a`",
        ]);
        world.dockerfile("FROM scratch AS a\nCOPY --from=a /x /\n");
        world.build([]).run().exits(1);
        world.dockerfile("FROM scratch\nCOPY --from=7 /x /\n");
        world.build([]).run().exits(1).says(&["7"]);
        assert_store_clean(world);
    }

    /// A missing file: the line, and names that are near.
    fn copy_of_missing(world) as [root, subids, plain] {
        world.write("ctx/config.yaml", "");
        world.write("ctx/src/main.c", "");
        world.dockerfile("FROM scratch\nCOPY confg.yaml /\n");
        world
            .build([])
            .run()
            .exits(1)
            .says(&["confg.yaml", "config.yaml", "COPY confg.yaml"]);
        world.dockerfile("FROM scratch\nCOPY src/mian.c /\n");
        world.build([]).run().exits(1).says(&["src/mian.c", "main.c"]);
        assert_store_clean(world);
    }

    /// A failing RUN: its whole log, where it stands, and its exit code as ours.
    fn failing_run(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo before\nRUN echo to stdout; echo to stderr >&2; \\\n    exit 42\nRUN echo never\n"
        ));
        let output = world.build([]).run().exits(42);
        let output = output.says(&["to stdout", "to stderr", "42", "Dockerfile:3", "exit 42"]);
        assert!(!support::progress::steps(&output.stderr).iter().any(|s| s.name.contains("never")));
        assert_store_clean(world);
        // Quiet or not, whoever has to mend it needs the log.
        world.sandcrab(["build", "--quiet", "ctx"]).run().exits(42).says(&["to stdout", "to stderr"]);

        world.dockerfile(&format!("FROM {base}\nRUN kill -9 $$\n"));
        world.build([]).run().says(&["9"]);
        world.dockerfile(&format!("FROM {base}\nRUN [\"/no/such/program\"]\n"));
        let output = world.build([]).run().says(&["/no/such/program"]);
        assert_eq!(output.code, Some(1), "{}", output.all());
        world.dockerfile(&format!("FROM {base}\nUSER ghost\nRUN true\n"));
        world.build([]).run().exits(1).says(&["ghost"]);
        assert_store_clean(world);
    }

    /// A base that isn't there, a registry that doesn't answer.
    fn base_not_found(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let (repository, _) = base.rsplit_once(':').unwrap();
        world.dockerfile(&format!("FROM {repository}:no-such-tag\n"));
        world.build([]).run().exits(1).says(&["no-such-tag", "Not Found"]);
        world.dockerfile(&format!("FROM {repository}-nothing:1\n"));
        world.build([]).run().exits(1).says(&["busybox-nothing"]);
        world.dockerfile("FROM 127.0.0.1:1/none:1\n");
        world.build([]).run().exits(1).says(&["127.0.0.1:1"]);
        world.dockerfile("FROM Not/Valid\n");
        world.build([]).run().exits(1).says(&["Not/Valid", "^"]);
        assert_store_clean(world);
    }

    /// A file of the context that the user may not read: which, and not that it changed.
    fn unreadable_file(world) as [subids, plain] {
        world.write("ctx/locked", "");
        world.set_mode("ctx/locked", 0o000);
        world.dockerfile("FROM scratch\nCOPY . /\n");
        let output = world.build([]).run().exits(1);
        output
            .says(&["`locked`", "permission denied", ".dockerignore", "COPY . /"])
            .never_says(&["changed"]);
        world.write("ctx/.dockerignore", "locked\n");
        world.build([]).ok();
        assert_store_clean(world);
    }

    /// A damaged blob is named when it is unpacked, goes, and comes again.
    fn damaged_store(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.sandcrab(["pull", &base]).ok();
        let blobs = std::fs::read_dir(world.store().join("blobs/sha256")).unwrap();
        let layer = blobs.map(|blob| blob.unwrap().path()).max_by_key(|path| {
            std::fs::metadata(path).unwrap().len()
        });
        let layer = layer.unwrap();
        let mut bytes = std::fs::read(&layer).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&layer, &bytes).unwrap();
        world.dockerfile(&format!("FROM {base}\nRUN true\n"));
        let name = layer.file_name().unwrap().to_str().unwrap();
        world.build([]).run().exits(1).says(&["corrupt in the store", name, "it was removed"]);
        assert!(!layer.exists());
        world.sandcrab(["run", "--pull=never", &base, "true"]).run().exits(1).says(&["layers"]);
        world.sandcrab(["run", &base, "true"]).ok();
        world.build([]).ok();
        assert_store_clean(world);
    }

    /// No user namespaces: said as such, with where to look.
    fn no_user_namespaces(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN true\n"));
        // The limit of a namespace binds only those below it, so this leaves the machine alone.
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && \
                      exec setpriv --ambient-caps -all --inh-caps -all \"$@\"";
        let output = world
            .command("unshare")
            .args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"])
            .arg(support::scratch::sandcrab())
            .args(["build", "--progress=plain", "ctx"])
            .run();
        if output.stderr.contains("max_user_namespaces") && output.code == Some(2) {
            return support::skip(&world.test, "user namespaces can't be limited here");
        }
        output.exits(1).says(&["user namespace"]);
    }

    /// A full disk: said, and the store is as good as before.
    fn disk_full(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let Some(_disk) = support::world::SmallDisk::mount(world, "small", 24) else {
            return support::skip(&world.test, "only root can mount a small disk");
        };
        let store = world.path("small/store");
        world.dockerfile(&format!("FROM {base}\nRUN echo fits >/small\n"));
        world.build([]).env("SANDCRAB_ROOT", &store).ok();
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo fits >/small\nRUN dd if=/dev/zero of=/big bs=1M count=40\n"
        ));
        // The step itself meets the full disk first; what it says is busybox's.
        let output = world.build([]).env("SANDCRAB_ROOT", &store).run();
        assert!(output.code.is_some_and(|code| code != 0), "{}", output.all());
        let output = output.stderr.to_lowercase();
        assert!(output.contains("no space left"), "{output}");
        support::store::assert_clean(&store);
        // COPY meets it in the executor.
        world.write("ctx/big", vec![7; 40_000_000]);
        world.dockerfile("FROM scratch\nCOPY big /\n");
        let output = world.build([]).env("SANDCRAB_ROOT", &store).run().exits(1);
        output.says(&["no space left", ">>> COPY big", "sandcrab prune"]);
        support::store::assert_clean(&store);
        world.dockerfile(&format!("FROM {base}\nRUN echo fits >/small\n"));
        let output = world.build([]).env("SANDCRAB_ROOT", &store).ok();
        support::progress::assert_all_cached(&output.stderr, 1);
    }
}
