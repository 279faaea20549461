//! What the supervising thread may do while it supervises.
//!
//! Responsible for putting away the capabilities that answering calls does not need, and for taking
//! them back at the end, when the thread leaves the container. Must not know calls. Invariant: a
//! thread that supervises can neither mount nor enter namespaces nor change its ids.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::error::{Result, ResultExt};

/// To see callers' memory and descriptors, and to do to files what the caller's emulated rights
/// allow: all of these the container's own processes have, except the first, which is about them.
const NEEDED: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// Rights that are put away. Dropping it takes them back.
#[derive(Debug)]
pub(super) struct Rights(CapabilitySets);

impl Rights {
    /// Puts away all that is not needed.
    pub(super) fn reduce() -> Result<Self> {
        let before = capabilities(None).op("read capabilities")?;
        let sets = CapabilitySets {
            effective: before.effective & NEEDED,
            ..before
        };
        set_capabilities(None, sets).op("put capabilities away")?;
        Ok(Self(before))
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        // What is permitted can always be made effective again.
        let _: rustix::io::Result<()> = set_capabilities(None, self.0);
    }
}
