//! Archives of our own making, of other tools' making, and broken ones.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use flate2::write::GzEncoder;

use super::*;
use crate::output::archive::Sink;
use crate::output::assemble::verbatim;
use crate::output::destination::Destination;
use crate::output::layout::{self, Export};
use crate::output::options::{ArchiveFormat, Dest};
use crate::store::fixture;

fn save(session: &Session, names: &[&str], format: ArchiveFormat, path: &Path) {
    let exports: Vec<Export> = names
        .iter()
        .map(|name| {
            let image = session.store().images().get(name).expect("image");
            Export {
                plan: verbatim(session, &image).expect("plan"),
                names: image.names,
                index: None,
            }
        })
        .collect();
    let null = fs::File::open("/dev/null").expect("null");
    let out = Destination::open(&Dest::Path(path.into()), null.as_fd()).expect("open");
    layout::write(&exports, format, Sink::tar(out)).expect("write");
}

fn load_bytes(session: &Session, bytes: &[u8]) -> Result<Vec<Loaded>> {
    load(session, bytes, &Cancel::new())
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix(b"-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = std::str::from_utf8(target).expect("text");
            tar.append_link(&mut header, name, target).expect("link");
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).expect("file");
        }
    }
    tar.into_inner().expect("finish")
}

#[test]
fn round_trips_keep_ids_names_and_layers() {
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let (dir, session) = fixture::session();
        let first = fixture::image(&session, &["a", "b", "a"], &["app:1", "quay.io/x/y:2"]);
        let second = fixture::image(&session, &["a"], &["other:1"]);
        let path = dir.path().join("x.tar");
        save(&session, &["app:1", "other:1"], format, &path);
        let plain = fs::read(&path).expect("read");
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &plain).expect("gzip");
        let gzip = gzip.finish().expect("gzip");
        let zstd = zstd::encode_all(&plain[..], 1).expect("zstd");
        for bytes in [plain, gzip, zstd] {
            let (_dir, session) = fixture::session();
            let loaded = load_bytes(&session, &bytes).expect("load");
            assert_eq!(loaded.len(), 2);
            for wanted in [&first, &second] {
                let name = wanted.names[0].to_string();
                let image = session.store().images().get(&name).expect("image");
                assert_eq!(&image, wanted);
                verbatim(&session, &image).expect("all layers are here");
            }
            let left = fs::read_dir(session.scratch().dir()).expect("list");
            assert_eq!(left.count(), 0, "nothing stays aside");
        }
    }
}

#[test]
fn reads_classic_archives_with_links() {
    let (_dir, session) = fixture::session();
    let layer = fixture::layer_tar("file", b"a");
    let digest = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}","{digest}"]}}}}"#
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["app:1"],
        "Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let archive = tar_of(&[
        ("one/layer.tar", &layer),
        ("two/layer.tar", b"-> ../one/layer.tar"),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let loaded = load_bytes(&session, &archive).expect("load");
    assert_eq!(loaded[0].id, Digest::of(config.as_bytes()));
    let image = session.store().images().get("app:1").expect("image");
    assert_eq!(image.manifest.layers.len(), 2);
    assert_eq!(session.blobs().size(&digest), Some(layer.len() as u64));
}

#[test]
fn lies_and_gaps_are_named_and_add_nothing() {
    let (dir, session) = fixture::session();
    fixture::image(&session, &["a"], &["app:1"]);
    let path = dir.path().join("x.tar");
    save(&session, &["app:1"], ArchiveFormat::Oci, &path);
    let good = fs::read(&path).expect("read");
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;
    let docker = |layers: &str| {
        let manifest = format!(r#"[{{"Config":"c","RepoTags":null,"Layers":{layers}}}]"#);
        tar_of(&[
            ("c", config.as_bytes()),
            ("l", b"not the layer"),
            ("loop", b"-> loop"),
            ("manifest.json", manifest.as_bytes()),
        ])
    };
    for (archive, wanted) in [
        (b"hello".to_vec(), ""),
        (Vec::new(), "not an image archive"),
        (good[..good.len() / 2].to_vec(), ""),
        (tar_of(&[("file", b"x")]), "not an image archive"),
        (tar_of(&[("repositories", b"{}")]), "manifest.json"),
        (tar_of(&[("manifest.json", b"[]")]), "no images"),
        (docker(r#"["l"]"#), "where the config has"),
        (docker(r#"["missing"]"#), "missing"),
        (docker(r#"["loop"]"#), "loop"),
        (docker("[]"), "0 layers"),
    ] {
        let (_dir, session) = fixture::session();
        let error = load_bytes(&session, &archive).expect_err(wanted);
        assert!(error.chain().contains(wanted), "{error:?}");
        assert!(session.store().images().list().expect("list").is_empty());
        let left = fs::read_dir(session.scratch().dir()).expect("list");
        assert_eq!(left.count(), 0, "nothing stays aside");
    }
}

#[test]
fn a_changed_blob_is_refused() {
    let (_dir, session) = fixture::session();
    let image = fixture::image(&session, &["a"], &["app:1"]);
    let manifest = &image.manifest_bytes;
    let config = &image.config_bytes;
    let layer = image.manifest.layers[0].digest;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        image.manifest_digest,
        manifest.len()
    );
    let name = |d: &Digest| format!("blobs/sha256/{}", d.hex());
    let archive = |layer_bytes: &[u8]| {
        tar_of(&[
            ("oci-layout", layout::LAYOUT),
            ("index.json", index.as_bytes()),
            (&name(&image.manifest_digest), manifest),
            (&name(&image.config_digest), config),
            (&name(&layer), layer_bytes),
        ])
    };
    let good = fs::read(session.blobs().path(&layer)).expect("read");
    let mut bad = good.clone();
    bad[0] ^= 1;
    let (_dir, session) = fixture::session();
    assert!(load_bytes(&session, &archive(&bad)).is_err());
    assert!(session.store().images().list().expect("list").is_empty());
    let loaded = load_bytes(&session, &archive(&good)).expect("load");
    assert!(loaded[0].names.is_empty());
}

#[test]
fn reads_what_skopeo_writes() {
    let (dir, session) = fixture::session();
    let image = fixture::image(&session, &["a", "b"], &["app:1"]);
    let path = dir.path().join("x.tar");
    save(&session, &["app:1"], ArchiveFormat::Oci, &path);
    let from = format!("oci-archive:{}", path.display());
    for kind in ["docker-archive", "oci-archive"] {
        let copy = dir.path().join(kind);
        let to = format!("{kind}:{}:quay.io/x/app:2", copy.display());
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", &from, &to])
            .output();
        let Ok(output) = output else {
            println!("SKIP: skopeo is not installed");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let (_dir, session) = fixture::session();
        let file = fs::File::open(&copy).expect("open");
        let loaded = load(&session, file, &Cancel::new()).expect("load");
        assert_eq!(loaded[0].id, image.config_digest, "{kind}");
        assert_eq!(loaded[0].names[0].to_string(), "quay.io/x/app:2");
    }
}
