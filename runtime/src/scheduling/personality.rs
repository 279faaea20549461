//! Execution domain (`linux.personality`), personality(2).
//!
//! Responsible for the two domains of the specification, which defines no flag. Invariant: as for
//! its parent module.

use crate::error::Result;
use crate::validate::{Report, quote};
use crate::{spec, sys};

/// Domains and their numbers (include/uapi/linux/personality.h).
const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];

/// A domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Personality {
    persona: u32,
}

impl Personality {
    /// Reads the domain.
    ///
    /// # Errors
    /// It is unknown, or there are flags.
    pub fn parse(personality: &spec::Personality) -> Result<Self> {
        let mut report = Report::new("linux.personality");
        let value = Self::check(personality, &mut report);
        report.finish_with(value)
    }

    pub(crate) fn check(personality: &spec::Personality, report: &mut Report) -> Option<Self> {
        if !personality.flags.is_empty() {
            report.add_at("flags", "flags are not supported");
        }
        let domain = DOMAINS.iter().find(|(name, _)| *name == personality.domain);
        let Some(&(_, persona)) = domain else {
            let text = format!("unknown domain {}", quote(&personality.domain));
            report.add_at("domain", text);
            return None;
        };
        Some(Self { persona })
    }

    /// Sets it for the calling thread; exec keeps it.
    pub fn apply(&self) -> rustix::io::Result<()> {
        sys::set_personality(self.persona)
    }
}
