//! eStargz: read by those who know it, and by those who don't.

use serde_json::Value;

use support::content::{lines, noise};
use support::image::{Image, Options, assert_same, flatten};
use support::peers::{podman, podman_run, skopeo_copy};
use support::{Registry, World, base, for_users, need};

/// Annotation with the digest of a layer's table of contents.
const TOC: &str = "containerd.io/snapshot/stargz/toc.digest";

/// Writes a context with a file of several chunks, among others.
fn write(world: &World, base: &str) {
    world.write("ctx/big", noise(1, 9_000_000));
    world.write("ctx/d/text", lines(50_000));
    world.write("ctx/d/empty", "");
    world.dockerfile(&format!(
        "FROM {base}\nCOPY big /big\nCOPY d /d\n\
         RUN ln /d/text /hard && ln -s hard /soft && chmod 4755 /d/empty && mkfifo /pipe; rm /etc/group\n\
         ENTRYPOINT [\"sha256sum\", \"/big\", \"/hard\", \"/d/empty\"]\n"
    ));
}

/// Returns what a container of the image prints.
fn sums(world: &World) -> String {
    let sum = |path: &str| {
        let bytes = std::fs::read(world.path("ctx").join(path)).expect("a file");
        support::hash::sha256(bytes)
    };
    let (big, text, empty) = (sum("big"), sum("d/text"), sum("d/empty"));
    format!("{big}  /big\n{text}  /hard\n{empty}  /d/empty\n")
}

/// Returns the digests of the layers' tables of contents, and none for layers without.
fn tables(manifest: &Value) -> Vec<Option<&str>> {
    let layers = manifest["layers"].as_array().expect("a manifest").iter();
    layers
        .map(|layer| {
            let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
            assert_eq!(layer["mediaType"], gzip);
            let annotations = layer.get("annotations")?;
            let size = annotations["io.containers.estargz.uncompressed-size"].as_str();
            assert!(size.is_some_and(|size| size.parse::<u64>().is_ok()));
            annotations[TOC].as_str()
        })
        .collect()
}

/// Tells which layers have a table of contents.
fn has_table(image: &Image) -> Vec<bool> {
    let tables = tables(&image.manifest);
    tables.iter().map(Option::is_some).collect()
}

