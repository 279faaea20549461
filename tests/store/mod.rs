//! The store, and the commands about it.

mod collection;
mod damage;
mod places;

use support::progress::assert_all_cached;
use support::{World, base, for_users};

fn build(world: &World, base: &str, tag: &str, text: &str) {
    world.dockerfile(&format!(
        "FROM {base}\nENV KEPT=yes\nRUN echo {text} >/text\n"
    ));
    world.build([format!("--tag={tag}").as_str()]).ok();
}

for_users! {
    /// Images, names, details, history, removal.
    fn commands(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base, "example.org/one:1", "one");
        let listed = world.sandcrab(["images"]).ok().text();
        assert!(listed.contains("example.org/one") && listed.contains('1'), "{listed}");

        let inspected = world.sandcrab(["inspect", "example.org/one:1"]).ok().text();
        let document: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert!(document.to_string().contains("KEPT=yes"), "{inspected}");
        let history = world.sandcrab(["history", "example.org/one:1"]).ok().text();
        assert!(history.contains("ENV KEPT=yes") && history.contains("echo one"), "{history}");

        world.sandcrab(["tag", "example.org/one:1", "two"]).ok();
        world.sandcrab(["rmi", "example.org/one:1"]).ok();
        world.sandcrab(["run", "two", "cat", "/text"]).ok();
        world.sandcrab(["inspect", "example.org/one:1"]).run().exits(1).says(&["example.org/one"]);
        world.sandcrab(["rmi", "two"]).ok();
        world.sandcrab(["rmi", "two"]).run().exits(1).says(&["two"]);
        world.sandcrab(["df"]).ok();
        world.sandcrab(["tag", "absent", "x"]).run().exits(1).says(&["absent"]);
    }

    /// Nothing of a store is for other people.
    fn private(world) as [root, subids, plain] {
        use std::os::unix::fs::PermissionsExt;
        let base = base!(world, Busybox);
        build(world, &base, "x", "x");
        let mode = std::fs::metadata(world.store()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        // And it is where the environment says.
        let elsewhere = world.path("elsewhere");
        world.build([]).env("SANDCRAB_ROOT", &elsewhere).ok();
        assert!(elsewhere.join("blobs").is_dir());
        world.build([]).env("XDG_DATA_HOME", world.path("data")).ok();
        assert!(world.path("data/sandcrab/blobs").is_dir());
    }

    /// Prune takes what no name needs, and leaves what one does.
    fn prune(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN head -c 4000000 /dev/urandom >/big\n"));
        world.build(["--tag=big"]).ok();
        build(world, &base, "small", "small");
        let before = support::store::size(&world.store());
        world.sandcrab(["rmi", "big"]).ok();
        world.sandcrab(["prune", "--all"]).ok();
        let after = support::store::size(&world.store());
        assert!(after + 4_000_000 <= before, "{before} before, {after} after");
        support::store::assert_clean(&world.store());
        world.sandcrab(["run", "small", "true"]).ok();
    }

    /// Builds that fail, again and again, add nothing.
    fn failing_builds_do_not_grow(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo fine >/fine\nRUN head -c 1000000 /dev/urandom >/junk; false\n"
        ));
        world.build([]).run().exits(1);
        let first = support::store::size(&world.store());
        for _ in 0..5 {
            world.build([]).run().exits(1);
        }
        let last = support::store::size(&world.store());
        assert!(last < first + 100_000, "{first} after the first, {last} after the sixth");
        support::store::assert_clean(&world.store());
    }

    /// Builds at the same time share one store: the same steps, and different ones.
    fn concurrent(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        for number in 0..3 {
            world.write(
                &format!("ctx/{number}"),
                format!("FROM {base}\nRUN echo common >/common; sleep 0.2\nRUN echo {number} >/number\n"),
            );
        }
        // Twice as many as there are Dockerfiles: some race for the very same result.
        let builds: Vec<_> = (0..6)
            .map(|index| {
                let number = index % 3;
                let tag = format!("--tag=concurrent:{number}");
                let file = format!("--file=ctx/{number}");
                world.build([tag.as_str(), file.as_str()]).spawn()
            })
            .collect();
        for build in builds {
            build.wait().success();
        }
        for number in 0..3 {
            let name = format!("concurrent:{number}");
            let output = world.sandcrab(["run", &name, "cat", "/common", "/number"]).ok();
            assert_eq!(output.text(), format!("common\n{number}\n"));
        }
        support::store::assert_clean(&world.store());
    }

    /// Prune while others build takes nothing from under them.
    fn prune_during_builds(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo 1 >/1; sleep 0.3\nRUN cat /1; sleep 0.3; echo 2 >/2\nRUN cat /1 /2\n"
        ));
        for _ in 0..3 {
            let build = world.build(["--no-cache", "--tag=kept"]).spawn();
            for _ in 0..4 {
                world.sandcrab(["prune"]).ok();
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            build.wait().success();
        }
        assert_all_cached(&world.build(["--tag=kept"]).ok().stderr, 3);
    }

    /// Builds, and collectors that take all they can, whenever they can: builds never lack what they
    /// stand on, and what comes out is what a quiet store gives.
    fn collectors_beside_builds(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        for number in 0..3 {
            world.write(
                &format!("ctx/{number}"),
                format!(
                    "FROM {base} AS a\nRUN mkdir /d; echo common >/d/common; ln -s x /d/l; chown -h 3:4 /d/l\n\
                     RUN --mount=type=cache,target=/c echo {number} >/number; cat /number >>/c/log\n\
                     FROM {base}\nCOPY --from=a /d /d\nCOPY --from=a /number /\nRUN cat /number /d/common >/copy\n"
                ),
            );
        }
        let build = |world: &World, number: usize| {
            let output = format!("--output=type=oci,dest={number}.oci");
            let file = format!("--file=ctx/{number}");
            world.build([file.as_str(), output.as_str()]).env("SOURCE_DATE_EPOCH", "1700000000")
        };
        let id = |world: &World, number: usize| world.image(&format!("{number}.oci")).id().unwrap().to_owned();
        let quiet = world.second_with_context();
        let wanted: Vec<_> = (0..3).map(|number| {
            build(&quiet, number).ok();
            id(&quiet, number)
        }).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for arguments in [&["prune", "--force", "--all"][..], &["prune", "--force", "--max-used-space=1k"]] {
                let done = &done;
                scope.spawn(move || {
                    let mut taken = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let output = world.sandcrab(arguments.iter().copied()).ok();
                        taken += usize::from(!output.stderr.contains("builds are running"));
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                    println!("{arguments:?} had the store {taken} times");
                });
            }
            // Also when a build has failed, the collectors have to end.
            let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..4 {
                    let builds: Vec<_> = (0..3).map(|number| build(world, number).spawn()).collect();
                    for build in builds {
                        build.wait().success();
                    }
                    for (number, wanted) in wanted.iter().enumerate() {
                        assert_eq!(&id(world, number), wanted);
                    }
                }
            }));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            if let Err(panic) = rounds {
                std::panic::resume_unwind(panic);
            }
        });
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
    }

    /// One store serves both identities of one user; neither spoils the other's.
    fn two_identities(world) as [subids] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/x\nRUN cat /x\n"));
        let names = |path: &str| {
            let list = std::fs::read_dir(world.store().join(path)).unwrap();
            let mut names: Vec<_> = list.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let mut blobs = Vec::new();
        for isolation in ["emulated", "subids", "auto", "emulated"] {
            let isolation = format!("--isolation={isolation}");
            let build = |arguments: &[&str]| {
                let build = world.build([isolation.as_str(), "--tag=two"]).args(arguments);
                build.env("SOURCE_DATE_EPOCH", "1700000000").ok()
            };
            // What one has made is cached for the other, and made again it is the same.
            let output = build(&[]);
            assert!(blobs.is_empty() || support::progress::steps(&output.stderr).iter().all(|step| step.cached));
            build(&["--no-cache"]);
            blobs.push(names("blobs/sha256"));
        }
        assert!(blobs.windows(2).all(|pair| pair[0] == pair[1]), "{blobs:?}");
        // Unpacked trees are one's own.
        assert_eq!(names("snapshots/emulated"), names("snapshots/subids"));
        for isolation in ["emulated", "subids"] {
            world.sandcrab(["run", &format!("--isolation={isolation}"), "two", "cat", "/x"]).ok();
        }
        world.build(["--isolation=vm"]).run().exits(2).says(&["vm"]);
    }

    /// The same Dockerfile makes the same image with real and with emulated ids, byte for byte; links,
    /// fifos and devices have owners, too, and keep them from step to step and stage to stage.
    fn equal_identities(world) as [root, subids] {
        let base = base!(world, Owners);
        world.write("ctx/f", "f");
        world.write("ctx/d/x", "x");
        world.set_mode("ctx/d/x", 0o4755);
        world.link("ctx/d/l", "x");
        world.dockerfile(&format!(
            "FROM {base} AS a\n\
             COPY --chown=33:8 f d /c/\n\
             ADD --chown=5 d /d/\n\
             RUN mkdir /s && cd /s && for n in a b c e g; do ln -s $n $n; done && mkfifo p && \
             chown -h 33:8 * && chown 8:33 .\n\
             RUN cd /s && mv a moved && ln b two && touch -h c && chmod 600 p && rm e && ln -s new e\n\
             USER 33:8\n\
             WORKDIR /w/x\n\
             USER 0\n\
             RUN ln /s/moved /s/moved2; mv /s/g /w/g; chown 8:8 /w\n\
             FROM {base}\n\
             COPY --from=a /s /c /d /t/\n\
             COPY --from=a --chown=3:4 /s /t2/\n\
             COPY --from=a /w /w\n\
             RUN chown -R 33:33 /t/p && rm -r /t2/p\n"
        ));
        let mut trees = Vec::new();
        for isolation in ["emulated", "subids"] {
            let isolation = format!("--isolation={isolation}");
            let mut ids = Vec::new();
            for output in ["type=oci,dest=o.oci", "type=tar,dest=o.tar"] {
                world
                    .build([isolation.as_str(), "--iidfile=id", &format!("--output={output}")])
                    .env("SOURCE_DATE_EPOCH", "1700000000")
                    .ok();
                ids.push(std::fs::read_to_string(world.path("id")).unwrap());
            }
            assert_eq!(ids[0], ids[1]);
            world.sandcrab(["rmi", ids[0].trim()]).run();
            world.sandcrab(["prune", "--all"]).ok();
            let tar = std::fs::read(world.path("o.tar")).unwrap();
            let image = world.image("o.oci");
            let tree = support::image::flatten(&image).unwrap();
            trees.push((tree, image.config["rootfs"].clone(), tar));
        }
        let (subids, emulated) = (trees.pop().unwrap(), trees.pop().unwrap());
        for (path, owner) in
            [("t/b", (33, 8)), ("t/two", (33, 8)), ("t/moved", (33, 8)), ("t/e", (0, 0)), ("t/p", (33, 33)),
             ("t/x", (5, 5)), ("t2/c", (3, 4)), ("w/g", (33, 8)), ("w/x", (33, 8))]
        {
            for tree in [&subids.0, &emulated.0] {
                let node = support::image::node(tree, path);
                assert_eq!((node.uid, node.gid), owner, "{path}");
            }
        }
        assert_eq!(emulated.1, subids.1);
        assert!(emulated.2 == subids.2, "the exported archives differ");
    }

    /// What was unpacked under the old name of an identity is garbage.
    fn old_identity(world) as [plain] {
        let base = base!(world, Busybox);
        build(world, &base, "x", "x");
        let snapshots = world.store().join("snapshots");
        let old = snapshots.join("single");
        std::fs::rename(snapshots.join("emulated"), &old).unwrap();
        world.sandcrab(["prune"]).ok();
        assert_eq!(std::fs::read_dir(&old).map_or(0, |dir| dir.count()), 0);
        world.sandcrab(["run", "x", "cat", "/text"]).ok();
    }

    /// A store of another version is not touched.
    fn other_version(world) as [plain] {
        let base = base!(world, Busybox);
        build(world, &base, "x", "x");
        let version = world.store().join("version");
        let before = std::fs::read(&version).unwrap();
        for (number, said) in [("9999", "use a newer sandcrab"), ("0", "older than"), ("x", "not a known number")] {
            std::fs::write(&version, number).unwrap();
            for arguments in [&["build", "ctx"][..], &["images"], &["prune", "--force"]] {
                let output = world.sandcrab(arguments.iter().copied()).run();
                output.exits(1).says(&[said, world.store().to_str().unwrap()]);
            }
            assert_eq!(std::fs::read_to_string(&version).unwrap(), number);
        }
        std::fs::write(&version, before).unwrap();
        world.build([]).ok();
    }
}
