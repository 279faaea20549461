//! System calls that no safe wrapper offers.
//!
//! Responsible for every `unsafe` block of the crate. Must hold no policy. Invariant: functions
//! documented as usable in a forked child neither allocate nor lock.

mod bpf;
mod child;
#[cfg(test)]
mod credentials;
mod execute;
mod mounts;
pub(crate) mod notify;
mod probe;
mod scheduling;
mod seccomp;
mod spawn;

use std::ffi::{CStr, c_char, c_int, c_ulong};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

pub(crate) use bpf::{
    attach_device_program, detach_device_program, device_programs, load_device_program,
    program_by_id,
};
pub(crate) use child::open_by_child;
#[cfg(test)]
pub(crate) use credentials::call_with_numbers;
pub(crate) use execute::{execute_fd, is_open, namespace_kind, set_domain_name};
pub(crate) use mounts::{MountChange, change_mount, start_idle_in_user_namespace};
pub(crate) use probe::seccomp_has_flag;
pub(crate) use scheduling::{
    SchedulerAttributes, set_io_priority, set_memory_policy, set_personality, set_scheduler,
};
pub(crate) use seccomp::{seccomp_has_action, seccomp_has_flags, set_filter};
pub(crate) use spawn::spawn;

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The caller; the new process's id and pidfd.
    Parent(Pid, OwnedFd),
}

fn check(ret: c_int) -> Result<c_int> {
    if ret == -1 {
        Err(last_errno())
    } else {
        Ok(ret)
    }
}

fn check_long(ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 {
        Err(last_errno())
    } else {
        Ok(ret)
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Forks the calling thread into new namespaces (`CLONE_NEW*` bits of `flags`), clone3(2).
///
/// # Safety
/// When the process has other threads, the child may only call what neither allocates nor locks,
/// and must end by [`exit`] or [`execve`]. A child of a single-threaded process may do anything
/// but must end by [`exit`], since destructors and buffers belong to the parent.
pub(crate) unsafe fn fork(flags: u64) -> Result<Fork> {
    // SAFETY: the caller has made the same promise.
    unsafe { fork_into(flags, None) }
}

/// As [`fork`], into the control group of a directory of the version 2 hierarchy (Linux 5.7).
///
/// # Safety
/// As for [`fork`].
pub(crate) unsafe fn fork_into(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut flags = flags;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // A sibling is reported to the parent as its own child is: clone3(2) takes no other signal.
    let exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 {
        libc::SIGCHLD as u64
    } else {
        0
    };
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd().cast_unsigned().into()),
    };
    // SAFETY: the arguments are valid and without a stack, so this behaves as fork(2).
    let ret = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    };
    let pid = check_long(ret)?;
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        None => Ok(Fork::Child),
        Some(pid) => {
            // SAFETY: the kernel has just made this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(pid, pidfd))
        }
    }
}

/// Forks with libc's handlers (allocator, locks), for a child that runs ordinary code.
///
/// # Safety
/// The process must be single-threaded, and the child must end by [`exit`].
pub(crate) unsafe fn fork_whole() -> Result<Fork> {
    // SAFETY: the caller has promised that there is one thread.
    let pid = check(unsafe { libc::fork() })?;
    match Pid::from_raw(pid) {
        None => Ok(Fork::Child),
        Some(pid) => {
            // Our own child can't be reaped by anyone else, so the id still means it.
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
            Ok(Fork::Parent(pid, pidfd))
        }
    }
}

/// Ends the process at once. Usable in a forked child.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no state of ours.
    unsafe { libc::_exit(code) }
}

/// Replaces the program, execve(2). Returns only the error. Usable in a forked child.
///
/// Both pointer arrays must be those of [`pointers`].
pub(crate) fn execve(path: &CStr, argv: &Pointers<'_>, env: &Pointers<'_>) -> Errno {
    // SAFETY: `Pointers` ends with a null and borrows the strings it points to.
    unsafe { libc::execve(path.as_ptr(), argv.list.as_ptr(), env.list.as_ptr()) };
    last_errno()
}

/// A null-terminated array of C strings.
pub(crate) struct Pointers<'a> {
    list: Vec<*const c_char>,
    _strings: std::marker::PhantomData<&'a CStr>,
}

/// Makes the array that execve(2) wants. Allocates.
pub(crate) fn pointers(strings: &[std::ffi::CString]) -> Pointers<'_> {
    let mut list: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
    list.push(ptr::null());
    Pointers {
        list,
        _strings: std::marker::PhantomData,
    }
}

