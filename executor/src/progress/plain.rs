//! The plain display: one line per event, as BuildKit's users and their scripts know it.
//!
//! Responsible for the numbers `#1`, `#2` …, and for showing one vertex at a time although many
//! run: what the others say waits until the shown one ends, falls silent or has had its turn.
//! Must not drop or reword what a step writes, except that control sequences are removed and
//! lines that overwrite themselves are thinned. Invariant: what waits is bounded per vertex.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::time::Duration;

use super::event::{Event, VertexId};
use super::lines::{Log, Style, THIN};
use super::{Display, Kept, Now, Summary, escape, format, write_failure, write_warnings};

/// After this time another vertex that has something to say is shown.
const TURN: Duration = Duration::from_secs(5);

/// A shown vertex that was silent for this time gives way.
const SILENCE: Duration = Duration::from_secs(1);

/// How much of a vertex waits before it is shown out of turn, in bytes.
const WAITING: usize = 256 * 1024;

/// What stands before the reason of a failure.
const FAILED: &str = "ERROR: ";

/// How many lines of a step that failed are shown again at the end, as BuildKit's users expect.
const TAIL: usize = 10;

/// See the module.
pub(super) struct Plain {
    colour: bool,
    vertices: BTreeMap<VertexId, Vertex>,
    next: usize,
    shown: Option<Shown>,
    /// What failed.
    failed: Vec<(String, Tail)>,
}

/// The vertex whose lines are being written.
struct Shown {
    id: VertexId,
    since: Duration,
    spoke: Duration,
}

struct Vertex {
    index: usize,
    name: String,
    started: Duration,
    /// What stands before each of its lines: `#7 `.
    prefix: String,
    lines: Log,
    parts: BTreeMap<String, Part>,
    tail: Tail,
    waiting: Vec<u8>,
    /// When the first of what waits came; set at the start too, since the name is to be shown.
    waits: Option<Duration>,
}

/// The last lines of a step, as they came.
#[derive(Default)]
struct Tail {
    lines: VecDeque<(Duration, Vec<u8>)>,
    colour: bool,
}

impl Tail {
    fn push(&mut self, line: &[u8], style: Style<'_>) {
        let oldest = (self.lines.len() == TAIL).then(|| self.lines.pop_front());
        let (_, mut room) = oldest.flatten().unwrap_or_default();
        room.clear();
        room.extend_from_slice(line);
        self.lines.push_back((style.since, room));
        self.colour = style.colour;
    }
}

impl Kept for Tail {
    fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        for (since, line) in self.lines {
            write!(out, "{} ", format::stamp(since))?;
            out.write_all(&escape::clean(&line, self.colour))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

struct Part {
    started: Duration,
    printed: Duration,
    complete: bool,
}

impl Plain {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            vertices: BTreeMap::new(),
            next: 1,
            shown: None,
            failed: Vec::new(),
        }
    }

    /// Makes `id` the vertex that is shown, and writes what it had to say.
    fn show(&mut self, id: VertexId, now: Duration, out: &mut Vec<u8>) {
        if let Some(shown) = &mut self.shown {
            if shown.id == id {
                shown.spoke = now;
                return;
            }
            if let Some(left) = self.vertices.get_mut(&shown.id) {
                left.lines.close(out);
                out.extend_from_slice(format!("#{} ...\n\n", left.index).as_bytes());
            }
        }
        let Some(vertex) = self.vertices.get_mut(&id) else {
            return;
        };
        out.extend_from_slice(format!("#{} {}\n", vertex.index, vertex.name).as_bytes());
        out.append(&mut vertex.waiting);
        vertex.waits = None;
        self.shown = Some(Shown {
            id,
            since: now,
            spoke: now,
        });
    }

    /// Writes lines of a vertex, or keeps them until it is its turn.
    fn say(&mut self, id: VertexId, text: &[u8], now: Duration, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match &mut self.shown {
            Some(shown) if shown.id == id => {
                shown.spoke = now;
                out.extend_from_slice(text);
            }
            Some(_) => {
                let Some(vertex) = self.vertices.get_mut(&id) else {
                    return;
                };
                vertex.waiting.extend_from_slice(text);
                vertex.waits.get_or_insert(now);
                if vertex.waiting.len() > WAITING {
                    self.show(id, now, out);
                }
            }
            None => {
                self.show(id, now, out);
                out.extend_from_slice(text);
            }
        }
    }

    /// Ends a vertex: it is shown at once, whoever's turn it is.
    fn end(&mut self, id: VertexId, word: &str, now: Duration, out: &mut Vec<u8>) {
        let Some(vertex) = self.vertices.get_mut(&id) else {
            return;
        };
        let index = vertex.index;
        let has_failed = word.starts_with(FAILED);
        let mut rest = Vec::new();
        let style = Style {
            prefix: &vertex.prefix,
            since: now.saturating_sub(vertex.started),
            colour: self.colour,
        };
        let tail = &mut vertex.tail;
        (vertex.lines).flush(style, &mut rest, |line| tail.push(line, style));
        rest.extend_from_slice(format!("#{index} {word}\n\n").as_bytes());
        self.show(id, now, out);
        out.append(&mut rest);
        if let (Some(vertex), true) = (self.vertices.remove(&id), has_failed) {
            self.failed.push((vertex.name, vertex.tail));
        }
        self.shown = None;
        if let Some(next) = self.longest_waiting(Duration::MAX) {
            self.show(next, now, out);
        }
    }

