//! Roots of OCI containers, laid out in real namespaces, as each kind of caller.
//!
//! Responsible for running every case as root without and with a user namespace, as a user with
//! one id, as a user with a range of ids, and inside of a user namespace that exists already.
//! Must not use threads: the container's process is forked. Invariant: what can't be tried is
//! skipped with a line that says so.

#![expect(
    clippy::print_stdout,
    reason = "a harness of its own says what passed and what was skipped"
)]

mod cases;
mod container;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// How a container's process comes to its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Root, no user namespace.
    Host,
    /// Root, a user namespace with ids that are not root's.
    Mapped,
    /// A user with one id.
    Single,
    /// A user with a range of ids.
    Range,
    /// A user with a range of ids, none of which is the user's own in the container.
    Foreign,
    /// In a user namespace that exists already, as podman's rootless runtime is.
    Inside,
}

impl Caller {
    pub(crate) const ALL: [Self; 6] = [
        Self::Host,
        Self::Mapped,
        Self::Single,
        Self::Range,
        Self::Foreign,
        Self::Inside,
    ];

    /// Whether the container has a user namespace of its own.
    pub(crate) fn has_users(self) -> bool {
        !matches!(self, Self::Host | Self::Inside)
    }

    fn user(self) -> Option<&'static str> {
        match self {
            Self::Host | Self::Mapped => None,
            Self::Single => Some("sandcrab-plain"),
            Self::Range | Self::Foreign | Self::Inside => Some("sandcrab-subids"),
        }
    }
}

const BUSYBOX: &str = "/bin/busybox";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, run, caller, case, dir] = &args[..]
        && run == "run"
    {
        return container::run(caller_of(caller), case, Path::new(dir));
    }
    let filter = args.get(1).filter(|a| !a.starts_with('-'));
    if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        println!("SKIP: needs root and {BUSYBOX}");
        return ExitCode::SUCCESS;
    }
    let mut ok = true;
    for caller in Caller::ALL {
        let Some(uid) = caller.user().map_or_else(|| Some("0".to_owned()), number) else {
            println!("SKIP: there is no user {:?}", caller.user());
            continue;
        };
        for case in cases::ALL {
            let name = format!("{} ({caller:?})", case.name);
            if filter.is_some_and(|f| !name.contains(f.as_str())) || !case.is_for(caller) {
                continue;
            }
            let passed = run_case(caller, &uid, case);
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            ok &= passed;
        }
    }
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn caller_of(name: &str) -> Caller {
    let found = Caller::ALL.into_iter().find(|c| format!("{c:?}") == name);
    found.expect("a caller")
}

fn number(user: &str) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|l| l.split(':').next() == Some(user))?;
    line.split(':').nth(2).map(str::to_owned)
}

/// Makes a bundle that the user owns, and runs the case on it in a process of its own.
fn run_case(caller: Caller, uid: &str, case: &cases::Case) -> bool {
    let dir = tempfile::tempdir().expect("temporary directory");
    // What the container's root can't reach has to be opened before it is made.
    let mode = if caller == Caller::Mapped {
        0o700
    } else {
        0o755
    };
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir.path(), permissions).expect("chmod");
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().expect("own path"), &program).expect("copy");
    let rootfs = dir.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("bin")).expect("mkdir");
    std::fs::copy(BUSYBOX, rootfs.join("bin/busybox")).expect("copy");
    std::os::unix::fs::symlink("busybox", rootfs.join("bin/sh")).expect("symlink");
    (case.prepare)(dir.path());
    own(dir.path(), caller, uid);

    let mut command = Vec::<String>::new();
    if caller.user().is_some() {
        for arg in ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"] {
            command.push(arg.to_owned());
        }
    }
    if caller == Caller::Inside {
        for arg in [
            "unshare",
            "--user",
            "--map-root-user",
            "--map-auto",
            "--mount",
        ] {
            command.push(arg.to_owned());
        }
    }
    let caller_name = format!("{caller:?}");
    command.push(program.display().to_string());
    for arg in ["run", &caller_name, case.name] {
        command.push(arg.to_owned());
    }
    command.push(dir.path().display().to_string());
    let output = Command::new(&command[0])
        .args(&command[1..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("start");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let result = cases::judge(case, output.status.success(), &text);
    if let Err(why) = &result {
        println!("{why}\n--- said:\n{text}---");
    }
    result.is_ok()
}

fn own(dir: &Path, caller: Caller, uid: &str) {
    let chown = |owner: &str, place: &Path| {
        let status = Command::new("chown")
            .args(["-hR", owner])
            .arg(place)
            .status();
        assert!(status.expect("chown").success());
    };
    if caller.user().is_some() {
        chown(uid, dir);
    }
    if matches!(caller, Caller::Mapped | Caller::Foreign) {
        chown(&container::FIRST_MAPPED.to_string(), &dir.join("rootfs"));
    }
}
