//! Which devices a container may use.
//!
//! Responsible for the list of rules: the configuration's, and those that every container gets.
//! Must not know how a kernel is told (`program` for version 2, `lists` for version 1). Invariant:
//! the last rule that matches decides, for each kind of access by itself; no rule is a refusal.

pub(crate) mod attach;
pub(crate) mod lists;
pub(crate) mod program;

use crate::error::{Error, Result};
use crate::spec::DeviceRule;

/// `BPF_DEVCG_ACC_MKNOD`, linux/bpf.h.
pub(crate) const MKNOD: u32 = 1;
/// `BPF_DEVCG_ACC_READ`.
pub(crate) const READ: u32 = 2;
/// `BPF_DEVCG_ACC_WRITE`.
pub(crate) const WRITE: u32 = 4;
/// Every access.
pub(crate) const ALL: u32 = MKNOD | READ | WRITE;

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Both.
    Any,
    /// Block.
    Block,
    /// Character.
    Char,
}

/// A rule with its fields resolved; no number means every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: u32,
}

/// What every container may use: the devices of its own `/dev`, and making any node, which is
/// harmless without the right to open it. The list is runc's (1.2), so that configurations written
/// for it work.
const DEFAULTS: [Rule; 10] = [
    allow(Kind::Char, None, None, MKNOD),
    allow(Kind::Block, None, None, MKNOD),
    // null, zero, full, random, urandom
    allow(Kind::Char, Some(1), Some(3), ALL),
    allow(Kind::Char, Some(1), Some(5), ALL),
    allow(Kind::Char, Some(1), Some(7), ALL),
    allow(Kind::Char, Some(1), Some(8), ALL),
    allow(Kind::Char, Some(1), Some(9), ALL),
    // tty, ptmx, pts/*
    allow(Kind::Char, Some(5), Some(0), ALL),
    allow(Kind::Char, Some(5), Some(2), ALL),
    allow(Kind::Char, Some(136), None, ALL),
];

const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u32) -> Rule {
    Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

/// Resolves the configuration's rules and adds the defaults after them.
///
/// # Errors
/// A type, number or access letter is unknown.
pub(crate) fn resolve(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut list = rules.iter().map(resolve_one).collect::<Result<Vec<_>>>()?;
    list.extend(DEFAULTS);
    Ok(list)
}

fn resolve_one(rule: &DeviceRule) -> Result<Rule> {
    let wrong = |what: String| Err(Error::new(format!("device rule has {what}")));
    let kind = match rule.kind.as_str() {
        "" | "a" => Kind::Any,
        "b" => Kind::Block,
        // `u` is another name of `c` in mknod(1).
        "c" | "u" => Kind::Char,
        other => return wrong(format!("the unknown type {other:?}")),
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some),
    };
    let (Ok(major), Ok(minor)) = (number(rule.major), number(rule.minor)) else {
        return wrong("a device number out of range".to_owned());
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return wrong(format!("the unknown access {other:?}")),
        };
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major,
        minor,
        access: if access == 0 { ALL } else { access },
    })
}

/// Says whether the rules allow everything, so that no filter is needed.
pub(crate) fn allow_all(rules: &[Rule]) -> bool {
    let whole =
        |r: &Rule| r.kind == Kind::Any && r.major.is_none() && r.minor.is_none() && r.access == ALL;
    match rules.iter().rposition(whole) {
        Some(at) => rules[at..].iter().all(|r| r.allow),
        None => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What the rules say, by definition: the reference for every way of telling a kernel.
    pub(crate) fn decide(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        [MKNOD, READ, WRITE]
            .into_iter()
            .filter(|bit| access & bit != 0)
            .all(|bit| {
                let last = rules.iter().rev().find(|r| {
                    (r.kind == Kind::Any || r.kind == kind)
                        && r.major.is_none_or(|m| m == major)
                        && r.minor.is_none_or(|m| m == minor)
                        && r.access & bit != 0
                });
                last.is_some_and(|r| r.allow)
            })
    }

    pub(crate) fn rules(json: &str) -> Vec<Rule> {
        let list: Vec<DeviceRule> = serde_json::from_str(json).expect("rules");
        resolve(&list).expect("resolve")
    }

    #[test]
    fn the_default_container() {
        let rules = rules(r#"[{"allow":false,"access":"rwm"}]"#);
        assert!(decide(&rules, Kind::Char, 1, 3, ALL));
        assert!(decide(&rules, Kind::Char, 136, 77, READ | WRITE));
        assert!(decide(&rules, Kind::Block, 8, 0, MKNOD));
        assert!(!decide(&rules, Kind::Block, 8, 0, READ));
        assert!(!decide(&rules, Kind::Char, 1, 1, READ | MKNOD));
        assert!(!allow_all(&rules));
    }

    #[test]
    fn privileged_needs_no_filter() {
        assert!(allow_all(&rules(
            r#"[{"allow":false},{"allow":true,"access":"rwm"}]"#
        )));
        assert!(!allow_all(&rules(
            r#"[{"allow":true},{"allow":false,"type":"b"}]"#
        )));
        assert!(!allow_all(&rules(r#"[{"allow":true,"type":"c"}]"#)));
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"{"allow":true,"type":"x"}"#,
            r#"{"allow":true,"access":"rx"}"#,
            r#"{"allow":true,"major":-2}"#,
            r#"{"allow":true,"minor":4294967296}"#,
        ] {
            let rule: DeviceRule = serde_json::from_str(json).expect("a rule");
            assert!(resolve_one(&rule).is_err(), "{json}");
        }
    }
}
