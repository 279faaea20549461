//! The plain display.

use super::*;

fn script() -> Script {
    Script::new(crate::progress::plain::Plain::new(false))
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
         #3 DONE 3.2s\n\n\
         \x20    time      layer  step\n\
         \x20  CACHED             [build 1/2] FROM debian\n\
         \x20    3.2s             [build 2/2] RUN make\n\
         3.2s: 1 run, 1 cached\n"
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
fn what_failed_last_said_is_said_again() {
    let mut script = script();
    script.started(0, "RUN make").started(1, "RUN other");
    for n in 1..=30 {
        script.log(0, format!("line {n}\n").as_bytes());
        script.log(1, format!("other {n}\n").as_bytes());
    }
    script.log(0, b"\x1b[31mno end").failed(0, "exit code: 2");
    script.event(Event::Cancelled { vertex: 1 });
    let text = script.finish(&[]);
    let (before, end) = text.split_once("------\n").expect("a ruler");
    assert_eq!(before.matches("#1 0.000 line").count(), 30);
    let lines: String = (22..=30).map(|n| format!("0.000 line {n}\n")).collect();
    assert_eq!(end, format!(" > RUN make:\n{lines}0.000 no end\n------\n"));
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
