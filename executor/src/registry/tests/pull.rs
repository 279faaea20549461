//! Pulling, and everything that can go wrong with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::Kind;

/// Serves an image, its layer as `layer` says; that gets the number of the request for it.
fn serve(image: &Image, layer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Mock {
    let image = image.clone();
    let asked = AtomicUsize::new(0);
    Mock::start(move |seen| {
        if seen.is("GET", &image.layer_path()) {
            layer(seen, asked.fetch_add(1, Ordering::SeqCst))
        } else {
            image.answer(seen)
        }
    })
}

fn pull(mock: &Mock, bench: &Bench) -> crate::error::Result<super::super::Resolved> {
    let reference = reference(&mock.address, "a/b:t");
    registry().pull(&reference, &amd64(), &bench.blobs, &bench.vertex)
}

#[test]
fn an_image_arrives_whole_and_only_once() {
    let image = Image::new(&noise(300_000));
    let (bench, served) = (Bench::new(), image.clone());
    let mock = Mock::start(move |seen| served.answer(seen));
    let pulled = pull(&mock, &bench).expect("pull");
    assert_eq!(pulled.manifest_bytes, image.manifest);
    assert_eq!(pulled.config_bytes, image.config);
    assert_eq!(pulled.descriptor.digest, Digest::of(&image.manifest));
    let layer = bench.blobs.read(&Digest::of(&image.layer), 1 << 20);
    assert_eq!(layer.expect("layer"), image.layer);
    assert_eq!(bench.left(), (3, 0));

    let before = mock.seen().len();
    assert_eq!(pull(&mock, &bench).expect("again"), pulled);
    let after: Vec<_> = mock.seen().split_off(before);
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after[0].is("HEAD", "/v2/a/b/manifests/t"));
}

#[test]
fn a_pinned_image_in_the_store_needs_no_registry() {
    let image = Image::new(b"layer");
    let bench = Bench::new();
    for bytes in [&image.manifest, &image.config, &image.layer] {
        bench.blobs.put(bytes).expect("put");
    }
    let pinned = format!("a/b@{}", Digest::of(&image.manifest));
    // Insecure registries are probed first; this one is not, and does not exist.
    let pinned = reference("registry.invalid", &pinned);
    let pulled = registry().pull(&pinned, &amd64(), &bench.blobs, &bench.vertex);
    assert_eq!(pulled.expect("pull").manifest_bytes, image.manifest);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let image = Image::new(&noise(500_000));
    let bytes = image.layer.clone();
    let mock = serve(&image, move |seen, n| match (n, seen.header("range")) {
        (0, None) => Reply::new(200).body(&bytes).cut(200_000),
        (_, Some(range)) => {
            let range = range
                .strip_prefix("bytes=")
                .and_then(|r| r.strip_suffix('-'));
            let from: usize = range.expect("open range").parse().expect("number");
            let last = bytes.len() - 1;
            let range = format!("bytes {from}-{last}/{}", bytes.len());
            Reply::new(206)
                .header("Content-Range", range)
                .body(&bytes[from..])
        }
        _ => Reply::new(500),
    });
    let bench = Bench::new();
    pull(&mock, &bench).expect("pull");
    let seen = mock.seen();
    let second = seen.last().expect("second request");
    assert_eq!(second.header("range"), Some("bytes=200000-"));
    assert_eq!(bench.left(), (3, 0));
    let messages = bench.messages();
    assert!(messages.contains("next attempt in"), "{messages}");
}

#[test]
fn a_registry_without_ranges_sends_it_all_again() {
    let image = Image::new(&noise(500_000));
    let bytes = image.layer.clone();
    let mock = serve(&image, move |_, n| {
        let reply = Reply::new(200).body(&bytes);
        if n == 0 { reply.cut(123_456) } else { reply }
    });
    let bench = Bench::new();
    pull(&mock, &bench).expect("pull");
    assert_eq!(bench.left(), (3, 0));
}

