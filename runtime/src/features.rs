//! What this kernel and this user can do.
//!
//! Responsible for finding out, for `sandcrab doctor`. Must not decide or print. Invariant: what
//! can be tried is tried, in processes of its own, rather than concluded from a version.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::identity::{self, Choice, EnterPlan};
use crate::rootfs::overlay;
use crate::spawner::{Request, Spawner};
use crate::{sandbox, sys};

/// Whether something works; if not, why.
pub type Support = Result<(), String>;

/// What was found.
#[derive(Debug, Clone)]
pub struct Features {
    /// The kernel's release, as proc_sys_kernel(5) has it.
    pub kernel: String,
    /// The architecture that this program is compiled for.
    pub machine: String,
    /// The identity that a build would use, with its reason and advice.
    pub identity: Result<EnterPlan>,
    /// Where newuidmap(1) is.
    pub newuidmap: Option<PathBuf>,
    /// Where newgidmap(1) is.
    pub newgidmap: Option<PathBuf>,
    /// Entering that identity: user namespace, id maps, mount namespace.
    pub user_namespace: Support,
    /// An overlay on the directory that was given, in that namespace.
    pub overlay: Support,
    /// One option per layer (`lowerdir+`, Linux 6.7); without it a fallback is used.
    pub overlay_options: Support,
    /// A proc of its own for a container; without it the caller's is shown.
    pub proc: Support,
    /// Filters of system calls.
    pub seccomp: Support,
    /// Filters that ask a supervisor (Linux 5.0).
    pub seccomp_notify: Support,
    /// Quick answers of a supervisor (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6).
    pub seccomp_wake: Support,
    /// The version of Landlock, if the kernel has it switched on.
    pub landlock: Option<u32>,
    /// The control groups.
    pub cgroup: Cgroup,
    /// The active security modules, comma-separated; empty when the kernel does not show them.
    pub security_modules: String,
    /// A switch of the kernel that forbids user namespaces, and what to change.
    pub restriction: Option<(String, String)>,
}

/// How control groups are mounted, cgroups(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cgroup {
    /// Not at all.
    None,
    /// Version 1 only.
    V1,
    /// Version 1 controllers, with a version 2 tree beside them.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// What a job can tell.
#[derive(Debug, Serialize, Deserialize)]
struct Inside {
    overlay: Support,
    overlay_options: Support,
    proc: Support,
    seccomp_notify: Support,
    seccomp_wake: Support,
}

/// Tries everything. `dir`, on the file system of the store, is where the overlay is tried; what
/// is made there is removed.
///
/// # Errors
/// The process has threads already, or cannot fork.
pub fn probe(dir: &Path) -> Result<Features> {
    let spawner = Spawner::start(try_inside)?;
    let identity = identity::detect(Choice::Auto);
    let inside = identity.clone().and_then(|plan| ask(&spawner, &plan, dir));
    let (user_namespace, inside) = match inside {
        Ok(inside) => (Ok(()), inside),
        Err(error) => {
            let why = describe(&error);
            let unknown = || Err("not tried without a user namespace".to_owned());
            let nothing = Inside {
                overlay: unknown(),
                overlay_options: unknown(),
                proc: unknown(),
                seccomp_notify: unknown(),
                seccomp_wake: unknown(),
            };
            (Err(why), nothing)
        }
    };
    let read = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name));
        text.unwrap_or_default().trim().to_owned()
    };
    Ok(Features {
        kernel: read("osrelease"),
        machine: std::env::consts::ARCH.to_owned(),
        identity,
        newuidmap: identity::detect::find_program("newuidmap", &[]),
        newgidmap: identity::detect::find_program("newgidmap", &[]),
        user_namespace,
        overlay: inside.overlay,
        overlay_options: inside.overlay_options,
        proc: inside.proc,
        seccomp: if sys::seccomp_has_action(libc::SECCOMP_RET_ERRNO) {
            Ok(())
        } else {
            Err("the kernel is built without CONFIG_SECCOMP_FILTER".to_owned())
        },
        seccomp_notify: inside.seccomp_notify,
        seccomp_wake: inside.seccomp_wake,
        landlock: sys::landlock_abi().ok(),
        cgroup: cgroup(),
        security_modules: fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default(),
        restriction: identity::detect::forbidden()
            .map(|(why, change)| (why.to_owned(), change.to_owned())),
    })
}

