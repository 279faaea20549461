//! The displays, fed with events at chosen moments.

use std::sync::{Mutex, PoisonError};

use super::event::Stream;
use super::*;

/// Feeds a display and collects what it writes.
struct Script {
    display: Box<dyn Display>,
    out: Vec<u8>,
    now: Duration,
}

impl Script {
    fn new(display: impl Display + 'static) -> Self {
        Self {
            display: Box::new(display),
            out: Vec::new(),
            now: Duration::ZERO,
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
        let warnings: Vec<String> = warnings.iter().map(|w| (*w).to_owned()).collect();
        let now = self.now();
        let mut last = Vec::new();
        self.display
            .finish(now, &warnings, &mut last)
            .expect("writing to memory");
        self.out.extend_from_slice(&last);
        String::from_utf8(std::mem::take(&mut self.out)).expect("text")
    }
}

mod plain_lines {
    use super::*;

    fn script() -> Script {
        Script::new(plain::Plain::new(false))
    }

    #[test]
    fn one_after_the_other() {
        let text = script()
            .started(7, "[internal] load build definition")
            .at(20)
            .status(7, "transferring dockerfile", 32, 32)
            .done(7)
            .started(8, "[build 1/2] FROM debian")
            .event(Event::Cached { vertex: 8 })
            .started(9, "[build 2/2] RUN make")
            .at(143)
            .log(9, b"one\ntwo")
            .at(3_220)
            .done(9)
            .finish(&[]);
        assert_eq!(
            text,
            "#1 [internal] load build definition\n\
             #1 transferring dockerfile 32B / 32B done\n\
             #1 DONE 0.0s\n\n\
             #2 [build 1/2] FROM debian\n\
             #2 CACHED\n\n\
             #3 [build 2/2] RUN make\n\
             #3 0.123 one\n\
             #3 3.200 two\n\
             #3 DONE 3.2s\n\n"
        );
    }

    #[test]
    fn bad_ends() {
        let text = script()
            .started(0, "RUN false")
            .event(Event::Warning {
                vertex: 0,
                message: "old syntax".into(),
            })
            .failed(0, "exit code: 1")
            .started(1, "RUN true")
            .event(Event::Cancelled { vertex: 1 })
            .finish(&["old syntax"]);
        assert_eq!(
            text,
            "#1 RUN false\n#1 WARN: old syntax\n#1 ERROR: exit code: 1\n\n\
             #2 RUN true\n#2 CANCELED\n\n\n 1 warning found:\n - old syntax\n"
        );
    }

    #[test]
    fn a_transfer_is_thinned() {
        let text = script()
            .started(0, "pull")
            .status(0, "sha256:12", 0, 30_000_000)
            .at(1_000)
            .status(0, "sha256:12", 1_000_000, 30_000_000)
            .at(5_000)
            .status(0, "sha256:12", 12_100_000, 30_000_000)
            .at(6_000)
            .status(0, "sha256:12", 30_000_000, 30_000_000)
            .done(0)
            .finish(&[]);
        assert_eq!(
            text,
            "#1 pull\n\
             #1 sha256:12 0B / 30.00MB\n\
             #1 sha256:12 12.10MB / 30.00MB 5.0s\n\
             #1 sha256:12 30.00MB / 30.00MB 6.0s done\n\
             #1 DONE 6.0s\n\n"
        );
    }

    #[test]
    fn two_at_once_take_turns() {
        let mut script = script();
        script
            .started(0, "A")
            .started(1, "B")
            .log(0, b"a1\n")
            .log(1, b"b1\n");
        assert_eq!(script.out, b"#1 A\n#1 0.000 a1\n");
        // A keeps speaking, so that B waits for its turn.
        for half in 1..10 {
            script.at(half * 500).log(0, b"a\n");
        }
        script.at(4_999).log(0, b"a\n").at(5_000);
        let text = String::from_utf8(std::mem::take(&mut script.out)).expect("text");
        assert!(
            text.ends_with("#1 4.999 a\n#1 ...\n\n#2 B\n#2 0.000 b1\n"),
            "{text}"
        );
        let text = script.log(0, b"a2\n").done(1).done(0).finish(&[]);
        assert_eq!(text, "#2 DONE 5.0s\n\n#1 A\n#1 5.000 a2\n#1 DONE 5.0s\n\n");
    }

