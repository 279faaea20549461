//! The runtime's own file, which enters containers.
//!
//! Responsible for executing this program again from something that no container can write to:
//! `/proc/PID/exe` of a process that enters one leads to its file (CVE-2019-5736 of runc, also by
//! way of an image's `#!/proc/self/exe`). Must not be called when there is anything to lose.
//! Invariant: when [`seal`] returns, that file is on a read-only mount, sealed, or belongs to
//! somebody that no container of the caller can be.

use std::ffi::{CString, OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    Access, AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_get_seals,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::{Error, Result, ResultExt};
use crate::rootfs::mount;
use crate::sys;
use crate::weaken::{self, Protection};

const SELF: &str = "/proc/self/exe";
const OP: &str = "protect the runtime's program";
/// In the environment of an execution that was to be the last.
const MARK: &str = "_SANDCRAB_SEALED";
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Makes sure that the calling program can't be written to by a container, by executing it again
/// with the same arguments and environment if need be. Descriptors from `first` on are not kept
/// then. To be called before anything else is done.
///
/// # Errors
/// It could be written to, and can't be protected.
pub fn seal(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    first: u32,
) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let program = rustix::fs::open(SELF, flags, Mode::empty()).op_path(OP, SELF)?;
    if weaken::off(Protection::Program) || is_sealed(&program)? {
        return Ok(());
    }
    let mut env = Vec::new();
    for (name, value) in environment {
        if name == MARK {
            return Err(Error::new(OP).cause("its copy can be written to, too".to_owned()));
        }
        env.push(join(&[&name, OsStr::new("="), &value])?);
    }
    env.push(join(&[OsStr::new(MARK), OsStr::new("=1")])?);
    let arguments = arguments.into_iter();
    let argv = arguments
        .map(|word| join(&[&word]))
        .collect::<Result<Vec<_>>>()?;
    let copy = match read_only(&program) {
        Ok(copy) => copy,
        // Without the privilege to mount.
        Err(Errno::PERM | Errno::INVAL | Errno::NOSYS) => copy(program)?,
        Err(errno) => return Err(errno).op(OP),
    };
    if !weaken::off(Protection::Descriptors) {
        sys::close_on_exec_from(first).op(OP)?;
    }
    let errno = sys::execute_fd(copy.as_fd(), &sys::pointers(&argv), &sys::pointers(&env));
    Err(Error::new(OP).cause(errno))
}

/// Says whether no container of the caller can write to the file.
fn is_sealed(program: &OwnedFd) -> Result<bool> {
    let mount = rustix::fs::fstatvfs(program).op_path(OP, SELF)?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    if fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(true);
    }
    match rustix::fs::accessat(CWD, SELF, Access::WRITE_OK, AtFlags::EACCESS) {
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
        _ => return Ok(false),
    }
    let stat = rustix::fs::fstat(program).op_path(OP, SELF)?;
    // Of root, whom the caller isn't; or of an id that the caller's user namespace lacks.
    let foreign = |id| id == 0 || id == OVERFLOW;
    let owner = foreign(stat.st_uid) && stat.st_uid != rustix::process::geteuid().as_raw();
    let group = stat.st_mode & 0o020 == 0 || foreign(stat.st_gid);
    Ok(owner && group && stat.st_mode & 0o002 == 0)
}

/// What the kernel shows instead of an id that is not mapped (proc_sys_kernel(5), `overflowuid`).
const OVERFLOW: u32 = 65_534;

/// The file on a read-only mount that nobody else sees.
fn read_only(program: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let copy = mount::copy_at(program.as_fd(), false)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    mount::restrict(copy.as_fd(), false, attributes)?;
    Ok(copy)
}

/// The file in memory, unchangeable.
fn copy(program: OwnedFd) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match rustix::fs::memfd_create("sandcrab-oci", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 all of them can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create("sandcrab-oci", flags),
        other => other,
    };
    let mut file = std::fs::File::from(made.op(OP)?);
    std::io::copy(&mut std::fs::File::from(program), &mut file).op(OP)?;
    file.flush().op(OP)?;
    rustix::fs::fcntl_add_seals(&file, SEALS).op(OP)?;
    Ok(file.into())
}

fn join(parts: &[&OsStr]) -> Result<CString> {
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let joined = CString::new(bytes.concat()).ok();
    joined.ok_or_else(|| Error::new(OP).cause("a null character in the command line".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_memory_counts_as_sealed() {
        let open = || rustix::fs::open(SELF, OFlags::RDONLY, Mode::empty()).expect("open");
        let copy = copy(open()).expect("copy");
        assert!(is_sealed(&copy).expect("look"));
        assert_eq!(rustix::io::write(&copy, b"x"), Err(Errno::PERM));
    }

    #[test]
    fn a_read_only_mount_counts_as_sealed() {
        let program = rustix::fs::open(SELF, OFlags::RDONLY, Mode::empty()).expect("open");
        // Only root may mount.
        if let Ok(copy) = read_only(&program) {
            let open = rustix::fs::fstatvfs(&copy).expect("look");
            assert!(open.f_flag.contains(StatVfsMountFlags::RDONLY));
        }
    }
}
