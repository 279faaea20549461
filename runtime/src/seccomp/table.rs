//! System call numbers by purpose.
//!
//! Responsible for the lists that the default profile is made of, for the architecture that this
//! is compiled for. Must not hold conditions. Invariant: no number is in two lists.

use libc as l;

/// Calls that have had the same number on every architecture since Linux 5.1, and that the C
/// library's bindings do not name yet (`scripts/syscall.tbl` of the kernel).
pub(super) mod unnamed {
    pub(crate) const CACHESTAT: i64 = 451;
    pub(crate) const FCHMODAT2: i64 = 452;
    pub(crate) const MAP_SHADOW_STACK: i64 = 453;
    pub(crate) const FUTEX_WAKE: i64 = 454;
    pub(crate) const FUTEX_WAIT: i64 = 455;
    pub(crate) const FUTEX_REQUEUE: i64 = 456;
    pub(crate) const STATMOUNT: i64 = 457;
    pub(crate) const LISTMOUNT: i64 = 458;
    pub(crate) const SETXATTRAT: i64 = 463;
    pub(crate) const GETXATTRAT: i64 = 464;
    pub(crate) const LISTXATTRAT: i64 = 465;
    pub(crate) const REMOVEXATTRAT: i64 = 466;
    pub(crate) const OPEN_TREE_ATTR: i64 = 467;
    pub(crate) const FILE_GETATTR: i64 = 468;
    pub(crate) const FILE_SETATTR: i64 = 469;
}

/// The highest number that was looked at when these lists were made. Higher ones do not exist as
/// far as a container can tell, so that C libraries fall back.
pub(super) const NEWEST: u32 = 469;

/// Calls that do not exist as far as a container can tell: their arguments can't be inspected, or
/// programs cope with their absence but not with a refusal.
pub(super) const ABSENT: [i64; 6] = [
    l::SYS_clone3,
    unnamed::STATMOUNT,
    unnamed::LISTMOUNT,
    unnamed::OPEN_TREE_ATTR,
    unnamed::FILE_GETATTR,
    unnamed::FILE_SETATTR,
];

