//! The default profile.
//!
//! Responsible for which calls are allowed, and with which arguments: Docker's default profile
//! for the default capabilities, without 32-bit entry points and without AF_ALG sockets. Must not
//! know programs of the kernel's filter machine. Invariant: a call is in at most one rule list.

use super::table;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// The lower 32 bits equal the value.
    Is(u32),
    /// The lower 32 bits do not equal the value.
    IsNot(u32),
    /// None of these bits is set.
    Lacks(u64),
}

/// A way to be allowed: all comparisons (argument index, comparison) hold.
pub(super) type Rule = Vec<(u8, Compare)>;

/// What is allowed.
#[derive(Debug)]
pub(super) struct Profile {
    /// Allowed with any arguments.
    pub(super) allowed: Vec<i64>,
    /// Allowed when one of the rules holds, else `EPERM`.
    pub(super) conditional: Vec<(i64, Vec<Rule>)>,
    /// Answered with `ENOSYS`, as are numbers above `newest`.
    pub(super) absent: Vec<i64>,
    /// The newest number known; others up to it get `EPERM`.
    pub(super) newest: u32,
}

/// All `CLONE_NEW*` flags of clone(2), without `CLONE_NEWTIME`, whose bit is part of the exit
/// signal there.
const NAMESPACES: u64 = libc::CLONE_NEWNS as u64
    | libc::CLONE_NEWCGROUP as u64
    | libc::CLONE_NEWUTS as u64
    | libc::CLONE_NEWIPC as u64
    | libc::CLONE_NEWUSER as u64
    | libc::CLONE_NEWPID as u64
    | libc::CLONE_NEWNET as u64;

/// personality(2): Linux, 32-bit, with the old version number, both, and a query.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Makes the default profile.
pub(super) fn default() -> Profile {
    let personalities = PERSONALITIES
        .iter()
        .map(|value| vec![(0, Compare::Is(*value))])
        .collect();
    // The address families that reach outside a network namespace, or the kernel's crypto.
    let socket = vec![
        (0, Compare::IsNot(libc::AF_VSOCK.cast_unsigned())),
        (0, Compare::IsNot(libc::AF_ALG.cast_unsigned())),
    ];
    Profile {
        allowed: [table::ALLOWED, table::ALLOWED_HERE].concat(),
        conditional: vec![
            (libc::SYS_clone, vec![vec![(0, Compare::Lacks(NAMESPACES))]]),
            (libc::SYS_personality, personalities),
            (libc::SYS_socket, vec![socket]),
        ],
        absent: table::ABSENT.to_vec(),
        newest: table::NEWEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_mask_is_dockers() {
        assert_eq!(NAMESPACES, 0x7e02_0000);
    }
}
