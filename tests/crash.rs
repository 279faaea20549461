//! Builds that end early: Ctrl-C, and SIGKILL at any moment.

use std::time::Duration;

use rustix::process::Signal;
use support::{Command, World, base, for_users};

/// A Dockerfile that takes a while in every phase: a base, files, steps, an export.
fn long_build(world: &World, base: &str) {
    for index in 0..40 {
        world.write(&format!("ctx/tree/{index}"), vec![index; 40_000]);
    }
    world.dockerfile(&format!(
        "FROM {base} AS one\n\
         COPY tree /tree\n\
         RUN i=0; while [ $i -lt 300 ]; do echo $i >/f$i; i=$((i+1)); done\n\
         RUN rm -r /tree && mkdir /tree && cat /f1* >/tree/new\n\
         RUN head -c 3000000 /dev/urandom >/random && ln /random /again\n\
         FROM {base}\n\
         COPY --from=one /tree /tree\n\
         COPY --from=one /random /random\n\
         RUN cat /random >/copy\n"
    ));
}

/// Numbers for the moments of a test, from a seed that it prints.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("SANDCRAB_TEST_SEED")
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        Self(seed.unwrap_or_else(|| 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id())))
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 % 1000).unwrap()) / 1000.0
    }
}

/// A Dockerfile whose image depends on nothing but itself, with each kind of step.
fn repeatable_build(world: &World, base: &str) {
    for index in 0..20 {
        world.write(&format!("ctx/tree/{index}"), vec![index; 20_000]);
    }
    world.dockerfile(&format!(
        "FROM {base} AS one\n\
         COPY tree /tree\n\
         RUN i=0; while [ $i -lt 100 ]; do echo $i >/f$i; chown 3:4 /f$i; ln -s x /l$i; i=$((i+1)); done\n\
         RUN --mount=type=cache,target=/c \\\n    \
             [ -s /c/big ] || {{ head -c 2000000 /dev/zero >/c/new && mv /c/new /c/big; }}; \\\n    \
             date >>/c/log; cp /c/big /big\n\
         RUN rm -r /tree && mkdir /tree && cat /f1* >/tree/new && mkfifo /tree/pipe && chown 5:6 /tree/pipe\n\
         FROM {base}\n\
         COPY --from=one /tree /tree\n\
         COPY --from=one --chown=7:8 /big /big\n\
         RUN --mount=type=cache,target=/c,sharing=locked --mount=type=bind,from=one,target=/one \\\n    \
             cp /one/f7 /c/f7 && cat /big /c/f7 >/copy\n"
    ));
}

/// A build of it, into the store and an archive.
fn repeatable(world: &World, arguments: &[&str]) -> Command {
    world.make_dir("tmp");
    world
        .build(arguments.iter().copied())
        .args(["--tag=survivor", "--output=type=oci,dest=out.oci"])
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .env("TMPDIR", world.path("tmp"))
}

