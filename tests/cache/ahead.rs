//! Layers leave the store while the build goes on.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::registry::LOGIN;
use support::{Registry, World, base, for_users};

use super::once::{gated, open};
use super::registry;

/// A layer that gzip does not make smaller, and then a step that ends when it is told to.
fn write(world: &World, base: &str) {
    world.make_dir("ctx");
    world.dockerfile(&format!(
        "FROM {base} AS one\nRUN head -c 3000000 /dev/urandom >/big\nFROM one\nRUN {}\n",
        gated("ahead")
    ));
}

/// Waits until it is so.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(50), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns how many blobs a repository was sent.
fn sent(registry: &Registry, repository: &str) -> usize {
    let start = format!("PUT /v2/{repository}/blobs/uploads/");
    let requests = registry.requests();
    requests.iter().filter(|r| r.starts_with(&start)).count()
}

for_users! {
    /// A layer is in the registry while the next step runs, and is sent once.
    fn pushed(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "ahead") else { return };
        write(world, &base);
        let (one, two) = (format!("{}/early:1", registry.host()), format!("{}/other:1", registry.host()));
        let mut build = world.build(["--push", "-t", &one, "-t", &two]).spawn();
        build.wait_for(" begun 42 ahead");
        wait_until("nothing was sent", || sent(&registry, "early") == 1);
        open(world, &base, "ahead");
        let output = build.wait().success();
        output.says(&["exporting layers"]).never_says(&["left to the output"]);
        // Two layers and the config; what the base has is mounted.
        assert_eq!(sent(&registry, "early"), 3);
        assert_eq!(registry.layers("early", "1"), registry.layers("other", "1"));
        let again = world.build(["--push", "-t", &one]).ok();
        again.never_says(&["exporting layers"]);
        assert_eq!(sent(&registry, "early"), 3);
        support::store::assert_clean(&world.store());
    }

    /// For an archive, a layer is compressed while the next step runs; a build that is interrupted then
    /// leaves nothing behind.
    fn compressed(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        write(world, &base);
        let is_there = || {
            let blobs = std::fs::read_dir(world.store().join("blobs/sha256")).into_iter().flatten().flatten();
            blobs.filter(|blob| blob.metadata().is_ok_and(|m| m.len() > 2_900_000)).any(|blob| {
                let mut head = [0; 2];
                let mut file = std::fs::File::open(blob.path()).unwrap();
                file.read_exact(&mut head).is_ok() && head == [0x1f, 0x8b]
            })
        };
        let start = || world.build(["-o", "type=oci,dest=out.oci"]).spawn();
        let mut build = start();
        build.wait_for(" begun 42 ahead");
        wait_until("nothing was compressed", is_there);
        build.signal(Signal::INT);
        build.wait().exits(130);
        assert!(!world.path("out.oci").exists());
        support::store::assert_clean(&world.store());
        let mut build = start();
        build.wait_for(" begun 42 ahead");
        open(world, &base, "ahead");
        build.wait().success();
        support::image::flatten(&world.image("out.oci")).unwrap();
        support::store::assert_clean(&world.store());
    }

    /// A command that sends an image, or a cache, does not wait until all its layers are compressed: those
    /// that are have arrived when another one turns out to be spoiled.
    fn sent_while_compressed(world) as [root, subids, plain] {
        let Some((registry, _)) = registry(world, "while") else { return };
        world.write("ctx/small", "small");
        world.write("ctx/large", vec![7; 9_000_000]);
        world.dockerfile("FROM scratch\nCOPY small /\nCOPY large /\n");
        let build = |arguments: &[&str]| world.build(arguments.iter().copied());
        build(&["-t", "app"]).ok();
        // The last bytes of the larger layer's file are found to be wrong when all of it was read.
        let blobs = std::fs::read_dir(world.store().join("blobs/sha256")).unwrap();
        let sizes = blobs.map(|blob| blob.unwrap()).map(|blob| (blob.metadata().unwrap().len(), blob.path()));
        let (_, large) = sizes.max().unwrap();
        let whole = std::fs::read(&large).unwrap();
        let spoil = || std::fs::write(&large, [&whole[..8_000_000], &vec![8; whole.len() - 8_000_000]].concat()).unwrap();

        spoil();
        let to = format!("{}/pushed:1", registry.host());
        let output = world.sandcrab(["push", "app", &to]).run().exits(1);
        output.says(&["is corrupt in the store"]);
        assert_eq!(sent(&registry, "pushed"), 1);
        // Another form, since the small one is there in the first.
        build(&["-t", "app"]).ok();
        spoil();
        let cache = format!("type=registry,ref={}/cache:1,compression=zstd", registry.host());
        let output = build(&["--cache-to", &cache]).run().exits(1);
        output.says(&["is corrupt in the store"]);
        assert_eq!(sent(&registry, "cache"), 1);

        // Nothing is sent twice.
        build(&["-t", "app"]).ok();
        let output = world.sandcrab(["push", "app", &to]).ok();
        assert_eq!(sent(&registry, "pushed"), 3);
        for name in output.stderr.lines().filter_map(|line| line.split(' ').nth(1)) {
            let lines = output.stderr.matches(&format!("#1 {name} ")).count();
            assert!(!name.starts_with("sha256:") || lines == 1, "{name}\n{}", output.stderr);
        }
        support::store::assert_clean(&world.store());
    }

    /// A registry that refuses is an error of the output, once.
    fn refused(world) as [subids, plain] {
        let base = base!(world, Busybox);
        let registry = match Registry::with_password(&format!("refuse-{}", world.user.name())) {
            Ok(registry) => registry,
            Err(why) => return support::skip(&world.test, &why),
        };
        world.dockerfile(&format!("FROM {base}\nRUN echo 1 >/f\nRUN echo 2 >/g\n"));
        let name = format!("{}/x:1", registry.host());
        let output = world.build(["--push", "-t", &name]).run().exits(1);
        output.says(&["pushing image", "left to the output"]);
        let (user, password) = LOGIN;
        world
            .sandcrab(["login", "-u", user, "--password-stdin", &registry.host()])
            .stdin(password)
            .ok();
        let output = world.build(["--push", "-t", &name]).ok();
        support::progress::assert_all_cached(&output.stderr, 2);
    }
}
