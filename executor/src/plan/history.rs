//! The wording of history entries.
//!
//! Responsible for writing values as Go's formatting verbs do, since BuildKit's `created_by` is
//! made of them: `%q` and `%v` of a list, `%+v` of a health check.

use crate::image::config::Healthcheck;

/// Writes strings as `%q` does: `["a" "b"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Writes strings as `%v` does: `[a b]`.
pub(super) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// Writes one string as `%q` does.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Writes a duration in nanoseconds as Go does: `1h0m5s`, `1.5s`, `2ms`, `0s`.
fn duration(nanoseconds: u64) -> String {
    let decimal = |value: u64, unit: u64, name: &str| {
        let fraction = value % unit;
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{fraction:0digits$}", value / unit);
        format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanoseconds {
        0 => "0s".into(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => decimal(n, 1_000, "µs"),
        n if n < 1_000_000_000 => decimal(n, 1_000_000, "ms"),
        n => {
            let minutes = n / 60_000_000_000;
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Writes a health check as `%+v` does.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_go_does() {
        let words = ["a b".to_owned(), "\"\\\n\u{1}ü".to_owned()];
        assert_eq!(quoted_list(&words), "[\"a b\" \"\\\"\\\\\\n\\x01ü\"]");
        assert_eq!(quoted_list(&[]), "[]");
        assert_eq!(plain_list(&words[..1]), "[a b]");
    }

    #[test]
    fn durations() {
        for (nanoseconds, wanted) in [
            (0, "0s"),
            (5, "5ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_000_000_001, "1h1m1.000000001s"),
        ] {
            assert_eq!(duration(nanoseconds), wanted);
        }
    }
}
