//! Which calls are forwarded, and who answers them.
//!
//! Responsible for the list that the filter is made from and for the way from a number to a
//! handler. Must not answer anything. Invariant: every forwarded call has a handler.

use super::call::{Call, Outcome};
use super::{
    State, attributes, capabilities, create, exec, ids, open, owner, peers, remove, signals,
    sockets, status, xattrs,
};
use crate::seccomp::Forwarded;

pub(super) type Handler = fn(&mut State, &Call<'_>) -> Outcome;

/// What the filter forwards.
pub(super) const FORWARDED: Forwarded = Forwarded {
    calls: &NAMES,
    // Of Linux 6.13. The C library does not use them yet.
    absent: &["setxattrat", "getxattrat", "listxattrat", "removexattrat"],
    by_argument: &BY_ARGUMENT,
};

macro_rules! calls {
    ($($(#[$attribute:meta])* $name:ident $number:ident => $handler:expr;)*) => {
        const CALLS: &[(&str, libc::c_long, Handler)] = &[
            $($(#[$attribute])* (stringify!($name), libc::$number, $handler),)*
        ];
    };
}

calls! {
    newfstatat SYS_newfstatat => status::newfstatat;
    statx SYS_statx => status::statx;
    fstat SYS_fstat => status::fstat;
    fchownat SYS_fchownat => owner::fchownat;
    fchown SYS_fchown => owner::fchown;
    openat SYS_openat => open::openat;
    openat2 SYS_openat2 => open::openat2;
    mkdirat SYS_mkdirat => create::mkdirat;
    mknodat SYS_mknodat => create::mknodat;
    symlinkat SYS_symlinkat => create::symlinkat;
    linkat SYS_linkat => create::linkat;
    unlinkat SYS_unlinkat => remove::unlinkat;
    renameat2 SYS_renameat2 => remove::renameat2;
    fchmodat2 SYS_fchmodat2 => attributes::fchmodat2;
    fchmodat SYS_fchmodat => attributes::fchmodat;
    fchmod SYS_fchmod => attributes::fchmod;
    faccessat2 SYS_faccessat2 => attributes::faccessat2;
    faccessat SYS_faccessat => attributes::faccessat;
    utimensat SYS_utimensat => attributes::utimensat;
    truncate SYS_truncate => attributes::truncate;
    chdir SYS_chdir => attributes::chdir;
    fchdir SYS_fchdir => attributes::fchdir;
    chroot SYS_chroot => attributes::chroot;
    readlinkat SYS_readlinkat => attributes::readlinkat;
    name_to_handle_at SYS_name_to_handle_at => attributes::reach_at;
    statfs SYS_statfs => attributes::statfs;
    inotify_add_watch SYS_inotify_add_watch => attributes::watch;
    setxattr SYS_setxattr => xattrs::setxattr;
    lsetxattr SYS_lsetxattr => xattrs::lsetxattr;
    fsetxattr SYS_fsetxattr => xattrs::fsetxattr;
    removexattr SYS_removexattr => xattrs::removexattr;
    lremovexattr SYS_lremovexattr => xattrs::lremovexattr;
    fremovexattr SYS_fremovexattr => xattrs::fremovexattr;
    getxattr SYS_getxattr => xattrs::getxattr;
    lgetxattr SYS_lgetxattr => xattrs::lgetxattr;
    fgetxattr SYS_fgetxattr => xattrs::fgetxattr;
    listxattr SYS_listxattr => xattrs::listxattr;
    llistxattr SYS_llistxattr => xattrs::llistxattr;
    flistxattr SYS_flistxattr => xattrs::flistxattr;
    bind SYS_bind => sockets::bind;
    connect SYS_connect => peers::connect;
    listen SYS_listen => peers::listen;
    socketpair SYS_socketpair => peers::socketpair;
    getuid SYS_getuid => ids::getuid;
    geteuid SYS_geteuid => ids::geteuid;
    getgid SYS_getgid => ids::getgid;
    getegid SYS_getegid => ids::getegid;
    getresuid SYS_getresuid => ids::getresuid;
    getresgid SYS_getresgid => ids::getresgid;
    getgroups SYS_getgroups => ids::getgroups;
    setuid SYS_setuid => ids::setuid;
    setreuid SYS_setreuid => ids::setreuid;
    setresuid SYS_setresuid => ids::setresuid;
    setfsuid SYS_setfsuid => ids::setfsuid;
    setgid SYS_setgid => ids::setgid;
    setregid SYS_setregid => ids::setregid;
    setresgid SYS_setresgid => ids::setresgid;
    setfsgid SYS_setfsgid => ids::setfsgid;
    setgroups SYS_setgroups => ids::setgroups;
    umask SYS_umask => ids::umask;
    capget SYS_capget => capabilities::capget;
    capset SYS_capset => capabilities::capset;
    execve SYS_execve => exec::execve;
    execveat SYS_execveat => exec::execveat;
    kill SYS_kill => signals::kill;
    tkill SYS_tkill => signals::tkill;
    tgkill SYS_tgkill => signals::tgkill;
    rt_sigqueueinfo SYS_rt_sigqueueinfo => signals::tkill;
    rt_tgsigqueueinfo SYS_rt_tgsigqueueinfo => signals::tgkill;
    #[cfg(target_arch = "x86_64")]
    stat SYS_stat => status::stat;
    #[cfg(target_arch = "x86_64")]
    lstat SYS_lstat => status::lstat;
    #[cfg(target_arch = "x86_64")]
    chown SYS_chown => owner::chown;
    #[cfg(target_arch = "x86_64")]
    lchown SYS_lchown => owner::lchown;
    #[cfg(target_arch = "x86_64")]
    open SYS_open => open::open;
    #[cfg(target_arch = "x86_64")]
    creat SYS_creat => open::creat;
    #[cfg(target_arch = "x86_64")]
    mkdir SYS_mkdir => create::mkdir;
    #[cfg(target_arch = "x86_64")]
    mknod SYS_mknod => create::mknod;
    #[cfg(target_arch = "x86_64")]
    symlink SYS_symlink => create::symlink;
    #[cfg(target_arch = "x86_64")]
    link SYS_link => create::link;
    #[cfg(target_arch = "x86_64")]
    unlink SYS_unlink => remove::unlink;
    #[cfg(target_arch = "x86_64")]
    rmdir SYS_rmdir => remove::rmdir;
    #[cfg(target_arch = "x86_64")]
    rename SYS_rename => remove::rename;
    renameat SYS_renameat => remove::renameat;
    #[cfg(target_arch = "x86_64")]
    chmod SYS_chmod => attributes::chmod;
    #[cfg(target_arch = "x86_64")]
    access SYS_access => attributes::access;
    #[cfg(target_arch = "x86_64")]
    utime SYS_utime => attributes::utimes;
    #[cfg(target_arch = "x86_64")]
    utimes SYS_utimes => attributes::utimes;
    #[cfg(target_arch = "x86_64")]
    futimesat SYS_futimesat => attributes::futimesat;
    #[cfg(target_arch = "x86_64")]
    readlink SYS_readlink => attributes::readlink;
}

/// Calls that are forwarded when an argument has one of some values: the argument's place, and the
/// values.
const SOMETIMES: &[(&str, libc::c_long, Handler, u8, &[u64])] = &[
    (
        "prctl",
        libc::SYS_prctl,
        capabilities::prctl,
        0,
        capabilities::OPTIONS,
    ),
    (
        "getsockopt",
        libc::SYS_getsockopt,
        peers::getsockopt_peer,
        2,
        peers::OPTIONS,
    ),
    (
        "prlimit64",
        libc::SYS_prlimit64,
        ids::prlimit64,
        1,
        ids::LIMITS,
    ),
    (
        "getrlimit",
        libc::SYS_getrlimit,
        ids::getrlimit,
        0,
        ids::LIMITS,
    ),
    (
        "setrlimit",
        libc::SYS_setrlimit,
        ids::setrlimit,
        0,
        ids::LIMITS,
    ),
];

/// `SOMETIMES` without the handlers.
const BY_ARGUMENT: [(&str, u8, &[u64]); SOMETIMES.len()] = {
    let mut calls: [(&str, u8, &[u64]); SOMETIMES.len()] = [("", 0, &[]); SOMETIMES.len()];
    let mut at = 0;
    while at < calls.len() {
        calls[at] = (SOMETIMES[at].0, SOMETIMES[at].3, SOMETIMES[at].4);
        at += 1;
    }
    calls
};

/// The names of `CALLS`.
const NAMES: [&str; CALLS.len()] = {
    let mut names = [""; CALLS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CALLS[at].0;
        at += 1;
    }
    names
};

/// More than any number of a forwarded call.
const NUMBERS: usize = 512;

/// Handlers by number, so that finding one costs nothing.
static HANDLERS: [Option<Handler>; NUMBERS] = {
    let mut handlers: [Option<Handler>; NUMBERS] = [None; NUMBERS];
    let mut at = 0;
    while at < CALLS.len() {
        handlers[CALLS[at].1 as usize] = Some(CALLS[at].2);
        at += 1;
    }
    at = 0;
    while at < SOMETIMES.len() {
        handlers[SOMETIMES[at].1 as usize] = Some(SOMETIMES[at].2);
        at += 1;
    }
    handlers
};

/// Returns who answers a call.
pub(super) fn handler(number: i32) -> Option<Handler> {
    let number = usize::try_from(number).ok()?;
    HANDLERS.get(number).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forwarded_call_has_a_handler() {
        let always = CALLS.iter().map(|(name, number, _)| (name, number));
        let sometimes = SOMETIMES.iter().map(|(name, number, ..)| (name, number));
        for (name, number) in always.chain(sometimes) {
            let number = i32::try_from(*number).expect("a small number");
            assert!(handler(number).is_some(), "{name}");
        }
        for (name, ..) in SOMETIMES {
            assert!(!NAMES.contains(name), "{name} is forwarded always");
        }
    }
}
