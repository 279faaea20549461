//! The quiet display: nothing, unless a step fails.
//!
//! Responsible for keeping the log of each running step and for writing that of one that failed.
//! Must not write anything about work that goes well.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::event::{Event, VertexId};
use super::lines::{Log, Style};
use super::log::Spool;
use super::{Display, Now, Summary, escape, write_failure};

/// See the module.
pub(super) struct Quiet {
    colour: bool,
    spool: PathBuf,
    running: BTreeMap<VertexId, Step>,
    failed: Vec<Step>,
}

struct Step {
    name: String,
    started: Duration,
    lines: Log,
    log: Option<Spool>,
}

impl Quiet {
    pub(super) fn new(colour: bool, spool: PathBuf) -> Self {
        Self {
            colour,
            spool,
            running: BTreeMap::new(),
            failed: Vec::new(),
        }
    }
}

impl Step {
    fn style(&self, now: Now, colour: bool) -> Style<'static> {
        Style {
            prefix: "",
            since: now.elapsed.saturating_sub(self.started),
            colour,
        }
    }
}

impl Display for Quiet {
    fn event(&mut self, event: Event, now: Now, _out: &mut Vec<u8>) {
        match event {
            Event::Started { vertex, name } => {
                let step = Step {
                    name: escape::printable(name.as_bytes()),
                    started: now.elapsed,
                    lines: Log::default(),
                    log: None,
                };
                self.running.insert(vertex, step);
            }
            Event::Log {
                vertex,
                stream,
                bytes,
            } => {
                let Some(step) = self.running.get_mut(&vertex) else {
                    return;
                };
                let style = step.style(now, self.colour);
                let mut text = Vec::new();
                step.lines.push(stream, &bytes, style, &mut text, |_| ());
                let log = step.log.get_or_insert_with(|| Spool::new(&self.spool));
                log.push(&text);
            }
            Event::Failed { vertex, .. } => {
                let Some(mut step) = self.running.remove(&vertex) else {
                    return;
                };
                let style = step.style(now, self.colour);
                let mut text = Vec::new();
                step.lines.flush(style, &mut text, |_| ());
                if let Some(log) = &mut step.log {
                    log.push(&text);
                }
                self.failed.push(step);
            }
            Event::Done { vertex } | Event::Cached { vertex } | Event::Cancelled { vertex } => {
                self.running.remove(&vertex);
            }
            Event::Status { .. }
            | Event::Warning { .. }
            | Event::Layer { .. }
            | Event::Finding { .. }
            | Event::Result { .. } => {}
        }
    }

    fn tick(&mut self, _now: Now, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _now: Now, _summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        for step in self.failed.drain(..) {
            write_failure(&step.name, step.log, out)?;
        }
        Ok(())
    }
}
