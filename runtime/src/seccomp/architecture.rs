//! Entry points into the kernel, and the numbers that calls have there.
//!
//! Responsible for the architectures whose programs this host may run: names, audit numbers and
//! call numbers. Must not know what is allowed. Invariant: two architectures never share both the
//! audit number and a call's number.

/// One way to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Architecture {
    X86_64,
    X86,
    /// 32-bit pointers in 64-bit mode; told from x86-64 by a bit in the number.
    X32,
    Aarch64,
    Arm,
}

/// Bit that marks numbers of the x32 entry points (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

// linux/audit.h: the ELF machine, with bits for 64-bit and little-endian.
const LITTLE: u32 = 0x4000_0000;
const WIDE: u32 = 0x8000_0000;

/// What a profile's architecture is to this host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// This host may run its programs.
    Ours(Architecture),
    /// The specification knows it, this host can't run its programs.
    Foreign,
}

/// Finds an architecture by its name in a profile (config-linux.md, "Seccomp").
pub(super) fn parse(name: &str, family: &Family) -> Option<Named> {
    let found = match name.strip_prefix("SCMP_ARCH_")? {
        "X86_64" => Architecture::X86_64,
        "X86" => Architecture::X86,
        "X32" => Architecture::X32,
        "AARCH64" => Architecture::Aarch64,
        "ARM" => Architecture::Arm,
        "MIPS" | "MIPS64" | "MIPS64N32" | "MIPSEL" | "MIPSEL64" | "MIPSEL64N32" | "PPC"
        | "PPC64" | "PPC64LE" | "S390" | "S390X" | "PARISC" | "PARISC64" | "RISCV64"
        | "LOONGARCH64" | "M68K" | "SH" | "SHEB" => return Some(Named::Foreign),
        _ => return None,
    };
    Some(if family.members.contains(&found) {
        Named::Ours(found)
    } else {
        Named::Foreign
    })
}

impl Architecture {
    /// `AUDIT_ARCH_…` of linux/audit.h.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => WIDE | LITTLE | libc::EM_X86_64 as u32,
            Self::X86 => LITTLE | libc::EM_386 as u32,
            Self::Aarch64 => WIDE | LITTLE | libc::EM_AARCH64 as u32,
            Self::Arm => LITTLE | libc::EM_ARM as u32,
        }
    }

    /// The bits that are set in all of its numbers.
    pub(super) const fn base(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            _ => 0,
        }
    }
}

/// The architectures of one processor.
#[derive(Debug)]
pub(super) struct Family {
    /// In the order of the columns of `numbers`; the first is the native one.
    pub(super) members: &'static [Architecture],
    numbers: &'static str,
}

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) static X86_FAMILY: Family = Family {
    members: &[Architecture::X86_64, Architecture::X86, Architecture::X32],
    numbers: include_str!("numbers/x86.txt"),
};

#[cfg(any(test, target_arch = "aarch64"))]
pub(super) static ARM_FAMILY: Family = Family {
    members: &[Architecture::Aarch64, Architecture::Arm],
    numbers: include_str!("numbers/arm.txt"),
};

impl Family {
    /// The family of the processor that this is compiled for.
    pub(super) fn host() -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        return &X86_FAMILY;
        #[cfg(target_arch = "aarch64")]
        return &ARM_FAMILY;
    }

    pub(super) fn native(&self) -> Architecture {
        self.members[0]
    }

    /// Reads the numbers.
    pub(super) fn calls(&self) -> Calls {
        let rows = self
            .numbers
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut words = line.split(' ');
                let name = words.next()?;
                let mut numbers = [None; COLUMNS];
                for (number, word) in numbers.iter_mut().zip(words) {
                    *number = word.parse().ok();
                }
                Some((name, numbers))
            })
            .collect();
        Calls {
            members: self.members,
            rows,
        }
    }
}

const COLUMNS: usize = 3;

