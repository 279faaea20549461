//! The few calls of a sequence that are needed for a difference.
//!
//! Responsible for leaving out calls as long as the difference stays. All attempts of a round, for
//! all differences, are jobs of one build. Must not know what differs.

use std::collections::BTreeSet;

use crate::random::differences::{Difference, between};
use crate::random::side::{Side, both};

/// Rounds, at most.
const ROUNDS: usize = 5;

/// A difference that is being made small.
struct Case {
    kind: String,
    skipped: BTreeSet<String>,
    best: Difference,
    /// Calls that may be left out one by one.
    alone: Vec<String>,
}

/// What is to be tried: a case and calls to leave out.
type Attempt = (usize, BTreeSet<String>);

/// Returns the report of a smaller sequence for each difference.
pub(crate) fn shrunk(
    one: &Side,
    other: &Side,
    seed: u64,
    without: &str,
    list: &[&Difference],
) -> Vec<String> {
    let mut cases: Vec<Case> = list
        .iter()
        .map(|difference| Case {
            kind: difference.kind(),
            skipped: BTreeSet::new(),
            best: (*difference).clone(),
            alone: Vec::new(),
        })
        .collect();
    // Returns the difference that each attempt still makes, if it is the same.
    let tried = |cases: &[Case], attempts: &[Attempt]| -> Vec<Option<Difference>> {
        let jobs: Vec<String> = attempts
            .iter()
            .map(|(case, set)| {
                let labels: Vec<&str> = set.iter().map(String::as_str).collect();
                format!("{} {}", cases[*case].best.sequence, labels.join(","))
            })
            .collect();
        // A build that fails has no difference to show.
        let Ok((a, b)) = both(one, other, seed, without, &jobs) else {
            return attempts.iter().map(|_| None).collect();
        };
        a.sections
            .iter()
            .zip(&b.sections)
            .zip(attempts)
            .map(|((a, b), (case, _))| {
                between(a, b).filter(|difference| difference.kind() == cases[*case].kind)
            })
            .collect()
    };
    for _ in 0..ROUNDS {
        let attempts = attempts(&cases, |case| {
            labels(&case.best)
                .into_iter()
                .map(|label| vec![label])
                .collect()
        });
        if attempts.is_empty() {
            break;
        }
        for case in &mut cases {
            case.alone.clear();
        }
        for ((case, set), difference) in attempts.iter().zip(tried(&cases, &attempts)) {
            if difference.is_some() {
                let new = set
                    .difference(&cases[*case].skipped)
                    .cloned()
                    .collect::<Vec<_>>();
                cases[*case].alone.extend(new);
            }
        }
        // As many of them together as go together.
        let attempts = self::attempts(&cases, |case| {
            let count = case.alone.len();
            (1..=count)
                .map(|n| case.alone[count - n..].to_vec())
                .collect()
        });
        if attempts.is_empty() {
            break;
        }
        let found = tried(&cases, &attempts);
        for ((case, set), difference) in attempts.into_iter().zip(found) {
            if let Some(difference) = difference {
                cases[case].skipped = set;
                cases[case].best = difference;
            }
        }
    }
    cases
        .iter()
        .map(|case| {
            let skipped: Vec<&str> = case.skipped.iter().map(String::as_str).collect();
            let (sequence, skipped) = (case.best.sequence, skipped.join(","));
            format!(
                "\n{}\nSANDCRAB_RANDOM_SEQUENCES='{sequence} {skipped}'\n{}",
                case.kind, case.best
            )
        })
        .collect()
}

/// What `more` says can be left out besides what is left out already, one attempt for each set.
fn attempts(cases: &[Case], more: impl Fn(&Case) -> Vec<Vec<String>>) -> Vec<Attempt> {
    let of_case = |(index, case): (usize, &Case)| {
        more(case)
            .into_iter()
            .map(|labels| (index, case.skipped.iter().cloned().chain(labels).collect()))
            .collect::<Vec<_>>()
    };
    cases.iter().enumerate().flat_map(of_case).collect()
}

/// The calls that were made up to the difference.
fn labels(difference: &Difference) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    let own = difference.label();
    for line in &difference.before {
        let Some((label, _)) = line.split_once(' ') else {
            continue;
        };
        let numbered = label == "start" || label.starts_with(|c: char| c.is_ascii_digit());
        let above = own.is_some_and(|own| {
            own == label
                || own
                    .strip_prefix(label)
                    .is_some_and(|rest| rest.starts_with('.'))
        });
        if numbered && !above && !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
    }
    labels
}