#[test]
fn a_wrong_range_is_refused() {
    let image = Image::new(&noise(1000));
    let bytes = image.layer.clone();
    let mock = serve(&image, move |_, n| match n {
        0 => Reply::new(200).body(&bytes).cut(500),
        _ => Reply::new(206)
            .header("Content-Range", "bytes 400-999/1000")
            .body(&bytes[400..]),
    });
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("wrong range").chain();
    assert!(error.contains("another range"), "{error}");
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_not_stored() {
    let image = Image::new(&noise(1000));
    let other = vec![0; 1000];
    let mock = serve(&image, move |_, _| Reply::new(200).body(&other));
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("corrupt").chain();
    assert!(error.contains("digest mismatch"), "{error}");
    // The manifest and the config are fine.
    assert_eq!(bench.left(), (2, 0));
    assert_eq!(mock.count("GET", &image.layer_path()), 1);
}

#[test]
fn a_blob_of_another_size_is_refused_before_it_is_read() {
    let layer = noise(1000);
    let mut descriptor = Descriptor::of(media_type::OCI_LAYER, &layer);
    for size in [10, 5000] {
        descriptor.size = size;
        let image = Image::described(&layer, descriptor.clone());
        let served = image.clone();
        let mock = Mock::start(move |seen| served.answer(seen));
        let bench = Bench::new();
        let error = pull(&mock, &bench).expect_err("wrong size").chain();
        let wanted = format!("has 1000 bytes, the manifest says {size}");
        assert!(error.contains(&wanted), "{error}");
        assert_eq!(bench.left(), (2, 0));
    }
}

#[test]
fn a_body_without_end_is_cut_off() {
    let image = Image::new(&noise(1000));
    let more = noise(1001);
    let mock = serve(&image, move |_, _| {
        Reply::new(200).body(&more).unsized_body()
    });
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("too long").chain();
    assert!(error.contains("more than the 1000 bytes"), "{error}");
    assert_eq!(bench.left(), (2, 0));
}

#[test]
fn a_truncated_blob_is_given_up_after_some_attempts() {
    let image = Image::new(&noise(1000));
    let less = noise(900);
    let mock = serve(&image, move |_, _| {
        Reply::new(200).body(&less).unsized_body()
    });
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("truncated").chain();
    assert!(error.contains("gave up after 3 attempts"), "{error}");
    assert!(error.contains("after 900 of 1000 bytes"), "{error}");
    assert_eq!(mock.count("GET", &image.layer_path()), 3);
    assert_eq!(bench.left(), (2, 0));
}

#[test]
fn too_many_requests_are_repeated_when_the_registry_says() {
    let image = Image::new(b"layer");
    let bytes = image.layer.clone();
    let mock = serve(&image, move |_, n| match n {
        0 => Reply::new(429)
            .header("Retry-After", 0)
            .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#),
        1 => Reply::new(503),
        _ => Reply::new(200).body(&bytes),
    });
    let bench = Bench::new();
    pull(&mock, &bench).expect("pull");
    let messages = bench.messages();
    assert!(messages.contains("slow down"), "{messages}");
    assert!(messages.contains("next attempt in 0.0 s"), "{messages}");
}

#[test]
fn a_wait_beyond_patience_is_an_error() {
    let image = Image::new(b"layer");
    let mock = serve(&image, |_, _| Reply::new(429).header("Retry-After", 86_400));
    let error = pull(&mock, &Bench::new()).expect_err("throttled");
    assert!(error.hints()[0].contains("86400 s"), "{:?}", error.hints());
    assert_eq!(mock.count("GET", &image.layer_path()), 1);
}

#[test]
fn a_redirect_to_another_host_carries_no_credentials() {
    let image = Image::new(b"layer");
    let bytes = image.layer.clone();
    let storage = Mock::start(move |_| Reply::new(200).body(&bytes));
    let target = format!("http://{}/bucket/x?signature=s3cret", storage.address);
    let (served, layer) = (image.clone(), image.layer_path());
    let mock = Mock::start(move |seen| {
        if seen.header("authorization").is_none() {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=x");
        }
        if seen.path == layer {
            return Reply::new(307).header("Location", &target);
        }
        served.answer(seen)
    });
    let bench = Bench::new();
    registry_with(&mock.address, "user:pw")
        .pull(
            &reference(&mock.address, "a/b:t"),
            &amd64(),
            &bench.blobs,
            &bench.vertex,
        )
        .expect("pull");
    let at_storage = storage.seen();
    assert_eq!(at_storage.len(), 1);
    assert!(at_storage[0].is("GET", "/bucket/x?signature=s3cret"));
    assert_eq!(at_storage[0].header("authorization"), None);
}

#[test]
fn an_expired_address_of_the_storage_is_asked_for_again_and_not_shown() {
    let image = Image::new(b"layer");
    let storage = Mock::start(|_| Reply::new(403).body("expired"));
    let target = format!("http://{}/bucket/x?signature=s3cret", storage.address);
    let mock = serve(&image, move |_, _| {
        Reply::new(307).header("Location", &target)
    });
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("expired");
    assert!(
        error.chain().contains("redirects, answered 403"),
        "{error:?}"
    );
    let shown = error.chain() + &bench.messages();
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_ne!(error.get_kind(), Kind::Denied);
    assert_eq!(mock.count("GET", &image.layer_path()), 3);
}

#[test]
fn an_endless_redirect_ends() {
    let image = Image::new(b"layer");
    let path = image.layer_path();
    let mock = serve(&image, move |_, _| {
        Reply::new(302).header("Location", &path)
    });
    let error = pull(&mock, &Bench::new()).expect_err("loop").chain();
    assert!(error.contains("redirects more than"), "{error}");
}

#[test]
fn an_oversized_manifest_is_refused() {
    let mut options = options();
    options.document_limit = 1000;
    let registry = Registry::new(options);
    for sized in [true, false] {
        let mock = Mock::start(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(404),
            _ => {
                let reply = Reply::new(200).body(" ".repeat(1001));
                if sized { reply } else { reply.unsized_body() }
            }
        });
        let bench = Bench::new();
        let error = registry
            .pull(
                &reference(&mock.address, "a/b:t"),
                &amd64(),
                &bench.blobs,
                &bench.vertex,
            )
            .expect_err("oversized");
        assert!(
            error.chain().contains("larger than 1000 bytes"),
            "{error:?}"
        );
        assert_eq!(bench.left(), (0, 0));
    }
}

