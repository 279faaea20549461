//! Subordinate id ranges and the arithmetic on ranges of ids.
//!
//! Responsible for reading `/etc/subuid` and `/etc/subgid` (subuid(5)) and id maps
//! (user_namespaces(7)). Must not choose an identity. Invariant: the ranges it returns are
//! sorted, not empty and do not overlap.

use serde::{Deserialize, Serialize};

use super::Extent;

/// `count` ids from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// First id.
    pub start: u32,
    /// How many; at least 1.
    pub count: u32,
}

impl Range {
    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    fn from_bounds(start: u64, end: u64) -> Option<Self> {
        let start32 = u32::try_from(start).ok()?;
        let count = u32::try_from(end.checked_sub(start)?).ok()?;
        // The last number means "no id" (chown(2)), and no range goes beyond it.
        (count > 0 && end <= u64::from(u32::MAX)).then_some(Self {
            start: start32,
            count,
        })
    }
}

/// Returns the ranges that the text of a subuid(5) file gives to a user, named or by number.
///
/// Lines that are malformed are skipped, as newuidmap(1) does.
pub(super) fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    disjoint(
        lines(text)
            .filter(|(owner, _)| Some(*owner) == name || *owner == number)
            .map(|(_, range)| range)
            .collect(),
    )
}

/// Returns the first range of `count` ids that the texts of some subuid(5) files give to nobody;
/// it begins where useradd(8) begins.
pub(super) fn unassigned(texts: &[&str], count: u32) -> Option<Range> {
    const FIRST: u64 = 100_000;
    let all = texts.iter().flat_map(|text| lines(text));
    let mut start = FIRST;
    for range in disjoint(all.map(|(_, range)| range).collect()) {
        if u64::from(range.start) >= start + u64::from(count) {
            break;
        }
        start = start.max(range.end());
    }
    Range::from_bounds(start, start + u64::from(count))
}

fn lines(text: &str) -> impl Iterator<Item = (&str, Range)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (owner, start, count) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let start: u32 = start.trim().parse().ok()?;
        let count: u32 = count.trim().parse().ok()?;
        let range = Range::from_bounds(u64::from(start), u64::from(start) + u64::from(count))?;
        Some((owner, range))
    })
}

/// Sorts ranges and cuts off what a range shares with the one before it.
fn disjoint(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut end = 0;
    ranges
        .into_iter()
        .filter_map(|range| {
            let cut = Range::from_bounds(u64::from(range.start).max(end), range.end().max(end))?;
            end = cut.end();
            Some(cut)
        })
        .collect()
}

/// Takes one id out of ranges.
pub(super) fn without(ranges: &[Range], id: u32) -> Vec<Range> {
    let id = u64::from(id);
    ranges
        .iter()
        .flat_map(|range| {
            let (start, end) = (u64::from(range.start), range.end());
            if id < start || id >= end {
                return [Some(*range), None];
            }
            [
                Range::from_bounds(start, id),
                Range::from_bounds(id + 1, end),
            ]
        })
        .flatten()
        .collect()
}

/// Returns what is in both lists.
pub(super) fn intersect(a: &[Range], b: &[Range]) -> Vec<Range> {
    let both = a.iter().flat_map(|x| {
        b.iter().filter_map(|y| {
            Range::from_bounds(u64::from(x.start.max(y.start)), x.end().min(y.end()))
        })
    });
    disjoint(both.collect())
}

/// Returns the last `count` ids of the ranges, or all when there are fewer.
pub(super) fn last(ranges: &[Range], count: u32) -> Vec<Range> {
    let mut left = u64::from(count);
    let mut out = Vec::new();
    for range in ranges.iter().rev() {
        let take = left.min(u64::from(range.count));
        out.extend(Range::from_bounds(range.end() - take, range.end()));
        left -= take;
    }
    out.reverse();
    out
}

/// Returns how many ids the ranges hold, at most `u32::MAX - 1`.
pub(super) fn total(ranges: &[Range]) -> u32 {
    let sum: u64 = ranges.iter().map(|r| u64::from(r.count)).sum();
    u32::try_from(sum).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

/// Parses an id map as `/proc/self/uid_map` shows it.
pub(crate) fn parse_map(text: &str) -> Vec<Extent> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            Some(Extent {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            })
        })
        .collect()
}

/// Returns the ids that a namespace with this map has.
pub(super) fn available(map: &[Extent]) -> Vec<Range> {
    let ranges = map.iter().filter_map(|e| {
        let start = u64::from(e.inside);
        Range::from_bounds(start, start + u64::from(e.count))
    });
    disjoint(ranges.collect())
}

/// Lays ranges out one after the other: the namespace's 0 is the caller, 1… are the ranges.
pub(super) fn lay_out(caller: u32, ranges: &[Range], limit: u32) -> Vec<Extent> {
    let mut map = vec![Extent {
        inside: 0,
        outside: caller,
        count: 1,
    }];
    let mut inside = 1;
    for range in ranges {
        let count = range.count.min(limit - (inside - 1));
        if count == 0 {
            break;
        }
        map.push(Extent {
            inside,
            outside: range.start,
            count,
        });
        inside += count;
    }
    map
}

