//! `RUN --mount=type=cache`: directories that outlive builds.

use rustix::process::Signal;
use support::image::assert_file;
use support::process::Running;
use support::{World, base, for_users};

/// Builds with a step of this text, which runs whatever the cache has.
fn step(world: &World, base: &str, text: &str) -> support::process::Output {
    world.dockerfile(&format!("FROM {base}\nRUN {text}\n"));
    world
        .build(["--no-cache", "--output=type=oci,dest=built.oci"])
        .run()
}

/// Starts such a build, with a Dockerfile of its own; returns when its step has printed `text`.
fn start(world: &World, base: &str, name: &str, step: &str) -> Running {
    let file = format!("{name}.Dockerfile");
    world.write(&file, format!("FROM {base}\nRUN {step}\n"));
    world
        .sandcrab([
            "build",
            "--progress=plain",
            "--no-cache",
            "-f",
            &file,
            "ctx",
        ])
        .spawn()
}

for_users! {
    /// What a step writes is there in the next build, is no part of the image, and is no part of the key.
    fn kept(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let say = |text: &str| step(world, &base, text).success();
        say("--mount=type=cache,target=/c/ --mount=type=cache,id=other,dst=/o \
             echo 1 >/c/f && mkdir /c/d && chown 12:34 /c/d && ln -s f /c/l && chown -h 5:6 /c/l && ls /o >/list");
        say("--mount=type=cache,target=/c stat -c '%n %u:%g' /c/f /c/d /c/l >/owners && echo 2 >>/c/f");
        let tree = support::image::flatten(&world.image("built.oci")).unwrap();
        assert_file(&tree, "owners", "/c/f 0:0\n/c/d 12:34\n/c/l 5:6\n");
        assert!(!tree.contains_key(std::path::Path::new("c")));
        say("--mount=type=cache,target=/elsewhere,id=/c,ro cat /elsewhere/f >/got && \
             ! touch /elsewhere/x 2>/dev/null && rm -rf /elsewhere/f 2>/dev/null || true");
        let tree = support::image::flatten(&world.image("built.oci")).unwrap();
        assert_file(&tree, "got", "1\n2\n");
        say("--mount=type=cache,id=other,target=/c test ! -e /c/f");
        // Another namespace is another cache.
        world.dockerfile(&format!("FROM {base}\nRUN --mount=type=cache,target=/c test ! -e /c/f\n"));
        world.build(["--build-arg=BUILDKIT_CACHE_MOUNT_NS=elsewhere"]).ok();
        let cached = world.build(["--build-arg=BUILDKIT_CACHE_MOUNT_NS=elsewhere"]).ok();
        support::progress::assert_all_cached(&cached.stderr, 1);
    }

    /// Mode and owner count when it is made; what it begins with comes from a stage.
    fn made(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let looks = "stat -c '%a %u:%g' /c";
        step(world, &base, &format!("--mount=type=cache,target=/c,mode=0710,uid=12,gid=34 {looks}"))
            .success()
            .says(&["710 12:34"]);
        step(world, &base, &format!("--mount=type=cache,target=/c,mode=0777 {looks}"))
            .success()
            .says(&["710 12:34"]);
        step(world, &base, "--mount=type=cache,id=plain,target=/c stat -c '%a %u:%g' /c")
            .success()
            .says(&["755 0:0"]);
        let seeded = |text: &str| {
            world.dockerfile(&format!(
                "FROM {base} AS seed\nRUN mkdir -p /s/d && echo seed >/s/d/f && chown 7:8 /s/d/f\n\
                 FROM {base}\nRUN --mount=type=cache,target=/c,from=seed,source=/s {text}\n"
            ));
            world.build(["--output=type=oci,dest=built.oci"]).ok()
        };
        seeded("cat /c/d/f && stat -c '%u:%g' /c/d/f && echo more >>/c/d/f").says(&["seed", "7:8"]);
        seeded("echo \"again: $(cat /c/d/f | tr '\\n' ' ')\"").says(&["again: seed more"]);
        // A cache of the same name that begins otherwise is another one.
        step(world, &base, "--mount=type=cache,target=/c test ! -e /c/d").success();
    }

    /// Two builds at a time: both write, each has its own, or one waits.
    fn sharing(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        for (mode, shares) in [("shared", true), ("private", false)] {
            let mount = format!("--mount=type=cache,target=/c,id={mode},sharing={mode}");
            let first = format!("{mount} touch /c/first; echo started; for i in $(seq 100); do test -e /c/second && break; sleep 0.05; done; ls /c");
            let mut one = start(world, &base, "one", &first);
            one.wait_for(" started");
            let two = start(world, &base, "two", &format!("{mount} touch /c/second; echo \"two sees $(ls /c | tr '\\n' ' ')\""));
            let two = two.wait().success();
            let one = one.wait().success();
            assert_eq!(two.all().contains("two sees first second"), shares, "{}", two.all());
            assert_eq!(one.all().lines().any(|line| line.ends_with(" second")), shares, "{}", one.all());
        }
        let mount = "--mount=type=cache,target=/c,id=locked,sharing=locked";
        let mut one = start(world, &base, "one", &format!("{mount} echo started; sleep 1.5; echo x >/c/f"));
        one.wait_for(" started");
        let two = start(world, &base, "two", &format!("{mount} cat /c/f && echo waited")).wait().success();
        two.says(&["wait for cache mount `/c`", " waited"]);
        one.wait().success();
    }

    /// A build that is killed holds no lock, and one that waits can be interrupted.
    fn killed(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let mount = "--mount=type=cache,target=/c,sharing=locked";
        let mut one = start(world, &base, "one", &format!("{mount} echo begun; sleep 6011"));
        one.wait_for(" begun");
        let mut two = start(world, &base, "two", &format!("{mount} true"));
        two.wait_for("wait for cache mount");
        two.signal(Signal::INT);
        two.wait().exits(130);
        one.signal(Signal::KILL);
        one.wait();
        step(world, &base, &format!("{mount} echo mine")).success().says(&["mine"]);
        world.assert_nothing_left("sleep 6011");
    }

    /// They are counted, and collected when they are asked for.
    fn collected(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        step(world, &base, "--mount=type=cache,target=/c mkdir -m 700 /c/d && chown 9:9 /c/d && echo x >/c/f").success();
        let count = || {
            let df = world.sandcrab(["df", "--format=json"]).ok().text();
            let line = df.lines().find(|line| line.contains("Cache mounts")).expect("a line").to_owned();
            serde_json::from_str::<serde_json::Value>(&line).unwrap()["TotalCount"].clone()
        };
        assert_eq!(count(), 1);
        world.sandcrab(["prune", "--force"]).ok();
        world.sandcrab(["prune", "--force", "--filter=until=1h"]).ok();
        assert_eq!(count(), 1);
        let pruned = world.sandcrab(["prune", "--force", "--all"]).ok();
        assert!(pruned.all().contains("Removed cache mounts: 1"), "{}", pruned.all());
        assert_eq!(count(), 0);
        step(world, &base, "--mount=type=cache,target=/c test ! -e /c/f").success();
    }
}
