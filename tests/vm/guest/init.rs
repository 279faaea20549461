//! The first process: from the kernel's bare initial file system to a small ordinary system.
//!
//! Responsible for mounts, modules, accounts, the tree of control groups as systemd would have
//! delegated it, and the end of the machine. Must not know what is checked. Invariant: the checks
//! of the stage `system` run on a root that can be pivoted away from, with every controller of
//! cgroup version 2.

use std::fs;
use std::fs::OpenOptions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};

use crate::place::{ACCOUNTS, Account, CGROUPS};
use crate::report;

const BUSYBOX: &str = "/bin/busybox";

/// Runs on the initial file system, which is the kernel's own tmpfs: the one root that
/// `pivot_root(2)` refuses to leave. Ends by becoming [`second`] on another.
pub(crate) fn first() -> Result<()> {
    for (name, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_new(name, target, MountFlags::empty(), "")?;
    }
    let report = OpenOptions::new().write(true).open("/dev/ttyS1")?;
    // Without this a line's end is sent as two bytes.
    busybox(&["stty", "-F", "/dev/ttyS1", "raw", "-echo"])?;
    rustix::stdio::dup2_stdout(&report)?;

    for module in fs::read_to_string("/modules/order")?.lines() {
        busybox(&["insmod", &format!("/modules/{module}")])?;
    }
    mount_new("cgroup2", CGROUPS, MountFlags::empty(), "nsdelegate")?;
    delegate()?;
    stage("initramfs")?;

    mount_new(
        "tmpfs",
        "/newroot",
        MountFlags::empty(),
        "mode=755,size=90%",
    )?;
    for directory in fs::read_to_string("/copied")?.lines() {
        busybox(&["cp", "-a", directory, "/newroot/"])?;
    }
    for directory in ["dev", "proc", "sys", "tmp", "run", "disk"] {
        fs::create_dir_all(format!("/newroot/{directory}"))?;
    }
    // switch_root(8) moves no mounts but the new root.
    for target in ["/dev", "/proc"] {
        move_mount(target)?;
    }
    move_mount("/sys")?;
    let error = Command::new(BUSYBOX)
        .args(["switch_root", "/newroot", "/bin/vm-guest", "second"])
        .exec();
    Err(error).context("switch to another root")
}

/// Runs on the ordinary root.
pub(crate) fn second() -> Result<()> {
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    for (name, target, options) in [
        ("devpts", "/dev/pts", "ptmxmode=666,mode=620,gid=5"),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("mqueue", "/dev/mqueue", ""),
    ] {
        fs::create_dir_all(target)?;
        mount_new(name, target, MountFlags::NOSUID, options)?;
    }
    mount("/dev/vda", "/disk", "ext4", MountFlags::empty(), c"").context("mount the disk")?;
    for account in ACCOUNTS {
        for directory in [
            format!("/run/user/{}", account.uid),
            format!("/disk/{}", account.name),
        ] {
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
            chown(&directory, Some(account.uid), Some(account.uid))?;
        }
    }
    // What systemd sets: mounts reach other mount namespaces unless they say otherwise.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC,
    )?;
    stage("system")?;
    report::line("done");
    power_off();
    Ok(())
}

fn mount_new(name: &str, target: &str, flags: MountFlags, options: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    let options = std::ffi::CString::new(options)?;
    mount(name, target, name, flags, options.as_c_str())
        .with_context(|| format!("mount {name} on `{target}`"))
}

fn move_mount(target: &str) -> Result<()> {
    rustix::mount::mount_move(target, format!("/newroot{target}"))
        .with_context(|| format!("move the mount `{target}`"))
}

fn busybox(arguments: &[&str]) -> Result<()> {
    let status = Command::new(BUSYBOX).args(arguments).status()?;
    ensure!(status.success(), "busybox {}", arguments.join(" "));
    Ok(())
}

/// Makes the tree that systemd makes for user sessions: `user@UID.service` belongs to the user
/// (systemd's CGROUP_DELEGATION.md), a session's own scope doesn't.
fn delegate() -> Result<()> {
    for service in ["/system.slice", "/system.slice/check.service"] {
        fs::create_dir_all(format!("{CGROUPS}{service}"))?;
    }
    enable("")?;
    enable("/system.slice")?;
    fs::create_dir(format!("{CGROUPS}/user.slice"))?;
    enable("/user.slice")?;
    for account in ACCOUNTS.iter().filter(|account| account.uid != 0) {
        let slice = format!("/user.slice/user-{}.slice", account.uid);
        fs::create_dir(format!("{CGROUPS}{slice}"))?;
        enable(&slice)?;
        fs::create_dir(format!("{CGROUPS}{slice}/session-1.scope"))?;
        let service = account.service();
        for group in [service.clone(), format!("{service}/app.slice")] {
            fs::create_dir(format!("{CGROUPS}{group}"))?;
            enable(&group)?;
        }
        for group in [
            service.clone(),
            format!("{service}/app.slice"),
            format!("{service}/app.slice/check.scope"),
        ] {
            fs::create_dir_all(format!("{CGROUPS}{group}"))?;
            give(account, &group)?;
        }
    }
    Ok(())
}

/// Gives a group to a user as cgroups(7) says, "Cgroups delegation".
fn give(account: &Account, group: &str) -> Result<()> {
    for file in [
        "",
        "/cgroup.procs",
        "/cgroup.threads",
        "/cgroup.subtree_control",
    ] {
        chown(
            format!("{CGROUPS}{group}{file}"),
            Some(account.uid),
            Some(account.uid),
        )?;
    }
    Ok(())
}

/// Makes every controller available to the children of a group.
fn enable(group: &str) -> Result<()> {
    let directory = format!("{CGROUPS}{group}");
    let controllers = fs::read_to_string(format!("{directory}/cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        fs::write(
            format!("{directory}/cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .with_context(|| format!("enable {controller} below `{directory}`"))?;
    }
    Ok(())
}

/// Runs the checks of one stage, and reaps what others leave to this process meanwhile.
fn stage(name: &str) -> Result<()> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let filters = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("vm.filter="))
        .unwrap_or_default();
    let child = Command::new("/bin/vm-guest")
        .args(["check", name])
        .args(filters.split(',').filter(|filter| !filter.is_empty()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .spawn()?;
    let child = child.id();
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid().cast_unsigned() == child => {
                ensure!(status.exit_status() == Some(0), "the checks: {status:?}");
                return Ok(());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the checks"),
        }
    }
}

/// Ends the machine; `-no-reboot` makes qemu end with it.
pub(crate) fn power_off() {
    busybox(&["sync"]).ok();
    busybox(&["reboot", "-f"]).ok();
}
