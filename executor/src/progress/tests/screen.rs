//! A terminal that understands what the display may send, and nothing else.
//!
//! Characters whose width is ambiguous are wide, as with an East Asian font, and an emoji takes two
//! columns: more than the display counts.

use unicode_width::UnicodeWidthChar;

/// See the module.
pub(super) struct Screen {
    width: usize,
    height: usize,
    /// All rows, also those that scrolled out at the top: a text for each column.
    rows: Vec<Vec<String>>,
    row: usize,
    column: usize,
    /// The first row that is seen: the cursor can't go higher.
    top: usize,
    pub(super) cursor: bool,
    pub(super) autowrap: bool,
    /// Whether what is written is not shown yet.
    pub(super) collecting: bool,
    /// How often a row was wider than the terminal.
    pub(super) wraps: usize,
}

impl Screen {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            top: 0,
            cursor: true,
            autowrap: true,
            collecting: false,
            wraps: 0,
        }
    }

    /// Changes the size as terminals do that wrap rows anew.
    pub(super) fn resize(&mut self, width: usize, height: usize) {
        let mut rows = Vec::new();
        for (number, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            if number == self.top {
                self.top = rows.len();
            }
            if number == self.row {
                self.row = rows.len();
            }
            let mut part: Vec<String> = Vec::new();
            for cell in row {
                // The second half of a wide character goes with the first.
                if part.len() >= width && !cell.is_empty() {
                    rows.push(std::mem::take(&mut part));
                }
                part.push(cell);
            }
            rows.push(part);
        }
        self.rows = rows;
        (self.width, self.height) = (width, height);
        self.scroll();
    }

    fn scroll(&mut self) {
        self.top = self.top.max((self.row + 1).saturating_sub(self.height));
    }

    fn line_feed(&mut self) {
        self.row += 1;
        self.column = 0;
        if self.rows.len() == self.row {
            self.rows.push(Vec::new());
        }
        self.scroll();
    }

    pub(super) fn feed(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence
                    .find(|c: char| c.is_ascii_alphabetic())
                    .expect("an end");
                self.control(&sequence[..end], &sequence[end..=end]);
                rest = &sequence[end + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.column = 0,
                '\n' => self.line_feed(),
                c => self.put(c),
            }
        }
    }

    fn put(&mut self, c: char) {
        assert!(!c.is_control(), "{c:?}");
        // The sign for what is not text is narrow everywhere.
        let wide = match c {
            '\u{fffd}' => 1,
            c => c.width_cjk().unwrap_or(0),
        };
        if c == '\u{fe0f}' {
            // The emoji that it makes of the last character.
            return self.put(' ');
        }
        if wide == 0 {
            if let Some(cell) = self.column.checked_sub(1) {
                self.rows[self.row][cell].push(c);
            }
            return;
        }
        if self.column + wide > self.width {
            if self.autowrap {
                self.wraps += 1;
                self.line_feed();
            } else {
                self.column = self.width.saturating_sub(wide);
            }
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + wide), " ".into());
        row[self.column] = c.into();
        for cell in &mut row[self.column + 1..self.column + wide] {
            cell.clear();
        }
        self.column += wide;
    }

    fn control(&mut self, parameters: &str, end: &str) {
        match (parameters, end) {
            ("?25", "l" | "h") => self.cursor = end == "h",
            ("?7", "l" | "h") => self.autowrap = end == "h",
            ("?2026", "l" | "h") => self.collecting = end == "h",
            (n, "A") => {
                let n: usize = n.parse().expect("a number");
                self.row = self.row.saturating_sub(n).max(self.top);
            }
            ("", "K") => self.rows[self.row].truncate(self.column),
            ("", "J") => {
                self.rows[self.row].truncate(self.column);
                self.rows.truncate(self.row + 1);
            }
            (_, "m") => {}
            other => panic!("unexpected sequence {other:?}"),
        }
    }

    /// All rows, without spaces at their ends.
    pub(super) fn text(&self) -> String {
        self.from(0)
    }

    /// The rows that are seen.
    pub(super) fn visible(&self) -> String {
        self.from(self.top)
    }

    fn from(&self, first: usize) -> String {
        let text = |row: &Vec<String>| row.concat().trim_end().to_owned();
        let rows: Vec<String> = self.rows[first..].iter().map(text).collect();
        rows.join("\n")
    }
}
