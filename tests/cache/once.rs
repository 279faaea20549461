//! Equal steps run once, in one build and in several at the same time.

use rustix::process::Signal;
use support::process::Running;
use support::{World, base, for_users};

/// A step that notes in a cache mount that it ran, prints `begun 42`, and ends when `open` was called.
pub(super) fn gated(name: &str) -> String {
    format!(
        "--mount=type=cache,target=/c,id=gate-{name} echo ran >>/c/log; echo begun $((6*7)) {name}; \
         i=0; while [ ! -e /c/open ] && [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done; echo {name} >/{name}"
    )
}

/// Lets the steps of this name end.
pub(super) fn open(world: &World, base: &str, name: &str) {
    let file = format!("open-{name}");
    world.write(
        &file,
        format!("FROM {base}\nRUN --mount=type=cache,target=/c,id=gate-{name} touch /c/open\n"),
    );
    world
        .sandcrab(["build", "--no-cache", "-f", &file, "ctx"])
        .ok();
}

/// Returns how often the steps of this name ran.
fn count(world: &World, base: &str, name: &str) -> usize {
    let file = format!("count-{name}");
    world.write(
        &file,
        format!("FROM {base}\nRUN --mount=type=cache,target=/c,id=gate-{name} cp /c/log /log\n"),
    );
    world
        .sandcrab(["build", "--no-cache", "-o", "counted", "-f", &file, "ctx"])
        .ok();
    let log = std::fs::read_to_string(world.path("counted/log")).expect("the step's notes");
    log.lines().count()
}

/// Starts a build of this Dockerfile.
fn start(world: &World, name: &str, text: &str, arguments: &[&str]) -> Running {
    world.write(name, text);
    world
        .sandcrab(["build", "--progress=plain", "-f", name])
        .args(arguments)
        .arg("ctx")
        .spawn()
}

for_users! {
    /// Stages with the same steps have them once between them, also without the cache.
    fn stages(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        for (name, arguments) in [("plain", &[][..]), ("fresh", &["--no-cache"])] {
            let step = format!("--mount=type=cache,target=/c,id=gate-{name} echo ran >>/c/log; sleep 0.3; date >/made");
            let text = format!(
                "FROM {base} AS one\nRUN {step}\nRUN echo one >/one\n\
                 FROM {base} AS two\nRUN {step}\nRUN echo two >/two\n\
                 FROM one AS three\nRUN {step}\n\
                 FROM {base}\nCOPY --from=one /made /one /\nCOPY --from=two /two /\nCOPY --from=three /made /three\n"
            );
            let built = start(world, name, &text, arguments).wait().success();
            let steps = support::progress::steps(&built.stderr);
            let ran = steps.iter().filter(|step| step.name.contains("made") && step.done && step.name.contains("RUN"));
            // On its own result it is another step.
            assert_eq!(ran.count(), 2, "{}", built.stderr);
            assert_eq!(count(world, &base, name), 2);
        }
    }

    /// What platforms share is made once, also without the cache.
    fn platforms(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let text = format!(
            "FROM --platform=$BUILDPLATFORM {base} AS tool\n\
             RUN --mount=type=cache,target=/c,id=gate-tool echo ran >>/c/log; date >/made\n\
             FROM scratch\nCOPY --from=tool /made /\n"
        );
        let platforms = ["--no-cache", "--platform=linux/amd64,linux/arm64"];
        start(world, "several", &text, &platforms).wait().success();
        assert_eq!(count(world, &base, "tool"), 1);
    }

    /// A build that needs what another one is making waits for it, says so, and takes it. Meanwhile its
    /// other stages go on, even when one step may run at a time.
    fn builds(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let text = format!(
            "FROM {base} AS slow\nRUN {}\n\
             FROM {base} AS other\nRUN echo $((6*7)) of ${{WHO}}\n\
             FROM {base}\nARG WHO\nCOPY --from=slow /shared /\nCOPY --from=other /bin/sh /sh\n",
            gated("shared")
        );
        let text = text.replace("AS other\n", "AS other\nARG WHO\n");
        let mut one = start(world, "both", &text, &["--build-arg=WHO=first"]);
        one.wait_for(" begun 42 shared");
        let mut two = start(world, "both", &text, &["--build-arg=WHO=second", "--jobs=1"]);
        two.wait_for("[internal] wait for another build's [slow 2/2] RUN");
        two.wait_for(" 42 of second");
        open(world, &base, "shared");
        let two = two.wait().success();
        let cached = support::progress::steps(&two.stderr);
        assert!(cached.iter().any(|step| step.name.contains("[slow 2/2]") && step.cached), "{}", two.stderr);
        one.wait().success();
        assert_eq!(count(world, &base, "shared"), 1);
        support::store::assert_clean(&world.store());
    }

    /// Who waits for a build that fails, or is killed, runs the step itself.
    fn after_a_failure(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        for (name, signal) in [("failing", None), ("killed", Some(Signal::KILL)), ("stopped", Some(Signal::INT))] {
            let text = format!("FROM {base}\nRUN {} && test $(grep -c ran /c/log) != 1\n", gated(name));
            let mut one = start(world, name, &text, &[]);
            one.wait_for(&format!(" begun 42 {name}"));
            let mut two = start(world, name, &text, &[]);
            two.wait_for("wait for another build's");
            if let Some(signal) = signal {
                one.signal(signal);
                one.wait();
            }
            if signal.is_some() {
                two.wait_for(&format!(" begun 42 {name}"));
            }
            open(world, &base, name);
            two.wait().success();
            assert_eq!(count(world, &base, name), 2);
        }
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
    }

    /// Who waits can be interrupted, and the one that works goes on.
    fn interrupted(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let text = format!("FROM {base}\nRUN {}\n", gated("long"));
        let mut one = start(world, "long", &text, &[]);
        one.wait_for(" begun 42 long");
        let mut two = start(world, "long", &text, &[]);
        two.wait_for("wait for another build's");
        two.signal(Signal::INT);
        two.wait().exits(130);
        assert!(one.is_running());
        open(world, &base, "long");
        one.wait().success();
        assert_eq!(count(world, &base, "long"), 1);
        support::store::assert_clean(&world.store());
    }

    /// Builds that need each other's steps in opposite orders both end, and each step runs once.
    fn crosswise(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        let steps: Vec<String> = (0..6)
            .map(|n| {
                // They share a mount that one can have at a time, too.
                let mount = "--mount=type=cache,target=/l,id=lock,sharing=locked";
                format!("RUN {mount} --mount=type=cache,target=/c,id=gate-cross echo ran >>/c/log; sleep 0.1; echo {n} >/{n}\n")
            })
            .collect();
        let text = |order: &mut dyn Iterator<Item = usize>| {
            let (mut stages, mut copies) = (String::new(), format!("FROM {base}\n"));
            for n in order {
                stages += &format!("FROM {base} AS s{n}\n{}", steps[n]);
                copies += &format!("COPY --from=s{n} /{n} /\n");
            }
            stages + &copies
        };
        let one = start(world, "forth", &text(&mut (0..6)), &["--jobs=1"]);
        let two = start(world, "back", &text(&mut (0..6).rev()), &["--jobs=3"]);
        one.wait().success();
        two.wait().success();
        assert_eq!(count(world, &base, "cross"), 6);
        support::store::assert_clean(&world.store());
    }
}