/// Calls that every container may make, on every architecture.
#[rustfmt::skip]
pub(super) const ALLOWED: &[i64] = &[
    // Files by path and by descriptor.
    l::SYS_openat, l::SYS_openat2, l::SYS_close, l::SYS_close_range, l::SYS_read, l::SYS_readv,
    l::SYS_pread64, l::SYS_preadv, l::SYS_preadv2, l::SYS_write, l::SYS_writev, l::SYS_pwrite64,
    l::SYS_pwritev, l::SYS_pwritev2, l::SYS_lseek, l::SYS_fcntl, l::SYS_ioctl, l::SYS_flock,
    l::SYS_dup, l::SYS_dup3, l::SYS_pipe2, l::SYS_splice, l::SYS_tee, l::SYS_vmsplice,
    l::SYS_sendfile, l::SYS_copy_file_range, l::SYS_fallocate, l::SYS_fadvise64, l::SYS_readahead,
    l::SYS_truncate, l::SYS_ftruncate, l::SYS_sync, l::SYS_syncfs, l::SYS_fsync, l::SYS_fdatasync,
    l::SYS_newfstatat, l::SYS_fstat, l::SYS_statx, l::SYS_statfs, l::SYS_fstatfs,
    l::SYS_faccessat, l::SYS_faccessat2, l::SYS_fchmod, l::SYS_fchmodat, unnamed::FCHMODAT2,
    l::SYS_fchown, l::SYS_fchownat, l::SYS_utimensat, l::SYS_umask, l::SYS_mkdirat,
    l::SYS_mknodat, l::SYS_linkat, l::SYS_symlinkat, l::SYS_readlinkat, l::SYS_unlinkat,
    l::SYS_renameat2, l::SYS_getdents64, l::SYS_getcwd, l::SYS_chdir, l::SYS_fchdir,
    l::SYS_name_to_handle_at, unnamed::CACHESTAT,
    l::SYS_setxattr, l::SYS_lsetxattr, l::SYS_fsetxattr, unnamed::SETXATTRAT,
    l::SYS_getxattr, l::SYS_lgetxattr, l::SYS_fgetxattr, unnamed::GETXATTRAT,
    l::SYS_listxattr, l::SYS_llistxattr, l::SYS_flistxattr, unnamed::LISTXATTRAT,
    l::SYS_removexattr, l::SYS_lremovexattr, l::SYS_fremovexattr, unnamed::REMOVEXATTRAT,
    l::SYS_inotify_init1, l::SYS_inotify_add_watch, l::SYS_inotify_rm_watch, l::SYS_fanotify_mark,
    // Waiting.
    l::SYS_ppoll, l::SYS_pselect6, l::SYS_epoll_create1, l::SYS_epoll_ctl, l::SYS_epoll_pwait,
    l::SYS_epoll_pwait2, l::SYS_eventfd2, l::SYS_signalfd4, l::SYS_futex, l::SYS_futex_waitv,
    unnamed::FUTEX_WAKE, unnamed::FUTEX_WAIT, unnamed::FUTEX_REQUEUE,
    l::SYS_io_setup, l::SYS_io_submit, l::SYS_io_cancel, l::SYS_io_destroy, l::SYS_io_getevents,
    IO_PGETEVENTS,
    // Memory.
    l::SYS_brk, l::SYS_mmap, l::SYS_munmap, l::SYS_mremap, l::SYS_mprotect, l::SYS_madvise,
    l::SYS_msync, l::SYS_mincore, l::SYS_mlock, l::SYS_mlock2, l::SYS_mlockall, l::SYS_munlock,
    l::SYS_munlockall, l::SYS_remap_file_pages, l::SYS_membarrier, l::SYS_memfd_create,
    l::SYS_memfd_secret, l::SYS_mseal, l::SYS_pkey_alloc, l::SYS_pkey_free, l::SYS_pkey_mprotect,
    l::SYS_process_mrelease, unnamed::MAP_SHADOW_STACK,
    // Processes and identities.
    l::SYS_execve, l::SYS_execveat, l::SYS_exit, l::SYS_exit_group, l::SYS_wait4, l::SYS_waitid,
    l::SYS_kill, l::SYS_tkill, l::SYS_tgkill, l::SYS_pidfd_open, l::SYS_pidfd_send_signal,
    l::SYS_getpid, l::SYS_getppid, l::SYS_gettid, l::SYS_getpgid, l::SYS_setpgid, l::SYS_getsid,
    l::SYS_setsid, l::SYS_getuid, l::SYS_geteuid, l::SYS_getgid, l::SYS_getegid, l::SYS_getresuid,
    l::SYS_getresgid, l::SYS_getgroups, l::SYS_setuid, l::SYS_setgid, l::SYS_setreuid,
    l::SYS_setregid, l::SYS_setresuid, l::SYS_setresgid, l::SYS_setfsuid, l::SYS_setfsgid,
    l::SYS_setgroups, l::SYS_capget, l::SYS_capset, l::SYS_prctl, l::SYS_seccomp,
    l::SYS_landlock_create_ruleset, l::SYS_landlock_add_rule, l::SYS_landlock_restrict_self,
    l::SYS_ptrace, l::SYS_process_vm_readv, l::SYS_process_vm_writev,
    l::SYS_set_tid_address, l::SYS_set_robust_list, l::SYS_get_robust_list, l::SYS_rseq,
    l::SYS_restart_syscall, l::SYS_getpriority, l::SYS_setpriority, l::SYS_ioprio_get,
    l::SYS_ioprio_set, l::SYS_prlimit64, l::SYS_getrusage, l::SYS_times, l::SYS_getcpu,
    l::SYS_sched_yield, l::SYS_sched_getaffinity, l::SYS_sched_setaffinity, l::SYS_sched_getattr,
    l::SYS_sched_setattr, l::SYS_sched_getparam, l::SYS_sched_setparam, l::SYS_sched_getscheduler,
    l::SYS_sched_setscheduler, l::SYS_sched_get_priority_max, l::SYS_sched_get_priority_min,
    l::SYS_sched_rr_get_interval,
    // Signals and time.
    l::SYS_rt_sigaction, l::SYS_rt_sigprocmask, l::SYS_rt_sigpending, l::SYS_rt_sigtimedwait,
    l::SYS_rt_sigsuspend, l::SYS_rt_sigqueueinfo, l::SYS_rt_tgsigqueueinfo, l::SYS_rt_sigreturn,
    l::SYS_sigaltstack, l::SYS_nanosleep, l::SYS_gettimeofday, l::SYS_adjtimex,
    l::SYS_clock_adjtime, l::SYS_clock_getres, l::SYS_clock_gettime, l::SYS_clock_nanosleep,
    l::SYS_getitimer, l::SYS_setitimer, l::SYS_timer_create, l::SYS_timer_delete,
    l::SYS_timer_getoverrun, l::SYS_timer_gettime, l::SYS_timer_settime, l::SYS_timerfd_create,
    l::SYS_timerfd_gettime, l::SYS_timerfd_settime,
    // Sockets and System V and POSIX communication.
    l::SYS_socketpair, l::SYS_bind, l::SYS_listen, l::SYS_accept, l::SYS_accept4, l::SYS_connect,
    l::SYS_shutdown, l::SYS_getsockname, l::SYS_getpeername, l::SYS_getsockopt, l::SYS_setsockopt,
    l::SYS_sendto, l::SYS_sendmsg, l::SYS_sendmmsg, l::SYS_recvfrom, l::SYS_recvmsg,
    l::SYS_recvmmsg, l::SYS_shmget, l::SYS_shmat, l::SYS_shmdt, l::SYS_shmctl, l::SYS_semget,
    l::SYS_semop, l::SYS_semtimedop, l::SYS_semctl, l::SYS_msgget, l::SYS_msgsnd, l::SYS_msgrcv,
    l::SYS_msgctl, l::SYS_mq_open, l::SYS_mq_unlink, l::SYS_mq_timedsend, l::SYS_mq_timedreceive,
    l::SYS_mq_notify, l::SYS_mq_getsetattr,
    // The system.
    l::SYS_uname, l::SYS_sysinfo, l::SYS_getrandom,
    // What CAP_SYS_CHROOT, a default capability, brings.
    l::SYS_chroot,
];

