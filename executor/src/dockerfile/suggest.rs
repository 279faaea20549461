//! "Did you mean": the nearest of a few names.
//!
//! Responsible for edit distance and for how far a name may be off. Must not know what the names
//! are.

/// Longest name that is compared; what is longer is no slip of the finger.
const LONGEST: usize = 64;

/// Returns the candidate nearest to `name`, ignoring case, if it is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().take(LONGEST + 1).collect();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            let limit = match name.len().max(other.len()) {
                0..=2 => 0,
                3..=4 => 1,
                5..=8 => 2,
                _ => 3,
            };
            // Most names need no closer look.
            if name.len().abs_diff(other.len()) > limit {
                return None;
            }
            let distance = distance(&name, &other, limit);
            (distance <= limit).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns a hint that names the nearest candidate.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Counts insertions, deletions, replacements and swaps of neighbours between two names; above
/// `limit` the count may stop early.
fn distance(a: &[char], b: &[char], limit: usize) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (row[j] + usize::from(x != y))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        // What two rows have exceeded no later one gets back below.
        let least = |row: &[usize]| row.iter().min().is_some_and(|least| *least > limit);
        if least(&row) && least(&next) {
            return limit + 1;
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips() {
        let names = ["RUN", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "WORKDIR"];
        for (slip, wanted) in [
            ("RUM", Some("RUN")),
            ("rn", Some("RUN")),
            ("COPPY", Some("COPY")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("workdri", Some("WORKDIR")),
            ("FROBNICATE", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip, names), wanted, "{slip}");
        }
    }
}
