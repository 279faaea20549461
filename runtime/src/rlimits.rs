//! Resource limits of a container's processes, getrlimit(2).
//!
//! Responsible for reading `process.rlimits` and for setting the limits. Must not invent limits.
//! Invariant: what the child sets was made settable by the parent, so that only a limit which the
//! kernel can never accept is an error.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Result;
use crate::spec;
use crate::validate::{Report, quote};

/// `RLIM_INFINITY`.
const INFINITY: u64 = u64::MAX;

/// The names that the specification knows (config.md, "POSIX process": `rlimits`).
const NAMES: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Limits to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rlimits {
    list: Vec<(&'static str, Resource, Rlimit)>,
}

impl Rlimits {
    /// Reads the limits of a process.
    ///
    /// # Errors
    /// A name is unknown or comes twice, or a soft limit is above its hard one.
    pub fn parse(list: &[spec::Rlimit]) -> Result<Self> {
        let mut report = Report::new("process");
        let limits = Self::check(list, &mut report);
        report.finish_with(Some(limits))
    }

    /// Reads the limits, with all problems.
    pub(crate) fn check(list: &[spec::Rlimit], report: &mut Report) -> Self {
        let mut limits = Self::default();
        report.each("rlimits", list, |report, limit| {
            let Some(&(name, resource)) = NAMES.iter().find(|(name, _)| *name == limit.kind) else {
                report.add_at("type", format!("unknown limit {}", quote(&limit.kind)));
                return;
            };
            if limits.list.iter().any(|(_, known, _)| *known == resource) {
                report.add_at("type", format!("`{name}` is there twice"));
            }
            if limit.soft > limit.hard {
                report.add_at(
                    "soft",
                    format!("{} is above the hard limit {}", limit.soft, limit.hard),
                );
            }
            let value = Rlimit {
                current: finite(limit.soft),
                maximum: finite(limit.hard),
            };
            limits.list.push((name, resource, value));
        });
        limits
    }

    /// Raises the hard limits of the calling process to what its child is to have, and returns a
    /// warning for each limit that was lowered to what can be had.
    ///
    /// Raising needs `CAP_SYS_RESOURCE` in the first user namespace (setrlimit(2)), which a
    /// process in a user namespace of its own never has; lowering needs nothing. So this belongs
    /// before the clone. The soft limits of the calling process stay.
    pub fn prepare(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, resource, wanted) in &mut self.list {
            let own = getrlimit(*resource);
            if !above(wanted.maximum, own.maximum) {
                continue;
            }
            let raised = Rlimit {
                current: own.current,
                maximum: wanted.maximum,
            };
            if setrlimit(*resource, raised).is_ok() {
                continue;
            }
            warnings.push(format!(
                "{name} lowered from {} to {}: raising the hard limit is not permitted",
                show(wanted.maximum),
                show(own.maximum)
            ));
            wanted.maximum = own.maximum;
            if above(wanted.current, own.maximum) {
                wanted.current = own.maximum;
            }
        }
        warnings
    }

    /// Sets the limits of the calling process. Usable in a forked child.
    pub fn apply(&self) -> Result<(), Errno> {
        for (_, resource, limit) in &self.list {
            setrlimit(*resource, *limit)?;
        }
        Ok(())
    }
}

fn finite(value: u64) -> Option<u64> {
    (value != INFINITY).then_some(value)
}

/// Whether a limit allows more than another; `None` is no limit.
fn above(a: Option<u64>, b: Option<u64>) -> bool {
    a.unwrap_or(INFINITY) > b.unwrap_or(INFINITY)
}

fn show(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn limit(kind: &str, soft: u64, hard: u64) -> spec::Rlimit {
        spec::Rlimit {
            kind: kind.to_owned(),
            soft,
            hard,
        }
    }

    #[test]
    fn all_problems_are_named() {
        let error = Rlimits::parse(&[
            limit("RLIMIT_CORE", 2, 1),
            limit("RLIMIT_CORE", 0, 0),
            limit("core", 0, 0),
        ])
        .expect_err("three problems");
        assert_eq!(
            error.source().expect("a cause").to_string(),
            "process.rlimits[0].soft: 2 is above the hard limit 1; \
             process.rlimits[1].type: `RLIMIT_CORE` is there twice; \
             process.rlimits[2].type: unknown limit `core`"
        );
    }

    #[test]
    fn what_is_allowed_already_needs_no_preparation() {
        let mut limits = Rlimits::parse(&[limit("RLIMIT_CORE", 0, 0)]).expect("parse");
        assert!(limits.prepare().is_empty());
        assert_eq!(
            limits.list[0].2,
            Rlimit {
                current: Some(0),
                maximum: Some(0)
            }
        );
    }

    #[test]
    fn infinity_is_no_limit() {
        let limits = Rlimits::parse(&[limit("RLIMIT_AS", 5, u64::MAX)]).expect("parse");
        assert_eq!(limits.list[0].2.maximum, None);
        assert!(above(None, Some(1)) && !above(None, None));
    }
}
