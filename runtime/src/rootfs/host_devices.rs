//! Devices of the host in a container's `/dev`, besides the usual.
//!
//! Responsible for binding them under the names that were asked for. Must not make a device of its
//! own. Invariant: what is bound is a device, and the one that was meant where its numbers are known.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, major, minor, openat2,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mount;
use crate::error::{Error, Result, ResultExt};
use crate::identity::IdMap;
use crate::sandbox::HostDevice;

/// What a container has of its own below `/dev`, or can't have.
const OWN: [&str; 6] = ["pts", "ptmx", "shm", "mqueue", "console", "fd"];

/// How deep the host's devices are looked for: `/dev/bus/usb/001/002`.
const DEPTH: usize = 4;

/// Binds a device below the container's `/dev`.
///
/// # Errors
/// It isn't there or not what it should be, or the container has something else at that path.
pub(crate) fn bind(dev: BorrowedFd<'_>, ids: IdMap, device: &HostDevice) -> Result<()> {
    let path = &device.path;
    let refuse = |why: &str| Error::new("bind device").path(path).cause(why.to_owned());
    let Ok(below) = path.strip_prefix("/dev") else {
        return Err(refuse("devices are below `/dev` only"));
    };
    let mut names = Vec::new();
    for component in below.components() {
        match component {
            Component::Normal(name) => names.push(name),
            _ => return Err(refuse("not a plain path")),
        }
    }
    let Some((name, parents)) = names.split_last() else {
        return Err(refuse("no name"));
    };
    let source = OFlags::PATH | OFlags::CLOEXEC;
    // A name of the host's own, which may be a link such as `/dev/disk/by-id/…`.
    let found = rustix::fs::open(&device.host, source, Mode::empty())
        .op_path("open device", &device.host)?;
    let stat = fstat(&found).op_path("open device", &device.host)?;
    if !is_device(stat.st_mode) {
        return Err(Error::new("not a device").path(&device.host));
    }
    let there = (major(stat.st_rdev), minor(stat.st_rdev));
    if let Some(wanted) = device.numbers
        && wanted != there
    {
        return Err(Error::new(format!(
            "not the device {}:{} but {}:{}",
            wanted.0, wanted.1, there.0, there.1
        ))
        .path(&device.host));
    }
    let tree = mount::copy_at(found.as_fd(), false).op_path("bind device", &device.host)?;
    attach(dev, ids, parents, name, tree).op_path("mount device", path)
}

/// Binds all devices of the host that the container does not have yet.
pub(crate) fn bind_all(dev: BorrowedFd<'_>, ids: IdMap) -> Result<()> {
    let host = Path::new("/dev");
    walk(dev, ids, host, &mut Vec::new())
}

fn walk(
    dev: BorrowedFd<'_>,
    ids: IdMap,
    host: &Path,
    parents: &mut Vec<std::ffi::OsString>,
) -> Result<()> {
    // What may not be listed can't be given.
    let Ok(entries) = std::fs::read_dir(host) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let own = parents.is_empty() && OWN.iter().any(|own| name == *own);
        let Ok(kind) = entry.metadata() else { continue };
        let path = entry.path();
        if own {
            continue;
        }
        if kind.is_dir() {
            if parents.len() + 1 < DEPTH {
                parents.push(name);
                walk(dev, ids, &path, parents)?;
                parents.pop();
            }
        } else if is_device(std::os::unix::fs::MetadataExt::mode(&kind)) {
            // A device that has gone meanwhile, or that is under another mount, is left out.
            let Ok(tree) = mount::copy(&path, false) else {
                continue;
            };
            let above: Vec<&OsStr> = parents.iter().map(AsRef::as_ref).collect();
            match attach(dev, ids, &above, &name, tree) {
                // One of the usual devices.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e).op_path("mount device", path),
            }
        }
    }
    Ok(())
}

/// Makes the mount point and mounts the device on it.
fn attach(
    dev: BorrowedFd<'_>,
    ids: IdMap,
    parents: &[&OsStr],
    name: &OsStr,
    tree: OwnedFd,
) -> rustix::io::Result<()> {
    let root = ids.to_executor(0).unwrap_or(0);
    let mut dir = rustix::io::fcntl_dupfd_cloexec(dev, 3)?;
    for parent in parents {
        match rustix::fs::mkdirat(&dir, *parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let next = openat2(&dir, *parent, flags, Mode::empty(), resolve)?;
        let (uid, gid) = (Some(Uid::from_raw(root)), Some(Gid::from_raw(root)));
        chownat(&dir, *parent, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        dir = next;
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::restrict(tree.as_fd(), false, attributes)?;
    mount::attach(tree, point)
}

fn is_device(mode: u32) -> bool {
    matches!(
        FileType::from_raw_mode(mode),
        FileType::CharacterDevice | FileType::BlockDevice
    )
}
