//! Decisions about files, here and in the kernel.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid};

use super::{NONE, change_both, changes, config, equal, id, in_thread, is_root, maybe_id, refused};
use crate::identity::Owner;
use crate::supervisor::credentials::{Access, Credentials};

/// A file or directory to be made, with its owner.
type Node = (Owner, u32);

fn node(special: u32) -> impl Strategy<Value = Node> {
    // Bits that decide nothing rarely matter; some of each class do.
    let class = || prop::sample::select(vec![0u32, 1, 2, 3, 4, 5, 6, 7, 7]);
    let special = prop_oneof![Just(0), Just(special)];
    (id(), id(), class(), class(), class(), special).prop_map(|(uid, gid, u, g, o, special)| {
        (Owner { uid, gid }, special | u << 6 | g << 3 | o)
    })
}

/// What one thread finds out.
#[derive(Clone, Debug)]
struct Scene {
    directory: Node,
    file: Node,
    want: u32,
    mode: u32,
    chown: (u32, u32),
}

fn scene() -> impl Strategy<Value = Scene> {
    let special = prop::sample::select(vec![0o2000, 0o1000, 0o3000]);
    let file = prop::sample::select(vec![0o2000, 0o6000]);
    (
        special.prop_flat_map(node),
        file.prop_flat_map(node),
        0..8u32,
        prop::sample::select(vec![0o644u32, 0o755, 0o2755, 0o2745, 0o6775, 0o4711]),
        (maybe_id(), maybe_id()),
    )
        .prop_map(|(directory, file, want, mode, chown)| Scene {
            directory,
            file,
            want,
            mode,
            chown,
        })
}

fn put(path: &std::path::Path, node: Node) {
    std::os::unix::fs::chown(path, Some(node.0.uid), Some(node.0.gid)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(node.1)).expect("chmod");
}

fn kernel_access(at: &OwnedFd, name: &str, want: u32, flags: AtFlags) -> Result<()> {
    let want = rustix::fs::Access::from_bits_retain(want);
    rustix::fs::accessat(at, name, want, flags)
}

fn denied(allowed: bool) -> Result<()> {
    match allowed {
        true => Ok(()),
        false => Err(Errno::ACCESS),
    }
}

fn look(at: &OwnedFd, name: &str) -> Node {
    let path = format!(
        "/proc/self/fd/{}/{name}",
        std::os::fd::AsRawFd::as_raw_fd(at)
    );
    let found = fs::symlink_metadata(path).expect("stat");
    let owner = Owner {
        uid: found.uid(),
        gid: found.gid(),
    };
    (owner, found.mode() & 0o7777)
}

/// Compares access checks, both by effective and by real ids.
fn compare_access(
    at: &OwnedFd,
    who: &Credentials,
    scene: &Scene,
) -> std::result::Result<(), TestCaseError> {
    let want = Access::from_bits(scene.want).expect("access bits");
    for (flags, who) in [
        (AtFlags::EACCESS, who.clone()),
        (AtFlags::empty(), who.with_real_ids()),
    ] {
        for (name, node, is_dir) in [("d", scene.directory, true), ("f", scene.file, false)] {
            let ours = denied(who.access(node.0, node.1, is_dir, want));
            let kernel = kernel_access(at, name, scene.want, flags);
            equal(&ours, &kernel, &(name, flags, scene, &who))?;
        }
    }
    Ok(())
}

/// Compares what becomes of new and of changed files.
fn compare_changes(
    at: &OwnedFd,
    inspector: &dyn Fn(&str) -> Option<Node>,
    who: &Credentials,
    scene: &Scene,
) -> std::result::Result<(), TestCaseError> {
    let changeable = Access::WRITE.and(Access::EXECUTE);
    let (directory, directory_mode) = scene.directory;
    let can_change = who.access(directory, directory_mode, true, changeable);
    let umask = 0o022;

    let removed = rustix::fs::unlinkat(at, "d/old", AtFlags::empty());
    let ours = denied(can_change)
        .and_then(|()| refused(who.may_remove(directory, directory_mode, scene.file.0)));
    equal(&ours, &removed, &("unlink", scene, who))?;

    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = rustix::fs::openat(at, "d/new", flags, Mode::from_raw_mode(scene.mode));
    equal(
        &denied(can_change),
        &made.map(drop),
        &("create", scene, who),
    )?;
    let made = rustix::fs::mkdirat(at, "d/newdir", Mode::from_raw_mode(scene.mode));
    equal(&denied(can_change), &made, &("mkdir", scene, who))?;
    if can_change {
        let new = who.new_node(directory, directory_mode, scene.mode & !umask, false);
        let kernel = inspector("d/new");
        equal(
            &Some((new.owner, new.mode)),
            &kernel,
            &("create", scene, who),
        )?;
        let mode = scene.mode & 0o1777 & !umask;
        let new = who.new_node(directory, directory_mode, mode, true);
        let kernel = inspector("d/newdir");
        equal(
            &Some((new.owner, new.mode)),
            &kernel,
            &("mkdir", scene, who),
        )?;
    }

    let (owner, mode) = scene.file;
    let done = rustix::fs::chmodat(at, "f", Mode::from_raw_mode(scene.mode), AtFlags::empty());
    equal(&refused(who.owns(owner)), &done, &("chmod", scene, who))?;
    let mode = match who.owns(owner) {
        true => who.mode_of_chmod(owner, scene.mode),
        false => mode,
    };
    equal(
        &Some((owner, mode)),
        &inspector("f"),
        &("chmod", scene, who),
    )?;

    let (uid, gid) = scene.chown;
    let (uid, gid) = ((uid != NONE).then_some(uid), (gid != NONE).then_some(gid));
    let done = rustix::fs::chownat(
        at,
        "f",
        uid.map(Uid::from_raw),
        gid.map(Gid::from_raw),
        AtFlags::empty(),
    );
    equal(
        &refused(who.may_chown(owner, mode, false, uid, gid)),
        &done,
        &("chown", scene, who),
    )?;
    if done.is_ok() {
        let mode = who.mode_after_chown(owner, mode, false);
        let new = Owner {
            uid: uid.unwrap_or(owner.uid),
            gid: gid.unwrap_or(owner.gid),
        };
        equal(&Some((new, mode)), &inspector("f"), &("chown", scene, who))?;
    }
    Ok(())
}

#[test]
fn decisions_about_files_are_the_kernels() {
    if !is_root() {
        return;
    }
    proptest!(config(600), |(changes in changes(8), scene in scene())| {
        let directory = tempfile::tempdir().expect("directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let inner = directory.path().join("d");
        fs::create_dir(&inner).expect("mkdir");
        let old = inner.join("old");
        let file = directory.path().join("f");
        fs::write(&old, "").expect("write");
        fs::write(&file, "").expect("write");
        put(&old, scene.file);
        put(&file, scene.file);
        put(&inner, scene.directory);
        let at: OwnedFd = fs::File::open(directory.path()).expect("open").into();
        let (ask, asked) = std::sync::mpsc::channel::<String>();
        let (tell, told) = std::sync::mpsc::channel();
        let looks = at.try_clone().expect("dup");
        // Root looks: the thread may not.
        let inspector = std::thread::spawn(move || {
            for name in asked {
                let _ = tell.send(look(&looks, &name));
            }
        });
        let result = in_thread(move || {
            let who = change_both(&changes)?;
            compare_access(&at, &who, &scene)?;
            let inspect = |name: &str| {
                ask.send(name.to_owned()).ok()?;
                told.recv().ok()
            };
            compare_changes(&at, &inspect, &who, &scene)
        });
        inspector.join().expect("inspector");
        result?;
    });
}
