//! Builds that end early: Ctrl-C, and SIGKILL at any moment.

use std::time::Duration;

use rustix::process::Signal;
use support::{World, base, for_users};

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
            world.assert_nothing_left(world.path("ctx").to_str().unwrap());
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
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
        println!("seed {state:#x}, a whole build takes {whole:?}");
        for round in 0..20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let share = f64::from(u32::try_from(state % 1000).unwrap()) / 1000.0;
            let build = world.build(arguments).spawn();
            std::thread::sleep(whole.mul_f64(share));
            build.signal(Signal::KILL);
            let _output = build.wait();
            world.assert_nothing_left(world.path("ctx").to_str().unwrap());
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
