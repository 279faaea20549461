//! The profile of RUN steps.
//!
//! Responsible for which calls are allowed, and with which arguments: Docker's default profile
//! for the default capabilities, without AF_ALG sockets and x32. Must not know numbers of calls.
//! Invariant: no call is in two lists; what is in none is refused with `EPERM`, newer calls and
//! foreign entry points do not exist.
//!
//! 32-bit programs get the same. What they do by socketcall(2) is decided by the call behind it,
//! so that sockets are only made by socket(2), whose address family can be seen.

use rustix::thread::CapabilitySet;

use super::action::Action;
use super::architecture::{Architecture, Family};
use super::profile::{Condition, Profile, Rule, Test};

/// Calls that do not exist as far as a container can tell: their arguments can't be inspected, or
/// programs cope with their absence but not with a refusal. The highest number here is the newest
/// that was looked at when these lists were made.
const ABSENT: &[&str] = &[
    "clone3",
    "statmount",
    "listmount",
    "open_tree_attr",
    "file_getattr",
    "file_setattr",
];

/// Calls that every container may make.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    // Files by path and by descriptor.
    "openat", "openat2", "close", "close_range", "read", "readv", "pread64", "preadv", "preadv2",
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "fcntl", "ioctl", "flock", "dup",
    "dup3", "pipe2", "splice", "tee", "vmsplice", "sendfile", "copy_file_range", "fallocate",
    "fadvise64", "readahead", "truncate", "ftruncate", "sync", "syncfs", "fsync", "fdatasync",
    "newfstatat", "fstat", "statx", "statfs", "fstatfs", "faccessat", "faccessat2", "fchmod",
    "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat", "umask", "mkdirat", "mknodat",
    "linkat", "symlinkat", "readlinkat", "unlinkat", "renameat2", "getdents64", "getcwd", "chdir",
    "fchdir", "name_to_handle_at", "cachestat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
    "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "listxattr", "llistxattr", "flistxattr",
    "listxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "inotify_init1",
    "inotify_add_watch", "inotify_rm_watch", "fanotify_mark",
    // Waiting.
    "ppoll", "pselect6", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "eventfd2",
    "signalfd4", "futex", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue", "io_setup",
    "io_submit", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    // Memory.
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mincore", "mlock", "mlock2",
    "mlockall", "munlock", "munlockall", "remap_file_pages", "membarrier", "memfd_create",
    "memfd_secret", "mseal", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease",
    "map_shadow_stack",
    // Processes and identities.
    "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "kill", "tkill", "tgkill",
    "pidfd_open", "pidfd_send_signal", "getpid", "getppid", "gettid", "getpgid", "setpgid",
    "getsid", "setsid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
    "getgroups", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
    "setfsgid", "setgroups", "capget", "capset", "prctl", "seccomp", "landlock_create_ruleset",
    "landlock_add_rule", "landlock_restrict_self", "ptrace", "process_vm_readv",
    "process_vm_writev", "set_tid_address", "set_robust_list", "get_robust_list", "rseq",
    "restart_syscall", "getpriority", "setpriority", "ioprio_get", "ioprio_set", "prlimit64",
    "getrusage", "times", "getcpu", "sched_yield", "sched_getaffinity", "sched_setaffinity",
    "sched_getattr", "sched_setattr", "sched_getparam", "sched_setparam", "sched_getscheduler",
    "sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min",
    "sched_rr_get_interval",
    // Signals and time.
    "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack", "nanosleep",
    "gettimeofday", "adjtimex", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
    "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    // Sockets and System V and POSIX communication.
    "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
    "getpeername", "getsockopt", "setsockopt", "sendto", "sendmsg", "sendmmsg", "recvfrom",
    "recvmsg", "recvmmsg", "shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop",
    "semctl", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend",
    "mq_timedreceive", "mq_notify", "mq_getsetattr",
    // The system.
    "uname", "sysinfo", "getrandom",
    // What CAP_SYS_CHROOT, a default capability, brings.
    "chroot",
    // Older forms of the above, which newer architectures do not have.
    "open", "creat", "stat", "lstat", "access", "dup2", "pipe", "chmod", "chown", "lchown", "link",
    "symlink", "readlink", "unlink", "rename", "renameat", "mkdir", "rmdir", "mknod", "getdents",
    "utime", "utimes", "futimesat", "sync_file_range", "poll", "select", "epoll_create",
    "epoll_wait", "epoll_ctl_old", "epoll_wait_old", "eventfd", "signalfd", "inotify_init", "fork",
    "vfork", "pause", "alarm", "time", "getpgrp", "getrlimit", "setrlimit", "arch_prctl",
    "modify_ldt", "set_thread_area", "get_thread_area",
    // uretprobe(2), which the kernel itself makes programs call.
    "uretprobe",
    // Forms of the above with wider or narrower types, which 32-bit programs use.
    "_llseek", "_newselect", "chown32", "clock_adjtime64", "clock_getres_time64", "clock_gettime64",
    "clock_nanosleep_time64", "fadvise64_64", "fchown32", "fcntl64", "fstat64", "fstatat64",
    "fstatfs64", "ftruncate64", "futex_time64", "getegid32", "geteuid32", "getgid32", "getgroups32",
    "getresgid32", "getresuid32", "getuid32", "io_pgetevents_time64", "lchown32", "lstat64",
    "mmap2", "mq_timedreceive_time64", "mq_timedsend_time64", "ppoll_time64", "pselect6_time64",
    "recvmmsg_time64", "rt_sigtimedwait_time64", "sched_rr_get_interval_time64",
    "semtimedop_time64", "sendfile64", "setfsgid32", "setfsuid32", "setgid32", "setgroups32",
    "setregid32", "setresgid32", "setresuid32", "setreuid32", "setuid32", "stat64", "statfs64",
    "timer_gettime64", "timer_settime64", "timerfd_gettime64", "timerfd_settime64", "truncate64",
    "ugetrlimit", "utimensat_time64",
    // What only they have.
    "nice", "readdir", "recv", "send", "sigaction", "signal", "sigpending", "sigprocmask",
    "sigreturn", "sigsuspend", "waitpid",
    // What only ARM has.
    "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls",
];