#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: i64 = 333;
#[cfg(not(target_arch = "x86_64"))]
const IO_PGETEVENTS: i64 = 292;

/// Calls that only this architecture has; most are older forms of the above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const ALLOWED_HERE: &[i64] = &[
    l::SYS_open, l::SYS_creat, l::SYS_stat, l::SYS_lstat, l::SYS_access, l::SYS_dup2, l::SYS_pipe,
    l::SYS_chmod, l::SYS_chown, l::SYS_lchown, l::SYS_link, l::SYS_symlink, l::SYS_readlink,
    l::SYS_unlink, l::SYS_rename, l::SYS_renameat, l::SYS_mkdir, l::SYS_rmdir, l::SYS_mknod,
    l::SYS_getdents, l::SYS_utime, l::SYS_utimes, l::SYS_futimesat, l::SYS_sync_file_range,
    l::SYS_poll, l::SYS_select, l::SYS_epoll_create, l::SYS_epoll_wait, l::SYS_epoll_ctl_old,
    l::SYS_epoll_wait_old, l::SYS_eventfd, l::SYS_signalfd, l::SYS_inotify_init, l::SYS_fork,
    l::SYS_vfork, l::SYS_pause, l::SYS_alarm, l::SYS_time, l::SYS_getpgrp, l::SYS_getrlimit,
    l::SYS_setrlimit, l::SYS_arch_prctl, l::SYS_modify_ldt, l::SYS_set_thread_area,
    l::SYS_get_thread_area,
    // uretprobe(2), which the kernel itself makes programs call.
    335,
];

/// Calls that only this architecture has.
#[cfg(target_arch = "aarch64")]
pub(super) const ALLOWED_HERE: &[i64] = &[
    // renameat(2), sync_file_range(2), getrlimit(2) and setrlimit(2).
    38, 84, 163, 164,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_number_is_listed_twice() {
        let all: Vec<i64> = [ALLOWED, ALLOWED_HERE, &ABSENT].concat();
        let set: BTreeSet<i64> = all.iter().copied().collect();
        assert_eq!(set.len(), all.len());
        assert!(all.iter().all(|n| *n <= i64::from(NEWEST)));
    }

    #[test]
    fn dangerous_calls_are_not_listed() {
        let all: BTreeSet<i64> = ALLOWED.iter().chain(ALLOWED_HERE).copied().collect();
        for call in [
            l::SYS_mount,
            l::SYS_umount2,
            l::SYS_pivot_root,
            l::SYS_unshare,
            l::SYS_setns,
            l::SYS_bpf,
            l::SYS_perf_event_open,
            l::SYS_userfaultfd,
            l::SYS_io_uring_setup,
            l::SYS_keyctl,
            l::SYS_add_key,
            l::SYS_kexec_load,
            l::SYS_init_module,
            l::SYS_open_by_handle_at,
            l::SYS_fsopen,
            l::SYS_open_tree,
            l::SYS_move_mount,
            l::SYS_mount_setattr,
            l::SYS_reboot,
            l::SYS_pidfd_getfd,
            l::SYS_socket,
            l::SYS_clone,
            l::SYS_personality,
        ] {
            assert!(!all.contains(&call), "{call}");
        }
    }
}
