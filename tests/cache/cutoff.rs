//! Early cut-off: what is built again and comes out the same, changes nothing after it.

use support::process::Output;
use support::progress::steps;
use support::{World, base, for_users};

use super::registry;

/// Expects which steps ran, in the order in which they are displayed, each by a part of its text; all
/// others came from the cache.
#[track_caller]
fn assert_ran(output: &Output, texts: &[&str]) {
    let mut ran: Vec<String> = steps(&output.stderr)
        .into_iter()
        .filter(|step| !step.cached)
        .map(|step| step.name)
        .collect();
    for text in texts {
        let found = ran.iter().position(|name| name.contains(text));
        let Some(found) = found else {
            panic!("`{text}` did not run:\n{}", output.stderr);
        };
        ran.remove(found);
    }
    assert!(ran.is_empty(), "ran as well: {ran:#?}\n{}", output.stderr);
}

/// A stage whose first step depends on a file, and whose second makes `/out`; what copies and mounts
/// it stands on other trees.
fn write(world: &World, base: &str, input: &str, make: &str) {
    world.write("ctx/input", input);
    world.dockerfile(&format!(
        "FROM {base} AS make\nCOPY input /input\nRUN mkdir /out && {make}\n\
         FROM {base} AS look\nRUN --mount=from=make,source=/out,target=/m cat /m/f >/seen\n\
         FROM {base}\nRUN echo 1 >/one\nCOPY --from=make /out /there\nRUN cat /there/f >/two\n\
         COPY --from=look /seen /\nRUN cat /seen >/three\n"
    ));
}

