//! The sandbox through the spawner, as each kind of caller.
//!
//! Responsible for running every case with every identity that the caller can have and, when the
//! caller is root, again as a user with subordinate ids and as one without. Must not use threads:
//! a spawner is forked from a single-threaded process. Invariant: what is absent is skipped with
//! a line that says so.

#![expect(
    clippy::print_stdout,
    reason = "a harness of its own says what passed and what was skipped"
)]

mod cases;
mod jobs;
mod probe;

use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};

use runtime::identity::{Choice, Identity};

fn main() -> ExitCode {
    if std::env::args()
        .next()
        .is_some_and(|name| name == "/bin/probe")
    {
        return probe::report();
    }
    if let Some(dir) = std::env::var_os("SANDBOX_TEST_VICTIM") {
        jobs::be_victim(Path::new(&dir));
    }
    let inner = std::env::var_os("SANDBOX_TEST_INNER").is_some();
    let filter = std::env::args().nth(1).filter(|a| !a.starts_with('-'));
    if !Path::new(jobs::BUSYBOX).exists() {
        println!("SKIP: {} is not installed (busybox-static)", jobs::BUSYBOX);
        return ExitCode::SUCCESS;
    }
    let root = rustix::process::geteuid().is_root();
    let mut choices = vec![Choice::Auto];
    if root {
        choices.extend([Choice::Emulated, Choice::Host]);
    }
    let mut ok = true;
    for choice in choices {
        ok &= run_cases(choice, filter.as_deref());
    }
    if root && !inner {
        for user in users() {
            ok &= run_as(&user, filter.as_deref());
        }
    }
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_cases(choice: Choice, filter: Option<&str>) -> bool {
    let mut ok = true;
    for (name, case) in cases::ALL {
        if filter.is_some_and(|f| !name.contains(f)) {
            continue;
        }
        let mut bench = jobs::Bench::new(choice);
        let identity: Identity = bench.identity();
        let who = rustix::process::geteuid();
        let passed = catch_unwind(AssertUnwindSafe(|| case(&mut bench))).is_ok();
        let word = if passed { "ok" } else { "FAILED" };
        println!("test {name} (uid {who}, {}) ... {word}", identity.name());
        ok &= passed;
    }
    ok
}

/// One user with subordinate ids and one without, as numbers.
fn users() -> Vec<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let subgid = std::fs::read_to_string("/etc/subgid").unwrap_or_default();
    let has = |text: &str, name: &str| text.lines().any(|l| l.split(':').next() == Some(name));
    let with = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        let uid = parts.nth(1)?;
        (uid != "0" && has(&subuid, name) && has(&subgid, name)).then(|| uid.to_owned())
    });
    if with.is_none() {
        println!("SKIP: no user has lines in /etc/subuid and /etc/subgid");
    }
    with.into_iter().chain(["64987".to_owned()]).collect()
}

/// Runs this program again as another user, from a place that the user can read.
fn run_as(uid: &str, filter: Option<&str>) -> bool {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mode = |m| std::fs::Permissions::from_mode(m);
    std::fs::set_permissions(dir.path(), mode(0o755)).expect("chmod");
    let program = dir.path().join("sandbox");
    std::fs::copy(std::env::current_exe().expect("own path"), &program).expect("copy");
    std::fs::set_permissions(&program, mode(0o755)).expect("chmod");
    let status = Command::new("setpriv")
        .args(["--reuid", uid, "--regid", uid, "--clear-groups"])
        .arg(&program)
        .args(filter)
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SANDBOX_TEST_INNER", "1")
        .status();
    match status {
        Ok(status) => status.success(),
        Err(e) => {
            println!("SKIP: setpriv: {e}");
            true
        }
    }
}
