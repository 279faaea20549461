//! Stages beside each other: as many steps at a time as is allowed, and one end for all.

use rustix::process::Signal;
use support::{World, base, for_users};

/// Stages of one step each, and a result that takes from all of them.
fn branches(world: &World, base: &str, steps: &[String]) {
    world.make_dir("ctx");
    let (mut stages, mut copies) = (String::new(), format!("FROM {base}\n"));
    for (number, step) in steps.iter().enumerate() {
        stages += &format!("FROM {base} AS s{number}\nRUN {step}\n");
        copies += &format!("COPY --from=s{number} /etc/passwd /{number}\n");
    }
    world.dockerfile(&(stages + &copies));
}

for_users! {
    /// Two steps can meet when two may run, and never more than are allowed are there at once.
    fn as_many_as_allowed(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        // Each waits until it has seen another one there.
        let meet = |number: usize| {
            let limit = "i=0; until [ $(ls /c | wc -l) -ge 2 ] || [ -e /c/met ]; do sleep 0.05; i=$((i+1)); [ $i -lt 600 ] || exit 1; done";
            format!("--mount=type=cache,target=/c,id=meet touch /c/{number}; {limit}; touch /c/met")
        };
        branches(world, &base, &[meet(0), meet(1)]);
        world.build(["--jobs=2"]).ok();
        let count = |number: usize| {
            format!("--mount=type=cache,target=/c,id=count mkdir /c/{number} && test $(ls /c | wc -l) -le 2 && sleep 0.2 && rmdir /c/{number}")
        };
        branches(world, &base, &(0..6).map(count).collect::<Vec<_>>());
        world.build(["--jobs=2", "--no-cache"]).ok();
        // One at a time: nobody is ever there when another comes.
        let alone = |number: usize| {
            format!("--mount=type=cache,target=/c,id=alone test -z \"$(ls /c)\" && touch /c/{number} && sleep 0.1 && rm /c/{number}")
        };
        branches(world, &base, &(0..4).map(alone).collect::<Vec<_>>());
        world.build(["--jobs=1"]).ok();
    }

    /// The first step that fails ends the others, whatever they do; its output is shown and it is the error.
    fn a_failure_ends_all(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("8181.{}{}", std::process::id(), world.account.uid);
        let there = |number: usize| {
            format!("--mount=type=cache,target=/c,id=there touch /c/{number}; trap '' TERM INT HUP; sleep {marker}")
        };
        let fails = "--mount=type=cache,target=/c,id=there i=0; until [ -e /c/0 ] && [ -e /c/1 ]; do sleep 0.05; i=$((i+1)); [ $i -lt 600 ] || exit 1; done; echo why-$((6*7)) >&2; exit 9";
        branches(world, &base, &[there(0), there(1), fails.to_owned()]);
        let output = world.build(["--jobs=3", "--output=type=oci,dest=out.oci"]).run().exits(9);
        let output = output.says(&["why-42", "exit code: 9"]);
        let errors = output.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", output.stderr);
        assert!(output.stderr.contains("CANCELED"), "{}", output.stderr);
        world.assert_nothing_left(&marker);
        world.assert_nothing_left(world.home().to_str().unwrap());
        support::store::assert_clean(&world.store());
        assert!(!world.path("out.oci").exists());
    }

    /// Ctrl-C ends all steps that run, those that wait for a place, for a mount or for another build, and
    /// leaves no process, no mount and nothing half-written.
    fn interrupted(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("9191.{}{}", std::process::id(), world.account.uid);
        let locked = "--mount=type=cache,target=/l,id=lock,sharing=locked";
        let mut steps: Vec<String> = (0..2)
            .map(|n| format!("echo begun-$((6*7)) {n}; echo {n} >/half; sleep {marker}"))
            .collect();
        steps.push(format!("{locked} echo begun-$((6*7)) 2; sleep {marker}"));
        steps.push(format!("{locked} echo never; sleep {marker}"));
        branches(world, &base, &steps);
        let mut one = world.build(["--jobs=3"]).spawn();
        for number in 0..2 {
            one.wait_for(&format!("begun-42 {number}"));
        }
        let mut two = world.build(["--jobs=3"]).spawn();
        two.wait_for("wait for another build's");
        two.signal(Signal::INT);
        two.wait().exits(130);
        one.signal(Signal::INT);
        one.wait().exits(130);
        world.assert_nothing_left(&marker);
        world.assert_nothing_left(world.home().to_str().unwrap());
        support::store::assert_clean(&world.store());
    }
}