/// Calls that a capability brings which is no default one (moby's default profile).
#[rustfmt::skip]
const UNLOCKED: [(CapabilitySet, &[&str]); 13] = [
    (CapabilitySet::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (CapabilitySet::SYS_ADMIN, &[
        "bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
        "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
        "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
    ]),
    (CapabilitySet::SYS_BOOT, &["reboot"]),
    (CapabilitySet::SYS_MODULE, &["delete_module", "init_module", "finit_module"]),
    (CapabilitySet::SYS_PACCT, &["acct"]),
    (CapabilitySet::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (CapabilitySet::SYS_RAWIO, &["iopl", "ioperm"]),
    (CapabilitySet::SYS_TIME, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (CapabilitySet::SYS_TTY_CONFIG, &["vhangup"]),
    (CapabilitySet::SYS_NICE, &[
        "get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node",
    ]),
    (CapabilitySet::SYSLOG, &["syslog"]),
    (CapabilitySet::BPF, &["bpf"]),
    (CapabilitySet::PERFMON, &["perf_event_open"]),
];

/// Returns the calls that some of these capabilities bring.
pub(super) fn unlocked(added: CapabilitySet) -> impl Iterator<Item = &'static str> {
    let brought = UNLOCKED.iter().filter(move |(c, _)| added.contains(*c));
    brought.flat_map(|(_, calls)| calls.iter().copied())
}

/// Makes the profile for a container with these capabilities besides the default ones.
pub(super) fn profile_with(family: &Family, added: CapabilitySet) -> Profile<'static> {
    let mut profile = profile(family);
    let mut calls: Vec<&'static str> = unlocked(added).collect();
    calls.sort_unstable();
    calls.dedup();
    // Whoever may make namespaces may do it by this one, too.
    if added.contains(CapabilitySet::SYS_ADMIN) {
        for rule in &mut profile.rules {
            rule.calls
                .retain(|call| !matches!(*call, "clone" | "clone3"));
        }
        calls.extend(["clone", "clone3"]);
    }
    profile.rules.push(Rule {
        calls,
        action: Action::ALLOW,
        conditions: Vec::new(),
    });
    profile
}

/// All `CLONE_NEW*` flags of clone(2), without `CLONE_NEWTIME`, whose bit is part of the exit
/// signal there.
const NAMESPACES: u64 = libc::CLONE_NEWNS as u64
    | libc::CLONE_NEWCGROUP as u64
    | libc::CLONE_NEWUTS as u64
    | libc::CLONE_NEWIPC as u64
    | libc::CLONE_NEWUSER as u64
    | libc::CLONE_NEWPID as u64
    | libc::CLONE_NEWNET as u64;

/// personality(2): Linux, 32-bit, with the old version number, both, and a query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What the kernel sees of an argument of type `int`.
const INT: u64 = 0xffff_ffff;

/// Calls that a supervisor answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded {
    /// Always.
    pub(crate) calls: &'static [&'static str],
    /// Never: they do not exist, so that programs use older ones.
    pub(crate) absent: &'static [&'static str],
    /// When one of the values is in the argument, an `int`, with that number.
    pub(crate) by_argument: &'static [(&'static str, u8, &'static [u64])],
}

