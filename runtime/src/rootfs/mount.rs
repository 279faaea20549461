//! Detached mounts and their attachment.
//!
//! Responsible for thin, named forms of the new mount API. Must not choose what is mounted.
//! Invariant: a mount is invisible until it is attached, and goes with its descriptor if it never
//! is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Result;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys;
use crate::weaken::{self, Protection};

/// `nosuid,nodev,noexec`.
pub(crate) const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Makes a new file system of a type. Options are `key` or `key=value`.
pub(crate) fn new(kind: &str, options: &[&str], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, *option)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Copies the mount at a path of the host, with those below it when `recursive`. Links are
/// followed: the path is our own, not a container's.
pub(crate) fn copy(path: &Path, recursive: bool) -> Result<OwnedFd> {
    open_tree(CWD, path, copy_flags(recursive))
}

/// Copies the mount at a descriptor, from its place downwards.
pub(crate) fn copy_at(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    open_tree(fd, "", copy_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

pub(super) fn copy_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// Adds attributes to a mount, and to those below it when `recursive`.
pub(crate) fn restrict(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: MountAttrFlags,
) -> Result<()> {
    sys::mount_setattr(mount, recursive, attributes, 0)
}

/// Attaches a detached mount on top of what the target descriptor refers to; a link itself, when
/// it was opened without following.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    if weaken::off(Protection::Target) {
        let number = target.as_fd().as_raw_fd();
        let path = rustix::fs::readlink(format!("/proc/self/fd/{number}"), Vec::new())?;
        // As long as a look and a mount are apart in a larger program.
        std::thread::sleep(std::time::Duration::from_micros(200));
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        return move_mount(mount, "", CWD, &path, flags);
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Attaches a detached mount on top of a directory of the host, by our own path.
pub(crate) fn attach_at(mount: impl AsFd, path: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", CWD, path, flags)
}
