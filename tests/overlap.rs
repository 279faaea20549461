//! RUN steps that run while the layer of the one before is read and hashed: they see and make what they
//! would without.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::image::assert_file;
use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users};

/// Steps that change what the one before them left, and depend on nothing but themselves.
const CHANGES: [&str; 6] = [
    "mkdir -p /d/e && echo a >/d/a && echo b >/d/e/b && touch -d @1 /d/a /d/e/b /d/e /d",
    // A file is changed, a directory deleted.
    "[ $(cat /d/e/b) = b ] && rm -r /d/e && echo more >>/d/a && touch -d @2 /d/a /d",
    // Another one comes in its place.
    "[ ! -e /d/e ] && mkdir /d/e && touch -d @3 /d/e/new /d/e /d",
    "[ $(ls /d/e) = new ] && mkfifo /d/p && ln -s x /d/l && chown -h 7:8 /d/l && chown 5:6 /d/p \
     && chown 9:10 /d/a && chmod 4711 /d/a && touch -hd @4 /d/l && touch -d @4 /d/a /d && touch -cd @4 /d/e; \
     exec 3<>/d/p && touch -d @4 /d/p && touch -d @4 /d",
    "set -x; [ -p /d/p ] && [ $(stat -c %u:%g /d/p) = 5:6 ] && [ $(stat -c %u:%g /d/l) = 7:8 ] \
     && [ $(stat -c %u:%g:%a /d/a) = 9:10:4711 ] && mv /d/a /d/c && rm /d/p && touch -d @5 /d",
    "[ ! -e /d/p ] && [ $(stat -c %u:%g:%a /d/c) = 9:10:4711 ] && rm -r /d && mkdir /d && touch -d @6 /d",
];

fn dockerfile(world: &World, base: &str, steps: &[&str], between: &str) {
    let steps: String = steps
        .iter()
        .map(|step| format!("RUN {step}\n{between}"))
        .collect();
    world.make_dir("ctx");
    world.dockerfile(&format!("FROM {base}\n{steps}"));
}

fn layers(world: &World, arguments: &[&str]) -> Value {
    let image = world.built(arguments.iter().copied());
    image.config["rootfs"]["diff_ids"].clone()
}