#[test]
fn a_manifest_other_than_promised_is_refused() {
    let image = Image::new(b"layer");
    let promised = Digest::of(b"other");
    let mock = Mock::start(move |seen| {
        if seen.path.contains("/manifests/") {
            Reply::new(200)
                .header("Docker-Content-Digest", promised)
                .body(&image.manifest)
        } else {
            image.answer(seen)
        }
    });
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("mismatch").chain();
    assert!(error.contains("digest mismatch: manifest"), "{error}");
    assert_eq!(bench.left(), (0, 0));
}

#[test]
fn documents_that_are_no_image_are_refused_by_name() {
    let chart = Descriptor::of("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = json!({"schemaVersion": 2, "config": chart, "layers": []});
    for (manifest, wanted) in [
        (json!({"schemaVersion": 1, "name": "a/b"}), "schema 1"),
        (chart, "not a container image"),
        (
            json!({"schemaVersion": 2, "manifests": [], "layers": []}),
            "ambiguous",
        ),
        (json!(["x"]), "parse image manifest"),
    ] {
        let manifest = manifest.to_string();
        let mock = Mock::start(move |seen| {
            if seen.path.contains("/manifests/") {
                Reply::new(200).body(&manifest)
            } else {
                Reply::new(200).body("{}")
            }
        });
        let error = pull(&mock, &Bench::new()).expect_err(wanted).chain();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn an_index_gives_the_platform_that_is_wanted() {
    let image = Image::new(b"layer");
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest);
    entry.platform = Some(amd64());
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [entry]});
    let index = index.to_string();
    let served = index.clone();
    let mock = Mock::start(move |seen| {
        if seen.path == "/v2/a/b/manifests/list" {
            Reply::new(200)
                .header("Content-Type", media_type::OCI_INDEX)
                .body(&served)
        } else {
            image.answer(seen)
        }
    });
    let bench = Bench::new();
    let list = reference(&mock.address, "a/b:list");
    let resolve = |platform: &str| {
        let platform = platform.parse().expect("platform");
        registry().resolve(&list, &platform, &bench.blobs, &bench.vertex)
    };
    let resolved = resolve("linux/amd64").expect("resolve");
    assert_eq!(resolved.index, Some(Digest::of(index.as_bytes())));
    let origins: Vec<String> = resolved.origins().iter().map(ToString::to_string).collect();
    let name = format!("{}/a/b", mock.address);
    let (own, of_index) = (resolved.descriptor.digest, Digest::of(index.as_bytes()));
    assert_eq!(
        origins,
        [format!("{name}@{own}"), format!("{name}@{of_index}")]
    );
    // Index, manifest and config; no layer yet.
    assert_eq!(bench.left(), (3, 0));
    registry()
        .fetch_layers(&resolved, &bench.blobs, &bench.vertex)
        .expect("layers");
    assert_eq!(bench.left(), (4, 0));
    let error = resolve("linux/s390x").expect_err("no such platform");
    assert!(error.to_string().contains("it has linux/amd64"), "{error}");
}

