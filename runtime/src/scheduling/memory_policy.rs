//! NUMA memory policy (`linux.memoryPolicy`), set_mempolicy(2).
//!
//! Responsible for mode, flags and nodes. Invariant: as for its parent module.

use super::parse_list;
use crate::error::Result;
use crate::validate::{Report, quote};
use crate::{spec, sys};

/// Modes and their numbers (include/uapi/linux/mempolicy.h).
pub const MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags and their bits (same file).
pub const FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// More nodes than any kernel is built for (`NODES_SHIFT` is at most 10).
const NODE_LIMIT: usize = 1024;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    mode: i32,
    nodes: Vec<u64>,
}

impl MemoryPolicy {
    /// Reads the policy.
    ///
    /// # Errors
    /// A name is unknown, or mode, flags and nodes don't go together.
    pub fn parse(policy: &spec::MemoryPolicy) -> Result<Self> {
        let mut report = Report::new("linux.memoryPolicy");
        let value = Self::check(policy, &mut report);
        report.finish_with(value)
    }

    pub(crate) fn check(policy: &spec::MemoryPolicy, report: &mut Report) -> Option<Self> {
        let mut bits = 0;
        report.each("flags", &policy.flags, |report, flag| {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => bits |= bit,
                None => report.add(format!("unknown flag {}", quote(flag))),
            }
        });
        let has = |name: &str| policy.flags.iter().any(|flag| flag == name);
        if has("MPOL_F_STATIC_NODES") && has("MPOL_F_RELATIVE_NODES") {
            report.add_at(
                "flags",
                "`MPOL_F_STATIC_NODES` and `MPOL_F_RELATIVE_NODES` exclude each other",
            );
        }
        let mut nodes = Vec::new();
        if !policy.nodes.is_empty() {
            match parse_list(&policy.nodes, NODE_LIMIT) {
                Err(text) => report.add_at("nodes", text),
                Ok(numbers) => {
                    let highest = numbers.last().copied().unwrap_or_default();
                    nodes = vec![0_u64; highest / 64 + 1];
                    for number in numbers {
                        if let Some(word) = nodes.get_mut(number / 64) {
                            *word |= 1 << (number % 64);
                        }
                    }
                }
            }
        }
        let Some((name, mode)) = MODES.iter().find(|(name, _)| *name == policy.mode) else {
            report.add_at("mode", format!("unknown mode {}", quote(&policy.mode)));
            return None;
        };
        // set_mempolicy(2), for each mode.
        match *name {
            "MPOL_DEFAULT" | "MPOL_LOCAL" if !policy.nodes.is_empty() => {
                report.add_at("nodes", format!("`{name}` takes no nodes"));
            }
            "MPOL_DEFAULT" | "MPOL_LOCAL" if !policy.flags.is_empty() => {
                report.add_at("flags", format!("`{name}` takes no flags"));
            }
            "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
            _ if policy.nodes.is_empty() => {
                report.add_at("nodes", format!("`{name}` needs nodes"));
            }
            _ => {}
        }
        Some(Self {
            mode: mode | bits,
            nodes,
        })
    }

    /// Sets it for the calling thread; exec keeps it.
    ///
    /// # Errors
    /// `EINVAL`: a node does not exist, or the kernel is too old for the mode; `ENOSYS`: it is
    /// built without NUMA.
    pub fn apply(&self) -> rustix::io::Result<()> {
        sys::set_memory_policy(self.mode, &self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mode: &str, nodes: &str, flags: &[&str]) -> Result<MemoryPolicy> {
        MemoryPolicy::parse(&spec::MemoryPolicy {
            mode: mode.to_owned(),
            nodes: nodes.to_owned(),
            flags: flags.iter().map(|&f| f.to_owned()).collect(),
        })
    }

    #[test]
    fn what_goes_together() {
        let bind = parse("MPOL_BIND", "0,65", &["MPOL_F_STATIC_NODES"]).expect("bind");
        assert_eq!((bind.mode, bind.nodes), (0x8002, vec![1, 2]));
        assert!(parse("MPOL_PREFERRED", "", &[]).is_ok());
        for (mode, nodes, flags) in [
            ("MPOL_BIND", "", &[][..]),
            ("MPOL_DEFAULT", "0", &[]),
            ("MPOL_LOCAL", "", &["MPOL_F_STATIC_NODES"]),
            (
                "MPOL_BIND",
                "0",
                &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
            ),
            ("MPOL_BIND", "x", &[]),
            ("MPOL_BIND", "1024", &[]),
            ("BIND", "0", &[]),
            ("MPOL_BIND", "0", &["STATIC"]),
        ] {
            assert!(
                parse(mode, nodes, flags).is_err(),
                "{mode} {nodes} {flags:?}"
            );
        }
    }

    #[test]
    fn the_kernel_takes_it() {
        let apply = || {
            parse("MPOL_BIND", "0", &[]).expect("bind").apply()?;
            parse("MPOL_DEFAULT", "", &[]).expect("default").apply()
        };
        match apply() {
            Err(rustix::io::Errno::NOSYS) => println!("SKIP: a kernel without NUMA"),
            other => other.expect("set"),
        }
    }
}