/// Makes the profile for a family of architectures, with calls that are forwarded. Programs of
/// foreign architectures would go past the supervisor, so there are none.
pub(super) fn forwarding(family: &Family, forwarded: Forwarded) -> Profile<'static> {
    let mut profile = profile(family);
    profile.architectures.truncate(1);
    let is_forwarded = |call: &&str| {
        let tested = || forwarded.by_argument.iter().map(|(name, _, _)| name);
        let listed = |calls: &[&str]| calls.contains(call);
        listed(forwarded.calls) || listed(forwarded.absent) || tested().any(|name| name == call)
    };
    for rule in &mut profile.rules {
        rule.calls.retain(|call| !is_forwarded(call));
    }
    profile.rules.push(Rule {
        calls: forwarded.calls.to_vec(),
        action: Action::NOTIFY,
        conditions: Vec::new(),
    });
    profile.rules.push(Rule {
        calls: forwarded.absent.to_vec(),
        action: Action::errno(libc::ENOSYS),
        conditions: Vec::new(),
    });
    for (call, argument, values) in forwarded.by_argument {
        let condition = |test| Condition {
            argument: *argument,
            test,
        };
        for value in *values {
            profile.rules.push(Rule {
                calls: vec![call],
                action: Action::NOTIFY,
                conditions: vec![condition(Test::Masked {
                    mask: INT,
                    value: *value,
                })],
            });
        }
        let others = values.iter().map(|value| {
            condition(Test::NotMasked {
                mask: INT,
                value: *value,
            })
        });
        profile.rules.push(Rule {
            calls: vec![call],
            action: Action::ALLOW,
            conditions: others.collect(),
        });
    }
    profile
}

/// Makes the profile for a family of architectures.
pub(super) fn profile(family: &Family) -> Profile<'static> {
    let allow = |calls: &[&'static str], tests: &[Test]| Rule {
        calls: calls.to_vec(),
        action: Action::ALLOW,
        conditions: tests
            .iter()
            .map(|test| Condition {
                argument: 0,
                test: *test,
            })
            .collect(),
    };
    let absent = Action::errno(libc::ENOSYS);
    let without_namespaces = Test::Masked {
        mask: NAMESPACES,
        value: 0,
    };
    // The address families that reach outside a network namespace, or the kernel's crypto.
    let families = [libc::AF_VSOCK, libc::AF_ALG].map(|family| Test::NotMasked {
        mask: INT,
        value: u64::from(family.cast_unsigned()),
    });
    let mut rules = vec![
        Rule {
            calls: ABSENT.to_vec(),
            action: absent,
            conditions: Vec::new(),
        },
        allow(ALLOWED, &[]),
        allow(&["clone"], &[without_namespaces]),
        allow(&["socket"], &families),
    ];
    for value in PERSONALITIES {
        rules.push(allow(
            &["personality"],
            &[Test::Masked { mask: INT, value }],
        ));
    }
    Profile {
        default: Action::errno(libc::EPERM),
        foreign: absent,
        hides_newer: true,
        architectures: family
            .members
            .iter()
            .copied()
            .filter(|architecture| *architecture != Architecture::X32)
            .collect(),
        rules,
    }
}
