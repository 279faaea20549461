//! seccomp user notification, seccomp_unotify(2), and what a supervisor does to its callers.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::c_ulong;
use rustix::io::{Errno, Result};
use rustix::process::Pid;

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Names the call; no other one of the listener has it.
    pub(crate) id: u64,
    /// The calling thread, in the receiver's pid namespace.
    pub(crate) tid: Pid,
    pub(crate) number: i32,
    pub(crate) arguments: [u64; 6],
}

/// What the caller gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    /// The kernel executes the call (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`, Linux 5.5).
    Continue,
    /// The call returns this without having been executed.
    Value(i64),
    Error(Errno),
}

fn ioctl<T>(fd: BorrowedFd<'_>, request: c_ulong, argument: *mut T) -> Result<i32> {
    // SAFETY: the callers pass a valid pointer to what the request reads or writes.
    super::check(unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) })
}

/// Receives a call; waits for one. `ENOENT` when the caller has been killed meanwhile, or (Linux
/// 6.11) when nobody is left who could call.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification> {
    // The kernel wants zeros.
    let mut got = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args: [0; 6],
        },
    };
    ioctl(
        listener,
        libc::SECCOMP_IOCTL_NOTIF_RECV,
        ptr::from_mut(&mut got),
    )?;
    let tid = i32::try_from(got.pid).ok().and_then(Pid::from_raw);
    Ok(Notification {
        id: got.id,
        tid: tid.ok_or(Errno::SRCH)?,
        number: got.data.nr,
        arguments: got.data.args,
    })
}

/// Answers a call. `ENOENT` when its caller has been killed.
pub(crate) fn reply(listener: BorrowedFd<'_>, id: u64, reply: Reply) -> Result<()> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: 0,
    };
    match reply {
        Reply::Continue => {
            response.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        }
        Reply::Value(value) => response.val = value,
        Reply::Error(errno) => response.error = -errno.raw_os_error(),
    }
    ioctl(
        listener,
        libc::SECCOMP_IOCTL_NOTIF_SEND,
        ptr::from_mut(&mut response),
    )
    .map(drop)
}

/// Says whether a call still waits: only then its thread's number still means that thread.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    let mut id = id;
    ioctl(
        listener,
        libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
        ptr::from_mut(&mut id),
    )
    .is_ok()
}

/// Gives the caller a copy of a descriptor; returns its number there (Linux 5.9).
pub(crate) fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<RawFd> {
    let mut request = libc::seccomp_notif_addfd {
        id,
        flags: 0,
        srcfd: fd.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    ioctl(
        listener,
        libc::SECCOMP_IOCTL_NOTIF_ADDFD,
        ptr::from_mut(&mut request),
    )
}

/// Chooses whether an answer lets the caller run at once on this processor
/// (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6). `EINVAL` or `ENOTTY` before that.
pub(crate) fn set_synchronous(listener: BorrowedFd<'_>, synchronous: bool) -> Result<()> {
    // The argument is the flags themselves, not a pointer to them.
    let flags = ptr::without_provenance_mut::<u64>(usize::from(synchronous));
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags).map(drop)
}

/// Reads another process' memory, process_vm_readv(2). Returns how much could be read.
pub(crate) fn read_memory(tid: Pid, address: u64, buffer: &mut [u8]) -> Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = foreign(address, buffer.len())?;
    // SAFETY: the local vector is a mutable buffer of ours; the remote one is the kernel's to check.
    let read = unsafe {
        libc::process_vm_readv(
            tid.as_raw_pid(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    count(read)
}

/// Writes another process' memory, process_vm_writev(2). Returns how much could be written.
pub(crate) fn write_memory(tid: Pid, address: u64, bytes: &[u8]) -> Result<usize> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = foreign(address, bytes.len())?;
    // SAFETY: the kernel only reads the local vector; the remote one is its to check.
    let written = unsafe {
        libc::process_vm_writev(
            tid.as_raw_pid(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    count(written)
}

fn foreign(address: u64, length: usize) -> Result<libc::iovec> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    Ok(libc::iovec {
        iov_base: ptr::without_provenance_mut(address),
        iov_len: length,
    })
}

fn count(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| super::last_errno())
}

/// Returns the soft limit on uninterrupted real-time processing of a thread's process, and sets it
/// where a value is given; prlimit(2), `RLIMIT_RTTIME`.
pub(crate) fn realtime_limit(tid: Pid, new: Option<u64>) -> Result<u64> {
    let new = new.map(|soft| libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: libc::RLIM64_INFINITY,
    });
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structures are ours; a null one is not read.
    let ret = unsafe {
        libc::prlimit64(
            tid.as_raw_pid(),
            libc::RLIMIT_RTTIME,
            new.as_ref().map_or(ptr::null(), ptr::from_ref),
            &raw mut old,
        )
    };
    super::check(ret).map(|_| old.rlim_cur)
}

/// Turns a number that a forked child has opened into a descriptor of ours, pidfd_getfd(2).
pub(crate) fn take_fd(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let fd = RawFd::try_from(super::check_long(ret)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Views a structure of the kernel's interface as bytes.
pub(crate) fn bytes_of_stat(stat: &libc::stat) -> &[u8] {
    // SAFETY: the structure holds integers only, and was zeroed before it was filled, so that its
    // padding is initialized too.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(stat).cast(), size_of::<libc::stat>()) }
}

/// Views a structure of the kernel's interface as bytes.
pub(crate) fn bytes_of_statx(statx: &libc::statx) -> &[u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(statx).cast(), size_of::<libc::statx>()) }
}

/// fstat(2) of any descriptor, as the kernel writes it.
pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    // SAFETY: zeros are valid integers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure.
    super::check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) })?;
    Ok(stat)
}

/// statx(2) of any descriptor, as the kernel writes it.
pub(crate) fn statx_fd(fd: BorrowedFd<'_>, flags: i32, mask: u32) -> Result<libc::statx> {
    // SAFETY: zeros are valid integers.
    let mut statx: libc::statx = unsafe { std::mem::zeroed() };
    let flags = flags | libc::AT_EMPTY_PATH;
    // SAFETY: the kernel writes one structure.
    let ret = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut statx) };
    super::check(ret)?;
    Ok(statx)
}
