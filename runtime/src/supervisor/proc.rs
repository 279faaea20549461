//! What proc says about processes of the container.
//!
//! Responsible for texts that show credentials, and for who owns a process' files there. Must not
//! know how they are asked for. Invariant: only ids, capabilities and the limit that carries them
//! differ from the kernel's text.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

use super::State;
use super::call::{Call, Stop};
use super::credentials::{Credentials, DUMPABLE};
use super::inode::handle_path;
use super::processes::LIMIT_LINE;
use crate::identity::Owner;

/// Files in proc whose text shows what is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Status,
    Limits,
}

/// Says whether a path may lead to a text that is not the kernel's: a quick look, before it is
/// resolved.
pub(super) fn may_show(path: &[u8]) -> bool {
    path.ends_with(b"status") || path.ends_with(b"limits")
}

/// Splits the path of a file in proc into the process that it is about, and the rest.
fn subject(path: &[u8]) -> Option<(i32, &str)> {
    let rest = std::str::from_utf8(path).ok()?.strip_prefix("/proc/")?;
    let (process, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let process = process.parse().ok()?;
    // A thread has the files of a process, too.
    let rest = match rest.strip_prefix("task/") {
        Some(thread) => thread.split_once('/').map_or("", |(_, rest)| rest),
        None => rest,
    };
    Some((process, rest))
}

fn text(rest: &str) -> Option<Text> {
    match rest {
        "status" => Some(Text::Status),
        "limits" => Some(Text::Limits),
        _ => None,
    }
}

/// Puts the lines about credentials into /proc/PID/status, proc_pid_status(5).
fn shown_status(text: &str, credentials: &Credentials) -> String {
    let mut shown = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let c = credentials;
        let written = match name {
            "Uid" => writeln!(
                shown,
                "Uid:\t{}\t{}\t{}\t{}",
                c.ruid, c.euid, c.suid, c.fsuid
            ),
            "Gid" => writeln!(
                shown,
                "Gid:\t{}\t{}\t{}\t{}",
                c.rgid, c.egid, c.sgid, c.fsgid
            ),
            "Groups" => {
                let groups: Vec<String> = c.groups.iter().map(u32::to_string).collect();
                // The kernel leaves a space at the end, also of nothing.
                writeln!(shown, "Groups:\t{} ", groups.join(" "))
            }
            "CapInh" => writeln!(shown, "CapInh:\t{:016x}", c.inheritable.bits()),
            "CapPrm" => writeln!(shown, "CapPrm:\t{:016x}", c.permitted.bits()),
            "CapEff" => writeln!(shown, "CapEff:\t{:016x}", c.effective.bits()),
            "CapBnd" => writeln!(shown, "CapBnd:\t{:016x}", c.bounding.bits()),
            "CapAmb" => writeln!(shown, "CapAmb:\t{:016x}", c.ambient.bits()),
            _ => writeln!(shown, "{line}"),
        };
        // Writing to memory has no errors.
        let _: std::fmt::Result = written;
    }
    shown
}

fn shown_limits(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with(LIMIT_LINE) {
            let unlimited = "unlimited";
            let line = format!(
                "{LIMIT_LINE:<25} {unlimited:<20} {unlimited:<20} {:<10}",
                "us"
            );
            shown.push_str(&line);
        } else {
            shown.push_str(line);
        }
        shown.push('\n');
    }
    shown
}

impl State {
    /// Returns who owns what a handle in the container's proc refers to: the user of the process
    /// that it is about, or root when that is not to be looked into (`task_dump_owner`).
    pub(super) fn process_owner(&self, fd: &OwnedFd, mode: u32) -> Owner {
        if self.table.is_roots() {
            return Owner::ROOT;
        }
        let path = rustix::fs::readlink(handle_path(fd), Vec::new());
        let process = path.ok().and_then(|path| Some(subject(path.to_bytes())?.0));
        match process.and_then(|process| self.credentials_of(process)) {
            Some(credentials)
                if credentials.dumpable == DUMPABLE || mode == libc::S_IFDIR | 0o555 =>
            {
                Owner {
                    uid: credentials.euid,
                    gid: credentials.egid,
                }
            }
            _ => Owner::ROOT,
        }
    }

    /// Whether a handle in the container's proc is of the directory of the caller's own descriptors,
    /// which is open to it whoever owns it (`proc_fd_permission`).
    pub(super) fn is_own_descriptors(&self, call: &Call<'_>, fd: &OwnedFd) -> bool {
        let Ok(path) = rustix::fs::readlink(handle_path(fd), Vec::new()) else {
            return false;
        };
        let own = call
            .numbers()
            .and_then(|(process, _)| i32::try_from(process).ok());
        matches!(subject(path.to_bytes()), Some((process, "fd")) if Some(process) == own)
    }

    /// Returns a file to be read in place of one in the container's proc whose text shows what is
    /// emulated; `None` for all others.
    pub(super) fn shown_text(&self, fd: &OwnedFd) -> Result<Option<OwnedFd>, Stop> {
        let handle = handle_path(fd);
        let path = rustix::fs::readlink(&handle, Vec::new())?;
        let Some((process, rest)) = subject(path.to_bytes()) else {
            return Ok(None);
        };
        let Some(kind) = text(rest) else {
            return Ok(None);
        };
        let Some(credentials) = self.credentials_of(process) else {
            return Ok(None);
        };
        // Who is gone, is gone for the kernel, too.
        let Ok(text) = fs::read_to_string(&handle) else {
            return Ok(None);
        };
        let shown = match kind {
            Text::Status => shown_status(&text, &credentials),
            Text::Limits => shown_limits(&text),
        };
        read_only(&shown).map(Some).map_err(Stop::Errno)
    }
}

/// Makes a file of a text, which can only be read.
fn read_only(text: &str) -> Result<OwnedFd, Errno> {
    let memory = rustix::fs::memfd_create("proc", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    let written = file.write_all(text.as_bytes());
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?;
    let memory = OwnedFd::from(file);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(handle_path(&memory), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_proc_are_about_processes() {
        assert_eq!(subject(b"/proc/7/status"), Some((7, "status")));
        assert_eq!(subject(b"/proc/7"), Some((7, "")));
        assert_eq!(subject(b"/proc/7/task/8/limits"), Some((7, "limits")));
        assert_eq!(subject(b"/proc/7/task/8"), Some((7, "")));
        assert_eq!(subject(b"/proc/sys/kernel"), None);
        assert_eq!(subject(b"/srv/proc/7"), None);
        assert_eq!(text("status"), Some(Text::Status));
        assert_eq!(text("net/status"), None);
    }

    #[test]
    fn texts_stay_the_kernels_in_the_rest() {
        // What is shown of this process, in place of what it is, is what the kernel shows.
        let real = fs::read_to_string("/proc/self/status").expect("status");
        let mut credentials = Credentials::user(33, 33, &[33, 100]);
        let shown = shown_status(&real, &credentials);
        assert!(shown.contains("\nUid:\t33\t33\t33\t33\nGid:\t33\t33\t33\t33\n"));
        assert!(shown.contains("\nGroups:\t33 100 \n"));
        assert!(shown.contains("\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"));
        assert_eq!(shown.lines().count(), real.lines().count());
        credentials.groups = [].into();
        assert!(shown_status(&real, &credentials).contains("\nGroups:\t \n"));

        let real = fs::read_to_string("/proc/self/limits").expect("limits");
        assert_eq!(shown_limits(&real), real);
    }
}
