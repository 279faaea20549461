//! What a build writes besides its image in the store.

use std::os::unix::fs::PermissionsExt;

use support::image::{assert_file, flatten, node};
use support::{World, base, for_users, need};

fn example(world: &World) {
    world.write("ctx/d/f", "contents\n");
    world.set_mode("ctx/d/f", 0o640);
    world.link("ctx/d/link", "f");
    world.dockerfile("FROM scratch\nCOPY d /d\n");
}

for_users! {
    /// `local`: the files, with their modes, owned by the caller.
    fn local(world) as [root, subids, plain] {
        example(world);
        world.build(["--output=type=local,dest=out"]).ok();
        let file = world.path("out/d/f");
        assert_eq!(std::fs::read(&file).unwrap(), b"contents\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_link(world.path("out/d/link")).unwrap().to_str(), Some("f"));
        // The short form means the same.
        world.build(["-o", "short"]).ok();
        assert!(world.path("short/d/f").exists());
    }

    /// `tar`: the flattened tree.
    fn tar(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/new && rm /etc/group\n"));
        world.build(["--output=type=tar,dest=out.tar"]).ok();
        let listed = world.command("tar").args(["--list", "--file=out.tar"]).ok().text();
        let names: Vec<&str> = listed.lines().map(|name| name.trim_start_matches("./")).collect();
        assert!(names.contains(&"new") && names.contains(&"bin/busybox"), "{names:?}");
        assert!(!names.contains(&"etc/group"));
        assert!(!names.iter().any(|name| name.contains(".wh.")), "{names:?}");
        // And on standard output, with nothing else there.
        let output = world.build(["--output=type=tar,dest=-"]).ok();
        let listed = world.command("tar").args(["--list", "--file=-"]).stdin(output.stdout).ok();
        assert!(listed.text().contains("bin/busybox"));
    }

    /// Every compression holds the same layers.
    fn compression(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", vec![0; 200_000]);
        world.dockerfile(&format!("FROM {base}\nCOPY f /\n"));
        let mut diff_ids = Vec::new();
        for (kind, media) in [
            ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
            ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
            ("uncompressed", "application/vnd.oci.image.layer.v1.tar"),
        ] {
            let output = format!("--output=type=oci,dest={kind}.oci,compression={kind}");
            world.build([output.as_str()]).ok();
            let image = world.image(&format!("{kind}.oci"));
            // Also decompresses and checks every layer.
            flatten(&image).unwrap();
            let last = image.manifest["layers"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["mediaType"], media);
            diff_ids.push(image.config["rootfs"]["diff_ids"].clone());
        }
        assert!(diff_ids.iter().all(|ids| *ids == diff_ids[0]), "{diff_ids:?}");
    }

    /// The files with ids and metadata, and quiet output.
    fn id_files(world) as [root, subids, plain] {
        need!(world, "jq");
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        world
            .build(["--iidfile=id", "--metadata-file=meta.json", "--output=type=oci,dest=o.oci"])
            .ok();
        let id = std::fs::read_to_string(world.path("id")).unwrap();
        assert_eq!(Some(id.trim()), world.image("o.oci").id());
        let meta: serde_json::Value =
            serde_json::from_slice(&std::fs::read(world.path("meta.json")).unwrap()).unwrap();
        assert_eq!(meta["containerimage.config.digest"], id.trim());
        let manifest = meta["containerimage.digest"].as_str().unwrap();
        let index = world.command("tar").args(["-xOf", "o.oci", "index.json"]).ok().text();
        assert!(index.contains(manifest), "{manifest} is not in {index}");
        let quiet = world.sandcrab(["build", "--quiet", "ctx"]).ok();
        assert_eq!(quiet.text().trim(), id.trim());
        assert_eq!(quiet.stderr, "");
    }

    /// Raw JSON: one object a line.
    fn raw_json(world) as [plain] {
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        let output = world.sandcrab(["build", "--progress=rawjson", "ctx"]).ok();
        let lines: Vec<serde_json::Value> =
            output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!lines.is_empty());
        assert!(output.stderr.contains("COPY f /"));
    }

    /// With a fixed date, two builds without a common cache make the same image; without one they
    /// don't share a cache with those that have it.
    fn fixed_date(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "");
        world.dockerfile(&format!(
            "FROM {base}\nARG SOURCE_DATE_EPOCH\nWORKDIR /w/x\nCOPY f .\n\
             RUN echo $SOURCE_DATE_EPOCH >g; mkdir d; ln -s g d/l; touch -d @5 old\nENV a=b\n"
        ));
        let date = ["--output=type=oci,dest=o.oci", "--build-arg=SOURCE_DATE_EPOCH=1000000000"];
        world.build(date).ok();
        let first = world.image("o.oci");
        let tree = flatten(&first).unwrap();
        assert_file(&tree, "w/x/g", "1000000000\n");
        for (path, time) in
            [("w", 1_000_000_000), ("w/x/f", 1_000_000_000), ("w/x/d/l", 1_000_000_000), ("w/x/old", 5)]
        {
            assert_eq!(node(&tree, path).mtime, time, "{path}");
        }
        assert_eq!(first.config["created"], "2001-09-09T01:46:40Z");
        let dated = first.config["history"].as_array().unwrap();
        assert!(dated.iter().all(|h| h["created"].as_str().unwrap() <= "2001-09-09T01:46:40Z"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
        world
            .build(["--no-cache", "--output=type=oci,dest=again.oci"])
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .ok();
        assert_eq!(world.image("again.oci").id(), first.id());
        world.build(["--output=type=oci,dest=now.oci"]).ok();
        assert_ne!(node(&flatten(&world.image("now.oci")).unwrap(), "w/x/f").mtime, 1_000_000_000);
    }

    /// With a fixed date the image depends neither on the store nor on how many steps run at once,
    /// nor on the times of the context's files or of the steps.
    fn stores_and_jobs(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/d/f", "text");
        world.dockerfile(&format!(
            "FROM {base} AS base\nWORKDIR /w\n\
             FROM base AS a\nRUN --mount=type=cache,target=/c date >/c/now; mkdir -p x/y; echo a >x/y/a\n\
             FROM base AS b\nRUN --mount=target=/c,rw date >/c/n; ln -s a b; echo b >b2; ln b2 b3; chmod 4755 b2\n\
             FROM base AS c\nCOPY <<-EOF made\n\ttext\n\tEOF\nRUN rm -r /var/spool; mkfifo p; chown 5:6 .\n\
             FROM base\n\
             COPY --from=a /w/x /x\nCOPY --from=b --chown=7 /w/ /b/\nCOPY --from=c /w /c\n\
             COPY --parents d/f /deep/\nRUN echo last >/last\nUSER 1\n"
        ));
        let build = |world: &World, jobs: &str| {
            world
                .build(["--iidfile=id", "--output=type=oci,dest=o.oci", jobs])
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .ok();
            let archive = std::fs::read(world.path("o.oci")).expect("an archive");
            (std::fs::read_to_string(world.path("id")).expect("a digest"), archive)
        };
        let one = build(world, "--jobs=1");
        // Neither a second nor a file's time may show.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let other = world.second_with_context();
        other.write("ctx/d/f", "text");
        let many = build(&other, "--jobs=8");
        assert_eq!(one.0, many.0);
        assert!(one.1 == many.1, "the archives differ");
    }

    /// The date may come from the environment, a build argument, an output or the Dockerfile's global
    /// scope: in two stores, and by whatever way, the image is the same, with dates in its files, too.
    fn dates_by_all_ways(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = |global: &str| {
            format!("{global}FROM {base}\nWORKDIR /w\nCOPY f .\nRUN echo x >g; ln g h; mkdir d\n")
        };
        let build = |world: &World, global: &str, variable: &str, args: &[&str]| {
            world.write("ctx/f", "text");
            world.dockerfile(&text(global));
            let output = format!("--output=type=oci,dest=o.oci,rewrite-timestamp=true{}", args[0]);
            let args = args[1..].iter().copied().chain([output.as_str(), "--iidfile=id"]);
            let build = world.build(args.collect::<Vec<_>>());
            let build = if variable.is_empty() { build } else { build.env("SOURCE_DATE_EPOCH", variable) };
            build.ok();
            let image = world.image("o.oci");
            let tree = flatten(&image).unwrap();
            for path in ["w", "w/f", "w/h", "w/d"] {
                assert_eq!(node(&tree, path).mtime, 1_000_000_000, "{path}");
            }
            std::fs::read(world.path("o.oci")).unwrap()
        };
        let date = "1000000000";
        let first = build(world, "", date, &[""]);
        // Neither a second nor a file's time may show.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let other = world.second_with_context();
        let global = format!("ARG SECONDS={date}\nARG SOURCE_DATE_EPOCH=$SECONDS\n");
        for (global, variable, args) in [
            ("", "", &["", "--build-arg=SOURCE_DATE_EPOCH=1000000000"][..]),
            (&global, "", &[""]),
            ("", "", &[",source-date-epoch=1000000000"]),
            // What is given for the build wins over the default.
            ("ARG SOURCE_DATE_EPOCH=5\n", date, &[""]),
            ("ARG SOURCE_DATE_EPOCH=5\n", "", &["", "--timestamp=1000000000"]),
        ] {
            let args = [args, &["--no-cache"]].concat();
            assert!(build(&other, global, variable, &args) == first, "{global} {variable} {args:?}");
        }
        world.dockerfile(&text("ARG SOURCE_DATE_EPOCH=soon\n"));
        world.build([]).run().exits(1).says(&["Dockerfile:1", "not a number of seconds: `soon`"]);
        world.dockerfile(&text("ARG SOURCE_DATE_EPOCH\n"));
        world
            .build(["--output=type=oci,dest=o.oci,rewrite-timestamp=true"])
            .run()
            .exits(2)
            .says(&["rewrite-timestamp=true needs a date"]);
    }

    /// Several tags are several names of one image.
    fn tags(world) as [plain] {
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        world.build(["-t", "one", "-t", "example.org/two:2", "--output=type=oci,dest=o.oci"]).ok();
        let listed = world.sandcrab(["images"]).ok().text();
        assert!(listed.contains("one") && listed.contains("example.org/two"), "{listed}");
        assert_file(&flatten(&world.image("o.oci")).unwrap(), "f", "");
    }

    /// A place that can't be written is said before any work is done.
    fn unwritable_output(world) as [subids, plain] {
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        world.build(["--output=type=oci,dest=/proc/nowhere/o.oci"]).run().exits(1).says(&["/proc/nowhere"]);
    }
}

/// Returns the JSON document that a layout directory's `index.json`, or what it leads to, is.
fn layout_document(world: &World, layout: &str, digest: Option<&str>) -> serde_json::Value {
    let name = digest.map_or_else(
        || "index.json".to_owned(),
        |digest| format!("blobs/{}", digest.replace(':', "/")),
    );
    let bytes = std::fs::read(world.path(format!("{layout}/{name}"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

for_users! {
    /// Annotations at all four levels, of one platform too, by `-o` and by `--annotation`; skopeo
    /// copies the image.
    fn annotations(world) as [root, subids, plain] {
        need!(world, "skopeo");
        world.write("ctx/f", "x\n");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        world
            .build([
                "--platform=linux/amd64,linux/arm64",
                "--annotation=all.M=1",
                "--annotation=index,manifest[linux/arm64]:both=2",
                "--output=type=oci,tar=false,dest=o,annotation-index-descriptor.id=3,\
                 annotation-manifest-descriptor.md=4,annotation[linux/amd64].one=5",
            ])
            .ok();
        let top = layout_document(world, "o", None);
        let entry = &top["manifests"][0];
        assert_eq!(entry["annotations"]["id"], "3");
        let index = layout_document(world, "o", entry["digest"].as_str());
        assert_eq!(index["annotations"], serde_json::json!({"both": "2"}));
        let manifests: Vec<serde_json::Value> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|descriptor| {
                assert_eq!(descriptor["annotations"]["md"], "4");
                layout_document(world, "o", descriptor["digest"].as_str())
            })
            .collect();
        let wanted = serde_json::json!([{"all.M": "1", "one": "5"}, {"all.M": "1", "both": "2"}]);
        let found: Vec<_> = manifests.iter().map(|m| m["annotations"].clone()).collect();
        assert_eq!(serde_json::Value::from(found), wanted);
        support::peers::skopeo_copy(world, "oci:o", "oci:copied:x");
        // What skopeo reads of the top is the index, and what the manifests are below it.
        let raw = |image: &str| -> serde_json::Value {
            let text = world.command("skopeo").args(["inspect", "--raw", image]).ok().text();
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(raw("oci:o"), index);

        // The image in the store has those of the command line, and takes them along.
        world.build(["--annotation=a=b", "-t=annotated"]).ok();
        world.sandcrab(["save", "--format=oci-archive", "-o", "saved.oci", "annotated"]).ok();
        assert_eq!(world.image("saved.oci").manifest["annotations"]["a"], "b");
        world
            .build(["--annotation=index:a=b"])
            .run()
            .exits(2)
            .says(&["annotation `a` is for an index, and the result is a single image"]);
    }

    /// An image is kept in the form that its output asks for, unpacked and with its digest as a name.
    fn images_in_the_store(world) as [root, subids, plain] {
        world.write("ctx/f", vec![0; 100_000]);
        world.dockerfile("FROM scratch\nCOPY f /\n");
        world
            .build([
                "--tag=plain",
                "--output=type=image,name=packed:1,compression=zstd,name-canonical=true,unpack=true",
            ])
            .ok();
        for (name, media) in [("plain", "layer.v1.tar"), ("packed:1", "layer.v1.tar+zstd")] {
            let archive = format!("{}.oci", name.replace(':', "-"));
            world.sandcrab(["save", "--format=oci-archive", "-o", &archive, name]).ok();
            let kind = world.image(&archive).manifest["layers"][0]["mediaType"].clone();
            assert_eq!(kind, format!("application/vnd.oci.image.{media}"));
        }
        let seen = world.sandcrab(["inspect", "packed:1"]).ok().text();
        assert!(seen.contains("packed@sha256:"), "{seen}");
    }

    /// Steps are run for their effect, and no image is made.
    fn nothing(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo it ran\n"));
        world.build(["--output=type=none"]).ok().says(&["it ran"]);
        assert_eq!(world.sandcrab(["images", "-q"]).ok().text().lines().count(), 1);
        world.build(["--output=type=none", "-t=x"]).run().exits(2).says(&["`--tag`"]);
    }

    /// `mode=delete` leaves nothing in a directory that is not in the tree, and follows no link.
    fn local_delete(world) as [root, subids, plain] {
        example(world);
        world.write("out/old/f", "goes");
        world.write("kept/f", "stays");
        world.link("out/link", "../kept");
        world.build(["--output=type=local,dest=out"]).ok();
        assert!(world.path("out/old/f").exists());
        world.build(["--output=type=local,dest=out,mode=delete"]).ok();
        let names = std::fs::read_dir(world.path("out")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["d"]);
        assert!(world.path("kept/f").exists());
    }

    /// A tar of several platforms has a directory for each; a date bounds the times in it.
    fn tar_of_platforms(world) as [root, subids, plain] {
        example(world);
        let all = "--platform=linux/amd64,linux/arm64";
        world.build([all, "--output=type=tar,dest=o.tar,source-date-epoch=86400"]).ok();
        let listed = world.command("tar").args(["--list", "-v", "--utc", "--file=o.tar"]).ok().text();
        for wanted in ["linux_amd64/d/f", "linux_arm64/d/link"] {
            let line = listed.lines().find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{listed}"));
            assert!(line.contains("1970-01-02"), "{line}");
        }
        world.build(["--output=type=tar,dest=one.tar,platform-split=true"]).ok();
        let listed = world.command("tar").args(["--list", "--file=one.tar"]).ok().text();
        assert!(listed.contains("linux_amd64/d/f"), "{listed}");
    }

    /// By digest alone: the registry has no tag of it.
    fn push_by_digest(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let host = base.split('/').next().unwrap().to_owned();
        let name = format!("{host}/by-digest/{}", world.user.name());
        world.dockerfile(&format!("FROM {base}\nLABEL a=b\n"));
        let output = format!("--output=type=image,push=true,push-by-digest=true,name={name}");
        world.build([output.as_str(), "--metadata-file=meta.json"]).ok();
        let meta: serde_json::Value =
            serde_json::from_slice(&std::fs::read(world.path("meta.json")).unwrap()).unwrap();
        let digest = meta["containerimage.digest"].as_str().unwrap();
        let inspect = |name: &str| {
            support::peers::skopeo(world)
                .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
                .run()
        };
        inspect(&format!("{name}@{digest}")).success();
        inspect(&format!("{name}:latest")).exits(1);
        let tagged = format!("{output}:1");
        world.build([tagged.as_str()]).run().exits(2).says(&["can't push tagged ref"]);
    }
}

for_users! {
    /// One layer of all, with the same files and owners; again the same with a date.
    fn squash(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        world.write("ctx/f", "x\n");
        world.dockerfile(&format!(
            "FROM {base}\nCOPY --chown=12:34 f /f\nRUN rm /etc/group; ln /f /g; echo y >/new\n"
        ));
        let date = "--timestamp=1000000000";
        world.build([date, "--output=type=oci,dest=all.oci"]).ok();
        world.build([date, "--squash", "--output=type=oci,dest=one.oci"]).ok();
        let (all, one) = (world.image("all.oci"), world.image("one.oci"));
        assert_eq!(one.manifest["layers"].as_array().unwrap().len(), 1);
        let history = one.config["history"].as_array().unwrap();
        assert_eq!(history.iter().filter(|h| h["empty_layer"] != true).count(), 1);
        let (many, tree) = (flatten(&all).unwrap(), flatten(&one).unwrap());
        assert!(!tree.contains_key(std::path::Path::new("etc/group")));
        assert_file(&tree, "g", "x\n");
        assert_eq!((node(&tree, "f").uid, node(&tree, "f").gid), (12, 34));
        assert_eq!(many.keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
        world.build([date, "--squash", "--no-cache", "--output=type=oci,dest=again.oci"]).ok();
        assert_eq!(world.image("again.oci").id(), one.id());
        assert_eq!(one.config["created"], "2001-09-09T01:46:40Z");
    }

    /// An image without its history is one that others take.
    fn omitted_history(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo x >/f\n"));
        world.build(["--omit-history", "--output=type=oci,dest=o.oci"]).ok();
        let history = &world.image("o.oci").config["history"];
        assert!(history.as_array().is_none_or(Vec::is_empty), "{history}");
        support::peers::skopeo_copy(world, "oci-archive:o.oci", "oci:copied:x");
    }

    /// Some stages run again, and only those.
    fn no_cache_filter(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base} AS Tool\nRUN echo tool runs >/tool\n\
             FROM {base}\nRUN echo other runs >/other\nCOPY --from=tool /tool /\n"
        ));
        world.build([]).ok();
        let output = world.build(["--no-cache-filter=TOOL"]).ok();
        let cached = |text: &str| {
            let step = support::progress::steps(&output.stderr)
                .into_iter()
                .find(|step| step.name.contains(text))
                .unwrap_or_else(|| panic!("{}", output.stderr));
            step.cached
        };
        assert!(!cached("tool runs") && cached("other runs"), "{}", output.stderr);
        world.build(["--no-cache-filter=tol"]).run().exits(2).says(&["no stage `tol`", "did you mean `tool`?"]);
    }
}
