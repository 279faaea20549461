//! Terminals of containers.
//!
//! Responsible for making a pseudoterminal in a container's own devpts, making it the terminal of
//! a process, and showing it as `/dev/console`. Must not know who is at the other end. Invariant:
//! no path of the container is trusted (CVE-2025-52565 of runc): the devpts is known by its file
//! system type, and the container's side is opened by way of the other side, not by its name.

mod relay;
mod socket;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Uid, fstat, fstatfs, openat2};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Error, Result, ResultExt};
use crate::path::Root;
use crate::rootfs::mount;
use crate::spec::ConsoleSize;
use crate::sys;
use crate::weaken::{self, Protection};

pub use relay::Relay;
pub use socket::{connect, send};

/// Magic number of devpts (include/uapi/linux/magic.h).
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
/// Inode number of the root of every devpts (fs/devpts/inode.c).
const ROOT_INODE: u64 = 1;
/// Device number of every `ptmx`.
const PTMX: (u32, u32) = (5, 2);

/// A pseudoterminal, pty(7).
#[derive(Debug)]
pub struct Terminal {
    /// The side of whoever looks on.
    pub master: OwnedFd,
    /// The container's side.
    pub peer: OwnedFd,
    /// The container's name for its side, such as `/dev/pts/0`.
    pub name: String,
}

impl Terminal {
    /// Makes a pseudoterminal in the devpts that is mounted on `/dev/pts` below a root.
    ///
    /// # Errors
    /// There is no devpts, or it gives no more terminals.
    pub fn open(root: &Root) -> Result<Self> {
        const OP: &str = "open terminal";
        let dir = root.open_dir("/dev/pts").op_path(OP, "/dev/pts")?;
        let kind = fstatfs(&dir).op_path(OP, "/dev/pts")?.f_type;
        let inode = fstat(&dir).op_path(OP, "/dev/pts")?.st_ino;
        if kind != DEVPTS_SUPER_MAGIC || inode != ROOT_INODE {
            return Err(Error::new(OP)
                .path("/dev/pts")
                .cause("not the root of a devpts file system".to_owned())
                .hint("add a mount of type `devpts` to the configuration"));
        }
        // Only the kernel makes files in a devpts, so opening one by name has no surprises, unless
        // something was mounted on it.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let master =
            openat2(&dir, c"ptmx", flags, Mode::empty(), resolve).op_path(OP, "/dev/pts/ptmx")?;
        let device = fstat(&master).op_path(OP, "/dev/pts/ptmx")?.st_rdev;
        if (rustix::fs::major(device), rustix::fs::minor(device)) != PTMX {
            return Err(Error::new("not a terminal multiplexer").path("/dev/pts/ptmx"));
        }
        Self::of_master(master)
    }

    fn of_master(master: OwnedFd) -> Result<Self> {
        rustix::pty::unlockpt(&master).op("unlock terminal")?;
        let name = rustix::pty::ptsname(&master, Vec::new()).op("name terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).op("open terminal's peer")?;
        Ok(Self {
            master,
            peer,
            name: name.to_string_lossy().into_owned(),
        })
    }

    /// Sets the size that programs find.
    pub fn resize(&self, size: ConsoleSize) -> Result<()> {
        resize(self.master.as_fd(), size)
    }

    /// Makes the terminal the calling process's standard descriptors and, when it leads a session,
    /// its controlling terminal; and gives it to `owner` (an id in the container), who may then
    /// open it again by its name. Usable in a forked child.
    pub fn adopt(&self, owner: Uid) -> rustix::io::Result<()> {
        adopt(self.peer.as_fd(), owner)
    }

    /// Shows the terminal as `/dev/console` below a root.
    ///
    /// # Errors
    /// That is neither missing nor a file or device, or nothing can be mounted.
    pub fn bind_console(&self, root: &Root) -> Result<()> {
        const CONSOLE: &str = "/dev/console";
        const OP: &str = "mount console";
        let entry = root.entry(CONSOLE).op_path(OP, CONSOLE)?;
        let entry = entry.ok_or_else(|| Error::new(OP).path(CONSOLE))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&entry.dir, &entry.name, flags, Mode::from_raw_mode(0o600)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::new(OP).path(CONSOLE).cause(e)),
        }
        let mut flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !weaken::off(Protection::Console));
        let target = rustix::fs::openat(&entry.dir, &entry.name, flags, Mode::empty())
            .op_path(OP, CONSOLE)?;
        let kind = FileType::from_raw_mode(fstat(&target).op_path(OP, CONSOLE)?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::CharacterDevice) {
            let why = "neither a file nor a device".to_owned();
            return Err(Error::new(OP).path(CONSOLE).cause(why));
        }
        let copy = mount::copy_at(self.peer.as_fd(), false).op_path(OP, CONSOLE)?;
        mount::attach(copy, target).op_path(OP, CONSOLE)
    }
}

/// Sets a terminal's size, by either side.
pub fn resize(terminal: BorrowedFd<'_>, size: ConsoleSize) -> Result<()> {
    let size = Winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).op("set size of terminal")
}

/// As [`Terminal::adopt`], for a descriptor.
pub fn adopt(peer: BorrowedFd<'_>, owner: Uid) -> rustix::io::Result<()> {
    // The group stays the one of the mount option `gid`, usually `tty`.
    match rustix::fs::fchown(peer, Some(owner), None) {
        // An id that is not mapped can't own it, and does not have to.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        other => other?,
    }
    match rustix::process::ioctl_tiocsctty(peer) {
        // Not the leader of a session, or one that has a terminal.
        Ok(()) | Err(Errno::PERM) => {}
        other => other?,
    }
    for number in 0..3 {
        sys::dup_onto(peer, number, false)?;
    }
    Ok(())
}

/// Opens a root for the paths above: the caller's own `/`, once it is the container's.
pub fn own_root() -> Result<Root> {
    Root::open_host(Path::new("/")).op_path("open", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal for tests, which run as users that the system's `/dev/pts/ptmx` is closed to.
    pub(super) fn any_terminal() -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        Terminal::of_master(rustix::pty::openpt(flags).expect("master")).expect("terminal")
    }

    #[test]
    fn a_terminal_of_this_systems_devpts() {
        let terminal = match Terminal::open(&own_root().expect("root")) {
            Err(e) if e.errno() == Some(libc::EACCES) => {
                println!("SKIP: this system's devpts is mounted with ptmxmode=000");
                any_terminal()
            }
            other => other.expect("open"),
        };
        assert!(terminal.name.starts_with("/dev/pts/"), "{}", terminal.name);
        let size = ConsoleSize {
            height: 33,
            width: 77,
        };
        terminal.resize(size).expect("resize");
        let found = rustix::termios::tcgetwinsize(&terminal.peer).expect("size");
        assert_eq!((found.ws_row, found.ws_col), (33, 77));
    }

    #[test]
    fn what_only_looks_like_a_devpts_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("root");
        assert!(Terminal::open(&root).is_err());
        std::fs::create_dir_all(dir.path().join("dev/pts")).expect("mkdir");
        std::fs::write(dir.path().join("dev/pts/ptmx"), "").expect("write");
        let error = Terminal::open(&root).expect_err("a plain directory");
        assert_eq!(error.hints().len(), 1);
        std::fs::remove_dir_all(dir.path().join("dev/pts")).expect("remove");
        std::os::unix::fs::symlink("/dev/pts", dir.path().join("dev/pts")).expect("link");
        assert!(Terminal::open(&root).is_err());
    }
}
