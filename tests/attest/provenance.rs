//! Provenance: from what and how an image was made.

use serde_json::json;

use support::git::Server as Daemon;
use support::hash::sha256;
use support::http::Server;
use support::peers::{buildah, podman, podman_run, skopeo, skopeo_copy};
use support::{Registry, World, base, for_users, need};

use super::{attested, json};

const SLSA: &str = "https://slsa.dev/provenance/v1";

/// Returns the digest of the manifest that a reference means for this machine.
fn manifest_digest(world: &World, reference: &str) -> String {
    let place = format!("docker://{reference}");
    let args = [
        "inspect",
        "--tls-verify=false",
        "--format={{.Digest}}",
        &place,
    ];
    let text = skopeo(world).args(args).ok().text();
    text.trim().trim_start_matches("sha256:").to_owned()
}

for_users! {
    /// The least: bases with their digests and no argument; the most: everything but secrets.
    fn least_and_most(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let served = Server::start(&[("/f.txt", b"served\n")]);
        let url = served.url("/f.txt");
        world.write("ctx/f", "x\n");
        world.write("secret", "a very secret value");
        world.dockerfile(&format!(
            "FROM {base} AS tool\nARG PASS\nRUN --mount=type=secret,id=token,env=TOKEN \\\n\
             \x20 echo $PASS >/made\n\
             FROM {base}\nADD {url} /fetched\nCOPY f /f\nCOPY --from=tool /made /\n"
        ));
        let common = [
            "--secret=id=token,src=secret",
            "--build-arg=PASS=open sesame, a very secret value",
            "--label=who=pinscher",
            "-t=example.org/app:1",
        ];
        let build = |options: &[&str], out: &str| {
            let output = format!("--output=type=oci,tar=false,dest={out}");
            world.build([options, &[output.as_str()], &common].concat()).ok();
            let mut images = attested(world, out);
            assert_eq!(images.len(), 1);
            images.remove(0)
        };
        let image = build(&["--provenance"], "min");
        let statement = image.of(SLSA);
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
        assert_eq!(
            statement["subject"][0]["name"],
            "pkg:docker/example.org/app@1?platform=linux%2Famd64"
        );
        let definition = &statement["predicate"]["buildDefinition"];
        let (host, rest) = base.split_once('/').unwrap();
        let (name, tag) = rest.split_once(':').unwrap();
        let wanted = json!([
            { "uri": url, "digest": { "sha256": sha256("served\n") } },
            {
                "uri": format!("pkg:docker/{host}/{name}@{tag}?platform=linux%2Famd64"),
                "digest": { "sha256": manifest_digest(world, &base) },
            },
        ]);
        assert_eq!(definition["resolvedDependencies"], wanted);
        assert_eq!(definition["externalParameters"]["request"]["args"], json!({}));
        assert_eq!(definition["internalParameters"], json!({ "builderPlatform": "linux/amd64" }));
        let metadata = &statement["predicate"]["runDetails"]["metadata"];
        assert_eq!(metadata["buildkit_hermetic"], false);
        assert!(metadata["startedOn"].as_str() <= metadata["finishedOn"].as_str());
        let text = statement.to_string();
        assert!(!text.contains("sesame") && !text.contains("pinscher"), "{text}");

        let image = build(&["--attest=type=provenance,mode=max,builder-id=https://me"], "max");
        let predicate = &image.of(SLSA)["predicate"];
        assert!(!predicate.to_string().contains("a very secret value"));
        assert_eq!(predicate["runDetails"]["builder"]["id"], "https://me");
        let request = &predicate["buildDefinition"]["externalParameters"]["request"];
        assert_eq!(
            request["args"],
            json!({ "build-arg:PASS": "open sesame, ****", "label:who": "pinscher" })
        );
        assert_eq!(request["secrets"], json!([{ "id": "token", "optional": true }]));
        let config = &predicate["buildDefinition"]["internalParameters"]["buildConfig"];
        let steps = config["llbDefinition"].as_array().unwrap();
        let exec = steps.iter().find(|s| s["op"]["Op"]["exec"].is_object()).unwrap();
        assert_eq!(exec["op"]["Op"]["exec"]["secretenv"][0]["ID"], "token");
        let source = &predicate["runDetails"]["metadata"]["buildkit_metadata"]["source"];
        let id = exec["id"].as_str().unwrap();
        let range = &source["locations"][id]["locations"][0]["ranges"][0];
        assert_eq!(*range, json!({ "start": { "line": 3 }, "end": { "line": 4 } }));
        // What is cached is told like what was done.
        let again = build(&["--provenance=mode=max", "--no-cache"], "again");
        let told = &again.of(SLSA)["predicate"]["buildDefinition"]["internalParameters"];
        assert_eq!(told["buildConfig"]["llbDefinition"], config["llbDefinition"]);
    }

    /// From a registry others take the image, and `push` and `save` take the attestation along.
    fn others_take_the_image(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/attested/{}:1", registry.host(), world.user.name());
        world.dockerfile(&format!("FROM {base}\nRUN echo it runs >/f\nCMD [\"cat\", \"/f\"]\n"));
        world.build(["--provenance=true", "--push", "-t", &name]).ok();
        let place = format!("docker://{name}");
        // All of it, bit for bit.
        skopeo(world)
            .args(["copy", "--quiet", "--all", "--src-tls-verify=false", &place, "oci:all:x"])
            .ok();
        let images = attested(world, "all");
        assert_eq!((images.len(), images[0].statements.len()), (1, 1));
        // The image alone, as a runtime does.
        skopeo_copy(world, &place, "oci:one:x");
        let top = json(world, "one/index.json");
        assert_eq!(top["manifests"][0]["digest"], images[0].descriptor["digest"]);

        // The store's own image has other layers, and so other digests: the statement follows them.
        for compression in ["zstd", "estargz"] {
            let again = format!("{}/attested/{}-{compression}:1", registry.host(), world.user.name());
            let flag = format!("--compression={compression}");
            world.sandcrab(["push", &flag, &name, &again]).ok();
            skopeo(world)
                .args(["copy", "--quiet", "--all", "--src-tls-verify=false"])
                .args([&format!("docker://{again}"), &format!("oci:{compression}:x")])
                .ok();
            let pushed = attested(world, compression);
            assert_ne!(pushed[0].descriptor["digest"], images[0].descriptor["digest"]);
            assert_eq!(pushed[0].of(SLSA)["predicate"], images[0].of(SLSA)["predicate"]);
        }

        // What has no place for it does without, and says so.
        world
            .sandcrab(["save", "-o=saved.docker", &name])
            .ok()
            .says(&["a docker archive can't hold the attestations of", "--format oci-archive"]);
        skopeo_copy(world, "docker-archive:saved.docker", "oci:from-docker:x");
        world.sandcrab(["save", "-o=saved.oci", "--format=oci-archive", &name]).ok().never_says(&["warning"]);
        let other = world.second();
        other.sandcrab(["load", "-i", world.path("saved.oci").to_str().unwrap()]).ok();
        assert_eq!(other.sandcrab(["run", &name]).ok().text(), "it runs\n");
        other.dockerfile(&format!("FROM {name}\nRUN cat /f\n"));
        other.build([]).ok();
    }

    /// podman and buildah take it as they take any image.
    fn podman_and_buildah_pull(world) as [root, subids] {
        need!(world, "podman", "buildah", "runc");
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/attested/pulled-{}:1", registry.host(), world.user.name());
        world.dockerfile(&format!("FROM {base}\nRUN echo it runs >/f\nCMD [\"cat\", \"/f\"]\n"));
        world.build(["--provenance=true", "--push", "-t", &name]).ok();
        podman(world).args(["pull", "--quiet", "--tls-verify=false", &name]).ok();
        assert_eq!(podman_run(world).arg(&name).ok().text(), "it runs\n");
        buildah(world).args(["pull", "--quiet", "--tls-verify=false", &name]).ok();
    }

    /// Beside files there is a file about them.
    fn beside_files(world) as [root, subids, plain] {
        world.write("ctx/d/f", "contents\n");
        world.link("ctx/d/link", "f");
        world.dockerfile("FROM scratch\nCOPY d /d\n");
        world
            .build(["--provenance=true", "-o=out", "--output=type=tar,dest=o.tar,attestation-prefix=a-"])
            .ok();
        let statement = json(world, "out/provenance.json");
        let wanted = json!([{ "name": "d/f", "digest": { "sha256": sha256("contents\n") } }]);
        assert_eq!((&statement["subject"], &statement["predicateType"]), (&wanted, &json!(SLSA)));
        let text = world.command("tar").args(["-xOf", "o.tar", "a-provenance.json"]).ok().text();
        let packed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(packed["subject"], wanted);
        // A whole archive: it ends where it should.
        assert!(world.command("tar").args(["-tf", "o.tar"]).ok().text().contains("d/f"));

        let both = "--platform=linux/amd64,linux/arm64";
        world.build([both, "--provenance=true", "-o=split"]).ok();
        assert_eq!(json(world, "split/linux_arm64/provenance.json")["subject"], wanted);
        world
            .build([both, "--provenance=true", "--output=type=local,dest=joined,platform-split=false"])
            .ok();
        assert_eq!(json(world, "joined/provenance.linux_amd64.json")["subject"], wanted);
        world.build(["--provenance=inline-only=true", "-o=inline"]).ok();
        assert!(!world.path("inline/provenance.json").exists());
        world.build(["--provenance=false", "-o=none"]).ok();
        assert!(!world.path("none/provenance.json").exists());

        // It takes nobody's place.
        world.link("ctx/d/provenance.json", "/etc/passwd");
        world.dockerfile("FROM scratch\nCOPY d /\n");
        world
            .build(["--provenance=true", "-o=own"])
            .run()
            .exits(1)
            .says(&["has a file `/provenance.json` of its own", "attestation-prefix=PREFIX"]);
    }

    /// What the context was fetched from is the source; of a fetched Dockerfile, too.
    fn fetched_contexts(world) as [root, subids, plain] {
        need!(world, "git");
        let Some(daemon) = Daemon::start(&world.path(".")) else {
            println!("SKIP: git has no daemon here");
            return;
        };
        let commit = daemon.commit("app", &[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "x\n")]);
        let url = format!("{}#main", daemon.url("app"));
        world
            .sandcrab(["build", "--provenance=true", "--output=type=oci,tar=false,dest=o", &url])
            .ok();
        let images = attested(world, "o");
        let definition = &images[0].of(SLSA)["predicate"]["buildDefinition"];
        let source = json!({ "uri": url, "digest": { "sha1": commit }, "path": "Dockerfile" });
        assert_eq!(definition["externalParameters"]["configSource"], source);
        let metadata = &images[0].of(SLSA)["predicate"]["runDetails"]["metadata"];
        assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], true);
        assert_eq!(metadata["buildkit_hermetic"], true);
    }

    /// With a date, two stores make the same index; images of several platforms have one each.
    fn reproducible(world) as [root, subids, plain] {
        let build = |world: &World| {
            world.write("ctx/f", "x\n");
            world.dockerfile("FROM scratch\nCOPY f /\n");
            world
                .build([
                    "--provenance=mode=max,reproducible=true",
                    "--platform=linux/amd64,linux/arm64",
                    "--output=type=oci,tar=false,dest=o",
                    "--metadata-file=m.json",
                ])
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .ok();
            std::fs::read_to_string(world.path("o/index.json")).unwrap()
        };
        let first = build(world);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(build(&world.second_with_context()), first);
        let images = attested(world, "o");
        assert_eq!(images.len(), 2);
        for image in &images {
            let metadata = &image.of(SLSA)["predicate"]["runDetails"]["metadata"];
            assert_eq!(metadata["finishedOn"], "2023-11-14T22:13:20Z");
            assert_eq!(metadata["buildkit_reproducible"], true);
        }
        let told = json(world, "m.json");
        let platform = &told["buildx.build.provenance/linux/arm64"];
        assert_eq!(platform["buildDefinition"]["internalParameters"]["builderPlatform"], "linux/amd64");
    }

    /// What can't hold one says so; nothing is attested unasked.
    fn refused_and_unasked(world) as [plain] {
        world.write("ctx/f", "x\n");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        for (args, wanted) in [
            (&["--provenance=true", "--output=type=docker,dest=x"][..], "type=docker can't hold"),
            (&["--provenance=version=v0.2"], "version=v0.2"),
            (&["--attest=type=vex"], "unknown attestation type `vex`"),
            (&["--provenance=true", "--attest=type=provenance"], "duplicate attestation field"),
        ] {
            world.build(args.iter().copied()).run().exits(2).says(&[wanted]);
        }
        world.build(["--output=type=oci,dest=o.oci", "--metadata-file=m.json"]).ok();
        assert_eq!(world.image("o.oci").layer_count(), 1);
        let told = json(world, "m.json");
        let definition = &told["buildx.build.provenance"]["buildDefinition"];
        assert_eq!(definition["externalParameters"]["configSource"]["path"], "Dockerfile");
        world
            .build(["--metadata-file=m.json"])
            .env("BUILDX_METADATA_PROVENANCE", "disabled")
            .ok();
        assert!(json(world, "m.json").get("buildx.build.provenance").is_none());
    }
}
