//! What credentials allow on inodes and other processes.
//!
//! Responsible for the permission rules of path_resolution(7), inode(7), chown(2), chmod(2),
//! unlink(2) and kill(2), given owner and mode. Must not look anything up. Access control lists
//! are not known here. Invariant: all answers follow from the arguments.

use rustix::thread::CapabilitySet;

use super::Credentials;
use crate::identity::Owner;

const STICKY: u32 = 0o1000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
const ANY_EXECUTE: u32 = 0o111;

/// What is wanted of an inode: the bits of access(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access(u32);

impl Access {
    /// To exist.
    pub(crate) const EXISTS: Self = Self(0);
    /// To execute a file, to search a directory.
    pub(crate) const EXECUTE: Self = Self(1);
    /// To write a file, to change the entries of a directory.
    pub(crate) const WRITE: Self = Self(2);
    /// To read.
    pub(crate) const READ: Self = Self(4);

    /// Reads `R_OK`, `W_OK` and `X_OK`; anything else is none of access(2)'s.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        (bits <= 7).then_some(Self(bits))
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whose a new inode is, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewNode {
    /// The owner.
    pub(crate) owner: Owner,
    /// Its permission and set-id bits.
    pub(crate) mode: u32,
}

impl Credentials {
    /// Says whether an inode may be used in the wanted way.
    pub(crate) fn access(&self, owner: Owner, mode: u32, is_dir: bool, want: Access) -> bool {
        let granted = if self.fsuid == owner.uid {
            mode >> 6
        } else if self.in_group(owner.gid) {
            mode >> 3
        } else {
            mode
        };
        if want.0 & !granted & 7 == 0 {
            return true;
        }
        let may_read = match is_dir {
            true => !want.has(Access::WRITE),
            false => want == Access::READ,
        };
        if may_read && self.may(CapabilitySet::DAC_READ_SEARCH) {
            return true;
        }
        // Nobody executes a file that nobody may execute.
        (is_dir || !want.has(Access::EXECUTE) || mode & ANY_EXECUTE != 0)
            && self.may(CapabilitySet::DAC_OVERRIDE)
    }

    /// Says whether the process counts as an inode's owner: for chmod(2), utimensat(2) and the
    /// like.
    pub(crate) fn owns(&self, owner: Owner) -> bool {
        self.fsuid == owner.uid || self.may(CapabilitySet::FOWNER)
    }

    /// Says whether an entry may be removed or renamed as far as the directory's sticky bit goes.
    pub(crate) fn may_remove(&self, directory: Owner, directory_mode: u32, entry: Owner) -> bool {
        directory_mode & STICKY == 0
            || self.fsuid == entry.uid
            || self.fsuid == directory.uid
            || self.may(CapabilitySet::FOWNER)
    }

    /// Says whether an inode may be given away, chown(2). An id that is not to change is `None`.
    /// Set-id bits that would be lost have to be the caller's to change, even for `CAP_CHOWN`.
    pub(crate) fn may_chown(
        &self,
        owner: Owner,
        mode: u32,
        is_dir: bool,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> bool {
        let is_owner = self.fsuid == owner.uid;
        let may_give = self.may(CapabilitySet::CHOWN)
            || uid.is_none_or(|uid| is_owner && uid == owner.uid)
                && gid.is_none_or(|gid| is_owner && (gid == owner.gid || self.in_group(gid)));
        let keeps_mode = self.mode_after_chown(owner, mode, is_dir) == mode;
        may_give && (keeps_mode || self.owns(owner))
    }

    /// Returns the mode that chown(2) leaves: other files than directories lose their set-id bits,
    /// except a set-group-id bit without execution by the group, for those in the group.
    pub(crate) fn mode_after_chown(&self, owner: Owner, mode: u32, is_dir: bool) -> u32 {
        const SET_UID: u32 = 0o4000;
        if is_dir {
            return mode;
        }
        let mut mode = mode & !SET_UID;
        if mode & GROUP_EXECUTE != 0 || !self.keeps_set_gid(owner.gid) {
            mode &= !SET_GID;
        }
        mode
    }

    /// Returns the mode that writing leaves, as far as it depends on who writes: a set-group-id bit
    /// without execution by the group is kept for those in the group.
    pub(crate) fn mode_after_write(&self, owner: Owner, mode: u32) -> u32 {
        if mode & GROUP_EXECUTE == 0 && !self.keeps_set_gid(owner.gid) {
            return mode & !SET_GID;
        }
        mode
    }

    /// Returns the mode that chmod(2) gives an inode: the set-group-id bit is for those in the
    /// group.
    pub(crate) fn mode_of_chmod(&self, owner: Owner, mode: u32) -> u32 {
        match self.keeps_set_gid(owner.gid) {
            true => mode,
            false => mode & !SET_GID,
        }
    }

    fn keeps_set_gid(&self, gid: u32) -> bool {
        self.in_group(gid) || self.may(CapabilitySet::FSETID)
    }

    /// Returns owner and mode of an inode made in a directory, inode(7). The mode is what the
    /// caller asked for, without the bits of its umask.
    pub(crate) fn new_node(
        &self,
        directory: Owner,
        directory_mode: u32,
        mode: u32,
        is_dir: bool,
    ) -> NewNode {
        let mut node = NewNode {
            owner: Owner {
                uid: self.fsuid,
                gid: self.fsgid,
            },
            mode,
        };
        if directory_mode & SET_GID == 0 {
            return node;
        }
        node.owner.gid = directory.gid;
        if is_dir {
            node.mode |= SET_GID;
        } else if mode & GROUP_EXECUTE != 0 && !self.keeps_set_gid(directory.gid) {
            node.mode &= !SET_GID;
        }
        node
    }

    /// Says whether another process' limits may be read and set, prlimit(2).
    pub(crate) fn may_limit(&self, other: &Self) -> bool {
        let is_user = [other.ruid, other.euid, other.suid] == [self.ruid; 3];
        let is_group = [other.rgid, other.egid, other.sgid] == [self.rgid; 3];
        is_user && is_group || self.may(CapabilitySet::SYS_RESOURCE)
    }

    /// Says whether another process may be sent a signal, kill(2).
    pub(crate) fn may_signal(&self, other: &Self) -> bool {
        [self.euid, self.ruid]
            .iter()
            .any(|&id| id == other.suid || id == other.ruid)
            || self.may(CapabilitySet::KILL)
    }
}