/// Cuts `first..first+count` of a namespace with map `outer` into extents for a nested one, whose
/// ids start at 0. The kernel wants each extent inside one extent of the parent.
pub(crate) fn nest(outer: &[Extent], first: u32, count: u32) -> Vec<Extent> {
    let wanted = [Range {
        start: first,
        count,
    }];
    let mut out = Vec::new();
    for extent in outer {
        let Some(have) = Range::from_bounds(
            u64::from(extent.inside),
            u64::from(extent.inside) + u64::from(extent.count),
        ) else {
            continue;
        };
        out.extend(intersect(&wanted, &[have]).into_iter().map(|range| Extent {
            inside: range.start - first,
            outside: range.start,
            count: range.count,
        }));
    }
    out
}

/// Renders a map as the kernel reads it.
pub(crate) fn render(map: &[Extent]) -> String {
    map.iter()
        .map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(start: u32, count: u32) -> Range {
        Range { start, count }
    }

    #[test]
    fn entries_by_name_and_number() {
        let text =
            "ann:100000:65536\nbob:1:2\n1000:300000:10\n\n# x\nann:bad:1\nann:5:0\nann:1:2:3\n";
        assert_eq!(
            parse(text, Some("ann"), 1000),
            [r(100_000, 65_536), r(300_000, 10)]
        );
        assert_eq!(parse(text, None, 7), []);
        assert_eq!(parse("a:4294967295:2\n", Some("a"), 1), []);
        assert_eq!(
            parse("a:4294967290:5\n", Some("a"), 1),
            [r(4_294_967_290, 5)]
        );
    }

    #[test]
    fn what_nobody_has() {
        let first = |texts: &[&str]| unassigned(texts, 10).map(|range| range.start);
        assert_eq!(first(&[]), Some(100_000));
        assert_eq!(first(&["a:100010:1\n", "a:5:99995\n"]), Some(100_000));
        let uids = "a:100000:5\nb:100015:5\n";
        assert_eq!(first(&[uids]), Some(100_005));
        assert_eq!(first(&[uids, "c:100005:9\n"]), Some(100_020));
        assert_eq!(first(&["a:99999:4294867290\n"]), None);
    }

    #[test]
    fn overlapping_entries_are_cut() {
        let text = "a:10:10\na:15:10\na:12:2\n";
        assert_eq!(parse(text, Some("a"), 1), [r(10, 10), r(20, 5)]);
    }

    #[test]
    fn the_caller_is_taken_out() {
        assert_eq!(without(&[r(0, 10)], 0), [r(1, 9)]);
        assert_eq!(without(&[r(0, 10)], 4), [r(0, 4), r(5, 5)]);
        assert_eq!(without(&[r(0, 10)], 10), [r(0, 10)]);
    }

    #[test]
    fn nested_maps_follow_the_outer_extents() {
        let outer = lay_out(1000, &[r(100, 10), r(200, 10)], 15);
        assert_eq!(
            outer,
            [
                Extent {
                    inside: 0,
                    outside: 1000,
                    count: 1
                },
                Extent {
                    inside: 1,
                    outside: 100,
                    count: 10
                },
                Extent {
                    inside: 11,
                    outside: 200,
                    count: 5
                },
            ]
        );
        assert_eq!(
            nest(&outer, 1, 15),
            [
                Extent {
                    inside: 0,
                    outside: 1,
                    count: 10
                },
                Extent {
                    inside: 10,
                    outside: 11,
                    count: 5
                },
            ]
        );
    }

    #[test]
    fn maps_are_read_and_written_alike() {
        let map = lay_out(0, &[r(5, 6)], 100);
        assert_eq!(parse_map(&render(&map)), map);
        assert_eq!(
            available(&parse_map("         0          0 4294967295\n")),
            [r(0, u32::MAX)]
        );
    }

    #[test]
    fn the_last_ids_are_taken() {
        assert_eq!(last(&[r(0, 10), r(20, 5)], 7), [r(8, 2), r(20, 5)]);
        assert_eq!(last(&[r(1, 3)], 7), [r(1, 3)]);
    }

    proptest! {
        #[test]
        fn ranges_never_overlap(raw in proptest::collection::vec((0_u32..200, 1_u32..50), 0..12), id in 0_u32..250) {
            let ranges = disjoint(raw.iter().map(|(s, c)| r(*s, *c)).collect());
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end() <= u64::from(pair[1].start));
            }
            let has = |list: &[Range], id: u32| list.iter().any(|r| r.start <= id && u64::from(id) < r.end());
            let raw: Vec<Range> = raw.iter().map(|(s, c)| r(*s, *c)).collect();
            prop_assert_eq!(has(&ranges, id), has(&raw, id));
            prop_assert!(!has(&without(&ranges, id), id));
            prop_assert_eq!(total(&without(&ranges, id)), total(&ranges) - u32::from(has(&ranges, id)));
        }
    }
}
