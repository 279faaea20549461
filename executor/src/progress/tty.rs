//! The display on a terminal: a list that is redrawn in place.
//!
//! Responsible for the state that the list shows, and for drawing it: moving the cursor up over
//! the last frame and writing the next. Must not let anything that comes from a build reach the
//! terminal unfiltered. Invariant: a frame is never higher than the terminal but for the last one,
//! and no row is wider, so that the cursor always finds the frame's first row again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::event::{Event, Stream, VertexId};
use super::log::{Lines, Spool};
use super::{Display, End, Now, Summary, escape, format, write_failure, write_warnings};

/// Lines of log that are seen of a running step.
const WINDOW: usize = 6;

/// Columns inside of the bar of a transfer.
const BAR: usize = 20;

/// Columns of a terminal from which on there is room for bars.
const ROOM_FOR_BARS: usize = 60;

/// Asks for columns and rows.
type Size = Box<dyn Fn() -> Option<(u16, u16)> + Send>;

/// See the module.
pub(super) struct Tty {
    title: &'static str,
    size: Size,
    colour: bool,
    spool: PathBuf,
    /// In the order of their start.
    items: Vec<Item>,
    /// Widths of the rows of the last frame.
    drawn: Vec<usize>,
    hidden_cursor: bool,
}

struct Item {
    id: VertexId,
    name: String,
    started: Duration,
    end: Option<(Duration, End)>,
    parts: Vec<Part>,
    lines: [Lines; 2],
    window: VecDeque<String>,
    log: Option<Spool>,
    layer: Option<u64>,
}

struct Part {
    id: String,
    name: String,
    current: u64,
    total: Option<u64>,
    started: Duration,
    ended: Option<Duration>,
}

/// One row of a frame, at most as wide as the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    text: String,
    width: usize,
    /// An SGR parameter, or empty.
    colour: &'static str,
}

const BLUE: &str = "34";
const RED: &str = "31";
const YELLOW: &str = "33";
const FAINT: &str = "2";
const USUAL: &str = "";

impl Tty {
    pub(super) fn new(title: &'static str, size: Size, colour: bool, spool: PathBuf) -> Self {
        Self {
            title,
            size,
            colour,
            spool,
            items: Vec::new(),
            drawn: Vec::new(),
            hidden_cursor: false,
        }
    }

    /// Finds a vertex that has not ended; it is among the last.
    fn running(&mut self, id: VertexId) -> Option<&mut Item> {
        self.items
            .iter_mut()
            .rev()
            .find(|item| item.id == id && item.end.is_none())
    }

    fn end(&mut self, id: VertexId, end: End, now: Duration) {
        let colour = self.colour;
        let Some(item) = self.running(id) else { return };
        item.end = Some((now, end));
        item.window = VecDeque::new();
        if end == End::Failed {
            let stamp = format::stamp(now.saturating_sub(item.started));
            if let Some(log) = &mut item.log {
                for lines in &mut item.lines {
                    lines.flush(|line, _| log.push(&stamp, &escape::clean(line, colour)));
                }
            }
        } else {
            item.log = None;
        }
        item.lines = Default::default();
    }

    /// Returns the frame; without `height` everything that there is to show.
    fn frame(
        &self,
        now: Duration,
        width: usize,
        height: Option<usize>,
        finished: bool,
    ) -> Vec<Row> {
        let ended = self.items.iter().filter(|item| item.end.is_some()).count();
        let mut head = format!(
            "[+] {} {} ({ended}/{})",
            self.title,
            format::seconds(now),
            self.items.len()
        );
        if finished {
            head.push_str(" FINISHED");
        }
        let head_colour = if finished { BLUE } else { USUAL };
        let mut rows = vec![Row::new(&head, "", width, head_colour)];
        let room = height.map_or(usize::MAX, |height| height.saturating_sub(1));
        for (item, detail) in self.select(room) {
            item.rows(now, width, detail, &mut rows);
        }
        rows.truncate(room.saturating_add(1));
        rows
    }

