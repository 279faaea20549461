//! Processors of a process that `exec` starts (`process.execCPUAffinity`).
//!
//! Responsible for both sets. Must not apply to a container's first process: the specification
//! has it for exec only. Invariant: as for its parent module.

use rustix::thread::{CpuSet, sched_setaffinity};

use super::parse_list;
use crate::error::Result;
use crate::spec::ExecCpuAffinity;
use crate::validate::Report;

/// Which processors at which time.
#[derive(Debug, Clone, Default)]
pub struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    /// Reads both lists.
    ///
    /// # Errors
    /// One of them is no list of processors.
    pub fn parse(affinity: &ExecCpuAffinity) -> Result<Self> {
        let mut report = Report::new("process.execCPUAffinity");
        let affinity = Self::check(affinity, &mut report);
        report.finish_with(Some(affinity))
    }

    pub(crate) fn check(affinity: &ExecCpuAffinity, report: &mut Report) -> Self {
        let mut read = |name: &str, text: &str| {
            if text.is_empty() {
                return None;
            }
            match parse_list(text, CpuSet::MAX_CPU) {
                Err(text) => {
                    report.add_at(name, text);
                    None
                }
                Ok(numbers) => {
                    let mut set = CpuSet::new();
                    numbers.into_iter().for_each(|n| set.set(n));
                    Some(set)
                }
            }
        };
        Self {
            initial: read("initial", &affinity.initial),
            last: read("final", &affinity.last),
        }
    }

    /// Sets where the process runs until it is in the container's control group.
    pub fn apply_initial(&self) -> rustix::io::Result<()> {
        apply(self.initial.as_ref())
    }

    /// Sets where it runs from then on.
    pub fn apply_final(&self) -> rustix::io::Result<()> {
        apply(self.last.as_ref())
    }
}

fn apply(set: Option<&CpuSet>) -> rustix::io::Result<()> {
    set.map_or(Ok(()), |set| sched_setaffinity(None, set))
}
