//! The capabilities of a container's processes.
//!
//! Responsible for the default set, for the five sets of a specification and for applying them in
//! a forked child. Must not decide who gets more. Invariant: what is outside the bounding set can
//! never be gained again, whatever is executed.

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
};

use crate::{spec, sys};

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

/// The five sets of a process, capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// What can ever be gained.
    pub bounding: CapabilitySet,
    /// What the kernel checks.
    pub effective: CapabilitySet,
    /// What exec keeps for programs with inheritable capabilities.
    pub inheritable: CapabilitySet,
    /// The limit of the effective set.
    pub permitted: CapabilitySet,
    /// What exec keeps for all programs.
    pub ambient: CapabilitySet,
}

impl Sets {
    /// No capability at all: what a process without `capabilities` gets.
    pub const EMPTY: Self = Self {
        bounding: CapabilitySet::empty(),
        effective: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        ambient: CapabilitySet::empty(),
    };

    /// Reads the sets of a specification, and what there is to warn of.
    ///
    /// Names that are not known are left out (config.md, "Linux Process": "unknown capabilities
    /// … SHOULD be logged as warnings"). So are ambient ones that can't be raised because they are
    /// not both permitted and inheritable: the documents that `runc spec` 1.1 and buildah write have
    /// such. Root, whose user id is 0, loses nothing by that: its programs get all that is permitted.
    pub fn parse(sets: &spec::Capabilities, uid: u32) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut read = |names: &[String]| {
            let mut set = CapabilitySet::empty();
            for name in names {
                match by_name(name) {
                    Some(capability) => set |= capability,
                    None => {
                        let text = format!("unknown capability `{}` left out", name.escape_debug());
                        if !warnings.contains(&text) {
                            warnings.push(text);
                        }
                    }
                }
            }
            set
        };
        let mut sets = Self {
            bounding: read(&sets.bounding),
            effective: read(&sets.effective),
            inheritable: read(&sets.inheritable),
            permitted: read(&sets.permitted),
            ambient: read(&sets.ambient),
        };
        let raisable = sets.permitted & sets.inheritable;
        let lost = sets.ambient - raisable;
        if uid != 0 && !lost.is_empty() {
            let names: Vec<String> = lost
                .iter_names()
                .map(|(name, _)| format!("`CAP_{name}`"))
                .collect();
            warnings.push(format!(
                "ambient capabilities left out: {}: not both permitted and inheritable",
                names.join(", ")
            ));
        }
        sets.ambient &= raisable;
        (sets, warnings)
    }

    /// Limits the bounding set. Needs `CAP_SETPCAP`. Usable in a forked child.
    pub fn limit_bounding(&self) -> Result<()> {
        limit_bounding(self.bounding)
    }

    /// Sets the other four sets. To be called after the ids have changed, with the capabilities
    /// kept over that (`PR_SET_KEEPCAPS`). Usable in a forked child.
    pub fn apply(&self) -> Result<()> {
        sys::clear_ambient()?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: self.effective,
                permitted: self.permitted,
                inheritable: self.inheritable,
            },
        )?;
        for capability in self.ambient.iter() {
            match configure_capability_in_ambient_set(capability, true) {
                // A kernel that does not know the capability; it has nothing to raise.
                Err(Errno::INVAL) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Finds a capability by its name, such as `CAP_KILL`, in any case (as crun reads it).
pub fn by_name(name: &str) -> Option<CapabilitySet> {
    let name = name.to_ascii_uppercase();
    CapabilitySet::from_name(name.strip_prefix("CAP_")?)
}

/// Returns the names of all capabilities, in the order of their numbers.
pub fn names() -> Vec<String> {
    let all = CapabilitySet::all();
    all.iter_names().map(|(n, _)| format!("CAP_{n}")).collect()
}

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
    Sets {
        effective: set,
        permitted: set,
        ..Sets::EMPTY
    }
    .apply()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn the_default_set_is_dockers() {
        // As `docker run alpine grep CapEff /proc/self/status` prints it.
        assert_eq!(DEFAULT.bits(), 0x0000_0000_a804_25fb);
    }

    #[test]
    fn names_are_the_kernels() {
        let names = names();
        assert_eq!(names.len(), 41);
        assert_eq!(names.first().map(String::as_str), Some("CAP_CHOWN"));
        assert_eq!(
            names.last().map(String::as_str),
            Some("CAP_CHECKPOINT_RESTORE")
        );
        assert_eq!(by_name("cap_kill"), Some(CapabilitySet::KILL));
        assert_eq!(by_name("KILL"), None);
    }

    #[test]
    fn what_cannot_be_had_is_left_out_with_a_warning() {
        let document = spec::Capabilities {
            bounding: list(&["CAP_KILL", "CAP_NEXT"]),
            permitted: list(&["CAP_KILL", "CAP_CHOWN", "CAP_NEXT"]),
            effective: list(&["CAP_KILL"]),
            inheritable: list(&["CAP_CHOWN"]),
            ambient: list(&["CAP_KILL", "CAP_CHOWN"]),
        };
        let (sets, warnings) = Sets::parse(&document, 7);
        assert_eq!(sets.bounding, CapabilitySet::KILL);
        assert_eq!(sets.ambient, CapabilitySet::CHOWN);
        assert_eq!(
            warnings,
            [
                "unknown capability `CAP_NEXT` left out",
                "ambient capabilities left out: `CAP_KILL`: not both permitted and inheritable",
            ]
        );
        assert_eq!(Sets::parse(&document, 0).1.len(), 1);
    }
}