    /// Returns the vertex that has waited longest, if it has since before `deadline`.
    fn longest_waiting(&self, deadline: Duration) -> Option<VertexId> {
        self.vertices
            .iter()
            .filter_map(|(id, v)| v.waits.map(|since| (since, v.index, *id)))
            .min()
            .filter(|(since, ..)| *since <= deadline)
            .map(|(.., id)| id)
    }
}

impl Display for Plain {
    fn event(&mut self, event: Event, now: Now, out: &mut Vec<u8>) {
        let now = now.elapsed;
        match event {
            Event::Started { vertex, name } => {
                let state = Vertex {
                    index: self.next,
                    name: escape::printable(name.as_bytes()),
                    started: now,
                    prefix: format!("#{} ", self.next),
                    lines: Log::default(),
                    parts: BTreeMap::new(),
                    tail: Tail::default(),
                    waiting: Vec::new(),
                    waits: Some(now),
                };
                self.next += 1;
                self.vertices.insert(vertex, state);
                if self.shown.is_none() {
                    self.show(vertex, now, out);
                }
            }
            Event::Log {
                vertex,
                stream,
                bytes,
            } => {
                let Some(state) = self.vertices.get_mut(&vertex) else {
                    return;
                };
                let mut text = Vec::new();
                let style = Style {
                    prefix: &state.prefix,
                    since: now.saturating_sub(state.started),
                    colour: self.colour,
                };
                let tail = &mut state.tail;
                (state.lines).push(stream, &bytes, style, &mut text, |line| {
                    tail.push(line, style);
                });
                self.say(vertex, &text, now, out);
            }
            Event::Status {
                vertex,
                id,
                current,
                total,
                complete,
            } => {
                let Some(state) = self.vertices.get_mut(&vertex) else {
                    return;
                };
                let name = escape::printable(id.trim_end().as_bytes());
                let known = state.parts.get_mut(&id);
                let is_new = known.is_none();
                let part = match known {
                    Some(part) => part,
                    None => state.parts.entry(id).or_insert(Part {
                        started: now,
                        printed: now,
                        complete: false,
                    }),
                };
                // What was sent may be asked for once more.
                if part.complete || !is_new && !complete && part.printed + THIN > now {
                    return;
                }
                part.complete = complete;
                part.printed = now;
                let took = now.saturating_sub(part.started);
                let mut text = Vec::new();
                state.lines.close(&mut text);
                let mut line = format!("#{} {name}{}", state.index, format::amount(current, total));
                if took >= Duration::from_millis(10) {
                    line.push(' ');
                    line.push_str(&format::seconds(took));
                }
                line.push_str(if complete { " done\n" } else { "\n" });
                text.extend_from_slice(line.as_bytes());
                self.say(vertex, &text, now, out);
            }
            Event::Warning { vertex, message } => {
                let Some(state) = self.vertices.get_mut(&vertex) else {
                    return;
                };
                let mut text = Vec::new();
                state.lines.close(&mut text);
                let message = escape::printable(message.as_bytes());
                text.extend_from_slice(format!("#{} WARN: {message}\n", state.index).as_bytes());
                self.say(vertex, &text, now, out);
            }
            Event::Layer { .. } | Event::Result { .. } | Event::Finding { .. } => {}
            Event::Cached { vertex } => self.end(vertex, "CACHED", now, out),
            Event::Done { vertex } => {
                let started = self.vertices.get(&vertex).map_or(now, |v| v.started);
                let took = format::seconds(now.saturating_sub(started));
                self.end(vertex, &format!("DONE {took}"), now, out);
            }
            Event::Failed { vertex, message } => {
                let message = escape::printable(message.as_bytes());
                self.end(vertex, &format!("{FAILED}{message}"), now, out);
            }
            Event::Cancelled { vertex } => self.end(vertex, "CANCELED", now, out),
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<u8>) {
        let now = now.elapsed;
        let Some(shown) = &self.shown else { return };
        let deadline = if shown.since + TURN <= now {
            now.checked_sub(TURN)
        } else if shown.spoke + SILENCE <= now {
            now.checked_sub(SILENCE)
        } else {
            None
        };
        if let Some(next) = deadline.and_then(|deadline| self.longest_waiting(deadline)) {
            self.show(next, now, out);
        }
    }

    fn finish(&mut self, now: Now, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        // Only a display that is stopped early has vertices left.
        let left: Vec<VertexId> = self.vertices.keys().copied().collect();
        let mut text = Vec::new();
        for id in left {
            self.end(id, "CANCELED", now.elapsed, &mut text);
        }
        out.write_all(&text)?;
        for (name, tail) in self.failed.drain(..) {
            let tail = (!tail.lines.is_empty()).then_some(tail);
            write_failure(&name, tail, out)?;
        }
        summary.write_table(out)?;
        summary.write_end(out)?;
        write_warnings(&summary.warnings, out)
    }
}
