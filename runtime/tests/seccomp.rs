//! Filters in the kernel: what a program with a filter really gets.

use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};

use runtime::seccomp::{Filter, compile, default_filter};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};

fn filter(profile: Value) -> Filter {
    let seccomp = serde_json::from_value(profile).expect("a document");
    compile(&seccomp).expect("compile")
}

/// A command that runs under a filter.
fn under(filter: Filter, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // SAFETY: the closure neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            filter.install()?;
            Ok(())
        })
    };
    command
}

fn sh(filter: Filter, script: &str) -> Output {
    let mut command = under(filter, "/bin/sh", &["-c", script]);
    command.env("LC_ALL", "C").output().expect("start")
}

fn deny(action: &str, errno: Option<i32>) -> Filter {
    let call = json!({"names": ["mkdir", "mkdirat"], "action": action, "errnoRet": errno});
    filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]}))
}

/// What mkdir(1) says under a filter, and how it ends.
fn mkdir(filter: Filter) -> (Output, bool) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("made");
    let output = under(filter, "/bin/mkdir", &[path.to_str().expect("a path")])
        .env("LC_ALL", "C")
        .output()
        .expect("start");
    (output, path.exists())
}

#[test]
fn error_numbers_arrive() {
    for (errno, text) in [
        (Some(libc::EBUSY), "resource busy"),
        (None, "not permitted"),
    ] {
        let (output, made) = mkdir(deny("SCMP_ACT_ERRNO", errno));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(text), "{stderr}");
        assert!(!made);
    }
}

#[test]
fn killing_and_trapping_end_the_program() {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
    ] {
        let (output, made) = mkdir(deny(action, None));
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{action}");
        assert!(!made);
    }
}

#[test]
fn logging_lets_through_and_tracing_without_a_tracer_does_not_exist() {
    let (output, made) = mkdir(deny("SCMP_ACT_LOG", None));
    assert!(output.status.success() && made);
    let (output, made) = mkdir(deny("SCMP_ACT_TRACE", None));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("not implemented") && !made, "{stderr}");
}

#[test]
fn flags_are_accepted_by_the_kernel() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": [
            "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    }));
    assert!(sh(filter, "true").status.success());
}

#[test]
fn arguments_are_compared() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EBUSY,
            "args": [{"index": 1, "value": 0o777, "valueTwo": 0o700, "op": "SCMP_CMP_MASKED_EQ"}],
        }],
    }));
    let dir = tempfile::tempdir().expect("directory");
    let dir = dir.path().display();
    let script = format!("cd {dir} && mkdir -m 755 open && ! mkdir -m 700 closed && ls");
    let output = sh(filter, &script);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "open\n",
        "{output:?}"
    );
}

#[test]
fn real_profiles_run_programs() {
    let text = match std::fs::read("/usr/share/containers/seccomp.json") {
        Ok(text) => text,
        Err(e) => {
            println!("SKIP: no profile of containers-common: {e}");
            return;
        }
    };
    let mut profile: Value = serde_json::from_slice(&text).expect("JSON");
    // As podman resolves it for no capabilities.
    let calls = profile["syscalls"].as_array_mut().expect("calls");
    calls.retain(|call| {
        let includes = &call["includes"];
        let here = |arch: &Value| arch == "amd64" || arch == "arm64";
        let arches = includes["arches"].as_array();
        includes["caps"].is_null() && arches.is_none_or(|arches| arches.iter().any(here))
    });
    for call in calls {
        if call["args"].is_null() {
            call["args"] = json!([]);
        }
    }
    let architectures = ["X86_64", "X86", "X32", "AARCH64", "ARM"];
    profile["architectures"] = json!(architectures.map(|name| format!("SCMP_ARCH_{name}")));
    // chroot(2) goes with a capability.
    let output = sh(filter(profile), "ls / >/dev/null && chroot / true; echo $?");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "125\n",
        "{output:?}"
    );
}

#[test]
fn a_split_filter_is_installed_whole() {
    let calls: Vec<Value> = (0..400_u64)
        .map(|i| {
            let names = ["getpriority", "setpriority", "ioprio_get", "ioprio_set"];
            json!({
                "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EBUSY,
                "args": [{"index": 0, "value": i + 1000, "op": "SCMP_CMP_EQ"}],
            })
        })
        .chain([json!({
            "names": ["seccomp", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EBUSY,
        })])
        .collect();
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}));
    let (output, made) = mkdir(filter);
    assert!(!output.status.success() && !made, "{output:?}");
}

#[test]
fn run_steps_profile_runs_programs() {
    let filter = default_filter().expect("compile").clone();
    let output = sh(filter, "ls / >/dev/null && unshare -m true; echo $?");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
}

