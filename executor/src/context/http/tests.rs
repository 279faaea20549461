use super::*;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

/// Answers one connection per reply and returns the address, and the thread that counts them.
fn serve(replies: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let served = std::thread::spawn(move || {
        let mut count = 0;
        for reply in replies {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut lines = BufReader::new(stream.try_clone().expect("clone")).lines();
            while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
            stream.write_all(&reply).expect("reply");
            count += 1;
        }
        count
    });
    (format!("http://{address}"), served)
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn options() -> FetchOptions {
    FetchOptions {
        retries: 2,
        backoff: Duration::from_millis(1),
        timeout: Duration::from_secs(10),
        limit: 1000,
        ..FetchOptions::default()
    }
}

#[test]
fn keeps_name_time_and_content() {
    let tmp = tempfile::tempdir().expect("temporary directory");
    let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let (base, served) = serve(vec![reply("200 OK", modified, "hello")]);
    let url = format!("{base}/dir/a%20file.txt?query=1");
    let digest = Digest::of(b"hello");
    let fetched = fetch(&url, Some(&digest), &options(), tmp.path()).expect("fetch");
    assert_eq!(fetched.name.as_deref(), Some("a file.txt"));
    assert_eq!(fetched.digest, digest);
    assert_eq!(fetched.mtime, 784_111_777);
    let meta = std::fs::metadata(&fetched.path).expect("metadata");
    assert_eq!(
        (meta.mode() & 0o7777, meta.mtime(), meta.len()),
        (0o600, 784_111_777, 5)
    );
    assert_eq!(served.join().expect("server"), 1);
}

#[test]
fn tries_again_what_may_pass() {
    let tmp = tempfile::tempdir().expect("temporary directory");
    let mut cut = reply("200 OK", "", "hello");
    cut.truncate(cut.len() - 2);
    let (base, served) = serve(vec![
        reply("503 Service Unavailable", "", ""),
        cut,
        reply("200 OK", "", "hello"),
    ]);
    let fetched = fetch(&format!("{base}/f"), None, &options(), tmp.path()).expect("fetch");
    assert_eq!((fetched.size, fetched.mtime), (5, 0));
    assert_eq!(served.join().expect("server"), 3);
}

#[test]
fn gives_up_on_what_will_not() {
    let tmp = tempfile::tempdir().expect("temporary directory");
    let wrong = Digest::of(b"other");
    let large = "x".repeat(1001);
    for (reply, checksum, kind, text) in [
        (reply("404 Not Found", "", ""), None, Kind::NotFound, "404"),
        (reply("403 Forbidden", "", ""), None, Kind::Denied, "403"),
        (
            reply("200 OK", "", "hello"),
            Some(&wrong),
            Kind::Build,
            "checksum mismatch",
        ),
        (
            reply("200 OK", "", &large),
            None,
            Kind::Build,
            "larger than 1000",
        ),
    ] {
        let (base, served) = serve(vec![reply]);
        let url = base.replace("http://", "http://me:secret@") + "/f";
        let error = fetch(&url, checksum, &options(), tmp.path()).expect_err(text);
        assert_eq!(error.get_kind(), kind);
        assert!(error.chain().contains(text), "{}", error.chain());
        assert!(!error.chain().contains("secret"), "{}", error.chain());
        served.join().expect("server");
    }
    let left = std::fs::read_dir(tmp.path()).expect("list").count();
    assert_eq!(left, 0, "a failed download leaves nothing");
}

#[test]
fn a_name_is_one_component() {
    let url = |text: &str| Url::parse(text).expect(text);
    let named = |text: &str| {
        url(text)
            .path_segments()
            .and_then(|mut p| p.next_back().map(percent_decode))
            .and_then(|n| plain(&n))
    };
    assert_eq!(named("http://h/a/b.tar"), Some("b.tar".into()));
    assert_eq!(named("http://h/"), None);
    assert_eq!(named("http://h/a/..%2f..%2fetc"), None);
    assert_eq!(named("http://h/%2e%2e"), None);
    assert_eq!(
        proposed_name("attachment; filename=\"x.txt\""),
        Some("x.txt".into())
    );
    assert_eq!(proposed_name("attachment; FileName = y"), Some("y".into()));
    assert_eq!(proposed_name("attachment; filename=\"../x\""), None);
    assert_eq!(proposed_name("inline"), None);
}
