//! What is left to say when everything is over.
//!
//! Responsible for keeping each vertex's time, end and layer, and for writing them as a table and
//! in one line. Must not know how the vertices were shown while they ran. Invariant: nothing is
//! summed up after a failure, whose reason is what should be seen last.

use std::io::{self, Write};
use std::time::Duration;

use super::event::{Event, VertexId};
use super::{escape, format};

/// How much of a name the table shows, in columns.
const NAME: usize = 76;

/// How a vertex ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It did its work.
    Done,
    /// Its result came from the cache.
    Cached,
    /// It did not work.
    Failed,
    /// It was given up.
    Cancelled,
}

/// What became of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// As it was shown.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// From its start to its end.
    pub took: Duration,
    /// Bytes of the layer that it made or had, if it has one.
    pub layer: Option<u64>,
}

/// What happened, in numbers and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// In the order of their start.
    pub vertices: Vec<Vertex>,
    /// What the build hands over: names and digests.
    pub results: Vec<String>,
    /// Distinct warnings in the order of their first appearance.
    pub warnings: Vec<String>,
    /// From the start of the display to its end.
    pub elapsed: Duration,
}

impl Summary {
    /// Returns the instructions of a Dockerfile, which alone can be cached and have layers.
    fn steps(&self) -> impl Iterator<Item = &Vertex> {
        let is_step = |v: &&Vertex| v.name.starts_with('[') && !v.name.starts_with("[internal]");
        self.vertices.iter().filter(is_step)
    }

    fn is_good(&self) -> bool {
        let is_good = |v: &Vertex| matches!(v.end, End::Done | End::Cached);
        self.vertices.iter().all(is_good)
    }

    /// Writes each step's time and layer, for a display that has let them scroll by.
    pub(super) fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let work = self.steps().filter(|v| v.end == End::Done).count();
        if !self.is_good() || work == 0 {
            return Ok(());
        }
        writeln!(out, "{:>9} {:>10}  step", "time", "layer")?;
        for step in self.steps() {
            let time = match step.end {
                End::Cached => "CACHED".to_owned(),
                _ => format::seconds(step.took),
            };
            let layer = step.layer.map(format::bytes).unwrap_or_default();
            let name = escape::printable(step.name.as_bytes());
            let (name, _) = escape::cut(&name, NAME);
            writeln!(out, "{time:>9} {layer:>10}  {name}")?;
        }
        Ok(())
    }

    /// Writes what was built, and one line of numbers.
    pub(super) fn write_end(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.is_good() || self.steps().next().is_none() {
            return Ok(());
        }
        let count = |end| self.steps().filter(|step| step.end == end).count();
        let made: Vec<u64> = (self.steps().filter(|step| step.end == End::Done))
            .filter_map(|step| step.layer)
            .collect();
        write!(
            out,
            "{}: {} run, {} cached",
            format::seconds(self.elapsed),
            count(End::Done),
            count(End::Cached)
        )?;
        if !made.is_empty() {
            write!(out, ", {} in new layers", format::bytes(made.iter().sum()))?;
        }
        writeln!(out)?;
        for result in &self.results {
            writeln!(out, "{}", escape::printable(result.as_bytes()))?;
        }
        Ok(())
    }
}

/// Keeps what the summary tells.
#[derive(Debug, Default)]
pub(super) struct Tally {
    started: Vec<Started>,
    results: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Started {
    id: VertexId,
    name: String,
    at: Duration,
    end: Option<(Duration, End)>,
    layer: Option<u64>,
}

impl Tally {
    pub(super) fn count(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Started { vertex, name } => self.started.push(Started {
                id: *vertex,
                name: name.clone(),
                at: now,
                end: None,
                layer: None,
            }),
            Event::Layer { vertex, size } => {
                if let Some(started) = self.running(*vertex) {
                    started.layer = Some(*size);
                }
            }
            Event::Done { vertex } => self.end_of(*vertex, now, End::Done),
            Event::Cached { vertex } => self.end_of(*vertex, now, End::Cached),
            Event::Failed { vertex, .. } => self.end_of(*vertex, now, End::Failed),
            Event::Cancelled { vertex } => self.end_of(*vertex, now, End::Cancelled),
            Event::Warning { message, .. } => {
                if !self.warnings.contains(message) {
                    self.warnings.push(message.clone());
                }
            }
            Event::Result { text } => self.results.push(text.clone()),
            Event::Log { .. } | Event::Status { .. } | Event::Finding { .. } => {}
        }
    }

    /// Finds a vertex that has not ended; it is among the last.
    fn running(&mut self, id: VertexId) -> Option<&mut Started> {
        let mut latest = self.started.iter_mut().rev();
        latest.find(|started| started.id == id && started.end.is_none())
    }

    fn end_of(&mut self, id: VertexId, now: Duration, end: End) {
        if let Some(started) = self.running(id) {
            started.end = Some((now, end));
        }
    }

    /// Sums up; what still runs counts as cancelled.
    pub(super) fn end(self, now: Duration) -> Summary {
        let ended = |started: Started| {
            let (until, end) = started.end.unwrap_or((now, End::Cancelled));
            Vertex {
                name: started.name,
                end,
                took: until.saturating_sub(started.at),
                layer: started.layer,
            }
        };
        Summary {
            vertices: self.started.into_iter().map(ended).collect(),
            results: self.results,
            warnings: self.warnings,
            elapsed: now,
        }
    }
}

/// Writes the warnings once more, after everything else.
pub(super) fn write_warnings(warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    if warnings.is_empty() {
        return Ok(());
    }
    let noun = if warnings.len() == 1 {
        "warning"
    } else {
        "warnings"
    };
    writeln!(out, "\n {} {noun} found:", warnings.len())?;
    for warning in warnings {
        writeln!(out, " - {}", escape::printable(warning.as_bytes()))?;
    }
    Ok(())
}