fn ask(spawner: &Spawner, plan: &EnterPlan, dir: &Path) -> Result<Inside> {
    spawner.configure(plan)?;
    let encoding = |e: serde_json::Error| Error::new("encode message").cause(e.to_string());
    let body = serde_json::to_vec(dir).map_err(encoding)?;
    let reply = spawner.submit(&body, &[])?.wait()?;
    serde_json::from_slice(&reply).map_err(encoding)
}

/// The job.
fn try_inside(request: Request) -> Vec<u8> {
    let dir: PathBuf = serde_json::from_slice(&request.body).unwrap_or_default();
    let (overlay, overlay_options) = try_overlay(&dir);
    let proc = sandbox::try_proc(request.identity, request.ids);
    let (seccomp_notify, seccomp_wake) = std::thread::scope(|scope| {
        // The filter is the thread's alone, and ends with it.
        let tried = scope.spawn(try_listener).join();
        tried.unwrap_or_else(|_| (Err("the attempt failed".to_owned()), Ok(())))
    });
    let inside = Inside {
        overlay,
        overlay_options,
        proc: proc.map_err(|e| describe(&e)),
        seccomp_notify,
        seccomp_wake,
    };
    serde_json::to_vec(&inside).unwrap_or_default()
}

/// Tries to be asked about system calls, and to answer quickly.
fn try_listener() -> (Support, Support) {
    let untried = || Err("not tried".to_owned());
    if !sys::seccomp_has_action(libc::SECCOMP_RET_USER_NOTIF) {
        return (Err("the kernel is too old".to_owned()), untried());
    }
    // bpf: everything is allowed; what counts is the listener.
    let allow = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    match sys::set_filter(&[allow], 0, true) {
        Ok(Some(listener)) => {
            let wake = sys::notify::set_synchronous(listener.as_fd(), true);
            (Ok(()), wake.map_err(|e| e.to_string()))
        }
        Ok(None) => (untried(), untried()),
        // One chain of filters has one listener (seccomp(2), `EBUSY`).
        Err(Errno::BUSY) => {
            let why = "another program answers the system calls of this one";
            (Err(why.to_owned()), untried())
        }
        Err(errno) => (Err(errno.to_string()), untried()),
    }
}

fn try_overlay(dir: &Path) -> (Support, Support) {
    let place = dir.join(format!(".probe-{}", std::process::id()));
    let parts = ["lower1", "lower2", "upper", "work"].map(|name| place.join(name));
    let made = fs::create_dir(&place)
        .and_then(|()| parts.iter().try_for_each(fs::create_dir))
        .op_path("create directory", &place);
    let [one, two, upper, work] = &parts;
    let tried = made.and_then(|()| overlay::try_mount(&[one, two], upper, work));
    // What can't be removed is the store's to prune.
    drop(fs::remove_dir_all(&place));
    match tried {
        Ok(options) => (Ok(()), options.map_err(|e| describe(&e))),
        Err(error) => (Err(describe(&error)), Err("not tried".to_owned())),
    }
}

fn cgroup() -> Cgroup {
    const V2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
    let is_v2 = |path: &str| rustix::fs::statfs(path).is_ok_and(|s| s.f_type == V2_MAGIC);
    if is_v2("/sys/fs/cgroup") {
        Cgroup::V2
    } else if is_v2("/sys/fs/cgroup/unified") {
        Cgroup::Hybrid
    } else if Path::new("/sys/fs/cgroup/memory").exists() {
        Cgroup::V1
    } else {
        Cgroup::None
    }
}

/// An error with its cause, on one line.
fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