/// The numbers of a family's calls, by name.
#[derive(Debug)]
pub(super) struct Calls {
    members: &'static [Architecture],
    rows: Vec<(&'static str, [Option<u32>; COLUMNS])>,
}

impl Calls {
    /// Returns a call's number, with the bits of the architecture.
    pub(super) fn number(&self, name: &str, architecture: Architecture) -> Option<u32> {
        let column = self.members.iter().position(|m| *m == architecture)?;
        let row = self.rows.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
        self.rows[row].1[column].map(|number| number | architecture.base())
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().map(|(name, _)| *name)
    }
}

/// A call that is one number for several, told apart by its first argument.
#[derive(Debug)]
pub(super) struct Multiplexer {
    pub(super) name: &'static str,
    /// The bits of the first argument that the kernel looks at.
    pub(super) mask: u64,
    pub(super) calls: &'static [(&'static str, u64)],
}

/// What i386 programs call by socketcall(2) and ipc(2) (linux/net.h, linux/ipc.h). Other
/// architectures here have only the direct calls; ARM's EABI has no multiplexers.
pub(super) fn multiplexers(architecture: Architecture) -> &'static [Multiplexer] {
    match architecture {
        Architecture::X86 => &I386,
        _ => &[],
    }
}

static I386: [Multiplexer; 2] = [
    Multiplexer {
        name: "socketcall",
        mask: 0xffff_ffff,
        calls: &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    },
    Multiplexer {
        name: "ipc",
        // The upper half is a version of the calling convention.
        mask: 0xffff,
        calls: &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_are_sorted_and_unambiguous() {
        for family in [&X86_FAMILY, &ARM_FAMILY] {
            let calls = family.calls();
            assert!(calls.rows.is_sorted_by(|a, b| a.0 < b.0));
            for member in family.members {
                let numbers: Vec<u32> = calls
                    .rows
                    .iter()
                    .filter_map(|(name, _)| calls.number(name, *member))
                    .collect();
                let set: BTreeSet<u32> = numbers.iter().copied().collect();
                assert_eq!(set.len(), numbers.len(), "{member:?}");
                assert!(numbers.len() > 300, "{member:?}");
            }
        }
    }

    #[test]
    fn numbers_are_the_headers() {
        let (x86, arm) = (X86_FAMILY.calls(), ARM_FAMILY.calls());
        for (calls, architecture, name, number) in [
            (&x86, Architecture::X86_64, "read", Some(0)),
            (&x86, Architecture::X86, "read", Some(3)),
            (&x86, Architecture::X32, "read", Some(X32_BIT)),
            (&x86, Architecture::X32, "execve", Some(X32_BIT | 520)),
            (&x86, Architecture::X86_64, "socketcall", None),
            (&x86, Architecture::X86, "socketcall", Some(102)),
            (&x86, Architecture::X86, "ipc", Some(117)),
            (&x86, Architecture::X86_64, "file_setattr", Some(469)),
            (&arm, Architecture::Aarch64, "openat", Some(56)),
            (&arm, Architecture::Aarch64, "open", None),
            (&arm, Architecture::Arm, "open", Some(5)),
            (&arm, Architecture::Arm, "set_tls", Some(0xf0005)),
            (&arm, Architecture::Aarch64, "newfstatat", Some(79)),
        ] {
            assert_eq!(calls.number(name, architecture), number, "{name}");
        }
        for (name, number) in [
            ("seccomp", libc::SYS_seccomp),
            ("clone3", libc::SYS_clone3),
            ("mseal", libc::SYS_mseal),
            ("ptrace", libc::SYS_ptrace),
        ] {
            let host = Family::host();
            let found = host.calls().number(name, host.native());
            assert_eq!(found.map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn audit_numbers_are_the_headers() {
        for (architecture, number) in [
            (Architecture::X86_64, 0xc000_003e),
            (Architecture::X32, 0xc000_003e),
            (Architecture::X86, 0x4000_0003),
            (Architecture::Aarch64, 0xc000_00b7),
            (Architecture::Arm, 0x4000_0028),
        ] {
            assert_eq!(architecture.audit(), number);
        }
    }
}
