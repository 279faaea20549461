//! Records of PAX extended headers.
//!
//! Responsible for the syntax `<length> <key>=<value>\n` (POSIX.1-2017, pax, "pax Extended
//! Header") in both directions. Must not know what the keys mean. Invariant: what
//! [`append_record`] writes, [`records`] reads back.

/// Why a header's records cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends one record. The length in front counts itself.
pub(super) fn append_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + decimal_digits(rest);
    if rest + decimal_digits(len) > len {
        len += 1;
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Splits a header's data into keys and values.
///
/// # Errors
/// [`Malformed`] for the first record that breaks the syntax; nothing follows it.
pub(super) fn records(data: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = take(&mut rest).ok_or(Malformed);
        if record.is_err() {
            rest = &[];
        }
        Some(record)
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    // Nine digits are far more than any header that is read; more could overflow.
    let space = rest.iter().take(10).position(|b| *b == b' ')?;
    let len = decimal(&rest[..space])?;
    if len > rest.len() || len < space + 3 {
        return None;
    }
    let (record, after) = rest.split_at(len);
    let body = record[space + 1..].strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    *rest = after;
    Some((&body[..equals], &body[equals + 1..]))
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_counts_itself() {
        for (value, expected) in [
            (&b"x"[..], &b"6 k=x\n"[..]),
            (b"xxxx", b"9 k=xxxx\n"),
            (b"xxxxx", b"11 k=xxxxx\n"),
        ] {
            let mut out = Vec::new();
            append_record(&mut out, b"k", value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn refuses_broken_records() {
        for data in [
            &b"6 k=x"[..],
            b"7 k=x\n",
            b"5 k=x\n",
            b" k=x\n",
            b"+6 k=x\n",
            b"99999999999 k=x\n",
            b"5 =x\n",
            b"6 kxx\n",
            b"3 \n",
            b"0 ",
        ] {
            assert!(records(data).any(|r| r.is_err()), "{data:?}");
            assert!(records(data).count() <= 2, "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(all in prop::collection::vec(
            ("[a-zA-Z.]{1,12}", prop::collection::vec(any::<u8>(), 0..1100)), 0..5)
        ) {
            let mut data = Vec::new();
            for (key, value) in &all {
                append_record(&mut data, key.as_bytes(), value);
            }
            let read: Vec<_> = records(&data)
                .map(|r| r.map(|(k, v)| (k.to_vec(), v.to_vec())))
                .collect::<Result<_, _>>()
                .expect("well formed");
            let all: Vec<_> = all.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn never_panics(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _: usize = records(&data).count();
        }
    }
}
