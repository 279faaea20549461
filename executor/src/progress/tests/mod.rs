//! The displays, fed with events at chosen moments.

mod plain;
mod quiet_mode;
mod raw_json;
mod screen;
mod summaries;
mod terminal;
mod threads;

use std::sync::{Mutex, PoisonError};

use super::event::Stream;
use super::*;

/// Feeds a display and collects what it writes.
struct Script {
    display: Box<dyn Display>,
    out: Vec<u8>,
    now: Duration,
    tally: Tally,
}

impl Script {
    fn new(display: impl Display + 'static) -> Self {
        Self {
            display: Box::new(display),
            out: Vec::new(),
            now: Duration::ZERO,
            tally: Tally::default(),
        }
    }

    fn now(&self) -> Now {
        let epoch: Timestamp = "2024-01-01T00:00:00Z".parse().expect("time");
        Now {
            elapsed: self.now,
            wall: epoch + self.now,
        }
    }

    fn at(&mut self, millis: u64) -> &mut Self {
        self.now = Duration::from_millis(millis);
        let now = self.now();
        self.display.tick(now, &mut self.out);
        self
    }

    fn event(&mut self, event: Event) -> &mut Self {
        let now = self.now();
        self.tally.count(&event, now.elapsed);
        self.display.event(event, now, &mut self.out);
        self
    }

    fn started(&mut self, vertex: u32, name: &str) -> &mut Self {
        let name = name.to_owned();
        self.event(Event::Started { vertex, name })
    }

    fn log(&mut self, vertex: u32, bytes: &[u8]) -> &mut Self {
        self.event(Event::Log {
            vertex,
            stream: Stream::Stdout,
            bytes: bytes.to_vec(),
        })
    }

    fn status(&mut self, vertex: u32, id: &str, current: u64, total: u64) -> &mut Self {
        self.event(Event::Status {
            vertex,
            id: id.into(),
            current,
            total: Some(total),
            complete: current == total,
        })
    }

    fn done(&mut self, vertex: u32) -> &mut Self {
        self.event(Event::Done { vertex })
    }

    fn failed(&mut self, vertex: u32, message: &str) -> &mut Self {
        let message = message.to_owned();
        self.event(Event::Failed { vertex, message })
    }

    fn finish(&mut self, warnings: &[&str]) -> String {
        let now = self.now();
        let summary = Summary {
            warnings: warnings.iter().map(|w| (*w).to_owned()).collect(),
            ..std::mem::take(&mut self.tally).end(now.elapsed)
        };
        let mut last = Vec::new();
        self.display
            .finish(now, &summary, &mut last)
            .expect("writing to memory");
        self.out.extend_from_slice(&last);
        String::from_utf8(std::mem::take(&mut self.out)).expect("text")
    }
}
