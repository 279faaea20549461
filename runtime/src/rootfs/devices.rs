//! The container's `/dev`.
//!
//! Responsible for a small fixed set of devices, pseudo-terminals, shared memory and message
//! queues. Must not offer a device of the host beyond those. Invariant: a node that is bound from
//! the host has been checked to be the device that its name says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, makedev, mkdirat,
    openat, openat2, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mount;
use crate::error::{Error, Result, ResultExt};
use crate::identity::IdMap;

/// Name, major and minor number (Linux `Documentation/admin-guide/devices.txt`).
pub(super) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The group that owns terminals by custom (`tty`).
const TTY_GROUP: u32 = 5;

/// Mounts a new `/dev` on the directory `target`. `console`, a terminal, is bound as
/// `/dev/console` if it has a name in this mount namespace. `shm_size` is in bytes. Returns
/// the new directory.
pub(crate) fn mount(
    target: BorrowedFd<'_>,
    ids: IdMap,
    console: Option<BorrowedFd<'_>>,
    shm_size: Option<u64>,
) -> Result<OwnedFd> {
    let inert = mount::INERT;
    // The nodes are mounts of the host's own, so the tmpfs need not allow devices.
    let dev = tmpfs(
        ids,
        "0755",
        "64m",
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )?;
    mount::attach(&dev, target).op("mount /dev")?;
    for (name, major, minor) in NODES {
        bind_node(dev.as_fd(), name, major, minor)?;
    }
    for (name, to) in LINKS {
        symlinkat(to, &dev, name).op_path("create link", Path::new("/dev").join(name))?;
        own(dev.as_fd(), name, ids)?;
    }
    let pts = new_devpts(ids)?;
    mount::attach(pts, make_dir(dev.as_fd(), "pts", ids)?).op("mount /dev/pts")?;
    let size = shm_size.map_or_else(|| "64m".to_owned(), |size| size.to_string());
    let shm = tmpfs(ids, "1777", &size, inert)?;
    mount::attach(shm, make_dir(dev.as_fd(), "shm", ids)?).op("mount /dev/shm")?;
    // A kernel without POSIX message queues has nothing to mount.
    if let Ok(queues) = mount::new("mqueue", &[], inert) {
        mount::attach(queues, make_dir(dev.as_fd(), "mqueue", ids)?).op("mount /dev/mqueue")?;
    }
    // A terminal from outside a surrounding container has no name here; it works without one.
    if let Some(tree) = console.map(copy_terminal).transpose()?.flatten() {
        mount::attach(tree, make_file(dev.as_fd(), "console")?).op("mount /dev/console")?;
    }
    Ok(dev)
}

/// Makes an empty file system in memory that belongs to the container's root.
pub(super) fn tmpfs(
    ids: IdMap,
    mode: &str,
    size: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let root = ids.to_executor(0).unwrap_or(0);
    let (uid, gid) = (format!("uid={root}"), format!("gid={root}"));
    let (mode, size) = (format!("mode={mode}"), format!("size={size}"));
    mount::new("tmpfs", &[&uid, &gid, &mode, &size], attributes).op("create tmpfs")
}

fn new_devpts(ids: IdMap) -> Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut options = vec![
        "newinstance".to_owned(),
        "ptmxmode=0666".to_owned(),
        "mode=0620".to_owned(),
    ];
    let grouped = options.len();
    options.extend(ids.to_executor(TTY_GROUP).map(|gid| format!("gid={gid}")));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match mount::new("devpts", &options, attributes) {
        // The container has the group, but its namespace doesn't: ids are emulated.
        Err(Errno::INVAL) => mount::new("devpts", &options[..grouped], attributes),
        other => other,
    }
    .op("create devpts")
}

fn bind_node(dev: BorrowedFd<'_>, name: &str, major: u32, minor: u32) -> Result<()> {
    let path = Path::new("/dev").join(name);
    let tree = mount::copy(&path, false).op_path("open device", &path)?;
    let stat = fstat(&tree).op_path("open device", &path)?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_char || stat.st_rdev != makedev(major, minor) {
        return Err(Error::new(format!("not the character device {major}:{minor}")).path(path));
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::restrict(tree.as_fd(), false, flags).op_path("restrict device", &path)?;
    mount::attach(tree, make_file(dev, name)?).op_path("mount device", &path)
}

/// Copies the mount of a terminal that was opened in another mount namespace: its path is looked
/// up again, and what is there must be the same file.
fn copy_terminal(terminal: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let identity = |s: rustix::fs::Stat| (s.st_dev, s.st_ino, s.st_rdev);
    let Ok(name) = rustix::termios::ttyname(terminal, Vec::new()) else {
        return Ok(None);
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let tree = mount::copy(path, false).op_path("open terminal", path)?;
    let wanted = fstat(terminal).op_path("open terminal", path)?;
    let found = fstat(&tree).op_path("open terminal", path)?;
    if identity(wanted) != identity(found) {
        return Err(Error::new("not the terminal that was given").path(path));
    }
    Ok(Some(tree))
}

/// Gives an entry, unfollowed, to the container's root.
pub(super) fn own(dir: BorrowedFd<'_>, name: impl AsRef<Path>, ids: IdMap) -> Result<()> {
    let name = name.as_ref();
    let root = ids.to_executor(0).unwrap_or(0);
    let (uid, gid) = (Uid::from_raw(root), Gid::from_raw(root));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .op_path("set owner of", name)
}

fn make_dir(dev: BorrowedFd<'_>, name: &str, ids: IdMap) -> Result<OwnedFd> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755)).op_path("create directory", name)?;
    own(dev, name, ids)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(dev, name, flags, Mode::empty(), ResolveFlags::BENEATH).op_path("open directory", name)
}

fn make_file(dev: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dev, name, flags, Mode::from_raw_mode(0o644)).op_path("create file", name)
}
