//! Programs for other processors: a container executes them by an emulator.
//!
//! Responsible for finding qemu, and for registering it with the kernel in the container's own user
//! namespace (Linux 6.7), so that nothing on the machine changes. Must not know of images. Invariant:
//! the registration is on a mount that is attached nowhere, and goes with its descriptor; what the
//! kernel executes is on a read-only mount, which no container can write through.

mod format;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result, ResultExt};
use crate::rootfs::mount;
use crate::sys;

pub use format::Format;

/// Where emulators are, in order.
const PLACES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// Where the machine's own registrations are.
const HOST: &str = "/proc/sys/fs/binfmt_misc";

/// What is missing.
const INSTALL: &str = "install the package `qemu-user-static`";

/// An emulator for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    format: &'static Format,
    /// None where only the machine's own registration can help.
    program: Option<PathBuf>,
}

/// A registration, in force as long as this is there.
#[derive(Debug)]
pub(crate) struct Registered {
    _mount: Option<OwnedFd>,
}

/// How programs of an architecture can be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// By this program, which each container registers for itself.
    Program(PathBuf),
    /// By what the machine has registered for all.
    Registration,
    /// Not at all.
    None,
}

/// Says how programs of an architecture, under qemu's name, can be executed here; whether the
/// kernel lets a user namespace register is seen only then.
pub fn means(architecture: &str) -> Means {
    let Some(format) = Format::named(architecture) else {
        return Means::None;
    };
    match program(format) {
        Some(program) => Means::Program(program),
        None if is_registered(format) => Means::Registration,
        None => Means::None,
    }
}

impl Emulator {
    /// Finds the emulator of an architecture, which is named as qemu names it.
    ///
    /// # Errors
    /// There is none; the hint says what to install.
    pub fn find(architecture: &str) -> Result<Self> {
        let Some(format) = Format::named(architecture) else {
            let text = format!("programs for `{architecture}` can't be emulated");
            return Err(Error::new(text));
        };
        let program = program(format);
        if program.is_none() && !is_registered(format) {
            let text = format!("there is no `qemu-{architecture}-static` to run its programs by");
            return Err(Error::new(text).hint(INSTALL));
        }
        Ok(Self { format, program })
    }

    /// Returns qemu's name of the architecture.
    pub fn architecture(&self) -> &'static str {
        self.format.name
    }

    /// Tells whether this processor could execute the programs, too, in its 32-bit mode.
    pub(crate) fn is_native(&self) -> bool {
        let other = match std::env::consts::ARCH {
            "x86_64" => "i386",
            "aarch64" => "arm",
            _ => return false,
        };
        self.format.name == other
    }

    /// Lets the kernel execute such programs in a user namespace, which none of the callers'
    /// surrounding ones is; without one, only the machine's own registration can do that. The
    /// calling thread has a mount namespace of its own, with the machine's file systems in it.
    ///
    /// # Errors
    /// The kernel has refused, and the machine has no registration of its own.
    pub(crate) fn register(&self, user_namespace: Option<&OwnedFd>) -> Result<Registered> {
        let made = match (&self.program, user_namespace) {
            (Some(program), Some(user)) => match instance(user)? {
                Ok(mount) => {
                    self.write(program, &mount)?;
                    return Ok(Registered {
                        _mount: Some(mount),
                    });
                }
                Err(errno) => Some(errno),
            },
            _ => None,
        };
        if is_registered(self.format) {
            return Ok(Registered { _mount: None });
        }
        let name = self.format.name;
        let error = Error::new(format!("let the kernel execute programs for `{name}`"));
        Err(match made {
            Some(errno) => error.cause(errno).hint(
                "before Linux 6.7 only root can do that, for the whole machine: let it register \
                 qemu-user-static with binfmt_misc, with the flag F",
            ),
            None => error
                .cause("without a user namespace it takes a registration of the machine".to_owned())
                .hint("leave out `--isolation=host`"),
        })
    }

    fn write(&self, program: &Path, instance: &OwnedFd) -> Result<()> {
        const OP: &str = "register emulator";
        let file = protected(program)?;
        // The kernel opens it now, by the name that this thread gives it.
        let name = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
        let line = self.format.registration(&name);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let register = rustix::fs::openat(instance, "register", flags, Mode::empty()).op(OP)?;
        rustix::io::write(&register, line.as_bytes())
            .map(drop)
            .op_path(OP, program)
    }
}

/// Finds the program of an emulator.
fn program(format: &Format) -> Option<PathBuf> {
    let name = format!("qemu-{}-static", format.name);
    PLACES
        .iter()
        .map(|place| Path::new(place).join(&name))
        .find(|path| rustix::fs::accessat(CWD, path, EXECUTE, AtFlags::EACCESS).is_ok())
}

const EXECUTE: rustix::fs::Access = rustix::fs::Access::EXEC_OK;

/// Opens a program on a read-only mount of its own: `/proc/PID/exe` of every process that it
/// interprets leads to it.
fn protected(program: &Path) -> Result<OwnedFd> {
    const OP: &str = "protect emulator";
    let file = mount::copy(program, false).op_path(OP, program)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    mount::restrict(file.as_fd(), false, attributes).op_path(OP, program)?;
    Ok(file)
}

/// Makes the binfmt_misc of a user namespace, attached nowhere. What the kernel has refused is in
/// the inner result.
fn instance(user: &OwnedFd) -> Result<rustix::io::Result<OwnedFd>> {
    let make = || {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
        // Whoever mounts needs a mount namespace that the user namespace owns.
        sys::unshare(libc::CLONE_NEWNS)?;
        let context = fsopen(c"binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, mount::INERT)
    };
    // SAFETY: `make` makes system calls only.
    #[expect(unsafe_code, reason = "a clone site")]
    unsafe { sys::open_by_child(make) }.op("create binfmt_misc")
}

/// Tells whether the machine executes such programs in every container.
fn is_registered(format: &Format) -> bool {
    let enabled = std::fs::read_to_string(Path::new(HOST).join("status"));
    if !enabled.is_ok_and(|status| status.trim() == "enabled") {
        return false;
    }
    let Ok(entries) = std::fs::read_dir(HOST) else {
        return false;
    };
    entries.flatten().any(|entry| {
        // `register` can't be read.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        format.is_served_by(&text)
    })
}