    #[test]
    fn one_that_ends_is_shown_at_once_and_the_silent_give_way() {
        let mut script = script();
        script
            .started(0, "A")
            .started(1, "B")
            .log(1, b"b1\n")
            .done(1);
        assert_eq!(
            script.out,
            b"#1 A\n#1 ...\n\n#2 B\n#2 0.000 b1\n#2 DONE 0.0s\n\n"
        );
        script.out.clear();
        script.started(2, "C").log(0, b"a1\n");
        assert_eq!(script.out, b"#3 C\n");
        script.at(1_000);
        assert_eq!(script.out, b"#3 C\n#3 ...\n\n#1 A\n#1 0.000 a1\n");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut script = script();
        script.started(0, "A").started(1, "B");
        let line = [&[b'x'; 1000][..], b"\n"].concat();
        for _ in 0..2_000 {
            script.log(0, b"a\n").log(1, &line);
        }
        let lines = script.out.split(|b| *b == b'\n').count();
        assert!(lines > 2_000, "{lines} lines were written");
        let text = script.done(0).done(1).finish(&[]);
        assert_eq!(text.matches(&"x".repeat(1000)).count(), 2_000);
    }

    #[test]
    fn carriage_returns_are_folded() {
        let mut script = script();
        script.started(0, "A");
        for second in 0..11 {
            script
                .at(second * 1_000)
                .log(0, format!("{second}\r").as_bytes());
        }
        let text = script.log(0, b"\nend\r\n").done(0).finish(&[]);
        assert_eq!(
            text,
            "#1 A\n#1 5.000 4\n#1 10.00 9\n#1 10.00 10\n#1 10.00 end\n#1 DONE 10.0s\n\n"
        );
    }

    #[test]
    fn bytes_pass_and_escapes_do_not() {
        let mut script = script();
        script.started(0, "A").log(0, b"\xff\x1b[31mred\x1b[2J\n");
        assert_eq!(script.out, b"#1 A\n#1 0.000 \xffred\n");
    }

    #[test]
    fn streams_are_not_mixed_within_a_line() {
        let mut script = script();
        script.started(0, "A").log(0, b"out");
        script.event(Event::Log {
            vertex: 0,
            stream: Stream::Stderr,
            bytes: b"err\n".to_vec(),
        });
        let text = script.log(0, b"put\n").done(0).finish(&[]);
        assert_eq!(
            text,
            "#1 A\n#1 0.000 err\n#1 0.000 output\n#1 DONE 0.0s\n\n"
        );
    }
}

mod raw_json {
    use super::*;

    #[test]
    fn objects_have_buildkits_shape() {
        let text = Script::new(json::RawJson::new())
            .started(3, "[1/1] RUN x")
            .at(1_000)
            .log(3, b"\xffhi")
            .status(3, "blob", 5, 10)
            .at(2_000)
            .status(3, "blob", 10, 10)
            .event(Event::Warning {
                vertex: 3,
                message: "w".into(),
            })
            .at(2_500)
            .failed(3, "exit code: 2")
            .finish(&["w"]);
        let digest = crate::image::digest::Digest::of(b"3 [1/1] RUN x");
        let started = "2024-01-01T00:00:00Z";
        let wanted = [
            serde_json::json!({"vertexes": [
                {"digest": digest, "name": "[1/1] RUN x", "started": started}]}),
            serde_json::json!({"logs": [
                {"vertex": digest, "stream": 1, "data": "/2hp", "timestamp": "2024-01-01T00:00:01Z"}]}),
            serde_json::json!({"statuses": [
                {"id": "blob", "vertex": digest, "total": 10, "current": 5,
                 "timestamp": "2024-01-01T00:00:01Z", "started": "2024-01-01T00:00:01Z"}]}),
            serde_json::json!({"statuses": [
                {"id": "blob", "vertex": digest, "total": 10, "current": 10,
                 "timestamp": "2024-01-01T00:00:02Z", "started": "2024-01-01T00:00:01Z",
                 "completed": "2024-01-01T00:00:02Z"}]}),
            serde_json::json!({"warnings": [{"vertex": digest, "level": 1, "short": "dw=="}]}),
            serde_json::json!({"vertexes": [
                {"digest": digest, "name": "[1/1] RUN x", "started": started,
                 "completed": "2024-01-01T00:00:02.5Z", "error": "exit code: 2"}]}),
        ];
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object"))
            .collect();
        assert_eq!(lines, wanted);
    }
}

mod quiet_mode {
    use super::*;

    #[test]
    fn only_failures_are_seen() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let text = Script::new(quiet::Quiet::new(false, dir.path().into()))
            .started(0, "RUN good")
            .log(0, b"fine\n")
            .done(0)
            .started(1, "RUN bad")
            .log(1, b"oh\nno")
            .failed(1, "exit code: 1")
            .finish(&["not shown"]);
        assert_eq!(text, "------\n > RUN bad:\n0.000 oh\n0.000 no\n------\n");
    }
}

mod terminal {
    use super::*;

    /// A terminal that understands what the display may send, and nothing else.
    struct Screen {
        width: usize,
        rows: Vec<Vec<char>>,
        row: usize,
        column: usize,
        cursor: bool,
        /// Rows that scrolled out at the top: the cursor can't go there.
        top: usize,
        height: usize,
    }

