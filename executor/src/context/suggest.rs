//! Near names: what somebody may have meant by a name that does not exist.
//!
//! Responsible for edit distances and for a bounded search of a context. Must not fail: an
//! unreadable directory has no suggestions. Invariant: at most `MAX_LOOKED_AT` names are read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::context::walk::Tree;

/// How many names of a context are looked at for one suggestion.
const MAX_LOOKED_AT: usize = 20_000;

/// Returns the candidate nearest to `wanted`, when it is near enough to be a slip of the pen: at
/// most a third of the letters differ, ignoring case.
pub fn closest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().collect();
    let limit = (wanted.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|name| name.len().abs_diff(wanted.len()) <= 4 * limit)
        .map(|name| {
            let letters: Vec<char> = name.to_lowercase().chars().collect();
            (distance(&wanted, &letters), name)
        })
        .filter(|(distance, _)| *distance <= limit && *distance < wanted.len())
        .min()
        .map(|(_, name)| name)
}

/// Returns the number of insertions, deletions, replacements and swaps of neighbours between two
/// words (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Finds a path that was probably meant by `wanted`, of which the part `missing` does not exist.
///
/// Looks for a near name in the same directory first, then for the same name elsewhere.
pub(super) fn near(tree: &Tree<'_>, wanted: &Path, missing: &Path) -> Option<String> {
    let name = missing.file_name()?.to_str()?;
    let dir = missing.parent().unwrap_or_else(|| Path::new(""));
    let siblings: Vec<String> = tree
        .list(dir)
        .unwrap_or_default()
        .into_iter()
        .take(MAX_LOOKED_AT)
        .filter_map(|n| n.into_string().ok())
        .collect();
    if let Some(sibling) = closest(name, siblings.iter().map(String::as_str))
        && !tree.is_hidden(&dir.join(sibling))
    {
        let found = dir.join(sibling);
        let whole = wanted.strip_prefix(missing).map(|rest| found.join(rest));
        let better = whole
            .ok()
            .filter(|w| wanted != missing && tree.root().stat(w, true).is_ok());
        return Some(better.unwrap_or(found).display().to_string());
    }
    elsewhere(tree, wanted).map(|path| path.display().to_string())
}

/// Searches breadth-first for an entry with the last component of `wanted`.
fn elsewhere(tree: &Tree<'_>, wanted: &Path) -> Option<PathBuf> {
    let name = wanted.file_name()?;
    let mut todo = VecDeque::from([PathBuf::new()]);
    let mut looked_at = 0;
    while let Some(dir) = todo.pop_front() {
        // What is no directory has no names.
        let names = tree.list(&dir).unwrap_or_default();
        looked_at += names.len() + 1;
        if looked_at > MAX_LOOKED_AT {
            return None;
        }
        if !dir.as_os_str().is_empty() && names.is_empty() {
            continue;
        }
        for entry in names {
            let path = dir.join(&entry);
            if entry == name && path != wanted && !tree.is_hidden(&path) {
                return Some(path);
            }
            todo.push_back(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_of_the_pen_only() {
        let names = ["main.c", "Makefile", "README.md", "src"];
        for (wanted, expected) in [
            ("mian.c", Some("main.c")),
            ("makefile", Some("Makefile")),
            ("READEM.md", Some("README.md")),
            ("scr", Some("src")),
            ("xyz", None),
            ("completely-different", None),
            ("s", None),
        ] {
            assert_eq!(closest(wanted, names), expected, "{wanted}");
        }
    }

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            distance(&chars(a), &chars(b))
        };
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("abcd", "acbd"), 1);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("same", "same"), 0);
    }
}