for_users! {
    /// A stage that runs again and makes the same leaves all that takes it cached; anything that a step
    /// could see but times makes it run.
    fn equal_content(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let same = "echo x >/out/f && ln -s f /out/l && chown -h 3:4 /out/l && chown 5:6 /out/f";
        let build = || world.build(["--iidfile=id"]).ok();
        let id = || std::fs::read_to_string(world.path("id")).unwrap();
        write(world, &base, "1", same);
        assert_ran(&build(), &[
            "COPY input", "mkdir /out", "cat /m/f", "echo 1", "--from=make", "/there/f", "--from=look", "cat /seen",
        ]);
        let first = id();
        write(world, &base, "2", same);
        assert_ran(&build(), &["COPY input", "mkdir /out"]);
        assert_eq!(id(), first);
        // From now on it is known by definition, too.
        support::progress::assert_all_cached(&build().stderr, 8);
        // Another text that makes the same.
        write(world, &base, "2", &format!("touch -d @7 /out/f && {same}"));
        assert_ran(&build(), &["mkdir /out"]);
        assert_eq!(id(), first);
        for (what, change) in [
            ("content", "echo y >/out/f"),
            ("mode of a file", "chmod 700 /out/f"),
            ("owner of a file", "chown 7 /out/f"),
            ("owner of a link", "chown -h 7 /out/l"),
            ("target of a link", "ln -sfn g /out/l && chown -h 3:4 /out/l"),
            ("another file", "touch /out/g"),
            ("less", "rm /out/l"),
        ] {
            write(world, &base, what, &format!("{same} && {change}"));
            let output = build();
            let text = &output.stderr;
            let ran: Vec<_> = steps(text).into_iter().filter(|step| !step.cached).collect();
            let has = |part: &str| ran.iter().any(|step| step.name.contains(part));
            assert!(has("--from=make /out") && has("cat /m/f") && has("/there/f"), "{what}: {text}");
            assert_ne!(id(), first, "{what}");
        }
        // The mounted directory itself can be seen as well, a copied one can not.
        write(world, &base, "mode", &format!("{same} && chmod 711 /out"));
        let output = build();
        let cached = |part: &str| steps(&output.stderr).iter().any(|s| s.cached && s.name.contains(part));
        assert!(cached("--from=make /out") && !cached("cat /m/f"), "{}", output.stderr);
    }

    /// A cache that is elsewhere knows steps by content, too, and so does one that is made of it.
    fn imported(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "cut") else { return };
        let same = "echo x >/out/f";
        let cache = |tag: &str| format!("{}/cache:{tag}", registry.host());
        let to = |tag: &str| format!("type=registry,ref={},mode=max", cache(tag));
        write(world, &base, "1", same);
        world.build(["--cache-to", &to("one")]).ok();
        let other = world.second_with_context();
        other.build(["--cache-from", &cache("one"), "--cache-to", &to("two")]).ok();
        let third = world.second_with_context();
        write(&third, &base, "2", same);
        let output = third.build(["--cache-from", &cache("two")]).ok();
        assert_ran(&output, &["COPY input", "mkdir /out"]);
    }

    /// Through several stages; and with equal content of another image.
    fn other_images(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "cutoff") else { return };
        let name = |tag: &str| format!("{}/made:{tag}", registry.host());
        world.make_dir("ctx");
        for (tag, other) in [("one", "a"), ("two", "b")] {
            world.dockerfile(&format!("FROM {base}\nRUN echo {other} >/other\nRUN mkdir /d && echo same >/d/f\n"));
            world.build(["-o", &format!("type=registry,name={}", name(tag))]).ok();
        }
        let text = |from: &str| {
            format!(
                "FROM {from} AS a\nRUN true\n\
                 FROM {base} AS b\nCOPY --from=a /d /d\nRUN cat /d/f >/b\n\
                 FROM {base} AS c\nCOPY --from=b /b /b\nRUN --mount=from={from},source=/d/f,target=/m cat /m /b >/c\n\
                 FROM scratch\nCOPY --from=c /c /\nCOPY --from={from} /d/f /f\n"
            )
        };
        world.dockerfile(&text(&name("one")));
        world.build([]).ok();
        world.dockerfile(&text(&name("two")));
        let output = world.build([]).ok();
        // It stands on the other image; RUN is text that names it, and the copies are what they copy.
        assert_ran(&output, &["RUN true"]);
    }

    /// An argument counts for the steps in whose environment it is, whether they name it or not, and for no
    /// others; proxies count for none.
    fn arguments(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.make_dir("ctx");
        world.dockerfile(&format!(
            "FROM {base} AS one\nARG WHAT\nRUN echo $WHAT >/dev/null; echo x >/x\nRUN cat /proc/sys/kernel/random/uuid >/y\n\
             FROM {base} AS two\nRUN cat /proc/sys/kernel/random/uuid >/z\nARG WHAT\nRUN echo $WHAT >/w\n\
             FROM one\nCOPY --from=two /z /z\nRUN cat /proc/sys/kernel/random/uuid >/v\n"
        ));
        let build = |what: &str| {
            let (what, proxy) = (format!("--build-arg=WHAT={what}"), format!("--build-arg=HTTP_PROXY=http://127.0.0.1:{what}"));
            world.build([what.as_str(), &proxy, "--iidfile=id"]).ok()
        };
        let id = || std::fs::read_to_string(world.path("id")).unwrap();
        assert_eq!(steps(&build("1").stderr).iter().filter(|step| step.cached).count(), 0);
        let first = id();
        let second = build("2");
        assert_ran(&second, &["echo x", ">/y", "COPY --from=two", ">/w", ">/v"]);
        assert_ne!(id(), first);
    }

    /// A step that misses does not end the search: where its layer comes out the same, the steps after it
    /// are found.
    fn equal_layers(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = |comment: &str| format!(
            "FROM {base}\nCOPY f /f\nRUN true {comment}; rm /f; echo x >/x\nRUN cat /proc/sys/kernel/random/uuid >/y\nCOPY g /g\nRUN cat /proc/sys/kernel/random/uuid >/z\n"
        );
        world.write("ctx/f", "f");
        world.write("ctx/g", "g");
        // Times are fixed, so that layers can be equal.
        let build = || world.build(["--iidfile=id"]).env("SOURCE_DATE_EPOCH", "1000000000").ok();
        let id = || std::fs::read_to_string(world.path("id")).unwrap();
        world.dockerfile(&text("1"));
        build();
        let first = id();
        world.dockerfile(&text("2"));
        assert_ran(&build(), &["RUN true 2"]);
        assert_ne!(id(), first, "the history has the new text");
        world.write("ctx/f", "another");
        // Both layers below differ now.
        let output = build();
        assert_ran(&output, &["COPY f", "RUN true 2", "/y", "COPY g", "/z"]);
    }
}
