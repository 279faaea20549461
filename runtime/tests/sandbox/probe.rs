//! This test program as the payload of a container: it says who it is and what it may call.
//!
//! Responsible for facts only. Must not judge them. Invariant: one line per fact, `name value`.

use std::process::ExitCode;

/// Calls by number, with arguments that do nothing where they are allowed.
const CALLS: [(&str, i64, i64); 14] = [
    ("getppid", libc::SYS_getppid, 0),
    ("clone3", libc::SYS_clone3, 0),
    ("io_uring_setup", libc::SYS_io_uring_setup, 0),
    ("keyctl", libc::SYS_keyctl, 0),
    ("unshare", libc::SYS_unshare, libc::CLONE_NEWUSER as i64),
    ("clone_newuser", libc::SYS_clone, libc::CLONE_NEWUSER as i64),
    ("setns", libc::SYS_setns, -1),
    ("bpf", libc::SYS_bpf, 0),
    ("mount", libc::SYS_mount, 0),
    ("fsopen", libc::SYS_fsopen, 0),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, -1),
    ("socket_vsock", libc::SYS_socket, libc::AF_VSOCK as i64),
    ("unknown", 600, 0),
    ("x32_getppid", 0x4000_0000 | 110, 0),
];

/// Prints user ids and, for each call, 0 or the number of the error.
pub(crate) fn report() -> ExitCode {
    let ids = nix::unistd::getresuid().expect("user ids");
    println!("uids {},{},{}", ids.real, ids.effective, ids.saved);
    for (name, number, argument) in CALLS {
        // SAFETY: with these arguments a call that is allowed fails or returns an integer.
        let ret = unsafe { libc::syscall(number, argument, 0, 0, 0, 0, 0) };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        println!("{name} {}", if ret == -1 { errno } else { 0 });
    }
    ExitCode::SUCCESS
}
