//! What a disk, or a hand, has spoiled: never a wrong image.
//!
//! Responsible for damage to each kind of thing that a store keeps. A build notices and makes or fetches
//! the thing again, or says what is wrong. Must not test what programs leave themselves.

use std::path::{Path, PathBuf};

use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users};

/// A build whose image depends on nothing but itself.
fn build(world: &World, base: &str) {
    world.dockerfile(&format!(
        "FROM {base}\nRUN echo one >/one; chown 3:4 /one\nRUN cat /one >/two\n"
    ));
}

/// Builds into an archive and returns the image's id.
fn id(world: &World) -> String {
    run(world).ok();
    world
        .image("out.oci")
        .id()
        .expect("an image has a digest")
        .to_owned()
}

fn run(world: &World) -> support::Command {
    let output = "--output=type=oci,dest=out.oci,compression=uncompressed";
    world.build([output]).env("SOURCE_DATE_EPOCH", "1700000000")
}

/// The files of a directory of the store.
fn files(world: &World, directory: &str) -> Vec<PathBuf> {
    let list = std::fs::read_dir(world.store().join(directory)).unwrap();
    let mut all: Vec<_> = list.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The blobs of the steps' layers, which are plain archives.
fn layers(world: &World) -> Vec<PathBuf> {
    let is_tar = |path: &Path| std::fs::read(path).unwrap().get(257..262) == Some(b"ustar");
    files(world, "blobs/sha256")
        .into_iter()
        .filter(|path| is_tar(path))
        .collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

/// Has the snapshots forgotten, as after a reboot.
fn reboot(world: &World) {
    let identity = files(world, "snapshots")
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap();
    for snapshot in std::fs::read_dir(identity).unwrap() {
        std::fs::write(snapshot.unwrap().path().join("meta"), "torn").unwrap();
    }
}

for_users! {
    /// Records of steps that are torn, changed or of another version are steps that run again.
    fn step_records(world) as [subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base);
        let wanted = id(world);
        for spoil in [
            &(|path: &Path| flip(path, std::fs::metadata(path).unwrap().len() as usize / 2)) as &dyn Fn(&Path),
            &|path: &Path| std::fs::write(path, "").unwrap(),
            &|path: &Path| {
                let text = std::fs::read_to_string(path).unwrap();
                std::fs::write(path, text.replace("sandcrab-step-1", "sandcrab-step-9")).unwrap();
            },
        ] {
            files(world, "cache/steps").iter().for_each(|path| spoil(path));
            let output = run(world).ok();
            assert!(steps(&output.stderr).iter().all(|step| !step.cached), "{}", output.stderr);
            assert_eq!(world.image("out.oci").id().unwrap(), wanted);
        }
        assert_all_cached(&run(world).ok().stderr, 2);
    }

    /// A snapshot whose tree is gone is made again from its layer.
    fn snapshots(world) as [subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base);
        let wanted = id(world);
        let identity = files(world, "snapshots").into_iter().find(|path| path.is_dir()).unwrap();
        for snapshot in std::fs::read_dir(&identity).unwrap() {
            let tree = snapshot.unwrap().path();
            std::fs::rename(tree.join("fs"), tree.join("away")).unwrap();
        }
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo one >/one; chown 3:4 /one\nRUN cat /one >/two\nRUN cat /one /two >/three\n"
        ));
        let tree = world.tree([]);
        assert!(support::image::node(&tree, "one").uid == 3 && tree.contains_key(std::path::Path::new("three")));
        build(world, &base);
        assert_eq!(id(world), wanted);
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
    }

    /// A layer that lacks its end, or has another byte, is made again where a step needs its files, and
    /// told about where an output needs its bytes.
    fn layers_of_steps(world) as [subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base);
        let wanted = id(world);
        let layer = |path: &Path| std::fs::read(path).unwrap();
        let good: Vec<_> = layers(world).into_iter().map(|path| (layer(&path), path)).collect();
        assert_eq!(good.len(), 2);
        for (number, (bytes, path)) in good.iter().enumerate() {
            // Shorter than recorded: the step is not cached any more.
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            assert_eq!(id(world), wanted);
            assert_eq!(&layer(path), bytes);
            // A byte of the content, and of the header: noticed when the files are needed.
            for at in [512, 3] {
                flip(path, at);
                reboot(world);
                world.dockerfile(&format!(
                    "FROM {base}\nRUN echo one >/one; chown 3:4 /one\nRUN cat /one >/two\nRUN cat /one /two >/three; echo {number} {at}\n"
                ));
                let output = run(world).ok();
                assert!(output.stderr.contains("is corrupt in the store"), "{}", output.stderr);
                build(world, &base);
                assert_eq!(id(world), wanted);
                assert_eq!(&layer(path), bytes);
            }
            // And when the bytes are: the output is none, and the next one is whole.
            flip(path, 512);
            std::fs::remove_file(world.path("out.oci")).unwrap();
            run(world).run().exits(1).says(&["is corrupt in the store", "hint: it was removed"]);
            assert!(!world.path("out.oci").exists());
            assert_eq!(id(world), wanted);
        }
        support::store::assert_clean(&world.store());
    }

    /// A layer of a base is fetched again.
    fn layers_of_bases(world) as [subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base);
        let wanted = id(world);
        let is_layer = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        };
        let fetched: Vec<_> = files(world, "blobs/sha256").into_iter().filter(is_layer).collect();
        assert!(!fetched.is_empty());
        for path in &fetched {
            let good = std::fs::read(path).unwrap();
            for spoil in [&(|| std::fs::write(path, &good[..good.len() - 9]).unwrap()) as &dyn Fn(), &|| flip(path, good.len() / 2)] {
                spoil();
                reboot(world);
                world.build(["--no-cache"]).ok();
                assert!(std::fs::read(path).unwrap() == good);
                assert_eq!(id(world), wanted);
            }
        }
        support::store::assert_clean(&world.store());
    }

    /// Documents of an image are believed by their digests only.
    fn documents(world) as [subids, plain] {
        let base = base!(world, Busybox);
        build(world, &base);
        run(world).args(["--tag=spoiled"]).ok();
        world.build(["--tag=spoiled"]).ok();
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(world.store().join("images/index.json")).unwrap()).unwrap();
        let image = index["images"].as_array().unwrap().iter()
            .find(|image| image["names"].to_string().contains("spoiled")).unwrap();
        for part in ["manifest", "config"] {
            let digest = image[part].as_str().unwrap().trim_start_matches("sha256:");
            let path = world.store().join("blobs/sha256").join(digest);
            let good = std::fs::read(&path).unwrap();
            flip(&path, good.len() / 2);
            for arguments in [&["save", "-o", "x.tar", "spoiled"][..], &["inspect", "spoiled"]] {
                let output = world.sandcrab(arguments.iter().copied()).run();
                output.exits(1).says(&["is corrupt in the store", digest]);
            }
            std::fs::write(&path, good).unwrap();
        }
        world.sandcrab(["run", "spoiled", "cat", "/two"]).ok();
    }
}
