//! The capabilities of a container's processes.
//!
//! Responsible for the default set and for applying a set in a forked child. Must not decide who
//! gets more. Invariant: what is outside the bounding set can never be gained again, whatever is
//! executed.

use rustix::io::{Errno, Result};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::sys;

/// The 14 capabilities of Docker's default set.
pub const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Capabilities are numbered below this (capabilities(7): a 64-bit set).
const LIMIT: u32 = 64;

/// Limits the bounding set. Needs `CAP_SETPCAP`. Usable in a forked child.
pub(crate) fn limit_bounding(keep: CapabilitySet) -> Result<()> {
    for number in 0..LIMIT {
        if keep.bits() & (1 << number) != 0 {
            continue;
        }
        match sys::drop_bounding(number) {
            // The first number that the kernel does not know: there are no more.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Sets the permitted and effective sets, with nothing inheritable or ambient. Usable in a forked
/// child.
pub(crate) fn set(set: CapabilitySet) -> Result<()> {
    sys::clear_ambient()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: set,
            permitted: set,
            inheritable: CapabilitySet::empty(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_dockers() {
        // As `docker run alpine grep CapEff /proc/self/status` prints it.
        assert_eq!(DEFAULT.bits(), 0x0000_0000_a804_25fb);
    }
}
