//! The display on a terminal: a list that is redrawn in place.
//!
//! Responsible for the state that the list shows, and for choosing what there is room for. Must not let
//! anything that comes from a build reach the terminal unfiltered. Invariant: a frame is never higher
//! than the terminal but for the last one, so that the cursor always finds the frame's first row again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::event::{Event, VertexId};
use super::frame::{self, Canvas, Row};
use super::lines::{Log, Style};
use super::log::Spool;
use super::{Display, End, Now, Summary, escape, format, write_failure, write_warnings};

/// Lines of log that are seen of a running step.
const WINDOW: usize = 6;

/// Columns inside of the bar of a transfer.
const BAR: usize = 20;

/// Columns of a terminal from which on there is room for bars.
const ROOM_FOR_BARS: usize = 60;

/// Columns from which on there is room for the sizes of layers.
const ROOM_FOR_SIZES: usize = 40;

/// Columns that the name of a transfer keeps beside its amount: `sha256:` and enough of the digest.
const PART_NAME: usize = 12;

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
    canvas: Canvas,
}

struct Item {
    id: VertexId,
    name: String,
    started: Duration,
    end: Option<(Duration, End)>,
    parts: Vec<Part>,
    lines: Log,
    /// The beginnings of its last lines, as they came.
    window: VecDeque<Vec<u8>>,
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
            canvas: Canvas::default(),
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
            let mut text = Vec::new();
            let style = item.style(now, colour);
            item.lines.flush(style, &mut text, |_| ());
            if let Some(log) = &mut item.log {
                log.push(&text);
            }
        } else {
            item.log = None;
        }
        item.lines = Log::default();
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
        let running = || self.items.iter().filter(|item| item.end.is_none());
        let mut detail = Detail {
            parts: running().map(|item| item.parts.len()).max().unwrap_or(0),
            window: WINDOW,
        };
        let cost = |detail| running().map(|item| item.height(detail)).sum::<usize>();
        while detail != Detail::NONE && cost(detail) > room {
            if detail.parts > detail.window {
                detail.parts -= 1;
            } else {
                detail.window -= 1;
            }
        }
        let mut left = room.saturating_sub(cost(detail));
        let mut chosen: Vec<(&Item, Detail)> = Vec::new();
        for item in self.items.iter().rev() {
            let mut own = detail;
            if item.end.is_some() {
                own.parts = item.parts.len();
                if item.height(own) > left {
                    own.parts = 0;
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

    fn dimensions(&self) -> (usize, usize) {
        let (columns, rows) = (self.size)()
            .filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or((80, 24));
        (usize::from(columns), usize::from(rows))
    }
}

/// How much of a vertex is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Detail {
    parts: usize,
    window: usize,
}

impl Detail {
    const NONE: Self = Self {
        parts: 0,
        window: 0,
    };
}

impl Item {
    fn height(&self, detail: Detail) -> usize {
        1 + self.parts.len().min(detail.parts) + self.seen().count().min(detail.window)
    }

    /// Returns how its log is written.
    fn style(&self, now: Duration, colour: bool) -> Style<'static> {
        Style {
            prefix: "",
            since: now.saturating_sub(self.started),
            colour,
        }
    }

    /// Chooses parts: those that are under way first, then the latest of what ended.
    fn chosen(&self, count: usize) -> impl Iterator<Item = &Part> {
        let under_way = self
            .parts
            .iter()
            .filter(|part| part.ended.is_none())
            .count();
        let ended = self.parts.len() - under_way;
        let skipped = ended.saturating_sub(count.saturating_sub(under_way));
        let (mut open, mut closed) = (0, 0);
        self.parts.iter().filter(move |part| {
            if part.ended.is_none() {
                open += 1;
                open <= count
            } else {
                closed += 1;
                closed > skipped
            }
        })
    }

    /// Returns the lines of the window, with those that have not ended.
    fn seen(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let window = self.window.iter().map(Vec::as_slice);
        window
            .chain(self.lines.partial())
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
        let has_room = self.end.is_some() && width >= ROOM_FOR_SIZES;
        let took = match self.layer.filter(|size| *size > 0 && has_room) {
            Some(size) => format!("{} {took:>6}", format::bytes(size)),
            None => took,
        };
        let left = format!(" => {word}{}", self.name);
        rows.push(Row::new(&left, &took, width, colour));
        for part in self.chosen(detail.parts) {
            let own = part.ended.map_or(colour, |_| BLUE);
            rows.push(part.row(until, width, own));
        }
        let hidden = self.seen().count().saturating_sub(detail.window);
        for line in self.seen().skip(hidden) {
            let line = escape::printable(start_of(line));
            rows.push(Row::new(&format!(" => => # {line}"), "", width, FAINT));
        }
    }
}

