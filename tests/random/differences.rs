//! Where two runs of the same sequences part.
//!
//! Responsible for the first difference of each sequence and for putting alike ones together. Must
//! not run anything.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::random::side::{Outcome, Section};

/// The first difference of one sequence; all that follows may be its consequence.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// The number of the sequence.
    pub(crate) sequence: u64,
    /// The line of each side.
    pub(crate) lines: [String; 2],
    /// The lines before, which are the same.
    pub(crate) before: Vec<String>,
}

impl Difference {
    /// Returns what differs, without names and numbers that say nothing about its cause.
    pub(crate) fn kind(&self) -> String {
        let [one, other] = &self.lines;
        let (call, results) = match (parts(one), parts(other)) {
            (Some(one), Some(other)) if one.0 == other.0 => (one.0, [one.1, other.1]),
            _ => ("", [one.as_str(), other.as_str()]),
        };
        let [one, other] = results.map(without_numbers);
        // Of long results the words that differ.
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let pairs = words(results[0]).into_iter().zip(words(results[1]));
        let differing: Vec<String> = pairs
            .filter(|(one, other)| one != other)
            .take(3)
            .map(|(one, other)| without_numbers(&format!("{one} / {other}")))
            .collect();
        if one.contains(' ') && other.contains(' ') {
            let kind = one.split(' ').nth(1).unwrap_or_default();
            return format!("{call}: {kind} {}", differing.join(", "));
        }
        let cut = |text: String| text.chars().take(90).collect::<String>();
        format!("{call}: {} / {}", cut(one), cut(other))
    }

    /// Returns whether the same call fails for both, but for different reasons.
    pub(crate) fn only_reason(&self) -> bool {
        match (parts(&self.lines[0]), parts(&self.lines[1])) {
            (Some((one, a)), Some((other, b))) => {
                one == other && [a, b].iter().all(|result| result.starts_with('E'))
            }
            _ => false,
        }
    }

    /// Returns the label of the call, if it is one.
    pub(crate) fn label(&self) -> Option<&str> {
        let (label, _) = self.lines[0].split_once(' ')?;
        label
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(label)
    }
}

/// Errors are what they are; numbers and owners differ from case to case.
fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !shown.ends_with('#') {
            shown.push(c);
        }
    }
    shown
}

/// The name of a call, and its result.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (label, rest) = line.split_once(' ')?;
    if label == "=" || label == "later" {
        return Some((label, rest));
    }
    let (name, _) = rest.split_once('(')?;
    let (_, result) = rest.rsplit_once(" = ")?;
    Some((name, result))
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "sequence {}:", self.sequence)?;
        for line in &self.before {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "  - {}\n  + {}", self.lines[0], self.lines[1])
    }
}

/// Returns the first difference of each sequence.
pub(crate) fn of(a: &Outcome, b: &Outcome) -> Vec<Difference> {
    assert_eq!(
        a.sections.len(),
        b.sections.len(),
        "sequences that ended the program"
    );
    a.sections
        .iter()
        .zip(&b.sections)
        .filter_map(|(one, other)| between(one, other))
        .collect()
}

/// Returns the first difference of two runs of one sequence. Where a call fails for both, but for
/// another reason, nothing else follows from it: what does weigh more comes first.
pub(crate) fn between(one: &Section, other: &Section) -> Option<Difference> {
    let line = |section: &Section, at: usize| section.lines.get(at).cloned().unwrap_or_default();
    let difference = |at: usize| Difference {
        sequence: one.sequence,
        lines: [line(one, at), line(other, at)],
        before: one.lines[..at.min(one.lines.len())].to_vec(),
    };
    let differing = (0..one.lines.len().max(other.lines.len()))
        .filter(|at| one.lines.get(*at) != other.lines.get(*at));
    let mut reason = None;
    for at in differing {
        let found = difference(at);
        if !found.only_reason() {
            return Some(found);
        }
        reason.get_or_insert(found);
    }
    reason
}

/// Puts differences of one kind together, most frequent first, and
/// reasons of failures last.
pub(crate) fn kinds(found: &[Difference]) -> Vec<(String, Vec<&Difference>)> {
    let mut kinds: BTreeMap<String, Vec<&Difference>> = BTreeMap::new();
    for difference in found {
        kinds.entry(difference.kind()).or_default().push(difference);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, list)| (list[0].only_reason(), std::cmp::Reverse(list.len())));
    kinds
}
