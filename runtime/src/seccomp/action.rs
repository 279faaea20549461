//! What the kernel does about a call.
//!
//! Responsible for actions: their names in profiles and their value for the kernel (seccomp(2),
//! "Return value"). Must not know calls. Invariant: every value is one that the kernel knows.

use libc as l;

/// An action, as the value that a filter returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(u32);

impl Action {
    pub(super) const ALLOW: Self = Self(l::SECCOMP_RET_ALLOW);
    pub(super) const NOTIFY: Self = Self(l::SECCOMP_RET_USER_NOTIF);
    /// What libseccomp does about an architecture that a profile does not list
    /// (`SCMP_FLTATR_ACT_BADARCH`).
    pub(super) const KILL_THREAD: Self = Self(l::SECCOMP_RET_KILL_THREAD);

    /// The call returns an error number.
    pub(super) const fn errno(errno: i32) -> Self {
        Self(l::SECCOMP_RET_ERRNO | errno.cast_unsigned() & l::SECCOMP_RET_DATA)
    }

    /// Finds an action by its name in a profile (config-linux.md, "Seccomp"). `errno` is the
    /// error number for those that take one, else `EPERM`.
    pub(super) fn parse(name: &str, errno: Option<u32>) -> Result<Self, String> {
        // The kernel caps error numbers at MAX_ERRNO; a tracer gets 16 bits.
        let (value, largest) = match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (l::SECCOMP_RET_KILL_THREAD, None),
            "SCMP_ACT_KILL_PROCESS" => (l::SECCOMP_RET_KILL_PROCESS, None),
            "SCMP_ACT_TRAP" => (l::SECCOMP_RET_TRAP, None),
            "SCMP_ACT_ERRNO" => (l::SECCOMP_RET_ERRNO, Some(4095)),
            "SCMP_ACT_TRACE" => (l::SECCOMP_RET_TRACE, Some(l::SECCOMP_RET_DATA)),
            "SCMP_ACT_ALLOW" => (l::SECCOMP_RET_ALLOW, None),
            "SCMP_ACT_LOG" => (l::SECCOMP_RET_LOG, None),
            "SCMP_ACT_NOTIFY" => (l::SECCOMP_RET_USER_NOTIF, None),
            _ => return Err(format!("unknown action `{name}`")),
        };
        match (largest, errno) {
            (None, None) => Ok(Self(value)),
            (None, Some(_)) => Err(format!("`{name}` takes no error number")),
            (Some(largest), Some(errno)) if errno > largest => {
                Err(format!("error number {errno} is above {largest}"))
            }
            (Some(_), errno) => Ok(Self(value | errno.unwrap_or(l::EPERM.cast_unsigned()))),
        }
    }

    /// The value for the kernel.
    pub(super) const fn value(self) -> u32 {
        self.0
    }

    /// The kernel's order of precedence: of two actions it takes the smaller one.
    pub(super) const fn precedence(self) -> i32 {
        (self.0 & l::SECCOMP_RET_ACTION_FULL).cast_signed()
    }

    /// Says whether calls that a profile's author did not know go through by this action: a tracer
    /// decides on them itself.
    pub(super) const fn lets_through(self) -> bool {
        matches!(
            self.0 & l::SECCOMP_RET_ACTION_FULL,
            l::SECCOMP_RET_ALLOW | l::SECCOMP_RET_LOG | l::SECCOMP_RET_TRACE
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_values() {
        for (name, errno, value) in [
            ("SCMP_ACT_KILL", None, 0),
            ("SCMP_ACT_KILL_THREAD", None, 0),
            ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
            ("SCMP_ACT_TRAP", None, 0x0003_0000),
            ("SCMP_ACT_ERRNO", None, 0x0005_0001),
            ("SCMP_ACT_ERRNO", Some(38), 0x0005_0026),
            ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
            ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
            ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
            ("SCMP_ACT_LOG", None, 0x7ffc_0000),
            ("SCMP_ACT_ALLOW", None, 0x7fff_0000),
        ] {
            assert_eq!(Action::parse(name, errno), Ok(Action(value)), "{name}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (name, errno) in [
            ("SCMP_ACT_ALLOW", Some(1)),
            ("SCMP_ACT_NOTIFY", Some(1)),
            ("SCMP_ACT_ERRNO", Some(4096)),
            ("SCMP_ACT_TRACE", Some(0x1_0000)),
            ("SCMP_ACT_WARN", None),
            ("", None),
        ] {
            assert!(Action::parse(name, errno).is_err(), "{name} {errno:?}");
        }
    }

    #[test]
    fn precedence_is_the_kernels() {
        let order = [
            "KILL_PROCESS",
            "KILL_THREAD",
            "TRAP",
            "ERRNO",
            "NOTIFY",
            "TRACE",
            "LOG",
            "ALLOW",
        ];
        let order = order.map(|n| Action::parse(&format!("SCMP_ACT_{n}"), None).expect(n));
        assert!(order.is_sorted_by(|a, b| a.precedence() < b.precedence()));
    }
}
