//! Bind mounts: copies of what is mounted elsewhere.
//!
//! Responsible for opening sources as detached mounts and for giving any detached mount its
//! flags. Must not know destinations. Invariant: a copy has all its flags before it is attached,
//! so there is no moment in which it is less protected than asked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, readlink};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags, OpenTreeFlags, open_tree};

use super::options::{self, Attributes, Options, Propagation};
use super::{mount, target};
use crate::error::{Error, Result, ResultExt};
use crate::sys::{MountChange, change_mount};

/// What is mounted, opened.
#[derive(Debug)]
pub(super) enum Source {
    /// A detached copy.
    Tree(OwnedFd),
    /// The text of a symbolic link, which is made again instead of being mounted (crun's
    /// `copy-symlink`).
    Link(PathBuf),
}

impl Source {
    /// What the destination has to be.
    pub(super) fn kind(&self) -> Result<target::Kind> {
        match self {
            Self::Tree(fd) if target::is_dir(fd.as_fd()).op("look at source")? => {
                Ok(target::Kind::Directory)
            }
            _ => Ok(target::Kind::File),
        }
    }
}

/// Opens a source of the host. `None` where the caller may not copy mounts in its present
/// namespaces.
pub(super) fn open(path: &Path, options: &Options) -> Result<Option<Source>> {
    if options.copy_symlink
        && let Ok(text) = readlink(path, Vec::new())
    {
        use std::os::unix::ffi::OsStringExt;
        let text = std::ffi::OsString::from_vec(text.into_bytes());
        return Ok(Some(Source::Link(text.into())));
    }
    let recursive = options.bind == Some(true);
    let mut flags = mount::copy_flags(recursive);
    if options.source_nofollow {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    match open_tree(CWD, path, flags) {
        Ok(fd) => Ok(Some(Source::Tree(fd))),
        Err(Errno::PERM) => Ok(None),
        Err(errno) => {
            let error = Error::new("open source").path(path).cause(errno);
            Err(match errno {
                Errno::INVAL if !recursive => {
                    error.hint("use `rbind`: what is mounted below can't be left out here")
                }
                Errno::ACCESS => error.hint("the container's root can't reach it"),
                _ => error,
            })
        }
    }
}

/// Cuts a copy off from the peers of its original, so that nothing that is mounted in the
/// container appears outside. What is mounted outside still appears inside.
pub(super) fn follow_only(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let wanted = Propagation {
        kind: libc::MS_SLAVE,
        recursive: true,
    };
    set_propagation(mount, wanted)
}

/// Gives a detached mount its flags. Flags that the kernel has locked, because the mount comes
/// from a more privileged namespace, stay, which is warned of.
pub(super) fn dress(
    mount: BorrowedFd<'_>,
    options: &Options,
    without: Attr,
    warnings: &mut Vec<String>,
) -> Result<()> {
    // The recursive ones first: those of the mount itself are more specific.
    change(mount, options.all, true, warnings)?;
    let mut top = options.top;
    top.set -= without;
    change(mount, top, false, warnings)
}

/// Gives a mount its propagation, in the order of the options.
pub(super) fn propagate(mount: BorrowedFd<'_>, kinds: &[Propagation]) -> Result<()> {
    for kind in kinds {
        set_propagation(mount, *kind).op("set propagation")?;
    }
    Ok(())
}

/// Gives a mount a propagation.
pub(super) fn set_propagation(
    mount: BorrowedFd<'_>,
    wanted: Propagation,
) -> rustix::io::Result<()> {
    let change = MountChange {
        propagation: wanted.kind,
        recursive: wanted.recursive,
        ..MountChange::default()
    };
    match change_mount(mount, &change) {
        // Before Linux 6.9 the very first mount, an initramfs, is refused.
        Err(Errno::INVAL) => {
            let bits = u32::try_from(wanted.kind).unwrap_or(0);
            let mut flags = MountPropagationFlags::from_bits_retain(bits);
            flags.set(MountPropagationFlags::REC, wanted.recursive);
            let place = format!("/proc/self/fd/{}", mount.as_raw_fd());
            rustix::mount::mount_change(place, flags)
        }
        other => other,
    }
}

fn change(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    recursive: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let attempt = |set: Attr, clear: Attr| {
        let change = MountChange {
            set: u64::from(set.bits()),
            clear: u64::from(clear.bits()),
            recursive,
            ..MountChange::default()
        };
        change_mount(mount, &change)
    };
    match attempt(wanted.to_set(), wanted.to_clear()) {
        Err(Errno::PERM) => {}
        other => return other.op("set mount flags"),
    }
    // One of them is locked (mount_namespaces(7), "Restrictions on mount namespaces"); for the
    // kernel `nodiratime` is one of the access times.
    let times = wanted.set & Attr::MOUNT_ATTR_NODIRATIME;
    attempt(wanted.set - times, Attr::empty()).op("set mount flags")?;
    for flag in wanted.clear.iter() {
        match attempt(Attr::empty(), flag) {
            Err(Errno::PERM) => warnings.push(locked(&options::describe(flag))),
            other => other.op("clear mount flag")?,
        }
    }
    let times = Attributes {
        set: times,
        clear: Attr::empty(),
        atime: wanted.atime,
    };
    match attempt(times.to_set(), times.to_clear()) {
        Err(Errno::PERM) => warnings.push(locked("its setting of access times")),
        other => other.op("set access times")?,
    }
    Ok(())
}

fn locked(what: &str) -> String {
    format!("keeps {what}, which is locked outside of the container's user namespace")
}
