//! The display on a terminal, seen through an emulator of one.

use super::screen::Screen;
use super::*;

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

    /// What happens when somebody pulls at the window's corner.
    fn resize(&mut self, width: u16, height: u16) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = (width, height);
        self.screen.resize(width.into(), height.into());
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
    session.resize(20, 24);
    // As the terminal wraps the rows that are there: 23 and 39 columns over 20.
    assert_eq!(session.screen.text().lines().count(), 4);
    assert_eq!(
        session.look(200),
        "[+] Building 0.2s (\n => [1/1] RUN  0.2s\n"
    );
}

#[test]
fn every_size_shows_one_frame_and_wraps_nothing() {
    let mut session = session(100, 30);
    let digest = "0123456789abcdef".repeat(4);
    session
        .script
        .started(0, "[1/3] FROM debian")
        .event(Event::Cached { vertex: 0 });
    for n in 1..4 {
        session
            .script
            .started(
                n,
                "[2/3] RUN \u{6f22}\u{5b57}\u{6f22}\u{5b57} e\u{301} \u{2764}\u{fe0f}\u{2192}",
            )
            .status(n, &format!("sha256:{digest}"), 1_000_000, 3_000_000)
            .log(n, "\u{2192}\ttab\u{6f22}\n".repeat(5).as_bytes())
            .log(n, "\u{3b1}".repeat(200).as_bytes())
            .log(n, b"\r42%");
    }
    let mut millis = 0;
    for (width, height) in [
        (40, 24),
        (20, 5),
        (100, 30),
        (60, 10),
        (20, 24),
        (40, 5),
        (5, 2),
        (80, 24),
    ] {
        session.resize(width, height);
        for _ in 0..2 {
            millis += 100;
            session.look(millis);
            let screen = &session.screen;
            let seen = screen.visible();
            assert_eq!(screen.wraps, 0, "{width}x{height}\n{seen}");
            assert!(seen.starts_with('['), "{width}x{height}\n{seen}");
            assert_eq!(seen.matches("[+]").count(), 1, "{width}x{height}\n{seen}");
            assert!(screen.autowrap && !screen.collecting);
        }
    }
    session.end(&[]);
    assert_eq!(session.screen.wraps, 0);
    assert!(session.screen.cursor && session.screen.autowrap);
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let mut session = session(60, 24);
    session.script.started(0, "[1/2] RUN first").done(0);
    session.script.started(1, "[2/2] RUN second");
    session.look(1_000);
    let mut written = |millis| {
        session.script.at(millis);
        let frame = String::from_utf8(session.script.out.clone()).expect("text");
        session.show();
        assert!(frame.starts_with("\x1b[?2026h") && frame.ends_with("\x1b[?2026l"));
        (frame.contains("first"), frame.contains("second"))
    };
    assert_eq!(written(1_100), (false, true));
    assert_eq!(written(1_200), (false, true));
    // Whatever was typed meanwhile goes.
    assert_eq!(written(2_000), (true, true));
    assert_eq!(written(2_100), (false, true));
}

#[test]
fn transfers_have_room_for_bars() {
    let part = |width| {
        let mut session = session(width, 24);
        let id = format!("sha256:{}", "0123456789abcdef".repeat(4));
        session
            .script
            .started(0, "FROM debian")
            .status(0, &id, 1_000_000, 3_000_000);
        let text = session.look(1_000);
        text.lines().nth(2).expect("a part").trim().to_owned()
    };
    assert_eq!(
        part(80),
        "=> => sha256:0123456789abcdef01234 [======>             ] 1.00MB / 3.00MB 1.0s"
    );
    assert_eq!(part(50), "=> => sha256:0123456789abcd 1.00MB / 3.00MB 1.0s");
    assert_eq!(part(40), "=> => sha256:0123456789abcdef 33% 1.0s");
    assert_eq!(part(20), "=> => sha 33% 1.0s");
    let mut session = session(20, 24);
    session.script.started(0, "FROM debian");
    session
        .script
        .status(0, "sha256:0123456789", 3_000_000, 3_000_000);
    assert!(session.look(1_000).contains("3.00MB 0.0s"));
}

#[test]
fn many_transfers_leave_room_for_others() {
    let mut session = session(80, 24);
    session.script.started(0, "FROM large");
    for n in 0..60 {
        session.script.status(0, &format!("layer {n}"), 9, 9);
    }
    for n in 60..64 {
        session.script.status(0, &format!("layer {n}"), 3, 9);
    }
    session.script.started(1, "RUN make");
    for n in 1..=6 {
        session.script.log(1, format!("line {n}\n").as_bytes());
    }
    let text = session.look(100);
    assert_eq!(text.lines().count(), 23, "{text}");
    for wanted in [
        "layer 59 ",
        "layer 60 ",
        "layer 63 ",
        "# line 1",
        "# line 6",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    // What is under way is seen before what has ended.
    for n in 0..60 {
        session.script.status(0, &format!("more {n}"), 3, 9);
    }
    let text = session.look(200);
    assert!(
        text.contains("layer 60") && !text.contains("layer 59 "),
        "{text}"
    );
    assert!(text.contains("# line 6"), "{text}");
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
