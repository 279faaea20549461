//! The display on a terminal, seen through an emulator of one.

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
        script: Script::new(tty::Tty::new("Building", ask, true, dir.path().into())),
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
         1.3s: 1 run, 1 cached\n\
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
