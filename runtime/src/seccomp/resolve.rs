//! From names to numbers: what each number means at each entry point.
//!
//! Responsible for the precedence of rules, for multiplexed calls and for numbers that no rule
//! names. Must not know programs of the kernel's filter machine. Invariant: a section's intervals
//! begin at number 0, are sorted and cover every number.
//!
//! Precedence is libseccomp's, since profiles are written for it: a rule without conditions beats
//! all with conditions, the first such rule beats others; of rules with conditions the one that
//! [`Condition::rank`] puts first. A rule whose action is the default one is none.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::action::Action;
use super::architecture::{Architecture, Calls, Family, X32_BIT, multiplexers};
use super::profile::{Condition, Profile, Rule, Test};

/// What happens to a call, by its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// The first whose conditions all hold decides.
    pub(super) tests: Vec<(Vec<Condition>, Action)>,
    pub(super) otherwise: Action,
}

impl Decision {
    pub(super) const fn always(action: Action) -> Self {
        Self {
            tests: Vec::new(),
            otherwise: action,
        }
    }

    /// All actions that it may come to.
    pub(super) fn actions(&self) -> impl Iterator<Item = Action> {
        let tests = self.tests.iter().map(|(_, action)| *action);
        tests.chain([self.otherwise])
    }

    /// The action that the kernel would prefer to all others that it may come to.
    fn strictest(&self) -> Action {
        self.actions()
            .min_by_key(|action| action.precedence())
            .unwrap_or(self.otherwise)
    }
}

/// All numbers of one audit architecture.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) intervals: Vec<Interval>,
}

/// Numbers from here up to the next interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start: u32,
    pub(super) decision: Decision,
}

/// Numbers of ARM that are no system calls for all, but the kernel's private ones for ARM, begin
/// here (`__ARM_NR_BASE`). They say nothing about which calls a profile's author knew.
const PRIVATE: u32 = 0xf_0000;

/// Makes the sections of a profile, the native one first.
pub(super) fn resolve(profile: &Profile<'_>, family: &Family) -> Vec<Section> {
    let calls = family.calls();
    let listed = |architecture| profile.architectures.contains(&architecture);
    let mut sections = Vec::new();
    for architecture in family.members.iter().copied() {
        if architecture == Architecture::X32 || !listed(architecture) {
            continue;
        }
        let mut intervals = Vec::new();
        numbers(profile, &calls, architecture, &mut intervals);
        if architecture == Architecture::X86_64 {
            if listed(Architecture::X32) {
                numbers(profile, &calls, Architecture::X32, &mut intervals);
            } else {
                push(&mut intervals, X32_BIT, &Decision::always(profile.foreign));
                // The number of a call that a tracer has cancelled.
                push(&mut intervals, u32::MAX, &Decision::always(profile.default));
            }
        }
        sections.push(Section {
            audit: architecture.audit(),
            intervals,
        });
    }
    sections
}

/// Appends the numbers of one architecture.
fn numbers(
    profile: &Profile<'_>,
    calls: &Calls,
    architecture: Architecture,
    intervals: &mut Vec<Interval>,
) {
    let default = Decision::always(profile.default);
    let names = rules_by_name(profile, calls, architecture);
    let mut by_number: BTreeMap<u32, Decision> = names
        .iter()
        .filter_map(|(name, rules)| {
            let number = calls.number(name, architecture)?;
            Some((number, decide(profile.default, rules)))
        })
        .collect();
    for multiplexer in multiplexers(architecture) {
        let Some(number) = calls.number(multiplexer.name, architecture) else {
            continue;
        };
        let mut decision = by_number.remove(&number).unwrap_or_else(|| default.clone());
        if decision.otherwise == profile.default {
            for (name, selector) in multiplexer.calls {
                // Arguments are behind a pointer, where a filter can't look.
                let action = names.get(name).map_or(profile.default, |rules| {
                    decide(profile.default, rules).strictest()
                });
                let test = Test::Masked {
                    mask: multiplexer.mask,
                    value: *selector,
                };
                let argument = 0;
                if action != profile.default {
                    let conditions = vec![Condition { argument, test }];
                    decision.tests.push((conditions, action));
                }
            }
        }
        if decision != default || names.contains_key(multiplexer.name) {
            by_number.insert(number, decision);
        }
    }

    let base = architecture.base();
    let newest = by_number
        .keys()
        .copied()
        .filter(|number| number - base < PRIVATE)
        .max();
    let absent = Decision::always(Action::errno(libc::ENOSYS));
    let beyond = if profile.hides_newer && newest.is_some() {
        &absent
    } else {
        &default
    };
    let unnamed = |number| {
        if newest.is_some_and(|newest| number > newest) {
            beyond
        } else {
            &default
        }
    };
    push(intervals, base, unnamed(base));
    for (number, decision) in by_number {
        push(intervals, number, &decision);
        push(intervals, number + 1, unnamed(number + 1));
    }
}

/// Adds an interval, or lets the last one go on. A start that is already there is replaced.
fn push(intervals: &mut Vec<Interval>, start: u32, decision: &Decision) {
    if intervals.last().is_some_and(|last| last.start == start) {
        intervals.pop();
    }
    if intervals
        .last()
        .is_none_or(|last| last.decision != *decision)
    {
        intervals.push(Interval {
            start,
            decision: decision.clone(),
        });
    }
}

/// Sorts rules to the names that the architecture has, directly or behind a multiplexer.
fn rules_by_name<'a>(
    profile: &'a Profile<'_>,
    calls: &Calls,
    architecture: Architecture,
) -> BTreeMap<&'a str, Vec<&'a Rule<'a>>> {
    let mut names: BTreeMap<&str, Vec<&Rule<'_>>> = BTreeMap::new();
    for rule in &profile.rules {
        for name in &rule.calls {
            let multiplexed = || {
                let mut all = multiplexers(architecture).iter().flat_map(|m| m.calls);
                all.any(|(multiplexed, _)| multiplexed == name)
            };
            if calls.number(name, architecture).is_some() || multiplexed() {
                names.entry(name).or_default().push(rule);
            }
        }
    }
    names
}

/// Puts the rules of one call in order.
fn decide(default: Action, rules: &[&Rule<'_>]) -> Decision {
    let mut rules = rules.iter().filter(|rule| rule.action != default);
    if let Some(rule) = rules.clone().find(|rule| rule.conditions.is_empty()) {
        return Decision::always(rule.action);
    }
    let mut tests: Vec<(Vec<Condition>, Action)> = Vec::new();
    for rule in rules.by_ref() {
        let mut conditions = rule.conditions.clone();
        conditions.sort_by_key(|condition| condition.argument);
        if !tests.iter().any(|(other, _)| *other == conditions) {
            tests.push((conditions, rule.action));
        }
    }
    // Stable: equals stay in the order of the profile.
    tests.sort_by(|(a, _), (b, _)| order(a, b));
    Decision {
        tests,
        otherwise: default,
    }
}

fn order(a: &[Condition], b: &[Condition]) -> Ordering {
    let ranks = |conditions: &[Condition]| {
        let ranks = conditions.iter().map(|condition| condition.rank());
        ranks.collect::<Vec<_>>()
    };
    ranks(a).cmp(&ranks(b))
}
