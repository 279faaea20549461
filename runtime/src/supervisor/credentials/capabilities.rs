//! Changes of capability sets.
//!
//! Responsible for capset(2), the options of prctl(2) about capabilities, and what a change of
//! user ids does to the sets (capabilities(7), "Effect of user ID changes on capabilities"). Must
//! not know how a program hands sets over. Invariant: the effective set stays within the permitted
//! one, and the ambient set within both the permitted and the inheritable one.

use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;

use super::ids::Ids;
use super::{Credentials, KNOWN};

/// `SECBIT_NOROOT`: user id 0 gives no capabilities at exec.
pub(super) const NO_ROOT: u32 = 1 << 0;
/// `SECBIT_NO_SETUID_FIXUP`: changes of user ids leave the sets alone.
pub(super) const NO_SETUID_FIXUP: u32 = 1 << 2;
/// `SECBIT_KEEP_CAPS`: the permitted set survives the loss of all zero user ids.
pub(super) const KEEP_CAPS: u32 = 1 << 4;
/// `SECBIT_NO_CAP_AMBIENT_RAISE`: the ambient set can only shrink.
const NO_AMBIENT_RAISE: u32 = 1 << 6;
/// `SECBIT_EXEC_RESTRICT_FILE` and `SECBIT_EXEC_DENY_INTERACTIVE` (Linux 6.14), which only
/// interpreters heed, so that they need no capability.
const UNPRIVILEGED: u32 = 1 << 8 | 1 << 10;
const ALL_BITS: u32 = NO_ROOT | NO_SETUID_FIXUP | KEEP_CAPS | NO_AMBIENT_RAISE | UNPRIVILEGED;
/// Every bit has a lock above it.
const ALL_LOCKS: u32 = ALL_BITS << 1;

/// What setfsuid(2) takes and gives: the capabilities about files.
const FILE_SET: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::MAC_OVERRIDE);

/// Returns the capability of a number, if there is one.
pub(super) fn numbered(number: u64) -> Result<CapabilitySet> {
    let bit = u32::try_from(number)
        .ok()
        .and_then(|number| 1u64.checked_shl(number))
        .ok_or(Errno::INVAL)?;
    let capability = CapabilitySet::from_bits_retain(bit);
    match KNOWN.contains(capability) {
        true => Ok(capability),
        false => Err(Errno::INVAL),
    }
}

impl Credentials {
    pub(super) fn secure(&self, bit: u32) -> bool {
        self.securebits & bit != 0
    }

    /// What setuid(2), setreuid(2) and setresuid(2) do to the sets.
    pub(super) fn fix_capabilities(&mut self, old: Ids) {
        let had_root = old.real == 0 || old.effective == 0 || old.saved == 0;
        let has_root = self.ruid == 0 || self.euid == 0 || self.suid == 0;
        if had_root && !has_root {
            if !self.secure(KEEP_CAPS) {
                self.permitted = CapabilitySet::empty();
                self.effective = CapabilitySet::empty();
            }
            self.ambient = CapabilitySet::empty();
        }
        if old.effective == 0 && self.euid != 0 {
            self.effective = CapabilitySet::empty();
        }
        if old.effective != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
    }

    /// What setfsuid(2) does to the effective set.
    pub(super) fn fix_file_capabilities(&mut self, old: u32) {
        if old == 0 && self.fsuid != 0 {
            self.effective -= FILE_SET;
        } else if old != 0 && self.fsuid == 0 {
            self.effective |= self.permitted & FILE_SET;
        }
    }

    /// capset(2).
    pub(crate) fn capset(
        &mut self,
        effective: CapabilitySet,
        permitted: CapabilitySet,
        inheritable: CapabilitySet,
    ) -> Result<()> {
        let effective = effective & KNOWN;
        let permitted = permitted & KNOWN;
        let inheritable = inheritable & KNOWN;
        let capped = !self.may(CapabilitySet::SETPCAP);
        if capped && !(self.inheritable | self.permitted).contains(inheritable)
            || !(self.inheritable | self.bounding).contains(inheritable)
            || !self.permitted.contains(permitted)
            || !permitted.contains(effective)
        {
            return Err(Errno::PERM);
        }
        self.effective = effective;
        self.permitted = permitted;
        self.inheritable = inheritable;
        self.ambient &= permitted & inheritable;
        Ok(())
    }

    /// prctl(2) `PR_CAPBSET_READ`.
    pub(crate) fn in_bounding(&self, capability: u64) -> Result<bool> {
        Ok(self.bounding.contains(numbered(capability)?))
    }

    /// prctl(2) `PR_CAPBSET_DROP`.
    pub(crate) fn drop_bounding(&mut self, capability: u64) -> Result<()> {
        if !self.may(CapabilitySet::SETPCAP) {
            return Err(Errno::PERM);
        }
        self.bounding -= numbered(capability)?;
        Ok(())
    }

    /// prctl(2) `PR_CAP_AMBIENT_IS_SET`.
    pub(crate) fn in_ambient(&self, capability: u64) -> Result<bool> {
        Ok(self.ambient.contains(numbered(capability)?))
    }

    /// prctl(2) `PR_CAP_AMBIENT_RAISE`.
    pub(crate) fn raise_ambient(&mut self, capability: u64) -> Result<()> {
        let capability = numbered(capability)?;
        if !(self.permitted & self.inheritable).contains(capability)
            || self.secure(NO_AMBIENT_RAISE)
        {
            return Err(Errno::PERM);
        }
        self.ambient |= capability;
        Ok(())
    }

    /// prctl(2) `PR_CAP_AMBIENT_LOWER`.
    pub(crate) fn lower_ambient(&mut self, capability: u64) -> Result<()> {
        self.ambient -= numbered(capability)?;
        Ok(())
    }

    /// prctl(2) `PR_CAP_AMBIENT_CLEAR_ALL`.
    pub(crate) fn clear_ambient(&mut self) {
        self.ambient = CapabilitySet::empty();
    }

    /// prctl(2) `PR_GET_KEEPCAPS`.
    pub(crate) fn keeps_capabilities(&self) -> bool {
        self.secure(KEEP_CAPS)
    }

    /// prctl(2) `PR_SET_KEEPCAPS`.
    pub(crate) fn set_keep_capabilities(&mut self, keep: u64) -> Result<()> {
        if keep > 1 {
            return Err(Errno::INVAL);
        }
        if self.secure(KEEP_CAPS << 1) {
            return Err(Errno::PERM);
        }
        match keep {
            0 => self.securebits &= !KEEP_CAPS,
            _ => self.securebits |= KEEP_CAPS,
        }
        Ok(())
    }

    /// prctl(2) `PR_SET_SECUREBITS`.
    pub(crate) fn set_securebits(&mut self, bits: u64) -> Result<()> {
        let bits = u32::try_from(bits).map_err(|_| Errno::PERM)?;
        let locks = self.securebits & ALL_LOCKS;
        let changed = self.securebits ^ bits;
        if changed & (locks >> 1) != 0 || locks & !bits != 0 || bits & !(ALL_BITS | ALL_LOCKS) != 0
        {
            return Err(Errno::PERM);
        }
        // Without the capability even "no change" is refused, as it was before there were
        // unprivileged bits.
        let unprivileged = changed != 0 && changed & !(UNPRIVILEGED | UNPRIVILEGED << 1) == 0;
        if !self.may(CapabilitySet::SETPCAP) && !unprivileged {
            return Err(Errno::PERM);
        }
        self.securebits = bits;
        Ok(())
    }
}
