//! The same Dockerfile makes the same layers, whoever builds it: with emulated ids, with a range of
//! ids, and as root.
//!
//! Responsible for building each Dockerfile in three accounts from empty stores, with times bounded
//! by `SOURCE_DATE_EPOCH`, and for saying where the layers differ. Must not know how they are made.

mod busybox;
mod debian;

use std::fmt::Write;

use support::image::{Image, Options, compare};
use support::layer::{Layer, by_root, owned};
use support::user::is_root;
use support::{Base, Registry, User, World, skip};

/// Whoever builds: an account and how its ids are chosen.
const BUILDERS: [(User, &str); 3] = [
    (User::Plain, "--isolation=auto"),
    (User::Subids, "--isolation=auto"),
    (User::Root, "--isolation=host"),
];

/// Builds all Dockerfiles in all accounts and expects the same image ids, which the digests of the
/// layers are part of.
fn identical(test: &str, dockerfiles: &[(&str, &str)], bases: &[Base]) {
    if !is_root() {
        return skip(test, "needs root, for three accounts");
    }
    let mut texts: Vec<String> = dockerfiles
        .iter()
        .map(|(_, text)| (*text).to_owned())
        .collect();
    for base in bases {
        match Registry::shared().and_then(|registry| registry.base(*base)) {
            Ok(reference) => {
                for text in &mut texts {
                    *text = text.replace(&format!("{{{}}}", base.name()), &reference);
                }
            }
            Err(why) => return skip(test, &why),
        }
    }
    let worlds = BUILDERS.map(|(user, _)| {
        World::new(user, &format!("{test}::{}", user.name())).expect("root has all accounts")
    });
    let built: Vec<Vec<Result<String, String>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = worlds
            .iter()
            .zip(BUILDERS)
            .map(|(world, (_, isolation))| {
                let texts = &texts;
                scope.spawn(move || {
                    context(world);
                    texts
                        .iter()
                        .map(|text| build(world, isolation, text))
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut report = String::new();
    for (index, (name, _)) in dockerfiles.iter().enumerate() {
        let ids: Vec<_> = built.iter().map(|ids| &ids[index]).collect();
        if ids.iter().all(|id| id.is_ok() && *id == ids[2]) {
            continue;
        }
        let _ = writeln!(report, "\n{name}:\n{}", texts[index]);
        let images: Vec<_> = worlds
            .iter()
            .zip(BUILDERS)
            .zip(&ids)
            .map(|((world, (user, isolation)), id)| match id {
                Ok(_) => Some(image(world, isolation, &texts[index])),
                Err(why) => {
                    let _ = writeln!(report, "{} fails: {why}", user.name());
                    None
                }
            })
            .collect();
        for side in [0, 1] {
            if let (Some(one), Some(root)) = (&images[side], &images[2])
                && ids[side] != ids[2]
            {
                let _ = writeln!(report, "{} against root:", BUILDERS[side].0.name());
                explain(one, root, &mut report);
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}

fn build(world: &World, isolation: &str, text: &str) -> Result<String, String> {
    world.dockerfile(text);
    let output = world
        .build([isolation, "--no-cache", "--iidfile=iid"])
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .run();
    if output.code != Some(0) {
        // What the steps printed before, in a line each.
        let told =
            |line: &&str| line.contains("rror") || line.starts_with("#") && line.contains(" 0.");
        let lines: Vec<&str> = output.stderr.lines().filter(told).collect();
        return Err(lines.join("\n    "));
    }
    std::fs::read_to_string(world.path("iid")).map_err(|error| error.to_string())
}

/// Before every time that a build could see.
const EPOCH: &str = "1700000000";

/// The image of a Dockerfile that was built, from the cache.
fn image(world: &World, isolation: &str, text: &str) -> Image {
    world.dockerfile(text);
    let output = "--output=type=oci,dest=differs.oci";
    drop(std::fs::remove_file(world.path("differs.oci")));
    world
        .build([isolation, output])
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .ok();
    world.image("differs.oci")
}

/// Says in which layers two images differ, and in what.
fn explain(one: &Image, other: &Image, report: &mut String) {
    let ids = |image: &Image| image.config["rootfs"]["diff_ids"].clone();
    let (a, b) = (ids(one), ids(other));
    for (index, (x, y)) in a
        .as_array()
        .into_iter()
        .flatten()
        .zip(b.as_array().into_iter().flatten())
        .enumerate()
    {
        if x == y {
            continue;
        }
        let _ = writeln!(report, "  layer {index}:");
        let (a, b) = (one.layer_names(index), other.layer_names(index));
        if a == b {
            let _ = writeln!(report, "    the same names");
        } else {
            for name in a.iter().filter(|name| !b.contains(name)) {
                let _ = writeln!(report, "    only in the first: {name}");
            }
            for name in b.iter().filter(|name| !a.contains(name)) {
                let _ = writeln!(report, "    only in root's: {name}");
            }
        }
    }
    let mut options = Options::standard();
    options.mtime = true;
    options.hard_links = true;
    match compare(one, other, &options) {
        Ok(comparison) => {
            for difference in &comparison.differences {
                let _ = writeln!(report, "  {difference}");
            }
        }
        Err(error) => {
            let _ = writeln!(report, "  {error:#}");
        }
    }
}

/// The files that the Dockerfiles copy.
fn context(world: &World) {
    world.write("ctx/f", "a file\n");
    world.write("ctx/script.sh", "#!/bin/sh\necho script\n");
    world.set_mode("ctx/script.sh", 0o755);
    world.write("ctx/tree/a", "a\n");
    world.write("ctx/tree/sub/b", "b\n");
    world.set_mode("ctx/tree/sub/b", 0o600);
    world.make_dir("ctx/tree/empty");
    world.set_mode("ctx/tree/empty", 0o711);
    world.link("ctx/tree/link", "sub/b");
    let archive = Layer::empty()
        .dir("dir", owned(0o2770, 33, 50))
        .file("dir/private", owned(0o600, 1000, 1001), b"private\n")
        .file("file", owned(0o4755, 8, 8), b"file\n")
        .hard_link("linked", "file", owned(0o4755, 8, 8))
        .symlink("soft", "file")
        .fifo("pipe", owned(0o620, 33, 42))
        .file("root", by_root(0o400), b"root\n")
        .finish();
    world.write("ctx/owned.tar", archive);
}

/// The small bases.
#[test]
fn busybox() {
    identical(
        "digests::busybox",
        busybox::DOCKERFILES,
        &[Base::Busybox, Base::Owners, Base::Layered],
    );
}

/// Debian.
#[test]
fn debian() {
    identical("digests::debian", debian::DOCKERFILES, &[Base::Debian]);
}
