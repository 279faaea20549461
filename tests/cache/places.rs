//! Caches in directories and in images, and those that are not what they should be.

use support::progress::assert_all_cached;
use support::{World, for_users};

use super::exchange::{STEPS, write_context};
use super::registry;

/// Returns the digests of all blobs of a layout.
fn blobs(world: &World, layout: &str) -> Vec<String> {
    let entries = std::fs::read_dir(world.path(layout).join("blobs/sha256")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes a layout with one manifest of this config type, config and layers.
fn forge(world: &World, kind: &str, config: &str, layers: &serde_json::Value) {
    let put = |bytes: &str| {
        let hex = support::hash::sha256(bytes.as_bytes());
        world.write(&format!("forged/blobs/sha256/{hex}"), bytes);
        (format!("sha256:{hex}"), bytes.len())
    };
    let (digest, size) = put(config);
    let manifest = serde_json::json!({"schemaVersion": 2,
        "config": {"mediaType": kind, "digest": digest, "size": size}, "layers": layers});
    let (digest, size) = put(&manifest.to_string());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "latest"}}]});
    world.write("forged/index.json", index.to_string());
    world.write("forged/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}

for_users! {
    /// A directory has several caches under names; with reset it has the last one only.
    fn directory(world) as [root, subids, plain] {
        let Some((_registry, base)) = registry(world, "directory") else { return };
        write_context(world, &base);
        world.build(["--cache-to", "type=local,dest=cache,mode=max,compression=zstd"]).ok();
        let whole = blobs(world, "cache");
        world.build(["--cache-to", "type=local,dest=cache,tag=small"]).ok();
        let both = blobs(world, "cache");
        assert!(both.len() > whole.len() && whole.iter().all(|b| both.contains(b)));

        let other = world.second_with_context();
        let src = format!("type=local,src={}", world.path("cache").display());
        let build = other.build(["--cache-from", &src, "-o", "type=oci,dest=second.oci"]).ok();
        assert_all_cached(&build.stderr, STEPS);
        let third = other.second_with_context();
        let build = third
            .build(["--cache-from", &format!("{src},tag=small"), "--cache-from", &format!("{src},tag=none")])
            .ok()
            .says(&["is not used", "none"]);
        assert_all_cached(&build.stderr, STEPS);

        world.build(["--cache-to", "type=local,dest=cache,tag=last,reset=true"]).ok();
        assert!(blobs(world, "cache").len() < both.len());
        let index = std::fs::read_to_string(world.path("cache/index.json")).unwrap();
        assert!(index.contains("last") && !index.contains("small"), "{index}");
        let fourth = third.second_with_context();
        let build = fourth.build(["--cache-from", &format!("{src},tag=last"), "-o", "type=oci,dest=x.oci"]).ok();
        assert_all_cached(&build.stderr, STEPS);
    }

    /// An image carries what is known of its steps.
    fn inline(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "inline") else { return };
        write_context(world, &base);
        let name = format!("{}/app:1", registry.host());
        world.build(["-t", &name, "--push", "--cache-to=type=inline"]).ok();
        let other = world.second_with_context();
        let before = registry.requests().len();
        let build = other.build(["--cache-from", &name]).ok();
        assert_all_cached(&build.stderr, STEPS);
        let layers = registry.layers("app", "1");
        let fetched = registry.fetched(before);
        assert!(!fetched.iter().any(|f| layers.contains(f)), "{fetched:?}");
        // An image on top of it does not repeat that.
        other.dockerfile(&format!("FROM {name}\nENV a=b\n"));
        other.build(["-t", "top", "-o", "type=oci,dest=top.oci"]).ok();
        let config = other.image("top.oci").config;
        assert!(config.get("sandcrab.cache").is_none(), "{config}");
        // And an image that has none is no cache.
        let third = other.second();
        write_context(&third, &base);
        let build = third.build(["--cache-from", &base]).ok();
        build.says(&["without a cache"]);
    }

    /// Caches in eStargz, in a directory and in an image: the steps' own layers are taken out of them.
    fn estargz(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "estargz") else { return };
        write_context(world, &base);
        let to = "type=local,dest=cache,mode=max,compression=estargz,force-compression=true";
        let name = format!("{}/app:1", registry.host());
        world.build(["--cache-to", to, "-o", "type=oci,dest=first.oci"]).ok();
        let output = "type=registry,compression=estargz";
        world.build(["--cache-to=type=inline", "-o", output, "-t", &name]).ok();
        let in_image = registry.manifest("app", "1");
        let in_image = in_image["layers"].as_array().unwrap();
        let table = "containerd.io/snapshot/stargz/toc.digest";
        let count = in_image.iter().filter(|layer| layer["annotations"][table].is_string()).count();
        assert_eq!(count, 4, "{in_image:?}");

        let from = format!("type=local,src={}", world.path("cache").display());
        let mut last: Option<World> = None;
        for from in [from.as_str(), name.as_str()] {
            let other = last.as_ref().unwrap_or(world).second_with_context();
            let build = other
                .build(["--cache-from", from, "-o", "type=oci,dest=o.oci"])
                .ok()
                .never_says(&["is not used", "make no sense"]);
            assert_all_cached(&build.stderr, STEPS);
            let (first, again) = (world.image("first.oci"), other.image("o.oci"));
            assert_eq!(first.config["rootfs"], again.config["rootfs"]);
            support::image::flatten(&again).unwrap();
            support::store::assert_clean(&other.store());
            last = Some(other);
        }
    }

    /// Caches that lie about themselves are left aside, and harm nothing.
    fn hostile(world) as [root, subids, plain] {
        let Some((_registry, base)) = registry(world, "hostile") else { return };
        let kind = "application/vnd.sandcrab.cache.config.v1+json";
        let entry = r#"{"key":"sha256:x","created":"\u001b[31m","layer":99}"#;
        let none = serde_json::json!([]);
        for (kind, config, text) in [
            (kind, r#"{"version":7,"steps":[]}"#.to_owned(), "version 7"),
            (kind, "[[[[".to_owned(), "is not used"),
            (kind, format!(r#"{{"version":1,"steps":[{entry},5,null]}}"#), "3 entries"),
            ("application/vnd.buildkit.cacheconfig.v0", "{}".to_owned(), "BuildKit"),
            ("text/x", "{}".to_owned(), "no cache"),
            (kind, "[".repeat(100_000), "is not used"),
        ] {
            forge(world, kind, &config, &none);
            let second = world.second();
            second.write("ctx/f", "f\n");
            second.dockerfile(&format!("FROM {base}\nCOPY f /f\nRUN cat /f >/g\n"));
            let from = format!("type=local,src={}", world.path("forged").display());
            second.build(["--cache-from", &from]).ok().says(&[text]);
            std::fs::remove_dir_all(second.home()).unwrap();
        }
    }

    /// Layers that are not what their digests say, or unpack to something else than the cache says,
    /// are made again.
    fn changed_layers(world) as [root, subids, plain] {
        changed(world, "gzip", &["digest mismatch", "is run again"]);
    }

    /// As with others; here it shows when a step is found.
    fn changed_estargz(world) as [root, subids, plain] {
        changed(world, "estargz", &["digest mismatch"]);
    }
}

/// Builds with a cache whose layers are damaged, and with one in which they are mixed up.
fn changed(world: &World, compression: &str, damaged: &[&str]) {
    let Some((_registry, base)) = registry(world, &format!("forged-{compression}")) else {
        return;
    };
    write_context(world, &base);
    let to = |dest: &str| format!("type=local,dest={dest},mode=max,compression={compression}");
    world.build(["--cache-to", &to("cache")]).ok();
    let from = format!("type=local,src={}", world.path("cache").display());
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("cache/index.json")).unwrap()).unwrap();
    let read = |digest: &serde_json::Value| -> serde_json::Value {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        let path = world.path("cache/blobs/sha256").join(hex);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let manifest = read(&index["manifests"][0]["digest"]);
    for layer in manifest["layers"].as_array().unwrap() {
        let hex = layer["digest"]
            .as_str()
            .unwrap()
            .trim_start_matches("sha256:");
        let path = world.path("cache/blobs/sha256").join(hex);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let other = world.second_with_context();
    other
        .build(["--cache-from", &from, "-o", "type=local,dest=out"])
        .ok()
        .says(damaged);
    let all = std::fs::read_to_string(other.path("out/all")).unwrap();
    assert_eq!(all, "late\nearly\n");

    // The layers in another order: each is whole, and none is what the steps say.
    world.build(["--cache-to", &to("good")]).ok();
    let mut layers = manifest["layers"].as_array().unwrap().clone();
    layers.rotate_left(1);
    let config = read(&manifest["config"]["digest"]).to_string();
    world.command("cp").args(["-a", "good", "forged"]).ok();
    let kind = manifest["config"]["mediaType"].as_str().unwrap();
    forge(world, kind, &config, &layers.into());
    let third = other.second_with_context();
    let from = format!("type=local,src={}", world.path("forged").display());
    third
        .build(["--cache-from", &from, "-o", "type=local,dest=out"])
        .ok();
    let all = std::fs::read_to_string(third.path("out/all")).unwrap();
    assert_eq!(all, "late\nearly\n");
    support::store::assert_clean(&third.store());
}
