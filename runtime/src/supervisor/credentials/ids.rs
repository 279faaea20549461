//! Changes of user and group ids.
//!
//! Responsible for the set*id family and setgroups(2). Must not know where the ids come from.
//! Invariant: without the capability an id only becomes one that the process already has.

use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;

use super::{Credentials, GROUPS, capabilities, sorted};

/// "Leave as it is" in setresuid(2) and its kin, and an invalid id elsewhere.
const UNCHANGED: u32 = u32::MAX;

/// The four ids of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) fs: u32,
}

fn given(id: u32) -> Option<u32> {
    (id != UNCHANGED).then_some(id)
}

impl Ids {
    fn is_any_of_three(self, id: u32) -> bool {
        id == self.real || id == self.effective || id == self.saved
    }

    /// setuid(2), setgid(2).
    fn set(self, id: u32, capable: bool) -> Result<Self> {
        let id = given(id).ok_or(Errno::INVAL)?;
        if capable {
            Ok(Self {
                real: id,
                effective: id,
                saved: id,
                fs: id,
            })
        } else if id == self.real || id == self.saved {
            Ok(Self {
                effective: id,
                fs: id,
                ..self
            })
        } else {
            Err(Errno::PERM)
        }
    }

    /// setreuid(2), setregid(2).
    fn set_two(self, real: u32, effective: u32, capable: bool) -> Result<Self> {
        let mut new = self;
        if let Some(id) = given(real) {
            if !capable && id != self.real && id != self.effective {
                return Err(Errno::PERM);
            }
            new.real = id;
        }
        if let Some(id) = given(effective) {
            if !capable && !self.is_any_of_three(id) {
                return Err(Errno::PERM);
            }
            new.effective = id;
        }
        if given(real).is_some() || given(effective).is_some_and(|id| id != self.real) {
            new.saved = new.effective;
        }
        new.fs = new.effective;
        Ok(new)
    }

    /// setresuid(2), setresgid(2).
    fn set_three(self, real: u32, effective: u32, saved: u32, capable: bool) -> Result<Self> {
        let asked = [given(real), given(effective), given(saved)];
        let stays = asked[0].is_none_or(|id| id == self.real)
            && asked[1].is_none_or(|id| id == self.effective && id == self.fs)
            && asked[2].is_none_or(|id| id == self.saved);
        if stays {
            // Since Linux 6.2 the file system id stays as it is, too.
            return Ok(self);
        }
        if !capable
            && asked
                .into_iter()
                .flatten()
                .any(|id| !self.is_any_of_three(id))
        {
            return Err(Errno::PERM);
        }
        let effective = asked[1].unwrap_or(self.effective);
        Ok(Self {
            real: asked[0].unwrap_or(self.real),
            effective,
            saved: asked[2].unwrap_or(self.saved),
            fs: effective,
        })
    }

    /// setfsuid(2), setfsgid(2), which have no errors.
    fn set_fs(self, id: u32, capable: bool) -> Self {
        match given(id) {
            Some(fs) if capable || self.is_any_of_three(fs) => Self { fs, ..self },
            _ => self,
        }
    }
}

impl Credentials {
    pub(super) fn user_ids(&self) -> Ids {
        Ids {
            real: self.ruid,
            effective: self.euid,
            saved: self.suid,
            fs: self.fsuid,
        }
    }

    fn group_ids(&self) -> Ids {
        Ids {
            real: self.rgid,
            effective: self.egid,
            saved: self.sgid,
            fs: self.fsgid,
        }
    }

    fn put_user_ids(&mut self, ids: Ids) {
        self.ruid = ids.real;
        self.euid = ids.effective;
        self.suid = ids.saved;
        self.fsuid = ids.fs;
    }

    fn put_group_ids(&mut self, ids: Ids) {
        self.rgid = ids.real;
        self.egid = ids.effective;
        self.sgid = ids.saved;
        self.fsgid = ids.fs;
    }

    /// setuid(2).
    pub(crate) fn setuid(&mut self, uid: u32) -> Result<()> {
        let new = self.user_ids().set(uid, self.may(CapabilitySet::SETUID))?;
        self.change_user(new);
        Ok(())
    }

    /// setreuid(2); `u32::MAX` leaves an id as it is.
    pub(crate) fn setreuid(&mut self, ruid: u32, euid: u32) -> Result<()> {
        let capable = self.may(CapabilitySet::SETUID);
        let new = self.user_ids().set_two(ruid, euid, capable)?;
        self.change_user(new);
        Ok(())
    }

    /// setresuid(2); `u32::MAX` leaves an id as it is.
    pub(crate) fn setresuid(&mut self, ruid: u32, euid: u32, suid: u32) -> Result<()> {
        let capable = self.may(CapabilitySet::SETUID);
        let new = self.user_ids().set_three(ruid, euid, suid, capable)?;
        self.change_user(new);
        Ok(())
    }

    /// setfsuid(2): returns the id before, whether it changed or not.
    pub(crate) fn setfsuid(&mut self, uid: u32) -> u32 {
        let old = self.fsuid;
        let capable = self.may(CapabilitySet::SETUID);
        self.fsuid = self.user_ids().set_fs(uid, capable).fs;
        if !self.secure(capabilities::NO_SETUID_FIXUP) {
            self.fix_file_capabilities(old);
        }
        old
    }

    /// setgid(2).
    pub(crate) fn setgid(&mut self, gid: u32) -> Result<()> {
        let capable = self.may(CapabilitySet::SETGID);
        self.put_group_ids(self.group_ids().set(gid, capable)?);
        Ok(())
    }

    /// setregid(2); `u32::MAX` leaves an id as it is.
    pub(crate) fn setregid(&mut self, rgid: u32, egid: u32) -> Result<()> {
        let capable = self.may(CapabilitySet::SETGID);
        self.put_group_ids(self.group_ids().set_two(rgid, egid, capable)?);
        Ok(())
    }

    /// setresgid(2); `u32::MAX` leaves an id as it is.
    pub(crate) fn setresgid(&mut self, rgid: u32, egid: u32, sgid: u32) -> Result<()> {
        let capable = self.may(CapabilitySet::SETGID);
        self.put_group_ids(self.group_ids().set_three(rgid, egid, sgid, capable)?);
        Ok(())
    }

    /// setfsgid(2): returns the id before, whether it changed or not.
    pub(crate) fn setfsgid(&mut self, gid: u32) -> u32 {
        let old = self.fsgid;
        let capable = self.may(CapabilitySet::SETGID);
        self.fsgid = self.group_ids().set_fs(gid, capable).fs;
        old
    }

    /// Says whether setgroups(2) with this many groups is allowed, before they are read.
    pub(crate) fn may_set_groups(&self, count: usize) -> Result<()> {
        if !self.may(CapabilitySet::SETGID) {
            Err(Errno::PERM)
        } else if count > GROUPS {
            Err(Errno::INVAL)
        } else {
            Ok(())
        }
    }

    /// setgroups(2).
    pub(crate) fn setgroups(&mut self, groups: &[u32]) -> Result<()> {
        self.may_set_groups(groups.len())?;
        if groups.contains(&UNCHANGED) {
            return Err(Errno::INVAL);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    fn change_user(&mut self, new: Ids) {
        let old = self.user_ids();
        self.put_user_ids(new);
        // A call that asks for what is there is no change to the kernel either, only its file
        // system id is: the fix-up makes no difference then.
        if !self.secure(capabilities::NO_SETUID_FIXUP) {
            self.fix_capabilities(old);
        }
    }
}
