//! Pull and push against docker-registry.

use support::image::{Options, assert_same};
use support::peers::{skopeo, skopeo_copy};
use support::registry::LOGIN;
use support::{Base, Registry, World, base, for_users, need};

/// Builds an image with this tag, and writes it to `built.oci`, too.
fn build_tagged(world: &World, base: &str, tag: &str) {
    world.write("ctx/f", "pushed\n");
    world.dockerfile(&format!(
        "FROM {base}\nCOPY f /f\nRUN echo x >>/f\nLABEL pushed=yes\n"
    ));
    world
        .build([
            format!("--tag={tag}").as_str(),
            "--output=type=oci,dest=built.oci",
        ])
        .ok();
}

for_users! {
    /// What is pushed is what was built, for skopeo and for another store.
    fn push_and_pull(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/pushed/{}:v1", registry.host(), world.user.name());
        build_tagged(world, &base, &name);
        world.sandcrab(["push", &name]).ok();
        skopeo_copy(world, &format!("docker://{name}"), "oci:copied:x");
        let built = world.image("built.oci");
        assert_same(&world.image("copied"), &built, &Options::standard());

        let other = world.second();
        other.sandcrab(["pull", &name]).ok();
        let output = other.sandcrab(["run", &name, "cat", "/f"]).ok();
        assert_eq!(output.text(), "pushed\nx\n");

        // Again: everything is there already.
        let again = world.sandcrab(["push", &name]).ok();
        assert!(again.elapsed.as_secs() < 20);
    }

    /// By digest: as base, pulled, and with a wrong one refused.
    fn digests(world) as [subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let digest = skopeo(world)
            .args(["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{base}")])
            .ok()
            .text();
        let (repository, _) = base.rsplit_once(':').unwrap();
        let pinned = format!("{repository}@{}", digest.trim());
        world.dockerfile(&format!("FROM {pinned}\nRUN true\n"));
        world.build([]).ok();
        world.sandcrab(["pull", &pinned]).ok();
        let wrong = format!("{repository}@sha256:{}", "0".repeat(64));
        world.sandcrab(["pull", &wrong]).run().exits(1).says(&["0000000"]);
    }

    /// Both ways to push from a build, and the digest that they report.
    fn push_from_build(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        world.dockerfile(&format!("FROM {base}\nLABEL a=b\n"));
        for (index, arguments) in [
            vec!["--push".to_owned()],
            vec!["--output=type=registry".to_owned()],
        ]
        .iter()
        .enumerate()
        {
            let name = format!("{}/direct-{index}/{}:1", registry.host(), world.user.name());
            let tag = format!("--tag={name}");
            let mut all = vec![tag.as_str(), "--metadata-file=meta.json"];
            all.extend(arguments.iter().map(String::as_str));
            world.build(all).ok();
            let digest = skopeo(world)
                .args(["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{name}")])
                .ok()
                .text();
            let meta = std::fs::read_to_string(world.path("meta.json")).unwrap();
            assert!(meta.contains(digest.trim()), "{meta} {digest}");
        }
        world.build(["--push"]).run().exits(2).says(&["-t NAME"]);
    }

    /// Layers that the registry has in another repository are mounted, not sent.
    fn cross_mount(world) as [subids] {
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/mounted/{}:1", registry.host(), world.user.name());
        world.write("ctx/f", "small\n");
        world.dockerfile(&format!("FROM {base}\nCOPY f /\n"));
        world.build([format!("--tag={name}").as_str(), "--push"]).ok();
        let uploads = registry.storage().join("docker/registry/v2/repositories/mounted");
        let links = world.command("find").arg(uploads).args(["-name", "link"]).run().text();
        assert!(links.contains("_layers"), "{links}");
    }

    /// A Docker schema 2 base keeps its form's fields and works.
    fn docker_schema(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Triggers);
        let tree = {
            world.dockerfile(&format!("FROM {base}\n"));
            world.tree([])
        };
        support::image::assert_file(&tree, "triggered", "triggered\n");
    }

    /// An account: refused without, with the hint; accepted from `login`; gone after `logout`.
    fn login(world) as [root, subids, plain] {
        need!(world, "docker-registry");
        let base = base!(world, Busybox);
        let private = Registry::with_password(&format!("login-{}", world.user.name())).unwrap();
        let name = format!("{}/private/thing:1", private.host());
        build_tagged(world, &base, &name);
        world.sandcrab(["push", &name]).run().exits(1).says(&["login"]);

        let (user, password) = LOGIN;
        let login = |password: &str| {
            world
                .sandcrab(["login", "--username", user, "--password-stdin", &private.host()])
                .stdin(password)
                .run()
        };
        login("wrong").exits(1).never_says(&["wrong\n"]);
        login(password).exits(0).never_says(&[password]);
        world.sandcrab(["push", &name]).ok();
        world.dockerfile(&format!("FROM {name}\nRUN env; cat /proc/*/environ; true\n"));
        world.build(["--no-cache"]).ok().never_says(&[password]);
        world.sandcrab(["logout", &private.host()]).ok();
        world.sandcrab(["push", &name]).run().exits(1);
        let found = world.command("grep").args(["-rl", password]).arg(world.home()).run();
        assert_eq!(found.text(), "", "the password is still in a file");
    }

    /// Docker's and podman's files are read, and a helper program is asked.
    fn credentials_of_others(world) as [subids, plain] {
        need!(world, "docker-registry", "skopeo");
        let base = base!(world, Busybox);
        let private = Registry::with_password(&format!("files-{}", world.user.name())).unwrap();
        let name = format!("{}/private/thing:1", private.host());
        build_tagged(world, &base, &name);
        let host = private.host();
        // crab:crab-pw
        let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"Y3JhYjpjcmFiLXB3"}}}}}}"#);

        world.write("home/.docker/config.json", &auths);
        world.sandcrab(["push", &name]).ok();
        std::fs::remove_file(world.path("home/.docker/config.json")).unwrap();
        world.sandcrab(["push", &name]).run().exits(1);

        world.write("run/containers/auth.json", &auths);
        world.sandcrab(["push", &name]).ok();
        std::fs::remove_file(world.path("run/containers/auth.json")).unwrap();

        world.write(
            "bin/docker-credential-fixture",
            "#!/bin/sh\nread -r host\necho \"$1 $host\" >>\"$HOME/asked\"\n\
             echo '{\"Username\":\"crab\",\"Secret\":\"crab-pw\"}'\n",
        );
        world.set_mode("bin/docker-credential-fixture", 0o755);
        world.write(
            "home/.docker/config.json",
            format!(r#"{{"credHelpers":{{"{host}":"fixture"}}}}"#),
        );
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", world.path("bin").display());
        world.sandcrab(["push", &name]).env("PATH", path).ok();
        let asked = std::fs::read_to_string(world.path("home/asked")).unwrap();
        assert!(asked.contains(&format!("get {host}")), "{asked}");
    }

    /// A blob with other bytes than its digest says, or fewer, is refused and not kept.
    fn corrupt_blob(world) as [root, subids, plain] {
        need!(world, "docker-registry", "skopeo");
        for damage in ["changed", "truncated"] {
            let registry =
                Registry::private(&format!("{damage}-{}", world.user.name())).unwrap();
            let reference = match registry.base(Base::Busybox) {
                Ok(reference) => reference,
                Err(why) => return support::skip(&world.test, &why),
            };
            let manifest = skopeo(world)
                .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])
                .ok();
            let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
            let digest = manifest["layers"][0]["digest"].as_str().unwrap();
            let path = registry.blob(digest.strip_prefix("sha256:").unwrap());
            let mut bytes = std::fs::read(&path).unwrap();
            if damage == "changed" {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            } else {
                bytes.truncate(bytes.len() / 2);
            }
            std::fs::write(&path, &bytes).unwrap();
            world.dockerfile(&format!("FROM {reference}\nRUN true\n"));
            let short = &digest[..19];
            let output = world.build([]).run().exits(1);
            assert!(output.stderr.contains(short), "{damage}: names no digest:\n{}", output.stderr);
            support::store::assert_clean(&world.store());
        }
    }

    /// A manifest list: the entry for this platform is taken.
    fn manifest_list(world) as [subids] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let registry = Registry::shared().expect("there is a base in it");
        let raw = skopeo(world)
            .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{base}")])
            .ok()
            .stdout;
        let digest = skopeo(world)
            .args(["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{base}")])
            .ok()
            .text();
        let ours = support::layer::architecture();
        let entry = |platform: &str| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest.trim(), "size": raw.len(),
                "platform": {"os": "linux", "architecture": platform}})
        };
        for (tag, platforms, code) in [("both", vec!["s390x", ours], 0), ("other", vec!["s390x"], 1)] {
            let index = serde_json::json!({"schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": platforms.iter().map(|p| entry(p)).collect::<Vec<_>>()});
            let url = format!("http://{}/v2/busybox/manifests/{tag}", registry.host());
            world
                .command("curl")
                .args(["--fail", "--silent", "--show-error", "--request", "PUT", "--data-binary", "@-"])
                .args(["--header", "Content-Type: application/vnd.oci.image.index.v1+json", &url])
                .stdin(index.to_string())
                .ok();
            world.dockerfile(&format!("FROM {}/busybox:{tag}\nRUN true\n", registry.host()));
            let output = world.build([]).run().exits(code);
            if code != 0 {
                output.says(&[ours]);
            }
        }
    }
}