for_users! {
    /// For who does not know about tables of contents the layers are gzip, and the files are the same. It
    /// is another image, and all that is written about it says so.
    fn others_unpack_it(world) as [root, subids, plain] {
        need!(world, "umoci", "skopeo");
        let base = base!(world, Busybox);
        write(world, &base);
        let plain = world.built([]);
        world
            .build(["--output=type=oci,dest=e.oci,compression=estargz", "--tag=example:1"])
            .args(["--iidfile=id", "--metadata-file=meta.json"])
            .ok()
            .never_says(&["left to the output"]);
        let image = world.image("e.oci");
        assert_same(&image, &plain, &Options::standard());
        assert_eq!(has_table(&image), [false, true, true, true]);
        assert_ne!(image.id(), plain.id());
        let id = std::fs::read_to_string(world.path("id")).unwrap();
        assert_eq!(Some(id.as_str()), image.id());
        let meta = std::fs::read(world.path("meta.json")).unwrap();
        let meta: Value = serde_json::from_slice(&meta).unwrap();
        assert_eq!(meta["containerimage.config.digest"], id);

        skopeo_copy(world, "oci-archive:e.oci", "oci:layout:example");
        assert_eq!(has_table(&world.image("layout")), [false, true, true, true]);
        let mut unpack = world.command("umoci").arg("unpack");
        if world.user != support::User::Root {
            unpack = unpack.arg("--rootless");
        }
        unpack.args(["--image", "layout:example", "bundle"]).ok();
        for (path, source) in [("big", "big"), ("soft", "d/text"), ("d/empty", "d/empty")] {
            let unpacked = std::fs::read(world.path("bundle/rootfs").join(path)).unwrap();
            assert!(unpacked == std::fs::read(world.path("ctx").join(source)).unwrap(), "{path}");
        }
        assert!(!world.path("bundle/rootfs/stargz.index.json").exists());
        // As an archive of Docker's, too.
        world.build(["--output=type=docker,dest=e.docker,compression=estargz", "--tag=example:1"]).ok();
        assert_eq!(world.image("e.docker").config, image.config);
        flatten(&world.image("e.docker")).unwrap();
    }

    /// It goes to a registry while the build goes on and comes back, is run, and built on; what is built
    /// on it keeps its tables.
    fn pushed_and_pulled(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        write(world, &base);
        let registry = Registry::shared().expect("there is a base in it");
        let repository = format!("estargz/{}", world.user.name());
        let name = format!("{}/{repository}:1", registry.host());
        world
            .build(["--output=type=registry,compression=estargz", "--tag", &name])
            .ok()
            .says(&["exporting layers"])
            .never_says(&["left to the output"]);
        let manifest = registry.manifest(&repository, "1");
        let made = tables(&manifest);
        assert_eq!(made.iter().filter(|table| table.is_some()).count(), 3);
        // The same image by another way.
        let by_name = format!("{}/{repository}:2", registry.host());
        world.sandcrab(["push", "--compression=estargz", &name, &by_name]).ok();
        assert_eq!(registry.manifest(&repository, "2"), manifest);

        let other = world.second();
        other.sandcrab(["pull", &name]).ok();
        assert_eq!(other.sandcrab(["run", &name]).ok().text(), sums(world));
        other.write("ctx/more", "more\n");
        other.dockerfile(&format!("FROM {name}\nCOPY more /more\nRUN cat /hard >/copy\n"));
        let next = other.built(["--output=type=oci,dest=e.oci,compression=estargz"]);
        assert_eq!(has_table(&next), [false, true, true, true, false, false]);
        let packed = other.image("e.oci");
        assert_eq!(has_table(&packed), [false, true, true, true, true, true]);
        assert_same(&packed, &next, &Options::standard());
    }

    /// podman takes such an image whole, and by its tables of contents, file by file.
    fn podman_reads_the_table(world) as [root, subids] {
        need!(world, "podman", "runc");
        let base = base!(world, Busybox);
        write(world, &base);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/estargz-podman/{}:1", registry.host(), world.user.name());
        world.build(["--output=type=registry,compression=estargz", "--tag", &name]).ok();
        podman(world).args(["pull", "--quiet", "--tls-verify=false", &name]).ok();
        assert_eq!(podman_run(world).arg(&name).ok().text(), sums(world));

        // What the command line says about storage would win over all of this.
        let root = world.make_dir("partial").display().to_string();
        let run = world.short_directory().display().to_string();
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}\"\nrunroot = \"{run}/p\"\n\
             rootless_storage_path = \"{root}\"\n\
             [storage.options]\npull_options = {{enable_partial_images = \"true\"}}\n"
        );
        let settings = world.write("storage.conf", text);
        let partial = |arguments: &[&str]| {
            world
                .command("podman")
                .env("CONTAINERS_STORAGE_CONF", &settings)
                .args(["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "none"])
                .args(arguments)
        };
        let pull = ["--log-level=debug", "pull", "--tls-verify=false", &name];
        let pulled = partial(&pull).ok().says(&["Retrieved partial blob"]);
        let taken = pulled.stderr.matches("Retrieved partial blob").count();
        assert_eq!(taken, 3, "{}", pulled.stderr);
        let run = ["run", "--rm", "--network=none", "--cgroups=no-conmon", "--ulimit=nofile=1024:1024"];
        let printed = partial(&[&run[..], &["--ulimit=nproc=1024:1024", &name]].concat()).ok();
        assert_eq!(printed.text(), sums(world));
    }

    /// With `--jobs=1` and `--jobs=8`, in two stores, the archive has the same bytes.
    fn jobs_do_not_show(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        write(world, &base);
        let build = |world: &World, jobs: &str| {
            world
                .build(["--output=type=oci,dest=e.oci,compression=estargz,force-compression=true", jobs])
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .ok();
            std::fs::read(world.path("e.oci")).expect("an archive")
        };
        let one = build(world, "--jobs=1");
        let other = world.second_with_context();
        assert!(one == build(&other, "--jobs=8"), "the archives differ");
        let image = world.image("e.oci");
        assert!(has_table(&image).iter().all(|has| *has), "{}", image.manifest);
        flatten(&image).unwrap();
    }

    /// What can't be is refused by name.
    fn refused(world) as [root, subids, plain] {
        world.write("ctx/stargz.index.json", "{}");
        world.dockerfile("FROM scratch\nCOPY stargz.index.json /\n");
        let output = "--output=type=oci,dest=e.oci,compression=estargz";
        world
            .build([output])
            .run()
            .exits(1)
            .says(&["`stargz.index.json`", "use another compression"]);
        assert!(!world.path("e.oci").exists());
        world.dockerfile("FROM scratch\nCOPY stargz.index.json /elsewhere/\n");
        world.build([output]).ok();
        let docker = format!("{output},oci-mediatypes=false");
        for (arguments, text) in [
            (vec![docker.as_str()], "oci-mediatypes=false"),
            (vec!["--output=type=oci,dest=x,compression=zstd:chunked"], "`zstd:chunked`"),
            (vec!["--cache-to=type=local,dest=c,compression=estargz,compression-level=10"], "0 to 9"),
            (vec!["--output=type=tar,dest=x,compression=estargz"], "`compression`"),
        ] {
            world.build(arguments).run().exits(2).says(&[text]);
        }
    }
}
