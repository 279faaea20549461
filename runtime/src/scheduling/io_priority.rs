//! I/O priority (`process.ioPriority`), ioprio_set(2).
//!
//! Responsible for class and level. Invariant: as for its parent module.

use crate::error::Result;
use crate::validate::{Report, quote};
use crate::{spec, sys};

/// Classes and their numbers (include/uapi/linux/ioprio.h).
const CLASSES: [(&str, i32); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

const CLASS_SHIFT: u32 = 13;

/// A class and the level in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPriority {
    value: i32,
}

impl IoPriority {
    /// Reads class and level.
    ///
    /// # Errors
    /// The class is unknown, or the level is not 0 to 7.
    pub fn parse(priority: &spec::IoPriority) -> Result<Self> {
        let mut report = Report::new("process.ioPriority");
        let value = Self::check(priority, &mut report);
        report.finish_with(value)
    }

    pub(crate) fn check(priority: &spec::IoPriority, report: &mut Report) -> Option<Self> {
        if !(0..=7).contains(&priority.priority) {
            report.add_at("priority", format!("{} is not 0 to 7", priority.priority));
        }
        let class = CLASSES.iter().find(|(name, _)| *name == priority.class);
        let Some((_, class)) = class else {
            report.add_at("class", format!("unknown class {}", quote(&priority.class)));
            return None;
        };
        Some(Self {
            value: class << CLASS_SHIFT | (priority.priority & 7),
        })
    }

    /// Sets it for the calling thread.
    ///
    /// # Errors
    /// `EPERM`: the class `IOPRIO_CLASS_RT` needs `CAP_SYS_ADMIN` or `CAP_SYS_NICE`.
    pub fn apply(&self) -> rustix::io::Result<()> {
        sys::set_io_priority(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_and_level() {
        let parse = |class: &str, priority| {
            let class = class.to_owned();
            IoPriority::parse(&spec::IoPriority { class, priority }).map(|p| p.value)
        };
        assert_eq!(parse("IOPRIO_CLASS_BE", 5).ok(), Some(0x4005));
        assert_eq!(parse("IOPRIO_CLASS_IDLE", 0).ok(), Some(0x6000));
        assert!(parse("IOPRIO_CLASS_NONE", 0).is_err());
        assert!(parse("IOPRIO_CLASS_RT", 8).is_err());
        assert!(parse("IOPRIO_CLASS_RT", -1).is_err());
    }
}
