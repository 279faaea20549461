//! Device files of a container: the default ones and those of `linux.devices`.
//!
//! Responsible for making them, or binding the host's where the kernel lets nobody make devices
//! (user namespaces), and for the links of `/dev`. Must not decide who may use a device, which is
//! the control group's. Invariant: a node that is bound from the host has been checked to be the
//! device that was asked for; what is on another mount than the root is not changed, as it may be
//! the host's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmod, chownat, fstat, makedev, mknodat,
    openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::target::{self, Kind, Links};
use super::{devices, mount};
use crate::error::{Error, Result, ResultExt};
use crate::path::{Entry, Root, normalize};
use crate::spec::Device;
use crate::weaken::{self, Protection};

/// A device file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Whether the configuration names it; the default ones are nobody's wish in particular.
    asked: bool,
}

/// Returns the devices of a container: the default ones (config-linux.md, "Default Devices"),
/// unless `given` has the same path, and those.
pub(super) fn list(given: &[Device]) -> Result<Vec<Node>> {
    let mut given: Vec<Node> = given.iter().enumerate().map(parse).collect::<Result<_>>()?;
    // Always a link to the container's own; callers that pass all of the host's devices list it.
    given.retain(|node| node.path != Path::new("/dev/ptmx"));
    let mut nodes: Vec<Node> = devices::NODES
        .iter()
        .map(|(name, major, minor)| Node {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            asked: false,
        })
        .filter(|node| given.iter().all(|other| other.path != node.path))
        .collect();
    nodes.extend(given);
    Ok(nodes)
}

fn parse((index, device): (usize, &Device)) -> Result<Node> {
    let place = format!("linux.devices[{index}]");
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::new(format!("{place}: no device type `{other}`"))),
    };
    if !device.path.starts_with('/') {
        return Err(Error::new(format!("{place}: not an absolute path")).path(&device.path));
    }
    let number = |value: Option<i64>, name: &str| match (kind, value) {
        (FileType::Fifo, _) => Ok(0),
        (_, Some(n)) => {
            u32::try_from(n).map_err(|_| Error::new(format!("{place}: {name} {n} is out of range")))
        }
        (_, None) => Err(Error::new(format!("{place}: no {name} number"))),
    };
    Ok(Node {
        path: normalize(Path::new(&device.path)),
        kind,
        major: number(device.major, "major")?,
        minor: number(device.minor, "minor")?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        asked: true,
    })
}

impl Node {
    fn device(&self) -> u64 {
        match self.kind {
            FileType::Fifo => 0,
            _ => makedev(self.major, self.minor),
        }
    }

    fn is_like(&self, stat: &Stat) -> bool {
        if weaken::off(Protection::Nodes) {
            return true;
        }
        let same_kind = FileType::from_raw_mode(stat.st_mode) == self.kind;
        same_kind && (self.kind == FileType::Fifo || stat.st_rdev == self.device())
    }
}

/// Where devices come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made, or bound where the kernel refuses.
    Made,
    /// Bound from the host.
    Host,
}

/// Puts a device file in place. What the image has there and is something else is replaced, except
/// a directory; where a mount has it already, as in a container that has all of the host's, it is
/// left alone.
pub(super) fn create(
    root: &Root,
    node: &Node,
    origin: Origin,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let entry = entry(root, &node.path)?;
    if origin == Origin::Host && node.kind != FileType::Fifo {
        return bind(&entry, node, warnings);
    }
    let mode = Mode::from_raw_mode(node.mode);
    let make = || mknodat(&entry.dir, &entry.name, node.kind, mode, node.device());
    // The mode is exact: device files are not the umask's business.
    let umask = rustix::process::umask(Mode::empty());
    let mut there = false;
    let made = match make() {
        Err(Errno::EXIST) => match entry.stat() {
            Ok(stat) if node.is_like(&stat) => {
                there = true;
                Ok(Ok(()))
            }
            _ => clear(&entry, &node.path).map(|()| make()),
        },
        other => Ok(other),
    };
    rustix::process::umask(umask);
    match made? {
        Err(Errno::PERM) if node.kind != FileType::Fifo => return bind(&entry, node, warnings),
        other => other.op_path("create device", &node.path)?,
    }
    if there && !is_of_image(root, &entry).op_path("check device", &node.path)? {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(&entry.dir, &entry.name, Some(uid), Some(gid), nofollow)
        .op_path("set owner of device", &node.path)?;
    set_mode(&entry, node).op_path("set mode of device", &node.path)
}

/// Whether a file is on the same mount as the container's root.
fn is_of_image(root: &Root, entry: &Entry) -> rustix::io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&entry.dir, &entry.name, flags, Mode::empty())?;
    Ok(target::place(file.as_fd())?.0 == target::place(root.as_fd())?.0)
}

/// Sets the mode of what was there already.
fn set_mode(entry: &Entry, node: &Node) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&entry.dir, &entry.name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    if !node.is_like(&stat) {
        return Err(Errno::STALE);
    }
    if stat.st_mode & 0o7777 == node.mode {
        return Ok(());
    }
    // fchmodat2(2) needs Linux 6.6; the link means this very descriptor.
    let place = format!("/proc/self/fd/{}", fd.as_raw_fd());
    chmod(place, Mode::from_raw_mode(node.mode))
}

