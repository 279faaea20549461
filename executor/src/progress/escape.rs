//! Making the output of a step harmless for a terminal.
//!
//! Responsible for removing what could move the cursor, retitle the window or answer to a query
//! (ECMA-48 control sequences and strings, C0 and C1 controls), and for cutting text to a number
//! of columns. Must not know where the text came from. Invariant: what [`clean`] returns contains
//! no control character but tab and, when colours are kept, `ESC [ … m`, neither as a character of
//! UTF-8 nor as a byte that is none.

use unicode_width::UnicodeWidthChar;

const ESC: u8 = 0x1b;
const RESET: &[u8] = b"\x1b[0m";

/// What stands for a byte that is a control where text is not UTF-8.
const UNKNOWN: &[u8] = "\u{fffd}".as_bytes();

/// Removes control sequences from one line; bytes that are not UTF-8 stay as they are, but for those
/// from 0x80 to 0x9f, which are controls elsewhere.
///
/// With `colours`, sequences that set colours and weights stay and are reset at the line's end.
pub(super) fn clean(line: &[u8], colours: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut coloured = false;
    let mut rest = line;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            ESC => {
                let length = sequence(rest);
                let whole = &rest[..length];
                if colours && is_colour(whole) {
                    out.extend_from_slice(whole);
                    coloured = true;
                }
                length
            }
            b'\t' | 0x20..=0x7e => {
                out.push(byte);
                1
            }
            0x80.. => {
                let length = character(rest);
                match &rest[..length] {
                    // C1 controls as UTF-8.
                    [0xc2, 0x80..=0x9f] => {}
                    [0x80..=0x9f] => out.extend_from_slice(UNKNOWN),
                    other => out.extend_from_slice(other),
                }
                length
            }
            _ => 1,
        };
        rest = &rest[length..];
    }
    if coloured {
        out.extend_from_slice(RESET);
    }
    out
}

/// Returns the length of the character in UTF-8 at the beginning of `bytes`; 1 where there is none.
fn character(bytes: &[u8]) -> usize {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    match bytes.get(..length) {
        Some(whole) if std::str::from_utf8(whole).is_ok() => length,
        _ => 1,
    }
}

/// Tells whether the escape sequence at the beginning of `bytes` may go on behind them.
pub(super) fn reaches_end(bytes: &[u8]) -> bool {
    sequence(bytes) == bytes.len()
}

/// Returns the length of the escape sequence at the beginning of `bytes`.
fn sequence(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    let length = match rest.first() {
        Some(b'[') => {
            let body = rest[1..]
                .iter()
                .take_while(|b| (0x20..=0x3f).contains(*b))
                .count();
            let last = rest
                .get(1 + body)
                .is_some_and(|b| (0x40..=0x7e).contains(b));
            1 + body + usize::from(last)
        }
        // Strings (DCS, SOS, OSC, PM, APC) last until BEL or ESC `\`, or the line's end.
        Some(b'P' | b'X' | b']' | b'^' | b'_') => {
            match rest.iter().position(|b| matches!(*b, 0x07 | ESC)) {
                Some(end) if rest[end] == ESC && rest.get(end + 1) == Some(&b'\\') => end + 2,
                Some(end) if rest[end] == ESC => end,
                Some(end) => end + 1,
                None => rest.len(),
            }
        }
        _ => {
            let between = rest
                .iter()
                .take_while(|b| (0x20..=0x2f).contains(*b))
                .count();
            let last = rest.get(between).is_some_and(|b| (0x30..=0x7e).contains(b));
            between + usize::from(last)
        }
    };
    1 + length
}

fn is_colour(sequence: &[u8]) -> bool {
    sequence
        .strip_prefix(b"\x1b[")
        .and_then(|s| s.strip_suffix(b"m"))
        .is_some_and(|s| {
            s.iter()
                .all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'))
        })
}

/// Returns one line as printable text: no sequences, tabs as spaces, U+FFFD for what is not UTF-8.
pub(super) fn printable(line: &[u8]) -> String {
    let clean = clean(line, false);
    let mut out = String::with_capacity(clean.len());
    let mut column = 0;
    for c in String::from_utf8_lossy(&clean).chars() {
        if c == '\t' {
            let spaces = 8 - column % 8;
            out.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else {
            out.push(c);
            column += c.width().unwrap_or(0);
        }
    }
    out
}

/// Returns the longest beginning of `text` that fits into `columns`, and its width.
pub(super) fn cut(text: &str, columns: usize) -> (&str, usize) {
    let mut width = 0;
    for (at, c) in text.char_indices() {
        let wide = c.width().unwrap_or(0);
        if width + wide > columns {
            return (&text[..at], width);
        }
        width += wide;
    }
    (text, width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removes_what_is_not_text() {
        for (line, wanted) in [
            (&b"plain\ttext"[..], &b"plain\ttext"[..]),
            (b"\x1b[31mred\x1b[0m", b"red"),
            (b"a\x1b[2Jb\x1b[10;20Hc", b"abc"),
            (b"\x1b]0;title\x07x", b"x"),
            (b"\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", b"link"),
            (b"\x1bP+q\x1b\\y", b"y"),
            (b"\x1b(B\x1b7z\x1bc", b"z"),
            (b"a\x08\x07\x7fb", b"ab"),
            (b"\xc2\x9b31mx", b"31mx"),
            (b"\xc2\0\x80x", b"\xc2\xef\xbf\xbdx"),
            (
                b"\x9b31mx\x9d0;t\x9c",
                b"\xef\xbf\xbd31mx\xef\xbf\xbd0;t\xef\xbf\xbd",
            ),
            (
                "\u{c0}\u{6f22}\u{1f980}".as_bytes(),
                "\u{c0}\u{6f22}\u{1f980}".as_bytes(),
            ),
            (b"\xff\xfe\xe4", b"\xff\xfe\xe4"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n".as_bytes()),
            (b"end\x1b", b"end"),
            (b"end\x1b[", b"end"),
            (b"end\x1b]0;never closed", b"end"),
        ] {
            assert_eq!(clean(line, false), wanted, "{line:?}");
        }
    }

    #[test]
    fn keeps_colours_when_asked() {
        assert_eq!(
            clean(b"\x1b[1;31mred\x1b[Kx", true),
            b"\x1b[1;31mredx\x1b[0m"
        );
        assert_eq!(clean(b"none", true), b"none");
        // Private and intermediate bytes make it something else than a colour.
        assert_eq!(clean(b"\x1b[>4;2mx", true), b"x");
    }

    #[test]
    fn cuts_by_columns() {
        assert_eq!(cut("abcdef", 3), ("abc", 3));
        assert_eq!(cut("\u{6f22}\u{5b57}x", 3), ("\u{6f22}", 2));
        assert_eq!(cut("ab", 10), ("ab", 2));
        assert_eq!(printable(b"a\tb\xff"), "a       b\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for byte in clean(&line, false) {
                prop_assert!(byte == b'\t' || byte >= 0x20 && byte != 0x7f);
            }
            // Also where each byte is a character: those of UTF-8 characters are all that is left.
            for piece in clean(&line, false).utf8_chunks() {
                prop_assert!(piece.invalid().iter().all(|b| !(0x80..=0x9f).contains(b)));
            }
            let mut kept = &clean(&line, true)[..];
            while let Some(at) = kept.iter().position(|b| *b == ESC) {
                let length = sequence(&kept[at..]);
                prop_assert!(is_colour(&kept[at..at + length]));
                kept = &kept[at + length..];
            }
            prop_assert!(printable(&line).chars().all(|c| !c.is_control()));
        }
    }
}
