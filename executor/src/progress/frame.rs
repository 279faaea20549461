//! Rows on a terminal, and the way from one frame to the next.
//!
//! Responsible for the width of rows and for writing what changed: the cursor goes up to the frame's
//! first row, over those that stay, and ends in the row below. Must not know what rows say. Invariants:
//! no row is as wide as the terminal, none wraps even if the terminal takes a character for wider than
//! we do, and a frame is one write that the terminal is asked to show at once.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use super::escape;

/// What brings a terminal back to its usual state: it shows what is written, no colours, rows wrap, and
/// there is a cursor.
pub(super) const RESET: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h";

/// The terminal collects what is written until it is told to show it; unknown to some, which ignore it.
const COLLECT: &[u8] = b"\x1b[?2026h";
const SHOW: &[u8] = b"\x1b[?2026l";

/// After this time rows that did not change are written, too: somebody may have typed.
const REFRESH: Duration = Duration::from_secs(1);

/// One row of a frame, narrower than the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    text: String,
    /// An SGR parameter, or empty.
    colour: &'static str,
}

impl Row {
    /// Makes a row with `left` cut where `right` begins, one column short of the width: a cursor
    /// behind the last column is in a state on which terminals differ.
    pub(super) fn new(left: &str, right: &str, width: usize, colour: &'static str) -> Self {
        let width = width.saturating_sub(1);
        let reserved = if right.is_empty() || right.len() >= width {
            0
        } else {
            right.len() + 1
        };
        let (left, used) = escape::cut(left, width - reserved);
        let mut text = left.to_owned();
        if reserved > 0 {
            text.extend(std::iter::repeat_n(' ', width - used - right.len()));
            text.push_str(right);
        }
        Self { text, colour }
    }

    /// Returns how many rows it takes on a terminal that has become narrower and has wrapped it.
    fn height(&self, width: usize) -> usize {
        let mut rows = 1;
        let mut column = 0;
        for c in self.text.chars() {
            let wide = c.width().unwrap_or(0);
            if column + wide > width && column > 0 {
                rows += 1;
                column = 0;
            }
            column += wide;
        }
        rows
    }

    fn write(&self, coloured: bool, out: &mut Vec<u8>) {
        let coloured = coloured && !self.colour.is_empty();
        // Of ASCII everybody knows how wide it is.
        let sure = self.text.is_ascii();
        if !sure {
            out.extend_from_slice(b"\x1b[?7l");
        }
        if coloured {
            out.extend_from_slice(format!("\x1b[{}m", self.colour).as_bytes());
        }
        out.extend_from_slice(self.text.as_bytes());
        if coloured {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.extend_from_slice(b"\x1b[K");
        if !sure {
            out.extend_from_slice(b"\x1b[?7h");
        }
    }
}

/// What is on the terminal.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    drawn: Vec<Row>,
    /// Columns and rows of the terminal at the last frame.
    size: (usize, usize),
    /// When all rows were written last.
    whole: Duration,
    hidden_cursor: bool,
}

impl Canvas {
    /// Writes a frame over the last one; `now` is any clock.
    pub(super) fn draw(
        &mut self,
        rows: Vec<Row>,
        size: (usize, usize),
        now: Duration,
        coloured: bool,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(COLLECT);
        if !self.hidden_cursor {
            out.extend_from_slice(b"\x1b[?25l");
            self.hidden_cursor = true;
        }
        // A terminal that became narrower has wrapped the rows of the last frame, one that became lower
        // has moved some of them out of reach.
        let resized = self.size != size;
        let up: usize = self.drawn.iter().map(|row| row.height(size.0)).sum();
        out.push(b'\r');
        if up > 0 {
            out.extend_from_slice(format!("\x1b[{up}A").as_bytes());
        }
        let whole = resized || now.saturating_sub(self.whole) >= REFRESH;
        if whole {
            self.whole = now;
        }
        for (number, row) in rows.iter().enumerate() {
            if whole || self.drawn.get(number) != Some(row) {
                row.write(coloured, out);
            }
            out.push(b'\n');
        }
        out.extend_from_slice(b"\x1b[J");
        out.extend_from_slice(SHOW);
        self.drawn = rows;
        self.size = size;
    }

    /// Lets the next frame be written whole.
    pub(super) fn spoil(&mut self) {
        self.size = (0, 0);
    }

    /// Ends the drawing: what was drawn last stays.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.hidden_cursor) {
            out.extend_from_slice(RESET);
        }
    }
}