for_users! {
    /// Ctrl-C in the middle of a step: code 130, no process, no mount, nothing half-written.
    fn interrupted(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("6161.{}{}", std::process::id(), world.account.uid);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo done first\nRUN echo half >/half; echo now waiting; sleep {marker}\n"
        ));
        for signal in [Signal::INT, Signal::TERM] {
            let mut build = world.build(["--output=type=oci,dest=out.oci"]).spawn();
            build.wait_for(" now waiting");
            // A terminal sends it to the whole group, `kill` to the one process.
            if signal == Signal::INT {
                build.signal_group(signal);
            } else {
                build.signal(signal);
            }
            let output = build.wait().exits(128 + signal.as_raw());
            assert!(output.elapsed < Duration::from_secs(30));
            world.assert_nothing_left(&marker);
            world.assert_nothing_left(world.home().to_str().unwrap());
            support::store::assert_clean(&world.store());
            assert!(!world.path("out.oci").exists(), "a half-written output");
        }
        // What was finished before is kept.
        world.dockerfile(&format!("FROM {base}\nRUN echo done first\n"));
        support::progress::assert_all_cached(&world.build([]).ok().stderr, 1);
    }

    /// One Ctrl-C is enough while a context is waited for that never comes.
    fn interrupted_while_reading(world) as [subids, plain] {
        let script = "mkfifo never && exec 3<>never && exec \"$@\" <&3";
        let mut build = world
            .command("sh")
            .args(["-c", script, "sh"])
            .arg(support::scratch::sandcrab())
            .args(["build", "--progress=plain", "-"])
            .spawn();
        build.wait_for("load build definition");
        build.signal(Signal::INT);
        build.wait().exits(130).says(&["interrupted"]);
        support::store::assert_clean(&world.store());
    }

    /// Killed at twenty moments: no process stays, the next build succeeds, `prune` takes the rest.
    fn killed(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        long_build(world, &base);
        let arguments = ["--no-cache", "--tag=survivor", "--output=type=oci,dest=out.oci"];
        // On another machine, so that the first rounds below are killed while they pull.
        let whole = world.second_with_context().build(arguments).ok().elapsed;
        let mut random = Random::new();
        println!("seed {:#x}, a whole build takes {whole:?}", random.0);
        for round in 0..20 {
            let share = random.share();
            let build = world.build(arguments).spawn();
            std::thread::sleep(whole.mul_f64(share));
            build.signal(Signal::KILL);
            let _output = build.wait();
            world.assert_nothing_left(world.home().to_str().unwrap());
            support::store::assert_blobs_whole(&world.store());
            println!("round {round}: killed after {:?}", whole.mul_f64(share));
        }
        world.build(arguments).ok();
        support::image::flatten(&world.image("out.oci")).unwrap();
        world.sandcrab(["prune"]).ok();
        support::store::assert_clean(&world.store());
        // And what prune left is a store in which everything is there.
        support::progress::assert_all_cached(&world.build(["--tag=survivor"]).ok().stderr, 7);
        world.sandcrab(["run", "survivor", "test", "-s", "/copy"]).ok();
    }

    /// Killed at random moments, `SANDCRAB_TEST_KILLS` times (20): nothing is left that runs, the next build
    /// makes the same image as one that nobody disturbed, and `prune` leaves what is named, no more.
    fn killed_and_repeated(world) as [subids, plain] {
        let base = base!(world, Busybox);
        let rounds: u32 = std::env::var("SANDCRAB_TEST_KILLS").map_or(20, |n| n.parse().expect("a number"));
        repeatable_build(world, &base);
        let other = world.second_with_context();
        let whole = repeatable(&other, &[]).ok().elapsed;
        let image = |world: &World| world.image("out.oci").id().expect("an image has a digest").to_owned();
        let wanted = image(&other);
        // What a directory has besides must not change by a build that is killed.
        let beside = |world: &World| {
            let mut names: Vec<_> = std::fs::read_dir(world.path("")).unwrap()
                .chain(std::fs::read_dir(world.path("run")).unwrap())
                .chain(std::fs::read_dir(world.path("tmp")).unwrap())
                .map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let names = beside(&other);
        let mut random = Random::new();
        println!("seed {:#x}, a whole build takes {whole:?}", random.0);
        for round in 0..rounds {
            // By turns from what is cached, and from nothing.
            let fresh: &[&str] = if random.share() < 0.5 { &["--no-cache"] } else { &[] };
            let moment = whole.mul_f64(random.share());
            let build = repeatable(world, fresh).spawn();
            std::thread::sleep(moment);
            build.signal(Signal::KILL);
            let _output = build.wait();
            world.assert_nothing_left(world.home().to_str().unwrap());
            println!("round {round}: {fresh:?}, killed after {moment:?}");
            if random.share() < 0.5 {
                world.sandcrab(["prune", "--force"]).ok();
                support::store::assert_pruned(&world.store());
            }
            repeatable(world, &[]).ok();
            assert_eq!(image(world), wanted, "round {round}");
            assert_eq!(beside(world), names, "round {round}");
            std::fs::remove_file(world.path("out.oci")).unwrap();
            if random.share() < 0.3 {
                world.sandcrab(["prune", "--force", "--all"]).ok();
                support::store::assert_pruned(&world.store());
            }
        }
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
        world.sandcrab(["run", "survivor", "test", "-s", "/copy"]).ok();
        world.sandcrab(["rmi", "survivor", &base]).ok();
        world.sandcrab(["prune", "--force", "--all"]).ok();
        support::store::assert_empty(&world.store());
    }

    /// A collector that is killed at any moment leaves a store in which all that is named is whole, and
    /// leftovers that the next one takes.
    fn killed_collector(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        repeatable_build(world, &base);
        repeatable(world, &[]).ok();
        let wanted = world.image("out.oci").id().expect("an image has a digest").to_owned();
        let arguments = ["prune", "--force", "--all"];
        world.sandcrab(["rmi", "survivor"]).ok();
        let whole = world.sandcrab(arguments).ok().elapsed;
        let mut random = Random::new();
        println!("seed {:#x}, a whole collection takes {whole:?}", random.0);
        for round in 0..12 {
            repeatable(world, &[]).ok();
            assert_eq!(world.image("out.oci").id().unwrap(), wanted, "round {round}");
            if random.share() < 0.5 {
                world.sandcrab(["rmi", "survivor"]).ok();
            }
            let moment = whole.mul_f64(random.share());
            let prune = world.sandcrab(arguments).spawn();
            std::thread::sleep(moment);
            prune.signal(Signal::KILL);
            let _output = prune.wait();
            println!("round {round}: killed after {moment:?}");
            world.assert_nothing_left(world.home().to_str().unwrap());
            support::store::assert_blobs_whole(&world.store());
            if world.sandcrab(["images"]).ok().text().contains("survivor") {
                world.sandcrab(["run", "survivor", "test", "-s", "/copy"]).ok();
            }
        }
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
        repeatable(world, &[]).ok();
        assert_eq!(world.image("out.oci").id().unwrap(), wanted);
    }

    /// A killed parent takes a sleeping step with it at once, not when the step ends.
    fn killed_in_a_step(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("7171.{}{}", std::process::id(), world.account.uid);
        world.dockerfile(&format!("FROM {base}\nRUN echo now waiting; trap '' TERM HUP; sleep {marker}\n"));
        let mut build = world.build([]).spawn();
        build.wait_for(" now waiting");
        build.signal(Signal::KILL);
        let _output = build.wait();
        world.assert_nothing_left(&marker);
    }
}
