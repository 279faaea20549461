//! Stores in odd places: full disks, read-only ones, and file systems that lack something.
//!
//! Responsible for what is said and what stays. File systems are mounted by root, for whatever account
//! the test is. Must not test what a kill leaves: that is `crash`.

use std::path::PathBuf;

use support::process::Command;
use support::world::SmallDisk;
use support::{World, base, for_users};

/// A command with the store on the small disk.
fn there(world: &World, command: Command) -> Command {
    command.env("SANDCRAB_ROOT", store(world))
}

fn store(world: &World) -> PathBuf {
    world.path("small/store")
}

/// Writes everything to the small disk: the store, an archive, and a cache.
fn build(world: &World) -> Command {
    let output = "--output=type=oci,dest=small/out.oci";
    let cache = "--cache-to=type=local,dest=small/cache,mode=max";
    let build = world.build(["--tag=full", output, cache]);
    there(world, build).env("SOURCE_DATE_EPOCH", "1700000000")
}

fn id(world: &World) -> String {
    world
        .image("small/out.oci")
        .id()
        .expect("an image has a digest")
        .to_owned()
}

fn only_root(world: &World) {
    support::skip(&world.test, "only root can mount file systems");
}

for_users! {
    /// A disk that is full at whatever moment, from the first byte of a pull to the last one of what is
    /// exported: it is said, nothing half-written stays, and with more room the build goes on and makes
    /// the same image.
    fn full_at_any_moment(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/file", vec![7; 500_000]);
        world.dockerfile(&format!(
            "FROM {base}\nCOPY file /file\nRUN head -c 700000 /dev/zero >/zeros; mkdir /d; chown 3:4 /d\n\
             RUN --mount=type=cache,target=/c head -c 300000 /dev/zero >/c/x; cp /c/x /x\n"
        ));
        let Some(disk) = SmallDisk::mount(world, "small", 64) else {
            return only_root(world);
        };
        build(world).ok();
        let wanted = id(world);
        let used = support::store::size(&world.path("small")) / 1024;
        drop(disk);
        // Coarse steps meet the large writes, fine ones those at the end.
        let coarse = (1..9).map(|n| used * n / 9);
        let fine = (0..6).map(|n| used + 4 * n * n);
        let mut failed = 0;
        for kibibytes in coarse.chain(fine) {
            let disk = SmallDisk::mount_as(world, "small", "tmpfs", &format!("size={kibibytes}k")).unwrap();
            let output = build(world).run();
            if output.code != Some(0) {
                failed += 1;
                let text = output.stderr.to_lowercase();
                assert!(text.contains("no space left"), "{kibibytes} KiB: {}", output.all());
                // What the step itself met is the step's to say.
                let explained = text.contains("hint: `sandcrab df`") || text.contains("head:") || text.contains("cp:");
                assert!(explained, "{kibibytes} KiB: {}", output.all());
                assert_eq!(output.code, Some(1), "{kibibytes} KiB: {}", output.all());
            }
            support::store::assert_clean(&store(world));
            let out = world.path("small/out.oci");
            assert!(output.code == Some(0) || !out.exists() || id(world) == wanted, "{kibibytes} KiB: half an archive");
            disk.remount("size=64m");
            build(world).ok();
            assert_eq!(id(world), wanted, "{kibibytes} KiB");
            there(world, world.sandcrab(["run", "full", "test", "-s", "/x"])).ok();
            there(world, world.sandcrab(["prune", "--force"])).ok();
            support::store::assert_pruned(&store(world));
        }
        assert!(failed >= 8, "the disk was full {failed} times only");
    }

    /// A store that can't be written to is good for what only reads; the rest says why not, and how.
    fn read_only(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let Some(disk) = SmallDisk::mount(world, "small", 64) else {
            return only_root(world);
        };
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/x\n"));
        build(world).ok();
        disk.remount("ro");
        let sandcrab = |arguments: &[&str]| there(world, world.sandcrab(arguments.iter().copied()));
        for arguments in [&["images"][..], &["inspect", "full"], &["history", "full"], &["df"], &["df", "-v"]] {
            let text = sandcrab(arguments).ok().text();
            assert!(!text.is_empty(), "{arguments:?}");
        }
        sandcrab(&["save", "-o", "saved.tar", "full"]).ok();
        world.sandcrab(["load", "-i", "saved.tar"]).ok();
        world.sandcrab(["run", "full", "cat", "/x"]).ok();
        sandcrab(&["prune", "--all", "--dry-run"]).ok();
        for arguments in [&["build", "ctx"][..], &["pull", &base], &["run", "full", "true"], &["load", "-i", "saved.tar"]] {
            let output = sandcrab(arguments).run().exits(1);
            output.says(&["read-only file system", "small/store/lock", "hint: images, inspect"]);
        }
        for arguments in [&["tag", "full", "x"][..], &["rmi", "full"], &["prune", "--force"]] {
            sandcrab(arguments).run().exits(1).says(&["read-only file system", "small/store"]);
        }
        disk.remount("rw");
        there(world, world.build([])).ok();
    }

    /// A file system without the user's attributes can't hold layers: refused before anything is pulled.
    fn without_attributes(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let Some(_disk) = SmallDisk::mount_as(world, "small", "ramfs", "mode=755") else {
            return only_root(world);
        };
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/x\n"));
        let output = there(world, world.build([])).run().exits(1);
        output
            .says(&["no user attributes", "small/store", "hint: name a place"])
            .never_says(&["load image"]);
        assert_eq!(std::fs::read_dir(store(world).join("blobs/sha256")).unwrap().count(), 0);
        support::store::assert_clean(&store(world));
        // What unpacks nothing works there.
        there(world, world.sandcrab(["pull", "--quiet", &base])).ok();
        there(world, world.sandcrab(["save", "-o", "saved.tar", &base])).ok();
        there(world, world.sandcrab(["run", &base, "true"])).run().exits(1).says(&["no user attributes"]);
    }

    /// A store in memory is one like others.
    fn in_memory(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let Some(_disk) = SmallDisk::mount(world, "small", 64) else {
            return only_root(world);
        };
        world.dockerfile(&format!(
            "FROM {base}\nRUN mkdir /d && touch /d/f /g && chown -R 3:4 /d /g && ln -s f /d/l\n\
             RUN rm -r /d && mkdir /d && chown 5:6 /d && rm /g\n"
        ));
        build(world).ok();
        let wanted = id(world);
        let elsewhere = world.build(["--output=type=oci,dest=small/out.oci"]).env("SOURCE_DATE_EPOCH", "1700000000");
        elsewhere.ok();
        assert_eq!(id(world), wanted);
    }
}
