//! What executing a file does to credentials.
//!
//! Responsible for set-id bits, file capabilities and the transformation of capabilities(7) at
//! execve(2). Must not know how a file is found, nor whether it may be executed at all. Invariant:
//! with "no new privileges", what a process may do does not grow.

use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;

use super::capabilities::{KEEP_CAPS, NO_ROOT};
use super::{Credentials, KNOWN};
use crate::identity::Owner;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The program file of an execve(2): with `#!`, the last interpreter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Executable {
    /// Its owner in the container.
    pub(crate) owner: Owner,
    /// Its mode bits.
    pub(crate) mode: u32,
    /// What its attribute `security.capability` says.
    pub(crate) capabilities: Option<FileCapabilities>,
    /// Whether the caller gave up new privileges, prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub(crate) no_new_privileges: bool,
    /// Whether the file is on a mount that gives none.
    pub(crate) nosuid: bool,
    /// Whether the caller may read it.
    pub(crate) readable: bool,
}

/// The attribute `security.capability`, capabilities(7) "File capabilities".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileCapabilities {
    /// What the program gets, within the bounding set.
    pub(crate) permitted: CapabilitySet,
    /// What the program keeps of the caller's inheritable set.
    pub(crate) inheritable: CapabilitySet,
    /// Whether all of that is effective at once.
    pub(crate) effective: bool,
}

impl FileCapabilities {
    /// Reads the attribute as the kernel does when the root id of its third revision is the
    /// container's: linux/capability.h, `struct vfs_ns_cap_data`.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        const REVISION_1: u32 = 0x0100_0000;
        const REVISION_2: u32 = 0x0200_0000;
        const REVISION_3: u32 = 0x0300_0000;
        const EFFECTIVE: u32 = 1;
        let word = |index: usize| {
            let bytes = value.get(index * 4..index * 4 + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let magic = word(0)?;
        let words = match (magic & 0xff00_0000, value.len()) {
            (REVISION_1, 12) => 1,
            (REVISION_2, 20) | (REVISION_3, 24) => 2,
            _ => return None,
        };
        let mut permitted = 0;
        let mut inheritable = 0;
        for half in 0..words {
            permitted |= u64::from(word(1 + half * 2)?) << (32 * half);
            inheritable |= u64::from(word(2 + half * 2)?) << (32 * half);
        }
        Some(Self {
            permitted: CapabilitySet::from_bits_retain(permitted) & KNOWN,
            inheritable: CapabilitySet::from_bits_retain(inheritable) & KNOWN,
            effective: magic & EFFECTIVE != 0,
        })
    }
}

impl Credentials {
    /// Returns the credentials after executing a file.
    ///
    /// `EPERM` when the file needs capabilities that the bounding set does not have: programs that
    /// know nothing of capabilities must not run with half of them.
    pub(crate) fn after_exec(&self, file: &Executable) -> Result<Self> {
        let mut new = self.clone();
        if !file.nosuid && !file.no_new_privileges {
            if file.mode & SET_UID != 0 {
                new.euid = file.owner.uid;
            }
            // Without execution by the group the bit once meant mandatory locking.
            if file.mode & SET_GID != 0 && file.mode & GROUP_EXECUTE != 0 {
                new.egid = file.owner.gid;
            }
        }

        let attribute = file.capabilities.filter(|_| !file.nosuid);
        let mut effective = false;
        new.permitted = CapabilitySet::empty();
        if let Some(attribute) = attribute {
            effective = attribute.effective;
            new.permitted =
                (self.bounding & attribute.permitted) | (self.inheritable & attribute.inheritable);
            if effective && !new.permitted.contains(attribute.permitted) {
                return Err(Errno::PERM);
            }
        }
        let by_root_program = attribute.is_some() && new.ruid != 0 && new.euid == 0;
        if !self.secure(NO_ROOT) && !by_root_program {
            if new.euid == 0 || new.ruid == 0 {
                new.permitted = self.bounding | self.inheritable;
            }
            effective |= new.euid == 0;
        }

        let id_changed = new.euid != self.euid || !self.in_group(new.egid);
        let gained = !self.permitted.contains(new.permitted);
        if (id_changed || gained) && file.no_new_privileges {
            new.euid = new.ruid;
            new.egid = new.rgid;
            new.permitted &= self.permitted;
        }
        new.suid = new.euid;
        new.fsuid = new.euid;
        new.sgid = new.egid;
        new.fsgid = new.egid;
        if attribute.is_some() || id_changed {
            new.ambient = CapabilitySet::empty();
        }
        new.permitted |= new.ambient;
        new.effective = match effective {
            true => new.permitted,
            false => new.ambient,
        };
        new.securebits &= !KEEP_CAPS;
        Ok(new)
    }
}
