//! What a container may do and use up, where that is not the usual.
//!
//! Responsible for turning what was asked for into what its processes get: capabilities, filter,
//! resource limits, control group. Must not start anything. Invariant: what can't be had is an error,
//! or a note that names it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::thread::CapabilitySet;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Driver, Group, Hold, Request};
use crate::error::{Error, Result, ResultExt};
use crate::identity::Identity;
use crate::rlimits::Rlimits;
use crate::seccomp::{self, Filter};
use crate::spec::{Resources, Rlimit};
use crate::{caps, supervisor};

/// What a container may do and use up. The default is the usual.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// All capabilities, every call, unmasked and writable kernel file systems, the host's devices:
    /// as far as the identity goes. Not where ids are emulated.
    pub insecure: bool,
    /// The capabilities, as bits; none is [`caps::DEFAULT`].
    pub capabilities: Option<u64>,
    /// Limits of processes; others are inherited.
    pub rlimits: Vec<Rlimit>,
    /// What `/dev/shm` may grow to, in bytes.
    pub shm_size: Option<u64>,
    /// Devices of the host besides the usual.
    pub devices: Vec<HostDevice>,
    /// Files and directories of the host.
    pub binds: Vec<HostBind>,
    /// Limits of the container as a whole.
    pub resources: Resources,
    /// The control group that the container's own is put into.
    pub cgroup_parent: Option<String>,
}

/// How the names of steps' groups begin.
const GROUP_PREFIX: &str = "sandcrab-step-";

/// A step's control group.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    /// None where nothing asks for one, or none can be made.
    pub(super) group: Group,
    /// Limits that don't hold, and why.
    pub(super) unenforced: Vec<String>,
    _hold: Option<Hold>,
}

/// A device of the host that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the container has it, below `/dev`.
    pub path: PathBuf,
    /// Its numbers, when they are known.
    pub numbers: Option<(u32, u32)>,
}

/// A file or directory of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBind {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the container sees it: absolute, resolved inside the container.
    pub path: PathBuf,
    /// Whether the container can't write to it.
    pub read_only: bool,
}

/// Capabilities that are a question of owners, which a supervisor answers. Its own effects need them
/// in truth.
const OWNERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL);

/// What the container's first process gets.
#[derive(Debug)]
pub(super) struct Settled {
    /// What root has, as far as it can see.
    pub(super) capabilities: CapabilitySet,
    /// What there is in truth.
    pub(super) real: CapabilitySet,
    /// Whether others than root have the capabilities, too.
    pub(super) for_all: bool,
    pub(super) filter: Option<Cow<'static, Filter>>,
    pub(super) rlimits: Rlimits,
}

impl Confinement {
    /// Works out what there is. Raises limits of the calling process, if that is needed and
    /// permitted.
    pub(super) fn settle(&self, identity: Identity, notes: &mut Vec<String>) -> Result<Settled> {
        let emulated = identity == Identity::Emulated;
        if self.insecure && emulated {
            return Err(
                Error::new("`--security=insecure` needs user ids of its own")
                    .cause("they are emulated, which a filter of system calls does".to_owned())
                    .hint("`sandcrab doctor` tells how to get subordinate user ids"),
            );
        }
        let asked = self.asked();
        let there = match identity {
            // Without a user namespace of its own it can't have more than the caller.
            Identity::Host => {
                let own = rustix::thread::capabilities(None).op("read capabilities")?;
                own.permitted
            }
            _ => CapabilitySet::all(),
        };
        let missing = asked - there;
        if !missing.is_empty() && !self.insecure {
            let names: Vec<&str> = missing.iter_names().map(|(name, _)| name).collect();
            notes.push(format!(
                "--cap-add: this machine's root has no {}",
                names.join(", ")
            ));
        }
        let capabilities = asked & there;
        let added = capabilities - caps::DEFAULT;
        let real = if emulated {
            capabilities | (caps::DEFAULT & OWNERS)
        } else {
            capabilities
        };
        let filter = if self.insecure {
            None
        } else if emulated {
            if seccomp::unlocks(added) {
                notes.push(
                    "--cap-add: where ids are emulated, the calls that added capabilities are \
                     for stay forbidden"
                        .to_owned(),
                );
            }
            Some(Cow::Borrowed(supervisor::filter()?))
        } else if seccomp::unlocks(added) {
            Some(Cow::Owned(seccomp::filter_with(added)?))
        } else {
            Some(Cow::Borrowed(seccomp::default_filter()?))
        };
        Ok(Settled {
            capabilities,
            real,
            for_all: self.insecure,
            filter,
            rlimits: self.limits(emulated, notes)?,
        })
    }

    fn asked(&self) -> CapabilitySet {
        if self.insecure {
            return CapabilitySet::all();
        }
        self.capabilities
            .map_or(caps::DEFAULT, CapabilitySet::from_bits_truncate)
    }

    fn limits(&self, emulated: bool, notes: &mut Vec<String>) -> Result<Rlimits> {
        let mut list = self.rlimits.clone();
        // Where ids are emulated, that limit is what the supervisor knows a process by.
        list.retain(|limit| !(emulated && limit.kind == "RLIMIT_RTTIME"));
        let mut limits = Rlimits::parse(&list)?;
        let mut warnings = limits.prepare();
        if list.len() < self.rlimits.len() {
            warnings.push("rttime can't be set where ids are emulated".to_owned());
        }
        if !warnings.is_empty() {
            notes.push(format!("--ulimit: {}", warnings.join("; ")));
        }
        Ok(limits)
    }

