//! Labels of security modules that a process gets when it executes its program.
//!
//! Responsible for AppArmor profiles and SELinux contexts of processes. Must not label files, which
//! is the mounts' affair. Invariant: a label that the kernel can't give is an error, never left
//! out; and its file is written by way of a checked proc only.
//!
//! The error names the file in backticks, by which podman tells a "security attribute" error
//! (podman 4.3, `libpod/oci_util.go`).

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Error, Result, ResultExt};
use crate::procfs::Proc;
use crate::spec::Process;

/// The file of AppArmor's own, since Linux 5.8.
const APPARMOR: &CStr = c"thread-self/attr/apparmor/exec";
/// The file of whichever module comes first.
const EXEC: &CStr = c"thread-self/attr/exec";
/// What new keys get.
const KEYS: &CStr = c"thread-self/attr/keycreate";

/// What is shown of the above.
const SHOWN: &str = "/proc/thread-self/attr/exec";

/// Labels to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What is written for AppArmor: the command `exec` and the profile.
    apparmor: Option<CString>,
    /// The context for SELinux.
    selinux: Option<CString>,
}

impl Labels {
    /// Reads the labels of a process.
    ///
    /// # Errors
    /// The kernel has the module switched off.
    pub fn parse(process: &Process) -> Result<Self> {
        let wanted = |label: &str, text: String, enabled: bool, name: &str| {
            if label.is_empty() {
                return Ok(None);
            }
            if !enabled {
                let why = format!("{name} is not enabled on this system");
                return Err(Error::new("set label").path(SHOWN).cause(why));
            }
            let nul = |_| Error::new("set label with a null character").path(SHOWN);
            CString::new(text).map(Some).map_err(nul)
        };
        let (profile, context) = (&process.apparmor_profile, &process.selinux_label);
        Ok(Self {
            apparmor: wanted(
                profile,
                format!("exec {profile}"),
                !profile.is_empty() && apparmor_enabled(),
                "AppArmor",
            )?,
            selinux: wanted(
                context,
                context.clone(),
                !context.is_empty() && selinux_enabled(),
                "SELinux",
            )?,
        })
    }

    /// Says whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets what the next exec of this thread brings. Does not allocate when it works.
    ///
    /// # Errors
    /// There is no such profile or context, or the transition is not allowed.
    pub fn apply(&self, proc: &Proc) -> Result<()> {
        if let Some(command) = &self.apparmor {
            let command = command.as_bytes();
            let written = match proc.write(APPARMOR, command) {
                Err(Errno::NOENT) => proc.write(EXEC, command),
                other => other,
            };
            written.op_path("set AppArmor profile", SHOWN)?;
        }
        if let Some(context) = &self.selinux {
            let written = proc.write(EXEC, context.as_bytes());
            written.op_path("set SELinux label", SHOWN)?;
        }
        Ok(())
    }

    /// Sets what keys that this thread makes are labelled with, before it makes a keyring for the
    /// container.
    ///
    /// # Errors
    /// There is no such context.
    pub fn apply_to_keys(&self, proc: &Proc) -> Result<()> {
        match &self.selinux {
            None => Ok(()),
            Some(context) => proc
                .write(KEYS, context.as_bytes())
                .op_path("set SELinux label", "/proc/thread-self/attr/keycreate"),
        }
    }
}

/// Says whether the kernel has AppArmor switched on.
pub fn apparmor_enabled() -> bool {
    let parameter = std::fs::read("/sys/module/apparmor/parameters/enabled");
    parameter.is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Says whether the kernel has SELinux switched on: its file system is mounted then.
pub fn selinux_enabled() -> bool {
    const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c;
    let mounted = |path| rustix::fs::statfs(Path::new(path)).map(|s| s.f_type);
    mounted("/sys/fs/selinux") == Ok(SELINUX_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_label_that_the_kernel_does_not_know_is_an_error() {
        let mut process = Process::default();
        let none = Labels::parse(&process).expect("nothing to set");
        assert!(none.is_empty());
        process.selinux_label = "system_u:system_r:container_t:s0".to_owned();
        if !selinux_enabled() {
            let error = Labels::parse(&process).expect_err("no SELinux");
            assert_eq!(error.to_string(), "set label `/proc/thread-self/attr/exec`");
            let cause = error.source().expect("a cause").to_string();
            assert_eq!(cause, "SELinux is not enabled on this system");
        }
    }
}
