//! Progress: events flow from all parts of a build to exactly one renderer.
//!
//! Responsible for choosing a display, running it on a thread of its own, and summing up. Must not
//! know what a build does. Invariant: whatever happens to the place where it is written, the
//! build goes on: errors of writing are dropped, and a slow terminal only slows the steps down.

mod escape;
pub mod event;
mod format;
mod frame;
mod json;
mod lines;
mod log;
mod plain;
mod quiet;
mod summary;
mod tty;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use event::{Event, Sender};
pub use summary::{End, Summary, Vertex};
use summary::{Tally, write_warnings};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// [`Mode::Tty`] on a terminal that can move its cursor, else [`Mode::Plain`].
    #[default]
    Auto,
    /// A list that is redrawn in place.
    Tty,
    /// One line per event.
    Plain,
    /// Nothing, unless a step fails: then its log.
    Quiet,
    /// One JSON object per line, in the shape of BuildKit's `SolveStatus`.
    RawJson,
}

/// Where progress is written, and what is known about that place.
pub struct Output {
    /// What the list on a terminal is headed with: `Building`.
    pub title: &'static str,
    /// Standard error, usually; best without a buffer.
    pub writer: Box<dyn Write + Send>,
    /// Whether it is a terminal that understands cursor movement.
    pub is_terminal: bool,
    /// Whether colours are wanted.
    pub colour: bool,
    /// Asks for the terminal's columns and rows, before each redraw; `None` when unknown.
    pub size: Box<dyn Fn() -> Option<(u16, u16)> + Send>,
    /// A directory on disk for the logs of running steps; nothing stays there.
    pub spool: PathBuf,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("is_terminal", &self.is_terminal)
            .field("colour", &self.colour)
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

/// The moment at which an event is handled.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// Monotonic, since the display was started.
    elapsed: Duration,
    /// For time stamps.
    wall: Timestamp,
}

/// One way of showing events; pure but for spooled logs, so that it can be tested with a clock of
/// the test's own.
trait Display: Send {
    /// Takes an event; may append to `out`.
    fn event(&mut self, event: Event, now: Now, out: &mut Vec<u8>);
    /// Is called about every [`TICK`], whether or not there were events.
    fn tick(&mut self, now: Now, out: &mut Vec<u8>);
    /// Writes what is to be seen last.
    fn finish(&mut self, now: Now, summary: &Summary, out: &mut dyn Write) -> io::Result<()>;
    /// What brings the terminal back to its usual state, should the display end early.
    fn reset(&self) -> &'static [u8] {
        b""
    }
    /// Is called when others have had the terminal in its usual state, and may have written to it.
    fn resume(&mut self) {}
}

/// The longest time without a look at the clock; also the shortest between two redraws.
const TICK: Duration = Duration::from_millis(100);

/// The thread that shows the events.
#[derive(Debug)]
pub struct Renderer {
    thread: Option<JoinHandle<Summary>>,
    stop: Arc<AtomicBool>,
    place: Place,
}

/// The terminal as somebody has to know it who leaves it to others while a display is on it: when the
/// process is stopped, or ends without [`Renderer::join`] or a drop.
#[derive(Debug, Clone)]
pub struct Place {
    reset: &'static [u8],
    left: Arc<Left>,
}

/// Whether the terminal is left to others, and how often it was.
#[derive(Debug, Default)]
struct Left {
    now: AtomicBool,
    times: AtomicUsize,
}

impl Place {
    /// Returns what has to be written to the terminal to bring it back to its usual state; empty when
    /// nothing has to.
    pub fn reset_sequence(&self) -> &'static [u8] {
        self.reset
    }

    /// Keeps the display from drawing until [`Place::resume`].
    pub fn leave(&self) {
        self.left.now.store(true, Ordering::SeqCst);
        self.left.times.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets the display draw again, below what is there now.
    pub fn resume(&self) {
        self.left.now.store(false, Ordering::SeqCst);
    }
}

impl Renderer {
    /// Waits until all senders and vertices are gone and everything is shown.
    ///
    /// The caller drops its own [`Sender`]s first.
    pub fn join(mut self) -> Summary {
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }

