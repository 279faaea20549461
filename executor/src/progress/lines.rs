//! The output of one step as lines.
//!
//! Responsible for lines that arrive in pieces, for lines that overwrite themselves (carriage
//! return), for very long ones, and for the time stamp before each. Must not know where lines go.
//! Invariant: memory stays below [`LINE_LIMIT`] per stream, whatever the step writes, and every byte
//! but those of overwritten lines and of control sequences comes out, in order.

use std::time::Duration;

use super::event::Stream;
use super::{escape, format};

/// A longer line is passed on in pieces of about this many bytes.
pub(super) const LINE_LIMIT: usize = 64 * 1024;

/// A piece ends before an escape sequence that begins in its last bytes and may not be complete.
const SEQUENCE: usize = 64;

/// Lines that overwrite themselves are kept this often.
pub(super) const THIN: Duration = Duration::from_secs(5);

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is complete.
    Whole,
    /// It goes on: what comes next is of the same line.
    Piece,
    /// There is nothing more of a line that came in pieces.
    End,
    /// A carriage return went back to its beginning and other text followed.
    Overwritten,
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
struct Lines {
    held: Vec<u8>,
    returned: bool,
    /// Whether a piece of the line was handed out.
    begun: bool,
}

impl Lines {
    /// Takes bytes cut anywhere and hands out each line without its end.
    fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8], Fate)) {
        while let Some(&first) = bytes.first() {
            if first == b'\n' {
                self.emit(self.end(), &mut emit);
                self.returned = false;
                bytes = &bytes[1..];
                continue;
            }
            if first == b'\r' {
                self.returned = true;
                bytes = &bytes[1..];
                continue;
            }
            if self.returned {
                if self.begun {
                    self.emit(self.end(), &mut emit);
                } else if !self.held.is_empty() {
                    self.emit(Fate::Overwritten, &mut emit);
                }
                self.returned = false;
            }
            let room = LINE_LIMIT - self.held.len();
            let end = bytes
                .iter()
                .take(room)
                .position(|b| matches!(b, b'\n' | b'\r'))
                .unwrap_or_else(|| bytes.len().min(room));
            self.held.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if self.held.len() == LINE_LIMIT {
                let rest = self.held.split_off(seam(&self.held));
                self.emit(Fate::Piece, &mut emit);
                self.held = rest;
            }
        }
    }

    fn emit(&mut self, fate: Fate, emit: &mut impl FnMut(&[u8], Fate)) {
        emit(&self.held, fate);
        self.held.clear();
        self.begun = fate == Fate::Piece;
    }

    /// Hands out what is left when the stream has ended without a line end.
    fn flush(&mut self, mut emit: impl FnMut(&[u8], Fate)) {
        if !self.held.is_empty() || self.begun {
            self.emit(self.end(), &mut emit);
        }
        self.returned = false;
    }

    /// Returns what becomes of the line when it ends here.
    fn end(&self) -> Fate {
        if self.begun && self.held.is_empty() {
            Fate::End
        } else {
            Fate::Whole
        }
    }
}

/// Returns where a piece ends, so that neither a character nor an escape sequence is cut.
fn seam(held: &[u8]) -> usize {
    let from = held.len().saturating_sub(SEQUENCE);
    let escape = held[from..].iter().rposition(|b| *b == 0x1b);
    if let Some(at) = escape.map(|at| from + at)
        && at > 0
        && escape::reaches_end(&held[at..])
    {
        return at;
    }
    // A character has at most four bytes, of which the first tells how many.
    let behind = held.iter().rev().take(4);
    for (length, byte) in (1..).zip(behind) {
        let whole = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => break,
        };
        if whole > length {
            return held.len() - length;
        }
        break;
    }
    held.len()
}

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style<'a> {
    /// What stands before the time stamp.
    pub(super) prefix: &'a str,
    /// Time since the step's start.
    pub(super) since: Duration,
    /// Whether colours stay.
    pub(super) colour: bool,
}

/// Both streams of a step, as lines in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: [Lines; 2],
    /// When a line that overwrote itself was kept last.
    kept: Duration,
    /// The stream whose line was begun and has not ended.
    open: Option<usize>,
}

impl Log {
    /// Takes bytes of a stream and appends the lines that ended; `seen` gets each as it came.
    pub(super) fn push(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        style: Style<'_>,
        out: &mut Vec<u8>,
        mut seen: impl FnMut(&[u8]),
    ) {
        let number = usize::from(stream == Stream::Stderr);
        let Self { lines, kept, open } = self;
        lines[number].push(bytes, |line, fate| {
            if fate == Fate::Overwritten {
                if *kept + THIN > style.since {
                    return;
                }
                *kept = style.since;
            } else if fate != Fate::End {
                seen(line);
            }
            write(out, open, number, line, fate, style);
        });
    }

    /// Appends what is left when the step has ended; `seen` gets it as it came.
    pub(super) fn flush(
        &mut self,
        style: Style<'_>,
        out: &mut Vec<u8>,
        mut seen: impl FnMut(&[u8]),
    ) {
        let Self { lines, open, .. } = self;
        for (number, lines) in lines.iter_mut().enumerate() {
            lines.flush(|line, fate| {
                if fate != Fate::End {
                    seen(line);
                }
                write(out, open, number, line, fate, style);
            });
        }
    }

