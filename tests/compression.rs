//! Layers in other compressions: the same bytes whoever makes them, and what every tool reads.

use support::content::{lines, noise};
use support::image::{Options, assert_same};
use support::peers::skopeo_copy;
use support::{World, base, for_users, need};

/// A layer of some blocks: text that shrinks, bytes that don't, and zeros.
fn write(world: &World, base: &str) {
    world.write("ctx/noise", noise(2, 1_500_000));
    world.write("ctx/zeros", vec![0; 700_000]);
    world.write("ctx/text", lines(90_000));
    world.dockerfile(&format!("FROM {base}\nCOPY noise zeros text /\n"));
}

/// Returns the media types of an archive's layers.
fn types(image: &support::image::Image) -> Vec<String> {
    let layers = image.manifest["layers"].as_array().expect("a manifest");
    let kind = |layer: &serde_json::Value| layer["mediaType"].as_str().expect("a type").to_owned();
    layers.iter().map(kind).collect()
}

for_users! {
    /// On one processor and on all of them the archive has the same bytes; gzip and skopeo read it.
    fn threads_do_not_show(world) as [subids, plain] {
        need!(world, "taskset", "gzip", "skopeo");
        let base = base!(world, Busybox);
        write(world, &base);
        let other = world.second_with_context();
        for compression in ["gzip", "zstd", "estargz"] {
            let output = format!("type=oci,dest=o.oci,compression={compression}");
            let build = |world: &World, processors: &str| {
                world
                    .command("taskset")
                    .args(["-c", processors])
                    .arg(support::scratch::sandcrab())
                    .args(["build", "-o", &output, "ctx"])
                    .env("SOURCE_DATE_EPOCH", "1700000000")
                    .ok();
                std::fs::read(world.path("o.oci")).expect("an archive")
            };
            assert!(build(world, "0") == build(&other, "0-1023"), "{compression}: the archives differ");
            skopeo_copy(world, "oci-archive:o.oci", &format!("dir:{compression}"));
        }
        // A directory has the layers as files.
        let files = std::fs::read_dir(world.path("gzip")).unwrap().flatten();
        let layers: Vec<_> = files.filter(|file| file.file_name().len() == 64).collect();
        let packed = layers.iter().filter(|file| {
            std::fs::read(file.path()).unwrap().starts_with(&[0x1f, 0x8b])
        });
        let mut count = 0;
        for file in packed {
            world.command("gzip").arg("-t").stdin(std::fs::read(file.path()).unwrap()).ok();
            count += 1;
        }
        assert!(count >= 2, "{count} layers");
    }

    /// A base's layers stay as they are, unless `force-compression` says otherwise; the files are the same.
    fn forced(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        write(world, &base);
        let build = |name: &str, options: &str| {
            let output = format!("type=oci,dest={name},{options}");
            world.build(["-o", &output]).ok();
            world.image(name)
        };
        let plain = build("gzip.oci", "compression=gzip");
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        let tar = "application/vnd.oci.image.layer.v1.tar";
        assert_eq!(types(&plain), [gzip, gzip]);
        for (name, options, wanted) in [
            ("z.oci", "compression=zstd", [gzip, zstd]),
            ("zf.oci", "compression=zstd,force-compression=true", [zstd, zstd]),
            ("u.oci", "compression=uncompressed", [gzip, tar]),
            ("uf.oci", "compression=uncompressed,force-compression=true", [tar, tar]),
            ("g9.oci", "compression=gzip,compression-level=9,force-compression=true", [gzip, gzip]),
        ] {
            let image = build(name, options);
            assert_eq!(types(&image), wanted, "{options}");
            assert_same(&image, &plain, &Options::standard());
            if support::process::find("skopeo").is_some() {
                skopeo_copy(world, &format!("oci-archive:{name}"), &format!("dir:{name}.d"));
            }
        }
    }
}
