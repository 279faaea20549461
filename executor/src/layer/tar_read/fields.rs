//! Values in archive headers: numbers, times, strings, paths.
//!
//! Pure functions over bytes. Invariant: a value that cannot be represented is `None`, never a
//! wrong number.

/// Reads a numeric field: octal with spaces or NULs around it, blank for 0, or two's complement
/// in base 256 when the first bit is set (GNU tar).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |b: &u8| matches!(b, b' ' | 0);
    let Some(start) = field.iter().position(|b| !is_blank(b)) else {
        return Some(0);
    };
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let text = std::str::from_utf8(&digits[..end]).ok()?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    i64::from_str_radix(text, 8).ok()
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let (high, low) = field.split_at(field.len().saturating_sub(8));
    // The marker bit aside, everything above 63 bits must repeat the sign.
    let high_is_sign = high.iter().enumerate().all(|(i, byte)| {
        let byte = if i == 0 {
            (byte & 0x7f) | (fill & 0x80)
        } else {
            *byte
        };
        byte == fill
    });
    let mut value = if negative { -1_i64 } else { 0 };
    for (i, byte) in low.iter().enumerate() {
        let byte = if i == 0 && high.is_empty() {
            (byte & 0x7f) | (fill & 0x80)
        } else {
            *byte
        };
        value = (value << 8) | i64::from(byte);
    }
    (high_is_sign && (value < 0) == negative).then_some(value)
}

/// Reads a decimal number as PAX records have it.
pub(super) fn decimal(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Reads a PAX time, `[-]seconds[.fraction]`, rounded down to whole seconds.
pub(super) fn time(value: &[u8]) -> Option<i64> {
    let dot = value.iter().position(|b| *b == b'.');
    let (whole, fraction) = value.split_at(dot.unwrap_or(value.len()));
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = decimal(whole)?;
    let below = whole.starts_with(b"-") && fraction.iter().any(|b| *b != b'0');
    if below {
        seconds.checked_sub(1)
    } else {
        Some(seconds)
    }
}

/// Returns a string field without what follows its first NUL.
pub(super) fn string(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Makes a path relative and plain by text, as Docker does: leading slashes, `.` and doubled
/// slashes are dropped, `..` removes what is before it. `None` when it leads out of the root.
pub(super) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if out.is_empty() {
                    return None;
                }
                let parent = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            name => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(name);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000644", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"644\0junk", Some(0o644)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"+000644\0", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn times() {
        for (text, value) in [
            (&b"12"[..], Some(12)),
            (b"12.999", Some(12)),
            (b"-1", Some(-1)),
            (b"-1.5", Some(-2)),
            (b"-1.0", Some(-1)),
            (b"-0.5", Some(-1)),
            (b"12.", Some(12)),
            (b"", None),
            (b".5", None),
            (b"1.x", None),
            (b"99999999999999999999", None),
        ] {
            assert_eq!(time(text), value, "{text:?}");
        }
    }

    #[test]
    fn paths() {
        for (path, cleaned) in [
            (&b"./a/b/"[..], Some(&b"a/b"[..])),
            (b"/etc//passwd", Some(b"etc/passwd")),
            (b"./", Some(b"")),
            (b"/", Some(b"")),
            (b"a/../b", Some(b"b")),
            (b"a/b/../../c", Some(b"c")),
            (b"..", None),
            (b"a/../../b", None),
            (b"/../etc", None),
            (b"...", Some(b"...")),
        ] {
            assert_eq!(clean(path).as_deref(), cleaned, "{path:?}");
        }
    }
}
