//! New file systems: proc, sysfs, tmpfs, devpts, mqueue, overlay, and any other type by name.
//!
//! Responsible for making them as detached mounts with the options that `config.json` gives. Must
//! not know destinations beyond a descriptor. Invariant: an option that the file system refuses
//! is named in the error, with the kernel's own words where it has some.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags as Attr, MountFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::options::{Atime, Options};
use super::{bind, mount};
use crate::error::{Error, Result, ResultExt};
use crate::weaken::{self, Protection};

/// The longest value that fsconfig(2) takes as a string, with its zero byte.
const LONGEST_VALUE: usize = 256;

/// File systems of the kernel, whose instances are shared: only the mount of one is read-only.
const OF_THE_KERNEL: [&str; 9] = [
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "proc",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
];

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Type of the file system.
    pub(super) kind: &'a str,
    /// Device or name.
    pub(super) source: &'a str,
    /// Options of the file system, `key` or `key=value`.
    pub(super) data: &'a [String],
    /// All options.
    pub(super) options: &'a Options,
}

impl Request<'_> {
    fn source(&self) -> &str {
        if self.source.is_empty() {
            self.kind
        } else {
            self.source
        }
    }

    /// Whether only mount(2) can express it.
    pub(super) fn is_legacy(&self) -> bool {
        let long = |text: &str| text.len() >= LONGEST_VALUE;
        let value = |option: &String| option.split_once('=').is_some_and(|(_, v)| long(v));
        // fsconfig(2) would take an escaped comma as it is.
        let escaped = |option: &String| self.kind == "overlay" && option.contains(',');
        self.options.legacy != 0
            || long(self.source())
            || self.data.iter().any(|o| value(o) || escaped(o))
    }
}

/// Why a file system could not be made.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// The option that was refused, if it was one.
    option: Option<String>,
    /// What the kernel said, fsopen(2) "message retrieval".
    said: Option<String>,
}

impl Refusal {
    pub(super) fn into_error(self, kind: &str) -> Error {
        let op = match &self.option {
            Some(option) => format!("create {kind} with option `{option}`"),
            None => format!("create {kind}"),
        };
        let error = Error::new(op);
        let error = match (&self.said, self.errno) {
            (Some(said), errno) => error.cause(format!("{} ({said})", text(errno))),
            (None, Errno::NODEV) => error.cause("the kernel has no such file system".to_owned()),
            (None, errno) => error.cause(errno),
        };
        match (self.errno, self.option) {
            (Errno::INVAL, Some(_)) => {
                error.hint("it is neither an option of mounts nor one of this file system")
            }
            _ => error,
        }
    }
}

fn text(errno: Errno) -> String {
    crate::error::Cause::from(errno).to_string()
}

/// Makes a file system. It has the flags of `options`, except `without`.
pub(super) fn create(
    request: &Request<'_>,
    without: Attr,
    warnings: &mut Vec<String>,
) -> Result<std::result::Result<OwnedFd, Refusal>> {
    let made = match configure(request) {
        Ok(context) => fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            // Restrictive from the first moment; `dress` may only add.
            request.options.top.set - without,
        )
        .map_err(|errno| Refusal {
            errno,
            option: None,
            said: last_words(context.as_fd()),
        }),
        Err(refusal) => Err(refusal),
    };
    let fd = match made {
        Ok(fd) => fd,
        Err(refusal) => return Ok(Err(refusal)),
    };
    bind::dress(fd.as_fd(), request.options, without, warnings)?;
    Ok(Ok(fd))
}

fn configure(request: &Request<'_>) -> std::result::Result<OwnedFd, Refusal> {
    let context = fsopen(request.kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Refusal {
        errno,
        option: None,
        said: None,
    })?;
    let refused = |errno, option: Option<&str>| Refusal {
        errno,
        option: option.map(str::to_owned),
        said: last_words(context.as_fd()),
    };
    fsconfig_set_string(&context, "source", request.source()).map_err(|e| refused(e, None))?;
    set_options(&context, request).map_err(|(errno, option)| refused(errno, Some(&option)))?;
    fsconfig_create(&context).map_err(|e| refused(e, None))?;
    Ok(context)
}

