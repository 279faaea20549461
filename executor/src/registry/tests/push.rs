//! Pushing, and everything that can go wrong with it.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::error::Kind;

/// What a scripted registry does with uploads.
type Quirk = dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync;

/// A registry that takes uploads; `quirk` may answer instead of it, and gets the number of the
/// request.
fn taking(quirk: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Mock {
    let quirk: Box<Quirk> = Box::new(quirk);
    let count = Mutex::new(HashMap::<String, usize>::new());
    Mock::start(move |seen| {
        let n = {
            let mut count = count.lock().expect("lock");
            let n = count.entry(seen.method.clone()).or_default();
            *n += 1;
            *n
        };
        if let Some(reply) = quirk(seen, n) {
            return reply;
        }
        match seen.method.as_str() {
            "GET" if seen.path == "/v2/" => Reply::new(200),
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/v2/a/b/blobs/uploads/1?_state=s0"),
            "PATCH" => Reply::new(202).header("Location", "/v2/a/b/blobs/uploads/1?_state=s1"),
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        }
    })
}

/// Pushes one blob and a manifest.
fn push(mock: &Mock, blob: BlobSource) -> crate::error::Result<Digest> {
    let bench = Bench::new();
    let artifact = Artifact {
        media_type: media_type::OCI_MANIFEST.into(),
        manifest: b"{}".to_vec(),
        blobs: vec![blob],
    };
    let reference = reference(&mock.address, "a/b:t");
    registry().push(&[reference], &artifact, &bench.vertex)
}

fn blob(bytes: &[u8]) -> BlobSource {
    BlobSource::bytes(Descriptor::of(media_type::OCI_LAYER, bytes), bytes.to_vec())
}

fn trace(mock: &Mock) -> Vec<String> {
    let short = |s: &Seen| {
        let path = s.path.strip_prefix("/v2/a/b/").unwrap_or(&s.path);
        let path = path.split("sha256").next().unwrap_or_default();
        format!("{} {path}", s.method)
    };
    mock.seen().iter().map(short).collect()
}

#[test]
fn a_blob_is_sent_in_one_request_of_known_length() {
    let bytes = noise(1_000_000);
    let mock = taking(|_, _| None);
    push(&mock, blob(&bytes)).expect("push");
    assert_eq!(
        trace(&mock),
        [
            "HEAD blobs/",
            "POST blobs/uploads/",
            "PUT blobs/uploads/1?_state=s0&digest=",
            "PUT manifests/t"
        ]
    );
    let seen = mock.seen();
    assert_eq!(seen[2].header("content-length"), Some("1000000"));
    assert_eq!(seen[2].body, bytes);
    assert_eq!(
        seen[3].header("content-type"),
        Some(media_type::OCI_MANIFEST)
    );
}

#[test]
fn what_is_there_is_not_sent() {
    for status in [200, 307] {
        let mock = taking(move |seen, _| {
            let head = seen.method == "HEAD";
            head.then(|| Reply::new(status).header("Location", "http://storage.invalid/"))
        });
        push(&mock, blob(b"x")).expect("push");
        assert_eq!(trace(&mock), ["HEAD blobs/", "PUT manifests/t"]);
    }
}

fn from(mock: &Mock, bytes: &[u8]) -> BlobSource {
    BlobSource {
        mount_from: vec![
            reference("elsewhere.invalid", "base:1"),
            reference(&mock.address, "base:1"),
        ],
        ..blob(bytes)
    }
}

#[test]
fn a_blob_is_mounted_from_where_it_is_known_to_be() {
    let mock = taking(|seen, _| seen.path.contains("mount=").then(|| Reply::new(201)));
    push(&mock, from(&mock, b"x")).expect("push");
    let digest = Digest::of(b"x").to_string().replace(':', "%3A");
    let seen = mock.seen();
    let wanted = format!("/v2/a/b/blobs/uploads/?mount={digest}&from=base");
    assert_eq!(seen[1].path, wanted);
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_mount_that_becomes_an_upload_uses_its_session() {
    let mock = taking(|_, _| None);
    push(&mock, from(&mock, b"x")).expect("push");
    let sessions = mock.seen().iter().filter(|s| s.method == "POST").count();
    assert_eq!(sessions, 1);
    assert!(trace(&mock).contains(&"PUT blobs/uploads/1?_state=s0&digest=".into()));
}

#[test]
fn a_mount_that_is_refused_is_an_upload() {
    for status in [400, 401, 403, 404, 405] {
        let mock = taking(move |seen, _| {
            let mount = seen.path.contains("mount=");
            mount.then(|| Reply::new(status))
        });
        push(&mock, from(&mock, b"x")).expect("push");
        let sessions = mock.seen().iter().filter(|s| s.method == "POST").count();
        assert_eq!(sessions, 2);
    }
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_is() {
    let bytes = noise(1_000_000);
    let mock = taking(|seen, n| match (seen.method.as_str(), n) {
        ("PUT", 1) => Some(Reply::hang_up_after(400_000)),
        ("GET", _) if seen.path.contains("uploads/1") => Some(
            Reply::new(204)
                .header("Range", "0-299999")
                .header("Location", "/v2/a/b/blobs/uploads/1?_state=q"),
        ),
        _ => None,
    });
    push(&mock, blob(&bytes)).expect("push");
    let trace = trace(&mock);
    assert_eq!(
        trace[3..],
        [
            "GET blobs/uploads/1?_state=s0",
            "PATCH blobs/uploads/1?_state=q",
            "PUT blobs/uploads/1?_state=s1&digest=",
            "PUT manifests/t"
        ]
    );
    let seen = mock.seen();
    assert_eq!(seen[4].header("content-range"), Some("300000-999999"));
    assert_eq!(seen[4].body, bytes[300_000..]);
    assert!(seen[5].body.is_empty());
    assert_eq!(seen[5].header("content-length"), Some("0"));
}

#[test]
fn an_upload_that_the_registry_dropped_begins_anew() {
    let bytes = noise(1_000_000);
    let mock =
        taking(|seen, n| (seen.method == "PUT" && n == 1).then(|| Reply::hang_up_after(400_000)));
    push(&mock, blob(&bytes)).expect("push");
    let trace = trace(&mock);
    assert_eq!(
        trace[3..],
        [
            "GET blobs/uploads/1?_state=s0",
            "HEAD blobs/",
            "POST blobs/uploads/",
            "PUT blobs/uploads/1?_state=s0&digest=",
            "PUT manifests/t"
        ]
    );
    assert_eq!(mock.seen()[6].body, bytes);
}

#[test]
fn a_request_that_is_too_large_is_divided() {
    // One byte more than a piece.
    let bytes = noise((32 << 20) + 1);
    let mock = taking(|seen, n| (seen.method == "PUT" && n == 1).then(|| Reply::new(413)));
    push(&mock, blob(&bytes)).expect("push");
    let ranges: Vec<_> = mock
        .seen()
        .iter()
        .filter_map(|s| s.header("content-range").map(ToOwned::to_owned))
        .collect();
    assert_eq!(ranges, ["0-33554431", "33554432-33554432"]);
}

#[test]
fn an_empty_blob_can_be_pushed() {
    let mock = taking(|_, _| None);
    push(&mock, blob(b"")).expect("push");
    assert_eq!(mock.seen()[2].header("content-length"), Some("0"));
}

#[test]
fn an_upload_to_another_host_carries_no_credentials() {
    let storage = Mock::start(|_| Reply::new(201));
    let location = format!("http://{}/upload?signature=s", storage.address);
    let mock = taking(move |seen, _| {
        if seen.header("authorization").is_none() {
            return Some(Reply::new(401).header("WWW-Authenticate", "Basic realm=x"));
        }
        (seen.method == "POST").then(|| Reply::new(202).header("Location", &location))
    });
    let bench = Bench::new();
    let artifact = Artifact {
        media_type: media_type::OCI_MANIFEST.into(),
        manifest: b"{}".to_vec(),
        blobs: vec![blob(b"x")],
    };
    registry_with(&mock.address, "user:pw")
        .push(
            &[reference(&mock.address, "a/b:t")],
            &artifact,
            &bench.vertex,
        )
        .expect("push");
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[test]
fn a_source_that_can_not_be_read_is_its_own_error() {
    let mock = taking(|_, _| None);
    let bench = Bench::new();
    let mut short = Descriptor::of(media_type::OCI_LAYER, b"12345");
    short.size = 10;
    let path = bench.file("layer", b"12345");
    let error = push(&mock, BlobSource::file(short.clone(), path)).expect_err("short");
    assert!(error.chain().contains("read blob to push"), "{error:?}");
    let absent = bench.dir.path().join("absent");
    let error = push(&mock, BlobSource::file(short, absent)).expect_err("absent");
    assert!(error.chain().contains("no such file"), "{error:?}");
    // Neither was tried again.
    assert_eq!(mock.count("PUT", "/v2/a/b/manifests/t"), 0);
    assert!(mock.seen().iter().filter(|s| s.method == "POST").count() == 2);
}

#[test]
fn not_being_allowed_is_said_at_once() {
    let mock = taking(|seen, _| {
        (seen.path != "/v2/").then(|| {
            Reply::new(403).body(r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#)
        })
    });
    let error = push(&mock, blob(b"x")).expect_err("denied");
    assert_eq!(error.get_kind(), Kind::Denied);
    assert_eq!(mock.seen().len(), 1);
}

#[test]
fn a_digest_in_the_name_must_be_the_manifests() {
    let bench = Bench::new();
    let artifact = Image::new(b"x").artifact();
    let wrong = reference("registry.invalid", &format!("a@{}", Digest::of(b"other")));
    let error = registry()
        .push(&[wrong], &artifact, &bench.vertex)
        .expect_err("wrong digest");
    assert!(
        error.to_string().contains("the image's digest is"),
        "{error}"
    );
}
