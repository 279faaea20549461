//! Sizes and times as people read them.
//!
//! Responsible for Docker's forms: `1.23MB` in powers of 1000 with three digits, and
//! `3 weeks ago`; ids and texts on one line.

use std::time::SystemTime;

use jiff::Timestamp;

/// The most characters of a text in a table.
const WIDTH: usize = 45;

/// Writes a number of bytes with three significant digits.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be shown as 1000 is 1 of the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if unit == 0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{text}{}", units[unit])
}

/// Writes how long ago a time (RFC 3339) was; `N/A` for one that is unknown or malformed.
pub(super) fn ago(time: Option<&str>, now: Timestamp) -> String {
    match time.and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(then) => format!("{} ago", span(now.as_second() - then.as_second())),
        None => "N/A".to_owned(),
    }
}

/// Writes a span of seconds in the unit that fits it.
fn span(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 if minutes < 46 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// Writes how long ago a file's time was; `N/A` for one that is unknown.
pub(super) fn since(time: SystemTime, now: Timestamp) -> String {
    match Timestamp::try_from(time) {
        Ok(then) if then.as_second() > 0 => {
            format!("{} ago", span(now.as_second() - then.as_second()))
        }
        _ => "N/A".to_owned(),
    }
}

/// Shortens an id as Docker does; what tells several of one from each other stays.
pub(super) fn id(text: &str) -> String {
    let end = text.find(['-', '.']).unwrap_or(text.len());
    let (hex, rest) = text.split_at(end);
    format!("{}{rest}", hex.get(..12).unwrap_or(hex))
}

/// Brings a text onto one short line.
pub(super) fn line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        return line;
    }
    let mut short: String = line.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (74_800_000, "74.8MB"),
            (999_499_999, "999MB"),
            (999_500_000, "1GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times() {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().expect("time");
        for (then, text) in [
            ("2026-06-15T12:00:00Z", "Less than a second ago"),
            ("2026-06-15T11:59:15Z", "45 seconds ago"),
            ("2026-06-15T11:55:00Z", "5 minutes ago"),
            ("2026-06-15T11:05:00Z", "About an hour ago"),
            ("2026-06-14T12:00:00Z", "24 hours ago"),
            ("2026-06-10T12:00:00Z", "5 days ago"),
            ("2026-05-25T12:00:00Z", "3 weeks ago"),
            ("2025-12-15T14:00:00+02:00", "6 months ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("nonsense", "N/A"),
        ] {
            assert_eq!(ago(Some(then), now), text, "{then}");
        }
        assert_eq!(ago(None, now), "N/A");
        assert_eq!(since(SystemTime::UNIX_EPOCH, now), "N/A");
        let then = SystemTime::from(now) - std::time::Duration::from_secs(300);
        assert_eq!(since(then, now), "5 minutes ago");
    }

    #[test]
    fn ids_and_lines() {
        let hex = "0123456789abcdef";
        for (text, short) in [
            (hex.to_owned(), "0123456789ab"),
            (format!("{hex}-3"), "0123456789ab-3"),
            (format!("{hex}.gzip-6"), "0123456789ab.gzip-6"),
            ("odd".to_owned(), "odd"),
        ] {
            assert_eq!(id(&text), short);
        }
        assert_eq!(line("a \n  b"), "a b");
        assert_eq!(line(&"é".repeat(60)).chars().count(), WIDTH);
    }
}
