//! Which entries of the cache a collector forgets.
//!
//! Responsible for what filters and limits mean. Must not remove anything. Invariants: an entry that a
//! filter leaves out stays whatever the limits say; of the others the least recently used go first,
//! and no more of them than a limit asks for.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::census::{Census, Entry, EntryKind, Needs};

/// Uses within this time count as one, of what a build made last goes first: a step of which the
/// earlier ones are gone is seldom found again. Records note a use once an hour.
const ONE_USE: Duration = Duration::from_secs(3600);

/// Which entries may be forgotten; without any filter, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Only those that were last used before this time.
    pub unused_since: Option<SystemTime>,
    /// Only those of these kinds.
    pub kinds: Vec<EntryKind>,
    /// Only those whose ids begin like one of these.
    pub ids: Vec<String>,
    /// Only those of which a named image needs something, or only those of which none does.
    pub shared: Option<bool>,
}

/// How much of the cache is kept; what named images need does not count. Without any limit, nothing
/// is kept of what the filters have chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// As much as this stays in any case.
    pub reserved: Option<u64>,
    /// No more than this stays.
    pub max_used: Option<u64>,
    /// As much as this shall be free in the file system.
    pub min_free: Option<u64>,
}

/// An entry that is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its kind.
    pub kind: EntryKind,
    /// Its id.
    pub id: String,
    /// Bytes that nothing else needs.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// What it is, for people.
    pub description: String,
}

impl Filters {
    /// Tells whether there is any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn accepts(&self, entry: &Entry, named: &Needs<'_>) -> bool {
        self.unused_since.is_none_or(|since| entry.used < since)
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && (self.ids.is_empty() || self.ids.iter().any(|id| entry.id.starts_with(id)))
            && (self.shared).is_none_or(|shared| named.holds_any(&entry.holds) == shared)
    }
}

impl Limits {
    /// Tells whether there is any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how many of `total` bytes are kept, where `free` bytes are free. As BuildKit combines
    /// these limits: the reserved space wins.
    fn keep(&self, total: u64, free: u64) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let lacking = self.min_free.unwrap_or(0).saturating_sub(free);
        let most = match self.max_used {
            Some(most) => most,
            // A lower bound alone is what is kept, too.
            None if self.min_free.is_none() => 0,
            None => total,
        };
        let most = if lacking > 0 {
            most.min(total.saturating_sub(lacking))
        } else {
            most
        };
        most.max(self.reserved.unwrap_or(0))
    }
}

/// Forgets entries; `free` bytes are free in the file system when all garbage is gone.
pub(super) fn forget(
    census: &Census,
    needs: &mut Needs<'_>,
    (filters, limits): (&Filters, &Limits),
    free: u64,
) -> Vec<Forgotten> {
    let named = Needs::named(census);
    let used = |needs: &Needs<'_>| needs.bytes().saturating_sub(named.bytes());
    let keep = limits.keep(used(needs), free);
    let mut candidates: Vec<usize> = (0..census.entries.len())
        .filter(|n| needs.has_entry(*n) && filters.accepts(&census.entries[*n], &named))
        .collect();
    candidates.sort_by_cached_key(|number| {
        let entry = &census.entries[*number];
        let age = entry.used.duration_since(UNIX_EPOCH).unwrap_or_default();
        let span = age.as_secs() / ONE_USE.as_secs();
        (span, Reverse(age), entry.id.clone())
    });
    let mut forgotten = Vec::new();
    for number in candidates {
        if !limits.is_empty() && used(needs) <= keep {
            break;
        }
        // A form goes with its layer.
        if !needs.has_entry(number) {
            continue;
        }
        let entry = &census.entries[number];
        forgotten.push(Forgotten {
            kind: entry.kind,
            id: entry.id.clone(),
            bytes: needs.forget(number),
            used: entry.used,
            description: entry.description.clone(),
        });
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_combine_as_in_buildkit() {
        let limits = |reserved, max_used, min_free| Limits {
            reserved,
            max_used,
            min_free,
        };
        for (limits, total, free, kept) in [
            (limits(None, None, None), 100, 5, 0),
            (limits(Some(40), None, None), 100, 5, 40),
            (limits(None, Some(60), None), 100, 5, 60),
            (limits(Some(70), Some(60), None), 100, 5, 70),
            (limits(None, None, Some(5)), 100, 5, 100),
            (limits(None, None, Some(25)), 100, 5, 80),
            (limits(None, None, Some(500)), 100, 5, 0),
            (limits(Some(90), None, Some(25)), 100, 5, 90),
            (limits(None, Some(50), Some(25)), 100, 5, 50),
            (limits(None, Some(90), Some(25)), 100, 5, 80),
        ] {
            assert_eq!(limits.keep(total, free), kept, "{limits:?}");
        }
    }
}
