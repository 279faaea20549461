//! The credentials of an emulated process, and how they change and decide.
//!
//! Responsible for the kernel's rules of credentials(7) and capabilities(7), as kernel/sys.c and
//! security/commoncap.c of Linux 6.18 have them: ids and what they may become, capability sets,
//! program execution, permission to access. Must not know processes, files or descriptors; there
//! is no input or output here. Invariant: a change that is refused changes nothing, and no change
//! gives a capability that is not in the bounding, inheritable or permitted set.

mod access;
mod capabilities;
mod exec;
mod ids;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustix::thread::CapabilitySet;

use crate::caps;

pub(crate) use access::{Access, NewNode};
pub(crate) use exec::{Executable, FileCapabilities};
pub(crate) use table::{INITIAL, Table};

/// The most supplementary groups, setgroups(2).
pub(crate) const GROUPS: usize = 65536;

/// The capabilities that Linux 6.18 knows; the kernel cuts what programs hand in to those.
pub(crate) const KNOWN: CapabilitySet =
    CapabilitySet::from_bits_retain((CapabilitySet::CHECKPOINT_RESTORE.bits() << 1) - 1);

/// What a process is allowed to do, and whose the things are that it makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    /// Real user id.
    pub(crate) ruid: u32,
    /// Effective user id.
    pub(crate) euid: u32,
    /// Saved user id.
    pub(crate) suid: u32,
    /// File system user id, which owns new files.
    pub(crate) fsuid: u32,
    /// Real group id.
    pub(crate) rgid: u32,
    /// Effective group id.
    pub(crate) egid: u32,
    /// Saved group id.
    pub(crate) sgid: u32,
    /// File system group id, which owns new files.
    pub(crate) fsgid: u32,
    /// Supplementary groups, sorted as the kernel keeps and shows them, with duplicates.
    pub(crate) groups: Arc<[u32]>,
    /// The limit of the effective set.
    pub(crate) permitted: CapabilitySet,
    /// What counts.
    pub(crate) effective: CapabilitySet,
    /// What exec keeps for files with inheritable capabilities.
    pub(crate) inheritable: CapabilitySet,
    /// What exec keeps for all files.
    pub(crate) ambient: CapabilitySet,
    /// What exec can give.
    pub(crate) bounding: CapabilitySet,
    /// `SECBIT_*`, with "keep capabilities".
    pub(crate) securebits: u32,
    /// The mode bits that new files don't get, umask(2).
    pub(crate) umask: u32,
    /// Whether others of the same user may look into the process, `PR_GET_DUMPABLE`.
    pub(crate) dumpable: u8,
}

/// `SUID_DUMP_USER`: what a process is that has changed nothing since it runs its program.
pub(crate) const DUMPABLE: u8 = 1;

impl Credentials {
    /// Returns the credentials that a container starts with: Docker's default capabilities for
    /// root, none for others.
    pub(crate) fn user(uid: u32, gid: u32, groups: &[u32]) -> Self {
        let held = match uid {
            0 => caps::DEFAULT,
            _ => CapabilitySet::empty(),
        };
        Self {
            ruid: uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            rgid: gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: sorted(groups),
            permitted: held,
            effective: held,
            inheritable: CapabilitySet::empty(),
            ambient: CapabilitySet::empty(),
            bounding: caps::DEFAULT,
            securebits: 0,
            umask: 0o022,
            dumpable: DUMPABLE,
        }
    }

    /// Takes away, or gives to root, so that these are the capabilities that there are.
    pub(crate) fn bounded(mut self, capabilities: CapabilitySet) -> Self {
        if self.euid == 0 {
            self.permitted = capabilities;
            self.effective = capabilities;
        }
        self.bounding = capabilities;
        self
    }

    /// Says whether the kernel takes dumpability away when these credentials follow others
    /// (`commit_creds`).
    pub(crate) fn is_other_than(&self, old: &Self) -> bool {
        let ids = |c: &Self| [c.euid, c.egid, c.fsuid, c.fsgid];
        ids(self) != ids(old) || !old.permitted.contains(self.permitted)
    }

    /// Says whether the process acts as its real user.
    pub(crate) fn is_itself(&self) -> bool {
        self.euid == self.ruid && self.egid == self.rgid
    }

    /// Says whether the process has a capability.
    pub(crate) fn may(&self, capability: CapabilitySet) -> bool {
        self.effective.contains(capability)
    }

    /// Says whether a group counts for file access: the file system group id or a supplementary
    /// one.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        gid == self.fsgid || self.groups.binary_search(&gid).is_ok()
    }

    /// Says whether files tell these credentials from those of root with the default
    /// capabilities: then every access has to be decided by the supervisor.
    pub(crate) fn is_plain_root(&self) -> bool {
        self.fsuid == 0 && self.fsgid == 0 && self.effective.contains(FILE_CAPABILITIES)
    }

    /// Changes the file mode creation mask and returns the one before, umask(2).
    pub(crate) fn set_umask(&mut self, mask: u32) -> u32 {
        std::mem::replace(&mut self.umask, mask & 0o777)
    }

    /// Returns the credentials that access(2) decides by: the real ids, and the capabilities that
    /// a program of the real user would have.
    pub(crate) fn with_real_ids(&self) -> Self {
        let mut real = self.clone();
        real.fsuid = self.ruid;
        real.fsgid = self.rgid;
        if !self.secure(capabilities::NO_SETUID_FIXUP) {
            real.effective = match self.ruid {
                0 => self.permitted,
                _ => CapabilitySet::empty(),
            };
        }
        real
    }
}

/// What root of a container needs to be above file modes and owners.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

fn sorted(groups: &[u32]) -> Arc<[u32]> {
    let mut groups: Arc<[u32]> = groups.into();
    if let Some(groups) = Arc::get_mut(&mut groups) {
        groups.sort_unstable();
    }
    groups
}
