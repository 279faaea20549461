//! Stores and images for tests.

use crate::image::config::{History, ImageConfig};
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::{Descriptor, media_type};
use crate::image::platform::Platform;
use crate::output::assemble;
use crate::store::Store;
use crate::store::images::Image;
use crate::store::lock::Session;

/// Opens a new store.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    (dir, store)
}

/// Opens a new store with a session.
pub(crate) fn session() -> (tempfile::TempDir, Session) {
    let (dir, store) = store();
    (dir, store.session().expect("session"))
}

/// Makes a layer with one file; returns its uncompressed tar.
pub(crate) fn layer_tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).expect("append");
    tar.into_inner().expect("finish")
}

/// Adds an image of one layer for each content, with the names given.
pub(crate) fn image(session: &Session, contents: &[&str], names: &[&str]) -> Image {
    let mut config = ImageConfig::scratch(Platform::host());
    config.created = Some("2026-01-02T03:04:05Z".into());
    config.config.cmd = Some(vec!["/bin/app".into()]);
    config.config.user = "1000".into();
    let mut layers = Vec::new();
    for content in contents {
        let tar = layer_tar("file", content.as_bytes());
        let digest = session.blobs().put(&tar).expect("layer");
        config.rootfs.diff_ids.push(DiffId(digest));
        config.history.push(History {
            created: config.created.clone(),
            created_by: format!("COPY {content} /"),
            ..History::default()
        });
        layers.push(Descriptor::of(media_type::OCI_LAYER, &tar));
    }
    config.history.push(History {
        created_by: "USER 1000".into(),
        empty_layer: true,
        ..History::default()
    });
    let config = config.to_bytes();
    session.blobs().put(&config).expect("config");
    let manifest = assemble::manifest(&config, layers).expect("manifest");
    let manifest = session.blobs().put(&manifest).expect("manifest");
    let images = session.store().images();
    let names: Vec<_> = names
        .iter()
        .map(|n| n.parse().expect("reference"))
        .collect();
    images.add(&manifest, &names).expect("add");
    images.get(&Digest::of(&config).to_string()).expect("get")
}