    /// Returns what is to be known about the place where it is shown.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Drop for Renderer {
    /// Ends the display even if there are senders left, as in a panic.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Starts the renderer. It is a thread: whatever needs a process with one thread comes before.
///
/// # Errors
/// When no thread can be started.
pub fn start(mode: Mode, out: Output) -> io::Result<(Sender, Renderer)> {
    let (sender, events) = Sender::new();
    let Output {
        title,
        writer,
        is_terminal,
        colour,
        size,
        spool,
    } = out;
    let display: Box<dyn Display> = match mode {
        Mode::Tty => Box::new(tty::Tty::new(title, size, colour, spool)),
        Mode::Auto if is_terminal => Box::new(tty::Tty::new(title, size, colour, spool)),
        Mode::Auto | Mode::Plain => Box::new(plain::Plain::new(colour)),
        Mode::Quiet => Box::new(quiet::Quiet::new(colour, spool)),
        Mode::RawJson => Box::new(json::RawJson::new()),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let place = Place {
        reset: display.reset(),
        left: Arc::default(),
    };
    let driver = Driver {
        display,
        writer,
        begun: Instant::now(),
        stop: Arc::clone(&stop),
        left: Arc::clone(&place.left),
        times: 0,
        finished: false,
    };
    let thread = std::thread::Builder::new()
        .name("progress".into())
        .spawn(move || driver.run(&events))?;
    Ok((
        sender,
        Renderer {
            thread: Some(thread),
            stop,
            place,
        },
    ))
}

/// Reads the events and writes what the display makes of them.
struct Driver {
    display: Box<dyn Display>,
    writer: Box<dyn Write + Send>,
    begun: Instant,
    stop: Arc<AtomicBool>,
    left: Arc<Left>,
    /// How often the terminal had been left to others when the display drew last.
    times: usize,
    finished: bool,
}

impl Driver {
    fn now(&self) -> Now {
        Now {
            elapsed: self.begun.elapsed(),
            wall: Timestamp::now(),
        }
    }

    fn run(mut self, events: &Receiver<Event>) -> Summary {
        /// What is gathered at most before it is written, in bytes.
        const BATCH: usize = 64 * 1024;

        let mut tally = Tally::default();
        let mut out = Vec::new();
        let mut ticked = Instant::now();
        loop {
            let waiting = events.try_recv().ok();
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick(&mut out);
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            if waiting.is_none() || out.len() > BATCH {
                self.write(&mut out);
            }
            let rest = TICK.saturating_sub(ticked.elapsed());
            match waiting.map_or_else(|| events.recv_timeout(rest), Ok) {
                Ok(event) => self.take(event, &mut tally, &mut out),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Only a display that is stopped early has events left.
        for event in events.try_iter() {
            self.take(event, &mut tally, &mut out);
        }
        self.write(&mut out);
        self.finish(tally)
    }

    fn tick(&mut self, out: &mut Vec<u8>) {
        if self.left.now.load(Ordering::SeqCst) {
            return;
        }
        let times = self.left.times.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.times, times) != times {
            self.display.resume();
        }
        self.display.tick(self.now(), out);
    }

    fn take(&mut self, event: Event, tally: &mut Tally, out: &mut Vec<u8>) {
        let now = self.now();
        tally.count(&event, now.elapsed);
        self.display.event(event, now, out);
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            // Nobody may be reading any more; that is no reason to stop the build.
            drop(self.writer.write_all(out));
            drop(self.writer.flush());
            out.clear();
        }
    }

    fn finish(mut self, tally: Tally) -> Summary {
        let now = self.now();
        let summary = tally.end(now.elapsed);
        let mut last = io::BufWriter::new(&mut self.writer);
        drop(self.display.finish(now, &summary, &mut last));
        drop(last.flush());
        drop(last);
        self.finished = true;
        summary
    }
}

impl Drop for Driver {
    /// Also runs when a display panics.
    fn drop(&mut self) {
        let reset = self.display.reset();
        if !self.finished && !reset.is_empty() {
            drop(self.writer.write_all(reset));
            drop(self.writer.flush());
        }
    }
}

/// What is kept of a step's log.
trait Kept {
    fn write_to(self, out: &mut dyn Write) -> io::Result<()>;
}

/// Writes the log of a step that failed, if it said something, between rulers.
fn write_failure(name: &str, log: Option<impl Kept>, out: &mut dyn Write) -> io::Result<()> {
    const RULER: &str = "------";
    let Some(log) = log else { return Ok(()) };
    writeln!(out, "{RULER}\n > {name}:")?;
    log.write_to(out)?;
    writeln!(out, "{RULER}")
}

#[cfg(test)]
mod tests;
