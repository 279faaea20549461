//! System calls on mounts that no safe wrapper offers.
//!
//! Responsible for mount_setattr(2) in full, and for user namespaces that exist only to carry an
//! id map. Must hold no policy. Invariant: as its parent module's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::io::Result;
use rustix::process::Pid;

use super::{Fork, check_long, exit, fork};

/// What changes about a mount, mount_setattr(2).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountChange<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear, before setting.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for no change.
    pub(crate) propagation: u64,
    /// The user namespace whose id map the mount gets.
    pub(crate) id_map: Option<BorrowedFd<'a>>,
    /// Whether the mounts below change as well.
    pub(crate) recursive: bool,
}

/// Changes the mount whose root `fd` refers to, Linux 5.12.
pub(crate) fn change_mount(fd: BorrowedFd<'_>, change: &MountChange<'_>) -> Result<()> {
    let mut set = change.set;
    let mut userns_fd = 0;
    if let Some(namespace) = change.id_map {
        set |= libc::MOUNT_ATTR_IDMAP;
        userns_fd = u64::from(namespace.as_raw_fd().cast_unsigned());
    }
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a valid C string and the size is that of the structure.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    };
    check_long(ret).map(drop)
}

/// Starts a process in a new user namespace that does nothing until it is killed. It ends with
/// its parent.
pub(crate) fn start_idle_in_user_namespace() -> Result<(Pid, OwnedFd)> {
    let (wait, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes three system calls and ends by `exit`.
    let fork = unsafe { fork(libc::CLONE_NEWUSER as u64) }?;
    match fork {
        Fork::Child => {
            // Refused only when there is no such signal.
            let _: Result<()> = rustix::process::set_parent_process_death_signal(Some(
                rustix::process::Signal::KILL,
            ));
            let _: Result<usize> =
                rustix::io::retry_on_intr(|| rustix::io::read(wait.as_fd(), &mut [0]));
            drop(hold);
            exit(0)
        }
        Fork::Parent(pid, pidfd) => Ok((pid, pidfd)),
    }
}
