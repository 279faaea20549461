//! What is to be run.
//!
//! Responsible for the list of jobs and for where each one's tree is. Must not run anything.

use std::collections::BTreeSet;
use std::io::{Error, Result};

/// One sequence to be run.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its place in the list.
    pub(crate) index: usize,
    /// The seed of the run.
    pub(crate) seed: u64,
    /// The number of the sequence.
    pub(crate) sequence: u64,
    /// What not to do.
    pub(crate) without: String,
    /// Calls to be left out, by their labels.
    pub(crate) skipped: BTreeSet<String>,
    /// Whether it works on a tree of an earlier step, which is then left for a later one.
    pub(crate) kept: bool,
}

impl Job {
    /// Returns the directory above the tree, into which paths may climb.
    pub(crate) fn place(&self) -> String {
        if self.kept {
            format!("/k/{:06}", self.index)
        } else {
            "/r/000000".to_owned()
        }
    }

    /// Returns whether something is to be done.
    pub(crate) fn with(&self, what: &str) -> bool {
        !self.without.split(',').any(|word| word == what)
    }
}

/// Reads a list of jobs.
pub(crate) fn read(path: &str, seed: &str, without: &str) -> Result<Vec<Job>> {
    let seed = number(seed)?;
    let mut jobs = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let (range, skipped) = line.split_once(' ').unwrap_or((line, ""));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for sequence in number(first)?..=number(last)? {
            jobs.push(Job {
                index: jobs.len(),
                seed,
                sequence,
                without: without.to_owned(),
                skipped: labels(skipped),
                kept: sequence % 25 == 7,
            });
        }
    }
    Ok(jobs)
}

/// Reads labels of calls.
pub(crate) fn labels(text: &str) -> BTreeSet<String> {
    text.split(',')
        .filter(|label| !label.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Reads a number.
pub(crate) fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::other(format!("not a number: `{text}`")))
}