    impl Screen {
        fn new(width: usize, height: usize) -> Self {
            Self {
                width,
                rows: vec![Vec::new()],
                row: 0,
                column: 0,
                cursor: true,
                top: 0,
                height,
            }
        }

        fn feed(&mut self, text: &str) {
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
                    '\n' => {
                        self.row += 1;
                        self.column = 0;
                        if self.rows.len() == self.row {
                            self.rows.push(Vec::new());
                        }
                        self.top = self.top.max((self.row + 1).saturating_sub(self.height));
                    }
                    c => {
                        assert!(!c.is_control(), "{c:?}");
                        assert!(self.column < self.width - 1, "a row is too wide");
                        let row = &mut self.rows[self.row];
                        row.resize(row.len().max(self.column + 1), ' ');
                        row[self.column] = c;
                        self.column += 1;
                    }
                }
            }
        }

        fn control(&mut self, parameters: &str, end: &str) {
            match (parameters, end) {
                ("?25l", _) | ("?25", "l") => self.cursor = false,
                ("?25", "h") => self.cursor = true,
                (n, "A") => {
                    let n: usize = n.parse().expect("a number");
                    assert!(
                        self.row >= self.top + n,
                        "the cursor would leave the screen"
                    );
                    self.row -= n;
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

        fn text(&self) -> String {
            let rows: Vec<String> = self
                .rows
                .iter()
                .map(|row| row.iter().collect::<String>().trim_end().to_owned())
                .collect();
            rows.join("\n")
        }
    }

    struct Session {
        script: Script,
        screen: Screen,
        size: Arc<Mutex<(u16, u16)>>,
        _dir: tempfile::TempDir,
    }

    fn session(width: u16, height: u16) -> Session {
        let dir = tempfile::tempdir().expect("temporary directory");
        let size = Arc::new(Mutex::new((width, height)));
        let asked = Arc::clone(&size);
        let ask = Box::new(move || Some(*asked.lock().unwrap_or_else(PoisonError::into_inner)));
        Session {
            script: Script::new(tty::Tty::new(ask, true, dir.path().into())),
            screen: Screen::new(width.into(), height.into()),
            size,
            _dir: dir,
        }
    }

    impl Session {
        fn look(&mut self, millis: u64) -> String {
            self.script.at(millis);
            self.show()
        }

        fn show(&mut self) -> String {
            let text = String::from_utf8(std::mem::take(&mut self.script.out)).expect("text");
            self.screen.feed(&text);
            self.screen.text()
        }

        fn end(&mut self, warnings: &[&str]) -> String {
            let text = self.script.finish(warnings);
            self.screen.feed(&text);
            self.screen.text()
        }
    }

    #[test]
    fn shows_steps_parts_and_the_log_window() {
        let mut session = session(40, 24);
        session
            .script
            .started(0, "[1/2] FROM debian")
            .event(Event::Cached { vertex: 0 })
            .started(1, "[2/2] RUN make")
            .status(1, "sha256:12", 1_000_000, 3_000_000);
        for n in 1..=8 {
            session.script.log(1, format!("line {n}\n").as_bytes());
        }
        session.script.log(1, b"part");
        assert_eq!(
            session.look(1_200),
            "[+] Building 1.2s (1/2)\n\
             \x20=> CACHED [1/2] FROM debian       0.0s\n\
             \x20=> [2/2] RUN make                 1.2s\n\
             \x20=> => sha256:12 1.00MB / 3.00MB   1.2s\n\
             \x20=> => # line 4\n\
             \x20=> => # line 5\n\
             \x20=> => # line 6\n\
             \x20=> => # line 7\n\
             \x20=> => # line 8\n\
             \x20=> => # part\n"
        );
        assert!(!session.screen.cursor);
        session.script.status(1, "sha256:12", 3_000_000, 3_000_000);
        assert!(session.look(1_300).contains("3.00MB / 3.00MB   1.2s"));
        session.script.done(1);
        assert_eq!(
            session.end(&["careful"]),
            "[+] Building 1.3s (2/2) FINISHED\n\
             \x20=> CACHED [1/2] FROM debian       0.0s\n\
             \x20=> [2/2] RUN make                 1.3s\n\
             \x20=> => sha256:12 3.00MB / 3.00MB   1.2s\n\
             \n\
             \x201 warning found:\n\
             \x20- careful\n"
        );
        assert!(session.screen.cursor);
    }

    #[test]
    fn a_failed_step_shows_its_whole_log() {
        let mut session = session(60, 10);
        session.script.started(0, "RUN make");
        for n in 1..=20 {
            session.script.log(0, format!("line {n}\n").as_bytes());
        }
        session.look(100);
        session
            .script
            .log(0, b"\x1b[31mlast\x1b[5A")
            .failed(0, "exit code: 2");
        let text = session.end(&[]);
        assert!(text.contains(" => ERROR RUN make"), "{text}");
        assert!(text.contains("------\n > RUN make:\n0.000 line 1\n0.000 line 2\n"));
        assert!(
            text.ends_with("0.000 line 20\n0.100 last\n------\n"),
            "{text}"
        );
    }

    #[test]
    fn what_runs_is_seen_on_a_low_terminal() {
        let mut session = session(30, 6);
        for n in 0..10 {
            session.script.started(n, &format!("old {n}")).done(n);
        }
        for n in 10..13 {
            session.script.started(n, &format!("run {n}"));
            session.script.log(n, b"a\nb\nc\n");
        }
        let names = |text: &str| -> Vec<String> {
            text.lines()
                .map(|l| l[..l.len().min(10)].trim_end().to_owned())
                .collect()
        };
        assert_eq!(
            names(&session.look(100)),
            [
                "[+] Buildi",
                " => old 9",
                " => run 10",
                " => run 11",
                " => run 12"
            ]
        );
        session.script.done(10).done(11);
        assert_eq!(
            names(&session.look(200)),
            [
                "[+] Buildi",
                " => run 12",
                " => => # a",
                " => => # b",
                " => => # c"
            ]
        );
        for n in 13..30 {
            session.script.started(n, &format!("run {n}"));
        }
        assert_eq!(session.look(300).lines().count(), 5);
        let all = session.end(&[]);
        assert_eq!(all.matches("CANCELED").count(), 18);
    }

    #[test]
    fn a_narrower_terminal_leaves_nothing_behind() {
        let mut session = session(40, 24);
        session
            .script
            .started(0, "[1/1] RUN make everything and all");
        session.look(100);
        // The terminal wraps the rows that are there: 23 and 39 columns over 20.
        *session.size.lock().expect("size") = (20, 24);
        session.screen = Screen::new(20, 24);
        session.screen.rows = vec![
            vec!['x'; 20],
            vec!['x'; 3],
            vec!['x'; 20],
            vec!['x'; 19],
            vec![],
        ];
        session.screen.row = 4;
        assert_eq!(
            session.look(200),
            "[+] Building 0.2s (\n => [1/1] RUN  0.2s\n"
        );
    }

    #[test]
    fn nothing_dangerous_reaches_the_terminal() {
        let mut session = session(30, 10);
        session
            .script
            .started(0, "RUN \x1b[2J\u{9b}5Aevil\r\n")
            .status(0, "\x1b]0;title\x07id", 1, 2)
            .log(0, b"\x1b[10A\x1b[?25h\x1b]0;x\x07text\x9b\n");
        let text = session.look(100);
        assert!(text.contains(" => RUN 5Aevil"), "{text}");
        assert!(text.contains(" => => id 1B / 2B"), "{text}");
        assert!(text.contains(" => => # text\u{fffd}"), "{text}");
    }
}

mod threads {
    use super::*;

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
        assert!(renderer.reset_sequence().is_empty());
        sender.start("A").done();
        sender.start("B").cached();
        let vertex = sender.start("C");
        vertex.warn("w");
        vertex.warn("w");
        for _ in 0..10_000 {
            vertex.log(Stream::Stdout, b"line\n");
        }
        vertex.fail("no");
        drop(sender.start("D"));
        drop(sender);
        let summary = renderer.join();
        assert_eq!((summary.done, summary.cached), (1, 1));
        assert_eq!(summary.failed, ["C"]);
        assert_eq!(summary.warnings, ["w"]);
        let text = String::from_utf8(shared.0.lock().expect("text").clone()).expect("text");
        assert_eq!(
            text.lines().filter(|l| l.ends_with(" line")).count(),
            10_000
        );
        assert!(text.contains("#4 CANCELED\n"));
    }

    #[test]
    fn a_closed_output_stops_nothing() {
        let (sender, renderer) = start(Mode::Plain, output(Closed, false)).expect("start");
        for n in 0..2_000 {
            sender.start(format!("{n}")).done();
        }
        drop(sender);
        assert_eq!(renderer.join().done, 2_000);
    }

    #[test]
    fn a_dropped_renderer_restores_the_cursor() {
        let shared = Shared::default();
        let (sender, renderer) = start(Mode::Auto, output(shared.clone(), true)).expect("start");
        let vertex = sender.start("A");
        assert_eq!(renderer.reset_sequence(), b"\x1b[?25h");
        drop(renderer);
        let text = String::from_utf8(shared.0.lock().expect("text").clone()).expect("text");
        assert!(text.ends_with("\x1b[?25h"), "{text:?}");
        // There is nobody to tell any more.
        vertex.done();
    }
}