    /// Chooses what is shown in `room` rows: what runs first, then the latest of what ended.
    fn select(&self, room: usize) -> Vec<(&Item, Detail)> {
        let mut detail = Detail {
            parts: true,
            window: WINDOW,
        };
        let is_running = |item: &&Item| item.end.is_none();
        let cost = |detail: Detail| -> usize {
            let running = self.items.iter().filter(is_running);
            running.map(|item| item.height(detail)).sum()
        };
        while detail.window > 0 && cost(detail) > room {
            detail.window -= 1;
        }
        if cost(detail) > room {
            detail.parts = false;
        }
        let mut left = room.saturating_sub(cost(detail));
        let mut chosen: Vec<(&Item, Detail)> = Vec::new();
        for item in self.items.iter().rev() {
            let mut own = detail;
            if item.end.is_some() {
                if item.height(own) > left {
                    own.parts = false;
                }
                if item.height(own) > left {
                    continue;
                }
                left -= item.height(own);
            }
            chosen.push((item, own));
        }
        chosen.reverse();
        chosen
    }

    /// Writes a frame over the last one.
    fn draw(&mut self, rows: &[Row], width: usize, out: &mut Vec<u8>) {
        if !self.hidden_cursor {
            out.extend_from_slice(b"\x1b[?25l");
            self.hidden_cursor = true;
        }
        // A terminal that became narrower has wrapped the rows of the last frame.
        let up: usize = self
            .drawn
            .iter()
            .map(|drawn| drawn.div_ceil(width.max(1)).max(1))
            .sum();
        out.push(b'\r');
        if up > 0 {
            out.extend_from_slice(format!("\x1b[{up}A").as_bytes());
        }
        for row in rows {
            if self.colour && !row.colour.is_empty() {
                let text = format!("\x1b[{}m{}\x1b[0m", row.colour, row.text);
                out.extend_from_slice(text.as_bytes());
            } else {
                out.extend_from_slice(row.text.as_bytes());
            }
            out.extend_from_slice(b"\x1b[K\n");
        }
        out.extend_from_slice(b"\x1b[J");
        self.drawn = rows.iter().map(|row| row.width).collect();
    }

    fn dimensions(&self) -> (usize, usize) {
        let (columns, rows) = (self.size)()
            .filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or((80, 24));
        (usize::from(columns), usize::from(rows))
    }
}

/// How much of a vertex is shown.
#[derive(Debug, Clone, Copy)]
struct Detail {
    parts: bool,
    window: usize,
}

impl Item {
    fn height(&self, detail: Detail) -> usize {
        let parts = if detail.parts { self.parts.len() } else { 0 };
        1 + parts + self.seen().count().min(detail.window)
    }

    /// Returns the lines of the window, with those that have not ended.
    fn seen(&self) -> impl DoubleEndedIterator<Item = String> {
        let partial = self.lines.iter().filter(|l| !l.partial().is_empty());
        self.window
            .iter()
            .cloned()
            .chain(partial.map(|l| escape::printable(start_of(l.partial()))))
            .filter(|_| self.end.is_none())
    }

    fn rows(&self, now: Duration, width: usize, detail: Detail, rows: &mut Vec<Row>) {
        let (word, colour) = match self.end {
            None => ("", USUAL),
            Some((_, End::Done)) => ("", BLUE),
            Some((_, End::Cached)) => ("CACHED ", BLUE),
            Some((_, End::Failed)) => ("ERROR ", RED),
            Some((_, End::Cancelled)) => ("CANCELED ", YELLOW),
        };
        let until = self.end.map_or(now, |(at, _)| at);
        let took = format::seconds(until.saturating_sub(self.started));
        let took = match self.layer.filter(|size| *size > 0 && self.end.is_some()) {
            Some(size) => format!("{} {took:>6}", format::bytes(size)),
            None => took,
        };
        let left = format!(" => {word}{}", self.name);
        rows.push(Row::new(&left, &took, width, colour));
        if detail.parts {
            for part in &self.parts {
                let until = part.ended.unwrap_or(until);
                let took = format::seconds(until.saturating_sub(part.started));
                let amount = format::amount(part.current, part.total);
                let bar = match part.total {
                    Some(total) if part.ended.is_none() && width >= ROOM_FOR_BARS => {
                        format::bar(part.current, total, BAR)
                    }
                    _ => String::new(),
                };
                let left = format!(" => => {}{bar}{amount}", part.name);
                let own = part.ended.map_or(colour, |_| BLUE);
                rows.push(Row::new(&left, &took, width, own));
            }
        }
        let seen: Vec<String> = self.seen().collect();
        for line in &seen[seen.len().saturating_sub(detail.window)..] {
            rows.push(Row::new(&format!(" => => # {line}"), "", width, FAINT));
        }
    }
}

