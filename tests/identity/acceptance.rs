//! An image with many users, built by somebody without subordinate ids and without `newuidmap`.
//!
//! Responsible for the comparison with what buildah makes of the same Dockerfile with a range of
//! ids. Takes minutes: `make acceptance`.

use std::path::Path;
use std::time::Duration;

use support::image::{NodeKind, Tree, flatten};
use support::{User, World, base, peers};

const DOCKERFILE: &str = include_str!("acceptance.Dockerfile");

/// A directory of links to every program but those that map subordinate ids.
fn path_without_mappers(world: &World) -> std::path::PathBuf {
    let directory = world.make_dir("path");
    for place in ["/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let link = directory.join(&name);
            if name != "newuidmap" && name != "newgidmap" && link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(entry.path(), link).expect("make a symbolic link");
            }
        }
    }
    directory
}

/// What must be equal: kinds, owners, modes, attributes. The contents of a database, of caches and
/// of logs never are.
fn differences(ours: &Tree, peer: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let paths = ours
        .keys()
        .chain(peer.keys().filter(|path| !ours.contains_key(*path)));
    for path in paths {
        // What buildah mounts over and leaves behind; a certificate's name by its random contents.
        let left = ["dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];
        let hash =
            path.starts_with("etc/ssl/certs") && path.extension().is_some_and(|end| end == "0");
        if hash || left.iter().any(|name| path.as_path() == Path::new(name)) {
            continue;
        }
        let describe = |tree: &Tree| {
            tree.get(path).map_or_else(
                || "nothing".to_owned(),
                |node| {
                    let mode = if matches!(node.kind, NodeKind::Symlink(_)) {
                        0o777
                    } else {
                        node.mode
                    };
                    // buildah leaves the overlay's own marks in the image.
                    let attributes: Vec<_> = node
                        .xattrs
                        .iter()
                        .filter(|(name, _)| !name.starts_with("user.overlay."))
                        .collect();
                    format!(
                        "{} {}:{} {mode:o} {attributes:?}",
                        node.kind.name(),
                        node.uid,
                        node.gid
                    )
                },
            )
        };
        let (a, b) = (describe(ours), describe(peer));
        if a != b {
            found.push(format!("{}: {a}, buildah: {b}", path.display()));
        }
    }
    found
}

/// Every owner and mode as with a range of ids.
#[test]
#[ignore = "takes minutes: make acceptance"]
fn many_users() {
    let name = "identity::acceptance::many_users";
    let (Some(plain), Some(ranged)) = (
        World::new(User::Plain, name),
        World::new(User::Subids, name),
    ) else {
        return;
    };
    support::need!(plain, "buildah");
    let base = base!(plain, Debian);
    for world in [&plain, &ranged] {
        world.dockerfile(DOCKERFILE);
    }
    let argument = format!("--build-arg=BASE={base}");
    let output = plain
        .build([
            "--network=host",
            argument.as_str(),
            "--output=type=oci,dest=ours.oci",
        ])
        .env("PATH", path_without_mappers(&plain))
        .timeout(Duration::from_secs(900))
        .ok();
    output.never_says(&[
        "zed was let in",
        "Operation not permitted",
        "W: Download is performed unsandboxed",
    ]);
    let target = format!("oci-archive:{}:peer", ranged.path("peer.oci").display());
    peers::buildah_build(&ranged, "oci", &["--network=host", &argument], &target);
    let [ours, peer] =
        [plain.image("ours.oci"), ranged.image("peer.oci")].map(|image| flatten(&image).unwrap());
    assert!(
        ours.values().filter(|node| node.uid != 0).count() > 100,
        "the database is not there"
    );
    let found = differences(&ours, &peer);
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.join("\n")
    );
}