#[test]
fn an_image_for_another_platform_is_warned_about() {
    let image = Image::new(b"layer");
    let mock = Mock::start(move |seen| image.answer(seen));
    let bench = Bench::new();
    let platform = "linux/arm64".parse().expect("platform");
    let resolved = registry().resolve(
        &reference(&mock.address, "a/b:t"),
        &platform,
        &bench.blobs,
        &bench.vertex,
    );
    resolved.expect("resolve");
    let messages = bench.messages();
    assert!(
        messages.contains("is an image for linux/amd64"),
        "{messages}"
    );
}

#[test]
fn foreign_layers_are_refused_unless_they_are_here() {
    let layer = b"foreign";
    let mut descriptor = Descriptor::of(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        layer,
    );
    descriptor.urls.push("https://elsewhere.invalid/".into());
    let image = Image::described(layer, descriptor);
    let mock = Mock::start(move |seen| image.answer(seen));
    let bench = Bench::new();
    let error = pull(&mock, &bench).expect_err("foreign").chain();
    assert!(error.contains("is foreign"), "{error}");
    bench.blobs.put(layer).expect("put");
    pull(&mock, &bench).expect("pull");
}

#[test]
fn what_is_missing_is_said_in_the_registrys_words() {
    let image = Image::new(b"layer");
    let mock = Mock::start(move |seen| image.answer(seen));
    let bench = Bench::new();
    let error = registry()
        .pull(
            &reference(&mock.address, "a/b:absent"),
            &amd64(),
            &bench.blobs,
            &bench.vertex,
        )
        .expect_err("absent");
    assert_eq!(error.get_kind(), Kind::NotFound);
    assert_eq!(
        error.chain(),
        format!(
            "get manifest of `{0}/a/b:absent`: registry `{0}` answered 404 Not Found \
             (NAME_UNKNOWN: unknown)",
            mock.address
        )
    );
}

#[test]
fn addresses_where_nobody_answers() {
    let bench = Bench::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = closed.local_addr().expect("address").to_string();
    drop(closed);
    for (host, wanted) in [
        (address.as_str(), "connection refused"),
        ("registry.invalid", "unknown host `registry.invalid`"),
    ] {
        let reference = reference(host, "a/b:t");
        let pulled = registry().pull(&reference, &amd64(), &bench.blobs, &bench.vertex);
        let error = pulled.expect_err(host).chain();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_layer_that_two_threads_want_is_fetched_once() {
    let image = Image::new(&noise(200_000));
    let served = image.clone();
    let mock = Mock::start(move |seen| served.answer(seen));
    let bench = Bench::new();
    let registry = registry();
    let reference = reference(&mock.address, "a/b:t");
    let resolved = registry
        .resolve(&reference, &amd64(), &bench.blobs, &bench.vertex)
        .expect("resolve");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                registry
                    .fetch_layers(&resolved, &bench.blobs, &bench.vertex)
                    .expect("fetch");
            });
        }
    });
    assert_eq!(mock.count("GET", &image.layer_path()), 1);
}

#[test]
fn a_cancelled_pull_leaves_nothing_behind() {
    let image = Image::new(&noise(100_000));
    let bytes = image.layer.clone();
    let options = options();
    let cancel = options.cancel.clone();
    let mock = serve(&image, move |_, _| {
        cancel.raise(crate::cancel::Cause::Signal(2));
        // Never the whole of it, and the rest is a second away.
        std::thread::sleep(Duration::from_secs(1));
        Reply::new(200).body(&bytes).cut(10)
    });
    let bench = Bench::new();
    let error = Registry::new(options)
        .pull(
            &reference(&mock.address, "a/b:t"),
            &amd64(),
            &bench.blobs,
            &bench.vertex,
        )
        .expect_err("cancelled");
    assert_eq!(error.get_kind(), Kind::Interrupted(2));
    assert_eq!(bench.left(), (2, 0));
}

#[test]
fn nothing_is_fetched_for_a_store_that_can_not_be_written() {
    let image = Image::new(&noise(1000));
    let served = image.clone();
    let mock = Mock::start(move |seen| served.answer(seen));
    let bench = Bench::new();
    let registry = registry();
    let reference = reference(&mock.address, "a/b:t");
    let resolved = registry
        .resolve(&reference, &amd64(), &bench.blobs, &bench.vertex)
        .expect("resolve");
    let absent = bench.dir.path().join("absent");
    let blobs = Blobs::new(bench.dir.path().join("blobs"), absent);
    let error = registry
        .fetch_layers(&resolved, &blobs, &bench.vertex)
        .expect_err("no place for files");
    assert!(error.chain().contains("create blob in"), "{error:?}");
    assert_eq!(mock.count("GET", &image.layer_path()), 0);
}