/// Returns as much of a line as any terminal could show.
fn start_of(line: &[u8]) -> &[u8] {
    &line[..line.len().min(4096)]
}

impl Part {
    /// Makes its row: the name gives way to how far it is; where there is little room that is a share, and
    /// the size in the end.
    fn row(&self, until: Duration, width: usize, colour: &'static str) -> Row {
        const BEFORE: &str = " => => ";

        let until = self.ended.unwrap_or(until);
        let took = format::seconds(until.saturating_sub(self.started));
        let room = width.saturating_sub(BEFORE.len() + took.len() + 2);
        let mut amount = format::amount(self.current, self.total);
        if let Some(total) = self.total
            && self.ended.is_none()
            && width >= ROOM_FOR_BARS
        {
            amount.insert_str(0, &format::bar(self.current, total, BAR));
        }
        let (_, name_width) = escape::cut(&self.name, PART_NAME);
        if amount.len() + name_width > room
            && let Some(total) = self.total
        {
            amount = match self.ended {
                Some(_) => format!(" {}", format::bytes(self.current)),
                None => format::share(self.current, total),
            };
        }
        let (name, _) = escape::cut(&self.name, room.saturating_sub(amount.len()));
        Row::new(&format!("{BEFORE}{name}{amount}"), &took, width, colour)
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
                lines: Log::default(),
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
                let style = item.style(now, colour);
                let window = &mut item.window;
                let mut text = Vec::new();
                item.lines.push(stream, &bytes, style, &mut text, |line| {
                    let oldest = (window.len() == WINDOW).then(|| window.pop_front());
                    let mut room = oldest.flatten().unwrap_or_default();
                    room.clear();
                    room.extend_from_slice(start_of(line));
                    window.push_back(room);
                });
                let log = item.log.get_or_insert_with(|| Spool::new(&spool));
                log.push(&text);
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
                // What was sent may be asked for once more.
                if part.ended.is_some() {
                    return;
                }
                part.current = current;
                part.total = total;
                part.ended = complete.then_some(now);
            }
            Event::Layer { vertex, size } => {
                if let Some(item) = self.running(vertex) {
                    item.layer = Some(size);
                }
            }
            Event::Warning { .. } | Event::Result { .. } | Event::Finding { .. } => {}
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
        let Some(room) = height.checked_sub(1).filter(|room| *room > 0) else {
            return;
        };
        let rows = self.frame(now.elapsed, width, Some(room), false);
        (self.canvas).draw(rows, (width, height), now.elapsed, self.colour, out);
    }

    fn finish(&mut self, now: Now, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        for id in self.items.iter().map(|item| item.id).collect::<Vec<_>>() {
            self.end(id, End::Cancelled, now.elapsed);
        }
        let mut text = Vec::new();
        if !self.items.is_empty() {
            let size = self.dimensions();
            let rows = self.frame(now.elapsed, size.0, None, true);
            self.canvas.spoil();
            (self.canvas).draw(rows, size, now.elapsed, self.colour, &mut text);
        }
        self.canvas.end(&mut text);
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
        frame::RESET
    }

    fn resume(&mut self) {
        self.canvas = Canvas::default();
    }
}