/// Waits until the store has the result of a step that has this in its name, and returns where its tree is
/// or will be.
fn recorded(world: &World, name: &str) -> Vec<PathBuf> {
    let end = Instant::now() + Duration::from_secs(60);
    let store = world.store();
    loop {
        let records = std::fs::read_dir(store.join("cache/steps"))
            .into_iter()
            .flatten();
        for record in records {
            let Ok(bytes) = std::fs::read(record.unwrap().path()) else {
                continue;
            };
            let text = String::from_utf8(bytes).unwrap();
            let body: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
            if body["name"].as_str().unwrap().contains(name) {
                let chain = body["chain"]
                    .as_str()
                    .unwrap()
                    .strip_prefix("sha256:")
                    .unwrap();
                let identities = std::fs::read_dir(store.join("snapshots")).unwrap();
                let identities = identities.map(|found| found.unwrap().path());
                return identities
                    .filter(|dir| dir.is_dir())
                    .map(|dir| dir.join(chain))
                    .collect();
            }
        }
        assert!(Instant::now() < end, "no record of `{name}`");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exists(places: &[PathBuf]) -> bool {
    places.iter().any(|place| place.exists())
}

for_users! {
    /// The layers are those of steps that have something between them, on which nothing begins early;
    /// whether the store is asked or not.
    fn layers_are_the_same(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        dockerfile(world, &base, &CHANGES, "");
        let first = layers(world, &[]);
        assert_all_cached(&world.build([]).ok().stderr, CHANGES.len());
        assert_eq!(layers(world, &[]), first);
        assert_eq!(layers(world, &["--no-cache"]), first);
        assert_eq!(layers(world, &["--no-cache", "--jobs=1"]), first);
        dockerfile(world, &base, &CHANGES, "WORKDIR /\n");
        assert_eq!(layers(world, &["--no-cache"]), first);
        // The steps are known by name, and so none begins early, but not on this.
        let steps: Vec<&str> = ["touch -d @0 /first"].into_iter().chain(CHANGES).collect();
        dockerfile(world, &base, &steps, "");
        let after = layers(world, &[]);
        let (after, first) = (after.as_array().unwrap(), first.as_array().unwrap());
        assert_eq!(after[after.len() - CHANGES.len()..], first[first.len() - CHANGES.len()..]);
    }

    /// A step that is waiting stands on a tree that is not in the store yet, whose layer is. Whatever ends
    /// the build, that layer is not made again.
    fn ended_in_the_next_step(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("7171.{}{}", std::process::id(), world.account.uid);
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            let number = signal.as_raw();
            let first = format!("echo {number} >/first");
            let waits = format!("cat /first; echo now-$((6*7)); sleep {marker}");
            dockerfile(world, &base, &[&first, &waits], "");
            let mut build = world.build([]).spawn();
            build.wait_for("now-42");
            let places = recorded(world, &first);
            assert!(!exists(&places), "the step has not begun early");
            build.signal(signal);
            let output = build.wait();
            world.assert_nothing_left(&marker);
            world.assert_nothing_left(world.home().to_str().unwrap());
            if signal != Signal::KILL {
                output.exits(128 + number);
                support::store::assert_clean(&world.store());
                assert!(exists(&places), "the tree was thrown away");
            }
            dockerfile(world, &base, &[&first, "cat /first"], "");
            let output = world.build([]).ok();
            let steps = steps(&output.stderr);
            assert!(steps.iter().any(|step| step.name.contains(&first) && step.cached), "{}", output.stderr);
            assert!(steps.iter().any(|step| step.lines == [number.to_string()]), "{}", output.stderr);
        }
        world.sandcrab(["prune", "--force", "--all"]).ok();
        support::store::assert_pruned(&world.store());
    }

    /// A step that fails on a tree that is not in the store yet leaves that.
    fn the_next_step_fails(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let first = "head -c 3000000 /dev/urandom >/first";
        dockerfile(world, &base, &[first, "[ -s /first ] && exit 7"], "");
        let output = world.build([]).run().exits(7).says(&["exit code: 7", "Dockerfile:3"]);
        assert!(!output.stderr.contains("CANCELED"), "{}", output.stderr);
        assert!(exists(&recorded(world, first)));
        support::store::assert_clean(&world.store());
        dockerfile(world, &base, &[first, "[ -s /first ]"], "");
        let output = world.build([]).ok();
        assert!(steps(&output.stderr).iter().any(|step| step.name.contains(first) && step.cached));
    }

    /// A layer that can't be written ends the step that stands on it already, and is the error.
    fn the_layer_fails(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("7272.{}{}", std::process::id(), world.account.uid);
        dockerfile(world, &base, &["touch /.wh.x", &format!("sleep {marker}")], "");
        let output = world.build([]).run().exits(1).says(&[".wh.x", "Dockerfile:2"]);
        let errors = output.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", output.stderr);
        world.assert_nothing_left(&marker);
        support::store::assert_clean(&world.store());
    }

    /// Two builds at the same time, and two stages of one, run each step once.
    fn once(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let step = |n: u8| format!("echo ran-$((6*7)) {n}; head -c 3000000 /dev/urandom >/f{n}");
        let steps: Vec<String> = (0..5).map(step).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        dockerfile(world, &base, &steps, "");
        let builds = ["one", "two"].map(|tag| world.build(["--tag", tag]).spawn());
        let said: String = builds.map(|build| build.wait().success().stderr).concat();
        for n in 0..5 {
            assert_eq!(said.matches(&format!("ran-42 {n}")).count(), 1, "{said}");
        }
        let sum = |tag| world.sandcrab(["run", tag, "sh", "-c", "cat /f* | md5sum"]).ok().stdout;
        assert_eq!(sum("one"), sum("two"));
        let stage: String = steps.iter().map(|step| format!("RUN {step}\n")).collect();
        world.dockerfile(&format!(
            "FROM {base} AS a\n{stage}FROM {base} AS b\n{stage}RUN cat /f* | md5sum >/sum\n\
             FROM {base}\nCOPY --from=a /f* /\nCOPY --from=b /sum /\n\
             RUN [ \"$(cat /f* | md5sum)\" = \"$(cat /sum)\" ]\n"
        ));
        let said = world.build(["--no-cache", "--jobs=3"]).ok().stderr;
        for n in 0..5 {
            assert_eq!(said.matches(&format!("ran-42 {n}")).count(), 1, "{said}");
        }
    }

    /// Another stage takes what a step stands on that has begun early, while that step runs, and so do the
    /// steps after it. With one place among those that run, too.
    fn taken_by_another_stage(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let first = "RUN head -c 3000000 /dev/urandom >/first";
        world.dockerfile(&format!(
            "FROM {base} AS a\n{first}\nRUN sleep 1.$(stat -c %s /first | cut -c 1)\nRUN md5sum </first >/a\n\
             FROM {base} AS b\n{first}\nRUN md5sum </first >/b\nRUN rm /first\n\
             FROM {base}\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN cmp /a /b\n"
        ));
        for arguments in [&[][..], &["--no-cache"], &["--no-cache", "--jobs=1"]] {
            world.build(arguments.iter().copied()).ok();
            support::store::assert_clean(&world.store());
        }
        assert_all_cached(&world.build([]).ok().stderr, 9);
    }

    /// What stands for a device is one in the next step, too; mounts that need nothing don't matter.
    fn devices_and_mounts(world) as [plain] {
        let base = base!(world, Busybox);
        dockerfile(world, &base, &[
            "--mount=type=tmpfs,target=/t touch /t/x && mknod /n c 1 3 && chown 3:4 /n",
            "--mount=type=tmpfs,target=/t [ -z \"$(ls /t)\" ] && [ $(stat -c %t:%T:%u:%g /n) = 1:3:3:4 ] && echo x >/n && mv /n /m",
            "<<EOF\n#!/bin/sh\nset -e\ntest -c /m\nrm /m\necho y >/m\nEOF\n",
        ], "");
        for arguments in [&[][..], &["--no-cache"]] {
            let tree = world.tree(arguments.iter().copied());
            assert_file(&tree, "m", "y\n");
        }
    }
}