fn entry(root: &Root, path: &Path) -> Result<Entry> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("create device: not a file").path(path));
    };
    Ok(Entry {
        dir: target::open_or_make(root, parent, Kind::Directory, Links::Follow)?,
        name: name.to_os_string(),
    })
}

/// Removes what is in the way.
fn clear(entry: &Entry, path: &Path) -> Result<()> {
    unlinkat(&entry.dir, &entry.name, AtFlags::empty()).map_err(|errno| {
        Error::new("replace what is in the place of device")
            .path(path)
            .cause(errno)
    })
}

/// Binds the host's device of the same path.
fn bind(entry: &Entry, node: &Node, warnings: &mut Vec<String>) -> Result<()> {
    let path = &node.path;
    let tree = mount::copy(path, false).map_err(|errno| {
        Error::new("open device of the host")
            .path(path)
            .cause(errno)
            .hint("devices can't be made here, so the host must have it under the same path")
    })?;
    let stat = fstat(&tree).op_path("open device of the host", path)?;
    if !node.is_like(&stat) {
        let (major, minor) = (node.major, node.minor);
        return Err(Error::new(format!("not the device {major}:{minor}")).path(path));
    }
    if node.asked && stat.st_mode & 0o777 != node.mode & 0o777 {
        warnings.push(format!(
            "`{}` keeps the mode and owner that it has on the host",
            path.display()
        ));
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::restrict(tree.as_fd(), false, flags).op_path("restrict device", path)?;
    let point = mount_point(entry, path)?;
    mount::attach(tree, point).op_path("mount device", path)
}

/// Opens the file that a node is mounted on: an empty one is made where there is none or a link.
fn mount_point(entry: &Entry, path: &Path) -> Result<OwnedFd> {
    match entry.stat().map(|s| FileType::from_raw_mode(s.st_mode)) {
        Ok(FileType::Symlink) => {
            clear(entry, path)?;
            make_file(entry)
        }
        Ok(_) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&entry.dir, &entry.name, flags, Mode::empty())
        }
        Err(Errno::NOENT) => make_file(entry),
        Err(errno) => Err(errno),
    }
    .op_path("open mount point", path)
}

fn make_file(entry: &Entry) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&entry.dir, &entry.name, flags, Mode::from_raw_mode(0o644))
}

/// Makes the links of `/dev` (config-linux.md, "Dev symbolic links").
pub(super) fn link(root: &Root) -> Result<()> {
    let dev = target::open_or_make(root, Path::new("/dev"), Kind::Directory, Links::Follow)?;
    for (name, to) in devices::LINKS {
        let path = Path::new("/dev").join(name);
        let made = match symlinkat(to, &dev, name) {
            // The kernel's devtmpfs has a device there, images have anything.
            Err(Errno::EXIST) if !is_link(dev.as_fd(), name, to) => {
                replace(dev.as_fd(), name).and_then(|()| symlinkat(to, &dev, name))
            }
            Err(Errno::EXIST) => Ok(()),
            other => other,
        };
        made.op_path("create link", path)?;
    }
    // Where the kernel offers its memory, as runc and crun have it.
    if root.stat("/proc/kcore", false).is_ok() {
        match symlinkat("/proc/kcore", &dev, "core") {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::new("create link").path("/dev/core").cause(errno)),
        }
    }
    Ok(())
}

fn is_link(dir: BorrowedFd<'_>, name: &str, to: &str) -> bool {
    readlinkat(dir, name, Vec::new()).is_ok_and(|text| text.to_bytes() == to.as_bytes())
}

fn replace(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    unlinkat(dir, name, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &str, path: &str, major: Option<i64>) -> Device {
        Device {
            kind: kind.to_owned(),
            path: path.to_owned(),
            major,
            minor: Some(3),
            ..Device::default()
        }
    }

    #[test]
    fn given_devices_replace_the_default_ones() {
        let mut own = device("c", "/dev//null", Some(1));
        own.file_mode = Some(0o600);
        let nodes = list(&[own, device("p", "/run/fifo", None)]).expect("list");
        assert_eq!(nodes.len(), devices::NODES.len() + 1);
        let null: Vec<_> = nodes
            .iter()
            .filter(|n| n.path == Path::new("/dev/null"))
            .collect();
        assert_eq!((null.len(), null[0].mode), (1, 0o600));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, text) in [
            (
                device("x", "/dev/a", Some(1)),
                "linux.devices[0]: no device type `x`",
            ),
            (
                device("c", "/dev/a", None),
                "linux.devices[0]: no major number",
            ),
            (
                device("c", "/dev/a", Some(-1)),
                "linux.devices[0]: major -1 is out of range",
            ),
            (
                device("c", "dev/a", Some(1)),
                "linux.devices[0]: not an absolute path `dev/a`",
            ),
        ] {
            assert_eq!(list(&[given]).expect_err("wrong").to_string(), text);
        }
    }
}
