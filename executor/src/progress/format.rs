//! How durations and amounts are written.
//!
//! Pure functions that all displays share, so that they agree. Must not know about events.

use std::time::Duration;

/// Returns a duration as `3.2s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// Returns the time stamp of a log line: seconds since the step's start in five columns.
pub(super) fn stamp(time: Duration) -> String {
    let secs = time.as_secs_f64();
    let digits = match time.as_secs() {
        0..=9 => 3,
        10..=99 => 2,
        100..=999 => 1,
        _ => 0,
    };
    // Rounding up could add a column: 9.9999 would become `10.000`.
    let scale = 10f64.powi(digits);
    let cut = (secs * scale).floor() / scale;
    format!("{cut:.*}", usize::try_from(digits).unwrap_or(0))
}

/// Returns a number of bytes as `512B`, `12.10MB`: decimal units with two digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.995 would be written `1000.00`.
    while value >= 999.995 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// Returns how far a part is, with a leading space, or nothing when there is nothing to say:
/// ` 1.05MB / 3.40MB`, or ` 12` for a count without an end.
pub(super) fn amount(current: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => format!(" {} / {}", bytes(current), bytes(total)),
        _ if current > 0 => format!(" {current}"),
        _ => String::new(),
    }
}

/// Returns the share that is done, with a leading space: ` 31%`.
pub(super) fn share(current: u64, total: u64) -> String {
    let done = u128::from(current.min(total)) * 100;
    format!(" {}%", done.checked_div(total.into()).unwrap_or(100))
}

/// Returns a bar of `columns` within brackets and a leading space: ` [===>      ]`.
pub(super) fn bar(current: u64, total: u64, columns: usize) -> String {
    let share = current.min(total) as f64 / total.max(1) as f64;
    let full = (share * columns as f64) as usize;
    let tip = usize::from(full < columns);
    let rest = columns - full - tip;
    format!(
        " [{}{}{}]",
        "=".repeat(full),
        ">".repeat(tip),
        " ".repeat(rest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_five_columns() {
        for (millis, wanted) in [
            (0, "0.000"),
            (123, "0.123"),
            (9_999, "9.999"),
            (12_345, "12.34"),
            (99_999, "99.99"),
            (123_456, "123.4"),
            (12_345_678, "12345"),
        ] {
            assert_eq!(stamp(Duration::from_millis(millis)), wanted);
        }
        assert_eq!(stamp(Duration::from_micros(9_999_900)), "9.999");
    }

    #[test]
    fn bars() {
        for (current, total, wanted) in [
            (0, 10, " [>    ]"),
            (5, 10, " [==>  ]"),
            (9, 10, " [====>]"),
            (10, 10, " [=====]"),
            (11, 10, " [=====]"),
            (0, 0, " [>    ]"),
        ] {
            assert_eq!(bar(current, total, 5), wanted);
        }
    }

    #[test]
    fn shares() {
        for (current, total, wanted) in [
            (0, 3, " 0%"),
            (1, 3, " 33%"),
            (u64::MAX, u64::MAX, " 100%"),
            (9, 3, " 100%"),
            (0, 0, " 100%"),
        ] {
            assert_eq!(share(current, total), wanted);
        }
    }

    #[test]
    fn amounts() {
        for (current, total, wanted) in [
            (0, None, ""),
            (7, None, " 7"),
            (0, Some(668), " 0B / 668B"),
            (3_513, Some(3_400_000), " 3.51kB / 3.40MB"),
            (999_999, Some(30_000_000_000), " 1.00MB / 30.00GB"),
            (0, Some(0), ""),
        ] {
            assert_eq!(amount(current, total), wanted);
        }
    }
}
