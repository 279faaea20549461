//! The client against docker-registry.

use std::process::{Command, Stdio};

use super::super::testing::DockerRegistry;
use super::*;
use crate::error::Kind;

fn round_trip(registry: &Registry, address: &str) {
    let image = Image::new(&noise(3_000_000));
    let bench = Bench::new();
    let path = bench.file("layer", &image.layer);
    let mut artifact = image.artifact();
    artifact.blobs[1] = BlobSource::file(artifact.blobs[1].descriptor.clone(), path);
    let names = ["one/app:v1", "one/app:v2", "two/app:v1"].map(|n| reference(address, n));
    let digest = registry
        .push(&names, &artifact, &bench.vertex)
        .expect("push");
    for name in &names {
        let bench = Bench::new();
        let pulled = registry
            .pull(name, &amd64(), &bench.blobs, &bench.vertex)
            .expect("pull");
        assert_eq!(pulled.descriptor.digest, digest);
        let layer = bench.blobs.read(&Digest::of(&image.layer), 4 << 20);
        assert_eq!(layer.expect("layer"), image.layer);
    }
    let pinned = reference(address, &format!("one/app@{digest}"));
    let pulled = registry.pull(&pinned, &amd64(), &bench.blobs, &bench.vertex);
    assert_eq!(pulled.expect("pull").descriptor.digest, digest);
}

#[test]
fn images_go_there_and_back() {
    let Some(peer) = DockerRegistry::start("", |_| ()) else {
        return;
    };
    round_trip(&registry(), &peer.address);
    let bench = Bench::new();
    let absent = reference(&peer.address, "one/app:absent");
    let error = registry()
        .resolve(&absent, &amd64(), &bench.blobs, &bench.vertex)
        .expect_err("absent");
    assert_eq!(error.get_kind(), Kind::NotFound);
    assert!(error.chain().contains("MANIFEST_UNKNOWN"), "{error:?}");
}

#[test]
fn an_interrupted_upload_ends_well() {
    let Some(peer) = DockerRegistry::start("", |_| ()) else {
        return;
    };
    let image = Image::new(&noise(2_000_000));
    let artifact = image.artifact();
    // The connection breaks within the layer.
    let proxy = cutting_proxy(peer.address.clone(), 500_000);
    let bench = Bench::new();
    let name = reference(&proxy, "a/b:t");
    registry()
        .push(&[name], &artifact, &bench.vertex)
        .expect("push");
    let messages = bench.messages();
    assert!(messages.contains("next attempt"), "{messages}");
    let pulled = registry().pull(
        &reference(&peer.address, "a/b:t"),
        &amd64(),
        &bench.blobs,
        &bench.vertex,
    );
    pulled.expect("pull");
}

/// Forwards connections; the first that carries more than `limit` bytes towards `target` is
/// closed there.
fn cutting_proxy(target: String, limit: u64) -> String {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let cut = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("accept");
            let Ok(mut server) = TcpStream::connect(&target) else {
                continue;
            };
            let (mut back, mut front) = (
                server.try_clone().expect("clone"),
                client.try_clone().expect("clone"),
            );
            std::thread::spawn(move || {
                drop(std::io::copy(&mut back, &mut front));
                drop(front.shutdown(Shutdown::Both));
            });
            let cut = Arc::clone(&cut);
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                let mut passed = 0;
                while let Ok(n @ 1..) = client.read(&mut buffer) {
                    passed += n as u64;
                    if passed > limit && !cut.swap(true, Ordering::SeqCst) {
                        break;
                    }
                    if server.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                drop(server.shutdown(Shutdown::Both));
                drop(client.shutdown(Shutdown::Both));
            });
        }
    });
    address
}

#[test]
fn basic_authentication() {
    let Some(peer) = DockerRegistry::with_password() else {
        return;
    };
    round_trip(&registry_with(&peer.address, "user:secret"), &peer.address);
    let bench = Bench::new();
    for (registry, wanted) in [
        (registry(), "sandcrab login"),
        (
            registry_with(&peer.address, "user:wrong"),
            "DOCKER_AUTH_CONFIG",
        ),
    ] {
        let name = reference(&peer.address, "one/app:v1");
        let error = registry
            .pull(&name, &amd64(), &bench.blobs, &bench.vertex)
            .expect_err("denied");
        assert_eq!(error.get_kind(), Kind::Denied);
        assert!(error.hints()[0].contains(wanted), "{:?}", error.hints());
    }
    let check = |password: &str| {
        let credential = super::super::credentials::Credential::Password {
            username: "user".into(),
            password: Secret::new(password),
        };
        registry().check_login(&peer.address, credential)
    };
    check("secret").expect("right");
    assert_eq!(check("x").expect_err("wrong").get_kind(), Kind::Denied);
}

#[test]
fn tls_with_a_certificate_of_its_own() {
    let tls = "  tls:\n    certificate: HERE/cert.pem\n    key: HERE/key.pem\n";
    let mut made = false;
    let dir = tempfile::tempdir().expect("temporary directory");
    let openssl = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-subj", "/CN=localhost", "-days", "2"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Ok(status) = openssl {
        made = status.success();
    }
    if !made {
        println!("SKIP: openssl can't make a certificate");
        return;
    }
    let prepare = |to: &std::path::Path| {
        for name in ["key.pem", "cert.pem"] {
            std::fs::copy(dir.path().join(name), to.join(name)).expect("copy");
        }
    };
    let Some(peer) = DockerRegistry::start(tls, prepare) else {
        return;
    };
    round_trip(&registry(), &peer.address);
}