    /// Ends a line that was begun, since something else is to be written.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            out.push(b'\n');
        }
    }

    /// Returns the lines that have not ended yet.
    pub(super) fn partial(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let held = self.lines.iter().map(|lines| &lines.held[..]);
        held.filter(|line| !line.is_empty())
    }
}

fn write(
    out: &mut Vec<u8>,
    open: &mut Option<usize>,
    stream: usize,
    line: &[u8],
    fate: Fate,
    style: Style<'_>,
) {
    if *open != Some(stream) {
        if fate == Fate::End {
            return;
        }
        if open.is_some() {
            out.push(b'\n');
        }
        out.extend_from_slice(style.prefix.as_bytes());
        out.extend_from_slice(format::stamp(style.since).as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(&escape::clean(line, style.colour));
    *open = (fate == Fate::Piece).then_some(stream);
    if open.is_none() {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Fate)> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line, fate| out.push((line.to_vec(), fate)));
        }
        lines.flush(|line, fate| out.push((line.to_vec(), fate)));
        out
    }

    /// What a display writes of pieces of the two streams.
    fn written(pieces: &[(Stream, &[u8])], since: u64) -> String {
        let mut log = Log::default();
        let mut out = Vec::new();
        let style = Style {
            prefix: "#1 ",
            since: Duration::from_secs(since),
            colour: false,
        };
        for (stream, bytes) in pieces {
            log.push(*stream, bytes, style, &mut out, |_| ());
        }
        log.flush(style, &mut out, |_| ());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn joins_and_folds() {
        let whole = |text: &[u8]| (text.to_vec(), Fate::Whole);
        let over = |text: &[u8]| (text.to_vec(), Fate::Overwritten);
        assert_eq!(split(&[b"a\nb"]), [whole(b"a"), whole(b"b")]);
        assert_eq!(
            split(&[b"a", b"b", b"\n\nc\n"]),
            [whole(b"ab"), whole(b""), whole(b"c")]
        );
        assert_eq!(split(&[b"a\r", b"\nb\r\r\n"]), [whole(b"a"), whole(b"b")]);
        assert_eq!(
            split(&[b"10%\r20%\r", b"30%\n"]),
            [over(b"10%"), over(b"20%"), whole(b"30%")]
        );
        assert_eq!(split(&[b"\r50%\r"]), [whole(b"50%")]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = vec![b'x'; 2 * LINE_LIMIT + 5];
        let got: Vec<_> = split(&[&long]).iter().map(|(l, f)| (l.len(), *f)).collect();
        let piece = (LINE_LIMIT, Fate::Piece);
        assert_eq!(got, [piece, piece, (5, Fate::Whole)]);
        // One that ends with a piece ends all the same.
        let exact = vec![b'x'; LINE_LIMIT];
        let got: Vec<_> = split(&[&exact])
            .iter()
            .map(|(l, f)| (l.len(), *f))
            .collect();
        assert_eq!(got, [piece, (0, Fate::End)]);
    }

    #[test]
    fn pieces_end_between_characters_and_sequences() {
        for (end, whole) in [
            ("\u{e4}".as_bytes(), &b"x"[..]),
            ("\u{6f22}".as_bytes(), b"x"),
            ("\u{1f980}".as_bytes(), b"x"),
            (b"\x1b[38;5;196m", b"red"),
        ] {
            for cut in 0..=end.len() {
                let mut line = vec![b'x'; LINE_LIMIT - cut];
                line.extend_from_slice(end);
                line.extend_from_slice(whole);
                let got = split(&[&line]);
                assert!(
                    got.iter().all(|(piece, _)| piece.iter().all(|b| *b == b'x')
                        || piece.windows(end.len()).any(|w| w == end)),
                    "{end:?} {cut}"
                );
                let joined: Vec<u8> = got.into_iter().flat_map(|(piece, _)| piece).collect();
                assert_eq!(joined, line);
            }
        }
    }

    #[test]
    fn a_long_line_is_written_as_one() {
        let long = "y".repeat(10_000_000);
        let text = written(
            &[
                (Stream::Stdout, long.as_bytes()),
                (Stream::Stdout, b"z\nend"),
            ],
            1,
        );
        assert_eq!(text, format!("#1 1.000 {long}z\n#1 1.000 end\n"));
        // The other stream's line begins a new one.
        let text = written(
            &[
                (Stream::Stdout, &long.as_bytes()[..LINE_LIMIT]),
                (Stream::Stderr, b"other\n"),
                (Stream::Stdout, b"\nmore\n"),
            ],
            1,
        );
        let piece = &long[..LINE_LIMIT];
        assert_eq!(
            text,
            format!("#1 1.000 {piece}\n#1 1.000 other\n#1 1.000 more\n")
        );
    }

    #[test]
    fn lines_that_overwrite_themselves_are_thinned() {
        let pieces: &[(Stream, &[u8])] = &[(Stream::Stdout, b"1%\r2%\r3%\n")];
        assert_eq!(written(pieces, 4), "#1 4.000 3%\n");
        assert_eq!(written(pieces, 6), "#1 6.000 1%\n#1 6.000 3%\n");
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(b'b')], 0..64),
            at in 0usize..64,
        ) {
            let at = at.min(bytes.len());
            prop_assert_eq!(split(&[&bytes]), split(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
