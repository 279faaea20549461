//! Scheduling policy (`process.scheduler`), sched_setattr(2), sched(7).
//!
//! Responsible for which attribute belongs to which policy. Invariant: as for its parent module.

use crate::error::Result;
use crate::sys::SchedulerAttributes;
use crate::validate::{Report, quote};
use crate::{spec, sys};

/// Policies and their numbers (include/uapi/linux/sched.h). `SCHED_ISO`, which the specification
/// also names, is reserved there and was never implemented.
const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags and their bits (same file).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// The highest utilisation (`SCHED_CAPACITY_SCALE`): a clamp that changes nothing.
const WHOLE: u32 = 1024;

/// How a process is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduler {
    attributes: SchedulerAttributes,
}

impl Scheduler {
    /// Reads policy and attributes.
    ///
    /// # Errors
    /// A name is unknown, a value out of range, or an attribute belongs to another policy.
    pub fn parse(scheduler: &spec::Scheduler) -> Result<Self> {
        let mut report = Report::new("process.scheduler");
        let value = Self::check(scheduler, &mut report);
        report.finish_with(value)
    }

    pub(crate) fn check(scheduler: &spec::Scheduler, report: &mut Report) -> Option<Self> {
        let mut flags = 0;
        report.each("flags", &scheduler.flags, |report, flag| {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => flags |= bit,
                None => report.add(format!("unknown flag {}", quote(flag))),
            }
        });
        let nice = scheduler.nice.unwrap_or_default();
        if !(-20..=19).contains(&nice) {
            report.add_at("nice", format!("{nice} is not -20 to 19"));
        }
        let policy = POLICIES.iter().find(|(name, _)| *name == scheduler.policy);
        let Some(&(name, policy)) = policy else {
            let text = match scheduler.policy.as_str() {
                "" => "is required".to_owned(),
                "SCHED_ISO" => "`SCHED_ISO` is not implemented by Linux".to_owned(),
                other => format!("unknown policy {}", quote(other)),
            };
            report.add_at("policy", text);
            return None;
        };
        let priority = scheduler.priority.unwrap_or_default();
        let real_time = matches!(name, "SCHED_FIFO" | "SCHED_RR");
        if real_time && !(1..=99).contains(&priority) {
            report.add_at("priority", format!("{priority} is not 1 to 99"));
        }
        if !real_time && priority != 0 {
            report.add_at("priority", "only `SCHED_FIFO` and `SCHED_RR` have one");
        }
        let times = [scheduler.runtime, scheduler.deadline, scheduler.period];
        let [runtime, deadline, period] = times.map(Option::unwrap_or_default);
        if name == "SCHED_DEADLINE" {
            check_times(runtime, deadline, period, report);
        } else {
            let names = ["runtime", "deadline", "period"];
            for (field, value) in names.into_iter().zip([runtime, deadline, period]) {
                if value != 0 {
                    report.add_at(field, "only `SCHED_DEADLINE` has one");
                }
            }
        }
        Some(Self {
            attributes: SchedulerAttributes {
                size: u32::try_from(size_of::<SchedulerAttributes>()).ok()?,
                policy,
                flags,
                nice,
                priority: u32::try_from(priority).unwrap_or_default(),
                runtime,
                deadline,
                period,
                // The specification has the flags of the clamps but no field for their values.
                util_min: 0,
                util_max: WHOLE,
            },
        })
    }

    /// Sets it for the calling thread.
    ///
    /// # Errors
    /// `EPERM`: real-time policies, deadlines and better nice values need `CAP_SYS_NICE` in the
    /// first user namespace or a fitting resource limit; `EBUSY`: no room for the deadline.
    pub fn apply(&self) -> rustix::io::Result<()> {
        sys::set_scheduler(&self.attributes)
    }
}

/// sched(7), `SCHED_DEADLINE`: runtime <= deadline <= period, where a period of 0 is the deadline,
/// and the kernel's own resolution of 1024 ns.
fn check_times(runtime: u64, deadline: u64, period: u64, report: &mut Report) {
    if runtime < 1024 {
        report.add_at("runtime", format!("{runtime} is below 1024 nanoseconds"));
    }
    if runtime > deadline {
        report.add_at(
            "runtime",
            format!("{runtime} is above the deadline {deadline}"),
        );
    }
    if period != 0 && deadline > period {
        report.add_at(
            "deadline",
            format!("{deadline} is above the period {period}"),
        );
    }
    for (field, value) in [("deadline", deadline), ("period", period)] {
        if value > i64::MAX.cast_unsigned() {
            report.add_at(field, format!("{value} is not below 2^63"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_which_policy() {
        let base = spec::Scheduler::default;
        let table = [
            (
                "SCHED_OTHER",
                spec::Scheduler {
                    nice: Some(19),
                    ..base()
                },
                true,
            ),
            (
                "SCHED_OTHER",
                spec::Scheduler {
                    nice: Some(20),
                    ..base()
                },
                false,
            ),
            (
                "SCHED_OTHER",
                spec::Scheduler {
                    priority: Some(1),
                    ..base()
                },
                false,
            ),
            (
                "SCHED_OTHER",
                spec::Scheduler {
                    period: Some(1),
                    ..base()
                },
                false,
            ),
            ("SCHED_FIFO", base(), false),
            (
                "SCHED_FIFO",
                spec::Scheduler {
                    priority: Some(99),
                    ..base()
                },
                true,
            ),
            (
                "SCHED_RR",
                spec::Scheduler {
                    priority: Some(100),
                    ..base()
                },
                false,
            ),
            ("SCHED_IDLE", base(), true),
            (
                "SCHED_BATCH",
                spec::Scheduler {
                    flags: vec!["SCHED_FLAG_RESET_ON_FORK".into()],
                    ..base()
                },
                true,
            ),
            (
                "SCHED_BATCH",
                spec::Scheduler {
                    flags: vec!["RESET".into()],
                    ..base()
                },
                false,
            ),
            ("SCHED_ISO", base(), false),
            ("", base(), false),
            ("SCHED_DEADLINE", base(), false),
            (
                "SCHED_DEADLINE",
                spec::Scheduler {
                    runtime: Some(2000),
                    deadline: Some(3000),
                    ..base()
                },
                true,
            ),
            (
                "SCHED_DEADLINE",
                spec::Scheduler {
                    runtime: Some(2000),
                    deadline: Some(3000),
                    period: Some(2500),
                    ..base()
                },
                false,
            ),
            (
                "SCHED_DEADLINE",
                spec::Scheduler {
                    runtime: Some(4000),
                    deadline: Some(3000),
                    ..base()
                },
                false,
            ),
        ];
        for (policy, scheduler, expected) in table {
            let scheduler = spec::Scheduler {
                policy: policy.to_owned(),
                ..scheduler
            };
            let found = Scheduler::parse(&scheduler);
            assert_eq!(found.is_ok(), expected, "{scheduler:?}: {found:?}");
        }
    }

    #[test]
    fn the_kernel_takes_it() {
        // For this test's thread only.
        let batch = spec::Scheduler {
            policy: "SCHED_BATCH".to_owned(),
            nice: Some(1),
            ..spec::Scheduler::default()
        };
        Scheduler::parse(&batch)
            .expect("parse")
            .apply()
            .expect("set");
    }
}
