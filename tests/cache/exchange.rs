//! `--cache-to` and `--cache-from`: caches in a registry.

use support::progress::{assert_all_cached, steps};
use support::{World, for_users};

use super::registry;

/// A build stage, and a result that takes a file of it; the last step that can be cached is RUN.
pub(super) fn write_context(world: &World, base: &str) {
    world.write("ctx/early", "early\n");
    world.write("ctx/late", "late\n");
    world.dockerfile(&format!(
        "FROM {base} AS make\n\
         COPY early /early\n\
         RUN head -c 300000 /dev/urandom >/random && cat /early >/made\n\
         FROM {base}\n\
         RUN mkdir /result\n\
         COPY --from=make /made /result/made\n\
         COPY late /late\n\
         RUN cat /late /result/made >/all\n"
    ));
}

/// How many of its steps make layers.
pub(super) const STEPS: usize = 6;

for_users! {
    /// All steps come from the cache on an empty store, without a layer being fetched; an archive has
    /// those of the result fetched, and the result is the same.
    fn everything_is_cached(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "everything") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:all", registry.host());
        let to = format!("type=registry,ref={cache},mode=max");
        world.build(["--cache-to", &to, "-o", "type=oci,dest=first.oci", "--iidfile=first"]).ok();
        let manifest = registry.manifest("cache", "all");
        assert_eq!(
            manifest["config"]["mediaType"],
            "application/vnd.sandcrab.cache.config.v1+json"
        );
        let layers = registry.layers("cache", "all");
        assert_eq!(layers.len(), STEPS);

        let other = world.second_with_context();
        let before = registry.requests().len();
        let from = format!("type=registry,ref={cache}");
        let build = other.build(["--cache-from", &from, "--iidfile=second"]).ok();
        assert_all_cached(&build.stderr, STEPS);
        let fetched = registry.fetched(before);
        let base_layers = registry.layers("busybox", "1");
        let is_layer = |digest: &String| layers.contains(digest) || base_layers.contains(digest);
        assert!(!fetched.iter().any(is_layer), "{fetched:?}");
        assert_eq!(
            std::fs::read(world.path("first")).unwrap(),
            std::fs::read(other.path("second")).unwrap()
        );

        // Without the option, too: what was learnt is kept.
        let before = registry.requests().len();
        let build = other.build(["-o", "type=oci,dest=second.oci"]).ok();
        assert_all_cached(&build.stderr, STEPS);
        let mut fetched = registry.fetched(before);
        fetched.retain(is_layer);
        fetched.sort();
        let second = other.image("second.oci");
        let mut wanted: Vec<String> = second.manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect();
        wanted.sort();
        assert_eq!(fetched, wanted);
        assert_eq!(second.manifest, world.image("first.oci").manifest);
        support::store::assert_clean(&other.store());
    }

    /// Only what depends on a changed file is run again.
    fn a_changed_file(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "changed") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:all", registry.host());
        world.build(["--cache-to", &format!("type=registry,ref={cache},mode=max")]).ok();
        let other = world.second_with_context();
        other.write("ctx/late", "changed\n");
        let before = registry.requests().len();
        let build = other.build(["--cache-from", &cache, "-o", "type=local,dest=out"]).ok();
        let run: Vec<String> = (steps(&build.stderr).into_iter())
            .filter(|step| !step.cached)
            .map(|step| step.name)
            .collect();
        assert_eq!(run.len(), 2, "{run:?}");
        assert!(run[0].contains("COPY late") && run[1].contains("RUN cat"), "{run:?}");
        let all = std::fs::read_to_string(other.path("out/all")).unwrap();
        assert_eq!(all, "changed\nearly\n");
        // Of the build stage's layers, none was needed.
        let fetched = registry.fetched(before);
        let layers = registry.layers("cache", "all");
        let count = fetched.iter().filter(|f| layers.contains(f)).count();
        assert_eq!(count, 2, "{fetched:?}");
    }

    /// mode=min carries the layers of the result only, and is enough while nothing else is needed;
    /// what is, is run again.
    fn least(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "least") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:min", registry.host());
        world.build(["--cache-to", &format!("type=registry,ref={cache}")]).ok();
        assert_eq!(registry.layers("cache", "min").len(), 4);
        let other = world.second_with_context();
        let build = other.build(["--cache-from", &cache, "-o", "type=oci,dest=second.oci"]).ok();
        assert_all_cached(&build.stderr, STEPS);
        let third = other.second_with_context();
        third.dockerfile(
            &std::fs::read_to_string(world.path("ctx/Dockerfile"))
                .unwrap()
                .replace("/made /result/made", "/early /result/made"),
        );
        let build = third.build(["--cache-from", &cache, "-o", "type=local,dest=out"]).ok();
        let all = std::fs::read_to_string(third.path("out/all")).unwrap();
        assert_eq!(all, "late\nearly\n");
        build.never_says(&["ERROR"]);
    }

    /// A layer that has vanished is made again by its step.
    fn vanished_layer(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "gone") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:all", registry.host());
        world.build(["--cache-to", &format!("type=registry,ref={cache},mode=max")]).ok();
        for layer in registry.layers("cache", "all") {
            std::fs::remove_file(registry.blob(layer.trim_start_matches("sha256:"))).unwrap();
        }
        let other = world.second_with_context();
        let build = other
            .build(["--cache-from", &cache, "-o", "type=local,dest=out"])
            .ok()
            .says(&["is run again"])
            .never_says(&["ERROR"]);
        assert!(steps(&build.stderr).iter().any(|step| step.done));
        let all = std::fs::read_to_string(other.path("out/all")).unwrap();
        assert_eq!(all, "late\nearly\n");
        support::store::assert_clean(&other.store());
    }

    /// An imported result is pushed to the cache's registry without being fetched.
    fn pushed_by_mounting(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "mounted") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:all", registry.host());
        world.build(["--cache-to", &format!("type=registry,ref={cache},mode=max")]).ok();
        let other = world.second_with_context();
        let name = format!("{}/pushed:1", registry.host());
        let copy = format!("type=registry,ref={}/again:1,mode=max", registry.host());
        let before = registry.requests().len();
        other.build(["--cache-from", &cache, "-t", &name, "--push", "--cache-to", &copy]).ok();
        let fetched = registry.fetched(before);
        let layers = registry.layers("cache", "all");
        assert!(!fetched.iter().any(|f| layers.contains(f)), "{fetched:?}");
        assert_eq!(registry.layers("pushed", "1").len(), 5);
        // The same steps make the same cache, byte for byte.
        assert_eq!(registry.manifest("again", "1"), registry.manifest("cache", "all"));
        let third = world.second();
        third.sandcrab(["run", &name, "cat", "/all"]).ok();
    }

    /// Several caches are asked, the first that has a step counts, and one that is not there is a
    /// warning.
    fn several(world) as [subids, plain] {
        let Some((registry, base)) = registry(world, "several") else { return };
        write_context(world, &base);
        let host = registry.host();
        let (one, two) = (format!("{host}/one:1"), format!("{host}/two:1"));
        world.build(["--target=make", "--cache-to", &format!("type=registry,ref={one},mode=max")]).ok();
        world.build(["--cache-to", &format!("type=registry,ref={two},mode=min")]).ok();
        let other = world.second_with_context();
        let absent = format!("{host}/absent:1");
        let build = other
            .build(["--cache-from", &absent, "--cache-from", &one, "--cache-from", &two])
            .ok()
            .says(&["absent:1` is not used"]);
        assert_all_cached(&build.stderr, STEPS);
    }

    /// Two builds write one cache at the same time.
    fn at_the_same_time(world) as [subids, plain] {
        let Some((registry, base)) = registry(world, "concurrent") else { return };
        write_context(world, &base);
        let cache = format!("{}/cache:all", registry.host());
        let to = format!("type=registry,ref={cache},mode=max");
        let other = world.second_with_context();
        let running = [world, &other].map(|world| world.build(["--cache-to", &to]).spawn());
        for build in running {
            build.wait().success();
        }
        let third = other.second_with_context();
        let build = third.build(["--cache-from", &cache, "-o", "type=oci,dest=x.oci"]).ok();
        assert_all_cached(&build.stderr, STEPS);
    }

    /// Where the registry is down, the build fails after all else, unless that is ignored.
    fn nowhere(world) as [subids, plain] {
        let Some((_registry, base)) = registry(world, "nowhere") else { return };
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/x\n"));
        let to = "type=registry,ref=127.0.0.1:1/cache:1";
        world
            .build(["-t", "kept", "--cache-to", to])
            .run()
            .exits(1)
            .says(&["export the cache", "127.0.0.1:1", "ignore-error=true"]);
        world.sandcrab(["run", "kept", "cat", "/x"]).ok();
        world
            .build(["--cache-to", &format!("{to},ignore-error=true")])
            .ok()
            .says(&["the cache was not written"]);
    }

    /// What can't be done is said before anything is.
    fn refusals(world) as [plain] {
        world.dockerfile("FROM scratch\n");
        for (flag, value, text) in [
            ("--cache-to", "type=gha", "`gha` is not supported"),
            ("--cache-from", "type=s3,bucket=b", "types are registry and local"),
            ("--cache-to", "type=inline,mode=max", "mode=min only"),
            ("--cache-to", "type=registry,ref=a,nonsense=1", "`nonsense`"),
            ("--cache-from", "type=local", "src=DIRECTORY"),
        ] {
            world.build([flag, value]).run().exits(2).says(&[text]);
        }
    }
}
