//! Filters of `prune`: what of the cache may be forgotten.
//!
//! Responsible for buildx's `KEY=VALUE`, as far as they mean something here. Must not apply them.
//! Invariant: a filter that is not honoured is an error that names it.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::store::census::EntryKind;
use crate::store::gc::Filters;

/// What there is, for hints.
const HINT: &str = "filters are until=24h (or a time), type=KIND, id=ID, shared and private";

/// Parses filters; those of one key widen each other, those of several keys narrow each other.
///
/// # Errors
/// For one that is unknown, means nothing here, or contradicts another.
pub(super) fn parse(texts: &[String], now: SystemTime) -> Result<Filters> {
    let mut filters = Filters::default();
    for text in texts {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text.as_str(), None),
        };
        match (key, value) {
            ("until", Some(value)) => {
                let since = until(value, now).ok_or_else(|| {
                    wrong(format!("`{value}` is neither a duration nor a time"))
                        .hint("write until=24h, until=7d, or until=2026-01-31T12:00:00Z")
                })?;
                let older = filters.unused_since.map_or(since, |known| known.min(since));
                filters.unused_since = Some(older);
            }
            ("type", Some(value)) => filters.kinds.push(kind(value)?),
            ("id", Some(value)) if !value.is_empty() => filters.ids.push(value.to_owned()),
            ("shared" | "private", value) => {
                let on = match value {
                    None | Some("true" | "1") => true,
                    Some("false" | "0") => false,
                    Some(_) => return Err(wrong(format!("`{text}` is neither true nor false"))),
                };
                let shared = on == (key == "shared");
                if filters.shared.is_some_and(|known| known != shared) {
                    return Err(wrong(format!("`{text}` contradicts another filter")));
                }
                filters.shared = Some(shared);
            }
            ("inuse", _) => {
                return Err(wrong("there is no filter `inuse`".to_owned())
                    .hint("what a build uses is never pruned"));
            }
            _ => return Err(wrong(format!("unknown filter `{text}`")).hint(HINT)),
        }
    }
    Ok(filters)
}

fn wrong(text: String) -> Error {
    Error::new(text).kind(Kind::Usage)
}

fn kind(name: &str) -> Result<EntryKind> {
    let mut all = EntryKind::ALL.into_iter();
    all.find(|kind| kind.name() == name).ok_or_else(|| {
        let names: Vec<&str> = EntryKind::ALL.iter().map(|kind| kind.name()).collect();
        wrong(format!("nothing is kept of the type `{name}`"))
            .hint(format!("types are {}", names.join(", ")))
    })
}

/// Parses a duration before now, or a time (RFC 3339).
fn until(text: &str, now: SystemTime) -> Option<SystemTime> {
    let since = match duration(text) {
        Some(age) => now.checked_sub(age),
        None => Some(SystemTime::from(text.parse::<Timestamp>().ok()?)),
    };
    Some(since.map_or(SystemTime::UNIX_EPOCH, |time| {
        time.max(SystemTime::UNIX_EPOCH)
    }))
}

/// Parses a sum of numbers with units, as Go writes durations, and `d` for days.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = (!rest.is_empty()).then_some(Duration::ZERO)?;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 24 * 3600,
            _ => return None,
        };
        rest = &rest[digits + 1..];
        total = total.checked_add(Duration::from_secs(number.checked_mul(unit)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
    }

    fn one(text: &str) -> Result<Filters> {
        parse(&[text.to_owned()], now())
    }

    #[test]
    fn ages_and_times() {
        for (text, seconds) in [
            ("until=90s", 90),
            ("until=24h", 86_400),
            ("until=1h30m", 5400),
            ("until=7d", 604_800),
            ("until=2033-05-18T03:33:10Z", 10),
        ] {
            let since = now() - Duration::from_secs(seconds);
            assert_eq!(one(text).expect(text).unused_since, Some(since), "{text}");
        }
        let long = one("until=99999999999d").expect("long ago");
        assert_eq!(long.unused_since, Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn the_others() {
        assert_eq!(
            one("type=exec.cachemount").expect("type").kinds,
            [EntryKind::CacheMount]
        );
        assert_eq!(one("id=ab").expect("id").ids, ["ab"]);
        for (text, shared) in [
            ("shared", true),
            ("private", false),
            ("private=false", true),
            ("shared=0", false),
        ] {
            assert_eq!(one(text).expect(text).shared, Some(shared), "{text}");
        }
        let both = ["until=1h", "until=2h"].map(str::to_owned);
        let since = parse(&both, now()).expect("both").unused_since;
        assert_eq!(since, Some(now() - Duration::from_secs(7200)));
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (text, said) in [
            ("until=", "``"),
            ("until=5", "`5`"),
            ("until=x", "`x`"),
            ("until=1ä", "`1ä`"),
            ("until=99999999999999999999d", "neither a duration"),
            ("until", "`until`"),
            ("label=a", "`label=a`"),
            ("type=frontend", "`frontend`"),
            ("id=", "`id=`"),
            ("inuse", "`inuse`"),
            ("shared=maybe", "`shared=maybe`"),
            ("description~=x", "`description~=x`"),
        ] {
            let error = one(text).expect_err(text);
            assert!(error.to_string().contains(said), "{text}: {error}");
            assert_eq!(error.get_kind(), Kind::Usage);
        }
        let contrary = ["shared", "private"].map(str::to_owned);
        assert!(parse(&contrary, now()).is_err());
    }
}