fn set_options(context: &OwnedFd, request: &Request<'_>) -> Result<(), (Errno, String)> {
    let read_only = request.options.top.set.contains(Attr::MOUNT_ATTR_RDONLY)
        || request.options.all.set.contains(Attr::MOUNT_ATTR_RDONLY);
    if read_only && !OF_THE_KERNEL.contains(&request.kind) {
        fsconfig_set_flag(context, "ro").map_err(|e| (e, "ro".to_owned()))?;
    }
    for name in &request.options.file_system {
        fsconfig_set_flag(context, *name).map_err(|e| (e, (*name).to_owned()))?;
    }
    for option in request.data {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, option.as_str()),
        }
        .map_err(|e| (e, option.clone()))?;
    }
    Ok(())
}

/// Reads the last error message that the kernel left with a file system context.
fn last_words(context: BorrowedFd<'_>) -> Option<String> {
    let mut said = None;
    let mut line = [0; 1024];
    // Each read returns one message; ENODATA ends them.
    while let Ok(count @ 1..) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..count]);
        if let Some(text) = text.strip_prefix("e ") {
            said = Some(text.trim_end().to_owned());
        }
    }
    said
}

/// Mounts with mount(2), directly on the target: for what fsconfig(2) can't express.
pub(super) fn mount_legacy(request: &Request<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let mut flags = legacy_flags(request.options);
    flags |= MountFlags::from_bits_retain(u32::try_from(request.options.legacy).unwrap_or(0));
    let data = CString::new(request.data.join(","))
        .map_err(|e| Error::new("read options").cause(e.to_string()))?;
    // The link means this very descriptor, whatever its path says meanwhile.
    let place = format!("/proc/self/fd/{}", target.as_raw_fd());
    let source = request.source();
    rustix::mount::mount(source, place, request.kind, flags, data.as_c_str())
        .map_err(|errno| Error::new(format!("create {}", request.kind)).cause(errno))
}

fn legacy_flags(options: &Options) -> MountFlags {
    let set = options.top.set | options.all.set;
    let mut flags = MountFlags::empty();
    for (attribute, flag) in [
        (Attr::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (Attr::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (Attr::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (Attr::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (Attr::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (
            Attr::MOUNT_ATTR_NOSYMFOLLOW,
            MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as u32),
        ),
    ] {
        if set.contains(attribute) {
            flags |= flag;
        }
    }
    match options.all.atime.or(options.top.atime) {
        Some(Atime::Never) => flags |= MountFlags::NOATIME,
        Some(Atime::Relative) => flags |= MountFlags::RELATIME,
        Some(Atime::Strict) => flags |= MountFlags::STRICTATIME,
        None => {}
    }
    for name in &options.file_system {
        match *name {
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "async" => flags -= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "mand" => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            "nomand" => flags -= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "nolazytime" => flags -= MountFlags::LAZYTIME,
            _ => {}
        }
    }
    flags
}

/// Changes a file system that is mounted at `target`, fspick(2).
pub(super) fn reconfigure(request: &Request<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(target, "", flags).op("open mounted file system")?;
    set_options(&context, request).map_err(|(errno, option)| {
        Error::new(format!("change file system with option `{option}`")).cause(errno)
    })?;
    fsconfig_reconfigure(&context).map_err(|errno| {
        let error = Error::new("change file system");
        match last_words(context.as_fd()) {
            Some(said) => error.cause(format!("{} ({said})", text(errno))),
            None => error.cause(errno),
        }
    })
}

/// Copies a mount tree of the host that stands in for a file system that the kernel refuses to
/// make, with the flags of `options` in all its parts.
pub(super) fn stand_in(
    path: &Path,
    options: &Options,
    forced: Attr,
    warnings: &mut Vec<String>,
) -> Result<OwnedFd> {
    let tree = mount::copy(path, true).op_path("bind", path)?;
    bind::follow_only(tree.as_fd()).op_path("bind", path)?;
    let restrictive = options.top.set | options.all.set | forced;
    let all = !weaken::off(Protection::StandIn);
    mount::restrict(tree.as_fd(), all, restrictive).op_path("bind", path)?;
    let mut rest = options.clone();
    rest.top.clear -= restrictive;
    rest.all.clear -= restrictive;
    bind::dress(tree.as_fd(), &rest, Attr::empty(), warnings)?;
    Ok(tree)
}
