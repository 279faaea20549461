//! What a filter says, before it is a program.
//!
//! Responsible for the one form in which the profile of RUN steps and the profiles of OCI
//! documents are compiled. Must not know numbers of calls. Invariant: a rule's conditions all
//! hold for it to apply.

use super::action::Action;
use super::architecture::Architecture;

/// A whole profile.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    /// For calls that no rule matches.
    pub(super) default: Action,
    /// For entry points that are not in `architectures`.
    pub(super) foreign: Action,
    /// Answers calls that are newer than the newest one that a rule names with `ENOSYS`, so that C
    /// libraries fall back to older ones.
    pub(super) hides_newer: bool,
    pub(super) architectures: Vec<Architecture>,
    pub(super) rules: Vec<Rule<'a>>,
}

/// What happens to some calls.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// Names; those that an architecture does not have are not meant for it.
    pub(super) calls: Vec<&'a str>,
    pub(super) action: Action,
    pub(super) conditions: Vec<Condition>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
}

/// How many arguments a call has at most.
pub(super) const ARGUMENTS: u8 = 6;

/// A comparison of all 64 bits, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The bits of `mask` are those of `value`.
    Masked {
        mask: u64,
        value: u64,
    },
    /// The bits of `mask` are not those of `value`.
    NotMasked {
        mask: u64,
        value: u64,
    },
}

impl Condition {
    /// The place of this condition's rule among the rules of a call. Tested from the smallest on,
    /// narrow comparisons come before wide ones.
    ///
    /// This is the order that libseccomp 2.5.4 was seen to use, whatever the order of a profile:
    /// later arguments first, (in)equalities before bounds, upper bounds before lower ones.
    pub(super) const fn rank(self) -> (u8, u8, u64) {
        let (class, value) = match self.test {
            Test::Equal(value) | Test::NotEqual(value) => (0, !value),
            Test::Masked { mask, value } | Test::NotMasked { mask, value } => (0, !(value & mask)),
            Test::Less(value) | Test::LessOrEqual(value) => (1, value),
            Test::Greater(value) | Test::GreaterOrEqual(value) => (2, !value),
        };
        (ARGUMENTS - self.argument, class, value)
    }
}