    /// Says whether it takes a control group.
    fn wants_group(&self) -> bool {
        self.resources != Resources::default() || self.cgroup_parent.is_some()
    }

    /// Makes the control group, if limits ask for one, and removes those beside it that killed jobs
    /// have left.
    pub(super) fn make_group(&self) -> Result<Grouped> {
        /// How often a group may be taken for abandoned between two calls of its maker.
        const ATTEMPTS: usize = 10;
        if !self.wants_group() {
            return Ok(Grouped::default());
        }
        for _ in 0..ATTEMPTS {
            let (group, unenforced) = self.make_group_once()?;
            let Some(hold) = group.hold()? else { continue };
            group.remove_abandoned_beside(GROUP_PREFIX);
            return Ok(Grouped {
                group,
                unenforced,
                _hold: Some(hold),
            });
        }
        Err(Error::new("make control group").cause("somebody removes it each time".to_owned()))
    }

    /// Removes control groups that killed steps of this confinement have left.
    ///
    /// # Errors
    /// Those of making a step's group, beside which they are looked for.
    pub fn remove_abandoned_groups(&self) -> Result<()> {
        self.make_group()?.group.remove()
    }

    fn make_group_once(&self) -> Result<(Group, Vec<String>)> {
        // A number can come again while an abandoned group of the same name is there.
        let now = clock_gettime(ClockId::Boottime);
        let id = format!(
            "{GROUP_PREFIX}{}-{:x}{:08x}",
            std::process::id(),
            now.tv_sec,
            now.tv_nsec
        );
        let parent = self.cgroup_parent.as_deref().unwrap_or_default();
        let path = match parent.trim_end_matches('/') {
            "" if parent.is_empty() => String::new(),
            parent => format!("{parent}/{id}"),
        };
        let (group, mut warnings) = cgroup::create(&Request {
            id: &id,
            path: &path,
            resources: Some(&self.resources),
            driver: Driver::Cgroupfs,
            // Whatever the reason: a build goes on without.
            rootless: true,
            annotations: &BTreeMap::new(),
            owner: None,
            bus: None,
        })?;
        // Rules about devices, which nobody asked for, come with every group.
        warnings.retain(|warning| !warning.contains("device"));
        if group.is_none() && warnings.is_empty() {
            warnings.push(format!("no control group can be made in `{parent}`"));
        }
        Ok((group, warnings))
    }
}

/// The way of a forked process into a group.
#[derive(Debug, Default)]
pub(super) struct Entrance {
    /// It is cloned into this one.
    pub(super) directory: Option<OwnedFd>,
    /// It writes itself into these.
    pub(super) files: Vec<OwnedFd>,
}

impl Entrance {
    /// Opens a group.
    pub(super) fn open(group: &Group) -> Result<Self> {
        Ok(Self {
            directory: group.open_for_clone(),
            files: group.open_legacy()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_needs_no_group_and_no_filter_of_its_own() {
        let usual = Confinement::default();
        let made = usual.make_group().expect("no group");
        assert!(made.group.is_none() && made.unenforced.is_empty());
        let mut notes = Vec::new();
        let settled = usual.settle(Identity::Subids, &mut notes).expect("settled");
        assert_eq!(settled.capabilities, caps::DEFAULT);
        assert_eq!(settled.real, caps::DEFAULT);
        assert!(matches!(settled.filter, Some(Cow::Borrowed(_))));
        assert!(notes.is_empty() && !settled.for_all);
    }

    #[test]
    fn more_and_less() {
        let with = |bits: CapabilitySet| Confinement {
            capabilities: Some(bits.bits()),
            ..Confinement::default()
        };
        let mut notes = Vec::new();
        let more = with(caps::DEFAULT | CapabilitySet::SYS_ADMIN);
        let settled = more.settle(Identity::Subids, &mut notes).expect("settled");
        assert!(matches!(settled.filter, Some(Cow::Owned(_))) && notes.is_empty());
        // Owners are the supervisor's business, whatever root seems to be able to.
        let less = with(CapabilitySet::empty());
        let settled = less
            .settle(Identity::Emulated, &mut notes)
            .expect("settled");
        assert_eq!(settled.capabilities, CapabilitySet::empty());
        assert!(settled.real.contains(CapabilitySet::CHOWN));
        assert!(!settled.real.contains(CapabilitySet::NET_RAW));
        let settled = less.settle(Identity::Subids, &mut notes).expect("settled");
        assert_eq!(settled.real, CapabilitySet::empty());
    }

    #[test]
    fn insecure_is_everything_or_an_error() {
        let insecure = Confinement {
            insecure: true,
            ..Confinement::default()
        };
        let mut notes = Vec::new();
        let settled = insecure
            .settle(Identity::Subids, &mut notes)
            .expect("settled");
        assert!(settled.filter.is_none() && settled.for_all);
        assert_eq!(settled.real, CapabilitySet::all());
        let error = insecure.settle(Identity::Emulated, &mut notes);
        assert_eq!(error.expect_err("refused").hints().len(), 1);
    }
}
