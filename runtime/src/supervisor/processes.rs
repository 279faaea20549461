//! Processes of the container by the numbers that they have there.
//!
//! Responsible for finding the credentials of a process other than the caller. Must not decide
//! anything. Invariant: what is found of a process may be another's by the time it is used, so it
//! only serves to show, or to refuse.

use std::fs;
use std::sync::Arc;

use rustix::process::Pid;

use super::credentials::Credentials;
use super::{LIMIT_BASE, State};
use crate::sys::notify;

/// How /proc/PID/limits names the limit that carries the number of credentials.
pub(super) const LIMIT_LINE: &str = "Max realtime timeout";

/// Returns a process' session, /proc/PID/stat.
pub(super) fn session(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    field(&stat, 6)?.parse().ok()
}

/// Returns a field of /proc/PID/stat by its number in proc_pid_stat(5), from 3 on.
pub(super) fn field(stat: &str, number: usize) -> Option<&str> {
    // The second one is a name in parentheses that may hold anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    rest.split_whitespace().nth(number.checked_sub(3)?)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix(LIMIT_LINE))?;
    line.split_whitespace().next()?.parse().ok()
}

impl State {
    /// Returns the credentials that a limit stands for; `None` for processes that the supervisor
    /// does not answer, such as the container's first.
    fn credentials_by_limit(&self, limit: u64) -> Option<Arc<Credentials>> {
        let number = u32::try_from(limit.checked_sub(LIMIT_BASE)?).ok()?;
        self.table.get(number).cloned()
    }

    /// Returns the credentials of a process or thread by its number in the container. Those that
    /// are not answered by the supervisor are root's. `None` when there is no such process.
    pub(super) fn credentials_of(&self, process: i32) -> Option<Arc<Credentials>> {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
        let marked = soft_limit(&limits).and_then(|limit| self.credentials_by_limit(limit));
        Some(marked.unwrap_or_else(|| Arc::new(Credentials::user(0, 0, &[]))))
    }

    /// Returns the credentials of a process by its number outside of the container; `None` when
    /// it does not belong there.
    pub(super) fn credentials_outside(&self, process: Pid) -> Option<Arc<Credentials>> {
        self.credentials_by_limit(notify::realtime_limit(process, None).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_proc_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max realtime priority     0                    0                    \n\
                      Max realtime timeout      4611686018427387904  unlimited            us        \n";
        assert_eq!(soft_limit(limits), Some(LIMIT_BASE));
        assert_eq!(soft_limit("Max realtime timeout      unlimited"), None);
        assert_eq!(soft_limit(""), None);
        let stat = "7 (a) b (c)) S 1 7 5 0 -1";
        assert_eq!(field(stat, 3), Some("S"));
        assert_eq!(field(stat, 6), Some("5"));
        assert_eq!(field(stat, 2), None);
        assert!(session(std::process::id().cast_signed()).is_some());
    }
}