/// Returns as much of a line as any terminal could show.
fn start_of(line: &[u8]) -> &[u8] {
    &line[..line.len().min(4096)]
}

impl Row {
    /// Makes a row with `left` cut where `right` begins, one column short of the width: a cursor
    /// behind the last column is in a state on which terminals differ.
    fn new(left: &str, right: &str, width: usize, colour: &'static str) -> Self {
        let width = width.saturating_sub(1);
        let reserved = if right.is_empty() || right.len() >= width {
            0
        } else {
            right.len() + 1
        };
        let (left, used) = escape::cut(left, width - reserved);
        let mut text = left.to_owned();
        let mut columns = used;
        if reserved > 0 {
            text.extend(std::iter::repeat_n(' ', width - used - right.len()));
            text.push_str(right);
            columns = width;
        }
        Self {
            text,
            width: columns,
            colour,
        }
    }
}

impl Display for Tty {
    fn event(&mut self, event: Event, now: Now, _out: &mut Vec<u8>) {
        let now = now.elapsed;
        let colour = self.colour;
        match event {
            Event::Started { vertex, name } => self.items.push(Item {
                id: vertex,
                name: escape::printable(name.as_bytes()),
                started: now,
                end: None,
                parts: Vec::new(),
                lines: Default::default(),
                window: VecDeque::new(),
                log: None,
                layer: None,
            }),
            Event::Log {
                vertex,
                stream,
                bytes,
            } => {
                let spool = self.spool.clone();
                let Some(item) = self.running(vertex) else {
                    return;
                };
                let stamp = format::stamp(now.saturating_sub(item.started));
                let log = item.log.get_or_insert_with(|| Spool::new(&spool));
                let window = &mut item.window;
                item.lines[usize::from(stream == Stream::Stderr)].push(&bytes, |line, fate| {
                    if fate == super::log::Fate::Overwritten {
                        return;
                    }
                    log.push(&stamp, &escape::clean(line, colour));
                    if window.len() == WINDOW {
                        window.pop_front();
                    }
                    window.push_back(escape::printable(start_of(line)));
                });
            }
            Event::Status {
                vertex,
                id,
                current,
                total,
                complete,
            } => {
                let Some(item) = self.running(vertex) else {
                    return;
                };
                let known = item.parts.iter().position(|part| part.id == id);
                let at = known.unwrap_or_else(|| {
                    item.parts.push(Part {
                        name: escape::printable(id.trim_end().as_bytes()),
                        id,
                        current: 0,
                        total: None,
                        started: now,
                        ended: None,
                    });
                    item.parts.len() - 1
                });
                let part = &mut item.parts[at];
                part.current = current;
                part.total = total;
                part.ended = complete.then_some(now);
            }
            Event::Layer { vertex, size } => {
                if let Some(item) = self.running(vertex) {
                    item.layer = Some(size);
                }
            }
            Event::Warning { .. } | Event::Result { .. } => {}
            Event::Cached { vertex } => self.end(vertex, End::Cached, now),
            Event::Done { vertex } => self.end(vertex, End::Done, now),
            Event::Failed { vertex, .. } => self.end(vertex, End::Failed, now),
            Event::Cancelled { vertex } => self.end(vertex, End::Cancelled, now),
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<u8>) {
        if self.items.is_empty() {
            return;
        }
        let (width, height) = self.dimensions();
        // The cursor waits in the row below the frame.
        let room = height.saturating_sub(1).max(1);
        let rows = self.frame(now.elapsed, width, Some(room), false);
        self.draw(&rows, width, out);
    }

    fn finish(&mut self, now: Now, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        for id in self.items.iter().map(|item| item.id).collect::<Vec<_>>() {
            self.end(id, End::Cancelled, now.elapsed);
        }
        let mut text = Vec::new();
        if !self.items.is_empty() {
            let (width, _) = self.dimensions();
            let rows = self.frame(now.elapsed, width, None, true);
            self.draw(&rows, width, &mut text);
        }
        if self.hidden_cursor {
            text.extend_from_slice(self.reset());
            self.hidden_cursor = false;
        }
        out.write_all(&text)?;
        for item in &mut self.items {
            if matches!(item.end, Some((_, End::Failed))) {
                write_failure(&item.name, item.log.take(), out)?;
            }
        }
        summary.write_end(out)?;
        write_warnings(&summary.warnings, out)
    }

    fn reset(&self) -> &'static [u8] {
        b"\x1b[?25h"
    }
}