/// Marks all descriptors from `first` on as close-on-exec, close_range(2). Usable in a forked
/// child.
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes the descriptors `first..=last`.
///
/// # Safety
/// No value of this process may own one of them and use it afterwards.
pub(crate) unsafe fn close_fds(first: u32, last: u32) -> Result<()> {
    if first > last {
        return Ok(());
    }
    close_range(first, last, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: plain integers; the callers answer for ownership.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check_long(ret).map(drop)
}

/// Gives signals 1–31 their default action and unblocks all. Usable in a forked child.
pub(crate) fn reset_signals() -> Result<()> {
    for signal in 1..=31 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: the default action installs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let none: u64 = 0;
    // SAFETY: the kernel reads eight bytes, which is the size of its signal set.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&none),
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    check_long(ret).map(drop)
}

/// Blocks every signal in the calling thread. Usable in a forked child.
pub(crate) fn block_signals() {
    let all = u64::MAX;
    // SAFETY: the kernel reads eight bytes, which is the size of its signal set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&all),
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// Changes the attributes of the mount at `fd`, mount_setattr(2), Linux 5.12.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    recursive: bool,
    set: MountAttrFlags,
    propagation: u64,
) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
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

/// Joins a new anonymous session keyring, keyctl(2). Usable in a forked child.
pub(crate) fn join_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<c_char>(),
        )
    };
    check_long(ret).map(drop)
}

/// Removes a capability (its number) from the bounding set. `EINVAL` when the kernel does not
/// know the number. Usable in a forked child.
pub(crate) fn drop_bounding(capability: u32) -> Result<()> {
    // SAFETY: plain integers.
    let ret = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0, 0, 0) };
    check(ret).map(drop)
}

/// Clears the ambient capabilities. Usable in a forked child.
pub(crate) fn clear_ambient() -> Result<()> {
    // SAFETY: plain integers.
    let ret = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    check(ret).map(drop)
}

/// Returns the version of Landlock that the kernel offers.
pub(crate) fn landlock_abi() -> Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the attribute must be null and of size 0.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    check_long(ret).map(|n| u32::try_from(n).unwrap_or(0))
}

/// Sets the loopback interface of the calling thread's network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`.
    let ret = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            ptr::from_mut(&mut request),
        )
    };
    check(ret).map(drop)
}

/// Sends a signal to the process of a pidfd, by number, pidfd_send_signal(2).
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null `siginfo` makes this behave as kill(2).
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check_long(ret).map(drop)
}

/// Kills every other process of the pid namespace whose first one the caller is, and nothing where it
/// is not. None that was running or waiting makes another step. Usable in a forked child.
pub(crate) fn kill_namespace() {
    if rustix::process::getpid().is_init() {
        // SAFETY: plain integers.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// What a signal does without a handler.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// Nothing.
    Ignore,
    /// What signal(7) says.
    Default,
}

/// Sets what a signal does in this process.
pub(crate) fn set_action(signal: nix::sys::signal::Signal, action: Action) -> Result<()> {
    let handler = match action {
        Action::Ignore => libc::SIG_IGN,
        Action::Default => libc::SIG_DFL,
    };
    // SAFETY: neither value is a function of ours.
    let ret = unsafe { libc::signal(signal as c_int, handler) };
    if ret == libc::SIG_ERR {
        return Err(last_errno());
    }
    Ok(())
}

/// Closes a descriptor whose owner stays behind.
///
/// # Safety
/// The owner must never be used or dropped afterwards.
pub(crate) unsafe fn close_fd(fd: &OwnedFd) -> Result<()> {
    // SAFETY: the caller gives up the descriptor.
    check(unsafe { libc::close(fd.as_raw_fd()) }).map(drop)
}

/// Makes `number` refer to what `fd` refers to, dup3(2). Usable in a forked child.
///
/// Whoever owns `number` then owns that; the two must differ.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, number: RawFd, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: plain integers; a number stays open, whatever it refers to.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, flags) }).map(drop)
}

/// Ignores SIGCHLD, so that the kernel reaps children. Usable in a forked child.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is not a function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Enters new namespaces, unshare(2). Usable in a forked child.
pub(crate) fn unshare(flags: c_int) -> Result<()> {
    // SAFETY: without CLONE_FILES no descriptor changes its meaning.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Where the kernel finds the command line of this process.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    start: usize,
    end: usize,
}

/// Finds the command line in memory, proc_pid_stat(5) fields 48 and 49. Allocates.
pub(crate) fn find_arguments() -> Option<Arguments> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold blanks; field 3 follows it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(48 - 3);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (0 < start && start < end).then_some(Arguments { start, end })
}

impl Arguments {
    /// Overwrites the command line with zeros. Usable in a forked child.
    ///
    /// # Safety
    /// Nothing of this process may refer to its arguments any more.
    pub(crate) unsafe fn wipe(self) {
        let start = ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel has named the range, which lies on the writable initial stack.
        unsafe { start.write_bytes(0, self.end - self.start) };
    }
}
