//! The renderer as a thread, with real time and real senders.

use super::*;
use crate::error::Error;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn output(writer: impl Write + Send + 'static, is_terminal: bool) -> Output {
    Output {
        title: "Building",
        writer: Box::new(writer),
        is_terminal,
        colour: false,
        size: Box::new(|| None),
        spool: std::env::temp_dir(),
    }
}

#[test]
fn sums_up() {
    let shared = Shared::default();
    let (sender, renderer) = start(Mode::Auto, output(shared.clone(), false)).expect("start");
    assert!(renderer.place().reset_sequence().is_empty());
    sender.start("A").done();
    sender.start("B").cached();
    let vertex = sender.start("C");
    vertex.warn("w");
    vertex.warn("w");
    for _ in 0..10_000 {
        vertex.log(Stream::Stdout, b"line\n");
    }
    vertex.fail(&Error::new("no"));
    drop(sender.start("D"));
    drop(sender);
    let summary = renderer.join();
    let ends: Vec<_> = summary.vertices.iter().map(|v| (&*v.name, v.end)).collect();
    let wanted = [
        ("A", End::Done),
        ("B", End::Cached),
        ("C", End::Failed),
        ("D", End::Cancelled),
    ];
    assert_eq!(ends, wanted);
    assert_eq!(summary.warnings, ["w"]);
    let text = String::from_utf8(shared.0.lock().expect("text").clone()).expect("text");
    let is_line = |l: &&str| l.starts_with("#3 ") && l.ends_with(" line");
    assert_eq!(text.lines().filter(is_line).count(), 10_000);
    assert!(text.contains("#4 CANCELED\n"));
}

#[test]
fn a_closed_output_stops_nothing() {
    let (sender, renderer) = start(Mode::Plain, output(Closed, false)).expect("start");
    for n in 0..2_000 {
        sender.start(format!("{n}")).done();
    }
    drop(sender);
    assert_eq!(renderer.join().vertices.len(), 2_000);
}

#[test]
fn a_dropped_renderer_restores_the_cursor() {
    let shared = Shared::default();
    let (sender, renderer) = start(Mode::Auto, output(shared.clone(), true)).expect("start");
    let vertex = sender.start("A");
    assert_eq!(renderer.place().reset_sequence(), frame::RESET);
    drop(renderer);
    let text = String::from_utf8(shared.0.lock().expect("text").clone()).expect("text");
    assert!(text.ends_with("\x1b[?25h"), "{text:?}");
    // There is nobody to tell any more.
    vertex.done();
}