/// `struct seccomp_notif`, of 80 bytes.
fn receive(listener: &OwnedFd) -> libc::seccomp_notif {
    // SAFETY: all-zero is a valid notification, and what the kernel demands.
    let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
    // SAFETY: the kernel writes a notification.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw mut notification) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    notification
}

fn answer(listener: &OwnedFd, id: u64, error: i32) {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error,
        flags: 0,
    };
    let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
    // SAFETY: the kernel reads a response.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw mut response) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn an_agent_decides() {
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
    ] {
        let filter = filter(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "flags": flags,
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        }));
        assert!(filter.notifies());
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("made");
        let mut command = Command::new("/bin/mkdir");
        command.arg(&path).env("LC_ALL", "C").stderr(Stdio::piped());
        // SAFETY: the closure neither allocates nor locks.
        unsafe {
            command.pre_exec(move || {
                rustix::thread::set_no_new_privs(true)?;
                let listener = filter.install()?.ok_or(rustix::io::Errno::BADF)?;
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = [listener.as_fd()];
                control.push(SendAncillaryMessage::ScmRights(&fds));
                sendmsg(
                    &theirs,
                    &[IoSlice::new(b"x")],
                    &mut control,
                    SendFlags::empty(),
                )?;
                Ok(())
            })
        };
        let mut child = command.spawn().expect("start");
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut byte)];
        recvmsg(&ours, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).expect("receive");
        let listener = control
            .drain()
            .find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            })
            .expect("a listener");
        let notification = receive(&listener);
        assert_eq!(notification.pid, child.id());
        answer(&listener, notification.id, -libc::EDQUOT);
        child.wait().expect("wait");
        let mut text = String::new();
        let mut stderr = child.stderr.take().expect("piped");
        stderr.read_to_string(&mut text).expect("read");
        assert!(text.contains("quota exceeded"), "{text}");
        assert!(!path.exists());
    }
}

/// Programs of the other kind: `int 0x80` leads to i386's entry point even from 64-bit code.
#[cfg(target_arch = "x86_64")]
mod i386 {
    use super::*;

    /// Makes a call that takes no pointers, or fails on null ones.
    fn int80(number: u32, argument: u32) -> i32 {
        let mut ret = number;
        // SAFETY: the kernel reads and writes none of our memory in such calls.
        unsafe {
            std::arch::asm!(
                "xchg rbx, {argument:r}", "int 0x80", "xchg rbx, {argument:r}",
                argument = inout(reg) u64::from(argument) => _,
                inlateout("eax") ret, in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        ret.cast_signed()
    }

    /// Makes a call in a child under a filter: the signal that the child ends by, or the error.
    fn calls(filter: Filter, number: u32, argument: u32) -> Result<i32, i32> {
        let mut command = Command::new("/bin/true");
        // SAFETY: the closure neither allocates nor locks.
        unsafe {
            command.pre_exec(move || {
                rustix::thread::set_no_new_privs(true)?;
                filter.install()?;
                let ret = int80(number, argument);
                if ret < 0 {
                    return Err(std::io::Error::from_raw_os_error(-ret));
                }
                Ok(())
            })
        };
        match command.status() {
            Ok(status) => Ok(status.signal().unwrap_or(0)),
            Err(e) => Err(e.raw_os_error().expect("a number")),
        }
    }

    /// Whether the kernel has an entry for i386.
    fn emulated() -> bool {
        let all = filter(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        }));
        // getpid
        calls(all, 20, 0) == Ok(0)
    }

    #[test]
    fn run_steps_may_call_what_64_bit_ones_may() {
        if !emulated() {
            println!("SKIP: the kernel has no entry for i386");
            return;
        }
        let run = || default_filter().expect("compile").clone();
        for (number, argument, expected, name) in [
            (20, 0, Ok(0), "getpid"),
            (310, 0, Err(libc::EPERM), "unshare"),
            (435, 0, Err(libc::ENOSYS), "clone3"),
            (600, 0, Err(libc::ENOSYS), "no such call"),
            (102, 1, Err(libc::EPERM), "socketcall(SYS_SOCKET)"),
            (102, 3, Err(libc::EFAULT), "socketcall(SYS_CONNECT)"),
            (359, 38, Err(libc::EPERM), "socket(AF_ALG)"),
        ] {
            assert_eq!(calls(run(), number, argument), expected, "{name}");
        }
    }

    #[test]
    fn documents_close_what_they_do_not_list() {
        if !emulated() {
            println!("SKIP: the kernel has no entry for i386");
            return;
        }
        let native = filter(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        // The child dies before it executes anything.
        assert_eq!(calls(native, 20, 0), Ok(libc::SIGSYS));
    }
}
