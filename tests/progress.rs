//! What is seen of a build while it runs.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Terminal, World, base, for_users};

/// The frames of what was written to a terminal, as rows of text.
fn frames(written: &str) -> Vec<Vec<String>> {
    let frames = written.split("\x1b[?2026h").skip(1);
    let frames = frames.map(|frame| frame.split("\x1b[?2026l").next().unwrap_or_default());
    frames
        .map(|frame| frame.lines().map(|row| without_sequences(row).0).collect())
        .collect()
}

/// A row without control sequences, which are returned, too.
fn without_sequences(row: &str) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut sequences = Vec::new();
    let mut rest = row.chars();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            assert!(c == '\r' || !c.is_control(), "{row:?}");
            text.extend((c != '\r').then_some(c));
            continue;
        }
        assert_eq!(rest.next(), Some('['), "{row:?}");
        let mut sequence = String::new();
        for c in rest.by_ref() {
            sequence.push(c);
            if c.is_ascii_alphabetic() {
                break;
            }
        }
        sequences.push(sequence);
    }
    (text, sequences)
}

/// Expects that the terminal is as it was: a cursor, rows that wrap, nothing held back.
fn assert_usual(written: &str) {
    for mode in ["?25", "?7", "?2026"] {
        let [last_on, last_off] = ["h", "l"].map(|end| written.rfind(&format!("\x1b[{mode}{end}")));
        let (usual, other) = match mode {
            "?2026" => (last_off, last_on),
            _ => (last_on, last_off),
        };
        assert!(usual >= other, "{mode} in {written:?}");
    }
}

/// The fields of raw progress; other lines, such as the error's, are left out.
fn fields(printed: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in printed.lines().filter(|line| line.starts_with('{')) {
        let object: Value = serde_json::from_str(line).expect("a JSON object");
        for (list, elements) in object.as_object().expect("an object") {
            let elements = elements.as_array().expect("a list");
            assert_eq!(elements.len(), 1, "{line}");
            let element = elements[0].as_object().expect("an object");
            found.extend(element.keys().map(|field| format!("{list}[].{field}")));
        }
    }
    found
}

/// Stages that say a lot, at the same time, and nothing that a terminal should see.
fn noisy(world: &World, base: &str) {
    world.dockerfile(&format!(
        "FROM {base} AS one\n\
         RUN for i in 1 2 3 4 5 6 7 8; do \
             printf '\\033]0;title\\007\\033[31m\\033[5A\\346\\274\\242\\345\\255\\227 %s\\t\\233x\\n' $i; sleep 0.2; done\n\
         FROM {base} AS two\n\
         RUN echo ready; for i in 1 2 3 4 5 6 7 8; do printf '%s0%%\\r' $i; sleep 0.2; done; \
             printf 'a row that is longer than the terminal is wide, and has no end'\n\
         FROM {base}\n\
         COPY --from=one /bin/sh /one\n\
         COPY --from=two /bin/sh /two\n"
    ));
}

for_users! {
    fn rows_fit(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        noisy(world, &base);
        let mut terminal = Terminal::open(40, 24);
        let settings = terminal.settings();
        let mut build = world.sandcrab(["build", "ctx"]).spawn_on(&mut terminal);
        build.wait_for("# ready");
        terminal.resize(20, 5);
        let written = build.wait().success().stderr;
        let frames = frames(&written);
        // Characters count for two columns where they are wide.
        let width = |row: &String| row.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
        let mut low = 0;
        for frame in &frames {
            let widest = frame.iter().map(width).max().unwrap_or(0);
            assert!(widest < 40, "{frame:#?}");
            assert!(frame.len() <= 24, "{frame:#?}");
            low += usize::from(widest < 20 && frame.len() <= 5);
        }
        assert!(low > 0, "{frames:#?}");
        assert!(written.contains("4 run, 3 cached"), "{written:?}");
        assert_usual(&written);
        assert_eq!(terminal.settings(), settings);
    }

    fn interrupted_terminal(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo ready; sleep 600.25\n"));
        let mut terminal = Terminal::open(80, 24);
        let settings = terminal.settings();
        let mut build = world.sandcrab(["build", "ctx"]).spawn_on(&mut terminal);
        build.wait_for("# ready");
        build.signal_group(Signal::INT);
        let written = build.wait().exits(130).stderr;
        assert!(written.contains("CANCELED [2/2] RUN"), "{written:?}");
        let (last, _) = without_sequences(written.lines().last().unwrap_or_default());
        assert_eq!(last, "error: interrupted");
        assert_usual(&written);
        assert_eq!(terminal.settings(), settings);
        world.assert_nothing_left("sleep 600.25");
    }

    fn stopped_terminal(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo ready; sleep 3\n"));
        let mut terminal = Terminal::open(80, 24);
        let mut build = world.sandcrab(["build", "ctx"]).spawn_on(&mut terminal);
        build.wait_for("# ready");
        // As Ctrl-Z does, and `fg`.
        build.signal_group(Signal::TSTP);
        // The shell may use the terminal when the process has stopped.
        build.wait_for("\x1b[?25h");
        let stat = format!("/proc/{}/stat", build.pid());
        let is_stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
        while !is_stopped() {
            assert!(build.is_running());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        build.signal_group(Signal::CONT);
        let written = build.wait().success().stderr;
        let (before, after) = written.split_once("\x1b[?25h").expect("a usual terminal");
        assert_usual(&format!("{before}\x1b[?25h"));
        // Nothing above the new list is touched.
        let (_, after) = after.split_once("\x1b[?2026h\x1b[?25l\r").expect("a frame");
        assert!(!after.starts_with("\x1b["), "{after:?}");
        assert!(after.contains("FINISHED"), "{after:?}");
        assert_usual(&written);
    }

    fn failed_step_is_seen_last(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base} AS good\nRUN i=0; while [ $i -lt 99 ]; do echo good; sleep 0.01; i=$((i+1)); done\n\
             FROM {base} AS bad\nRUN echo wrong; printf '\\033[1mno end' >&2; exit 3\n\
             FROM {base}\nCOPY --from=good /bin/sh /a\nCOPY --from=bad /bin/sh /b\n"
        ));
        for mode in ["plain", "quiet", "tty"] {
            let progress = format!("--progress={mode}");
            let said = world.sandcrab(["build", &progress, "ctx"]).run().exits(3).stderr;
            let (_, report) = said.split_once("------\n > [bad 2/2] RUN echo wrong").expect("a report");
            let (log, reason) = report.split_once("------\n").expect("an end of the log");
            let lines: Vec<&str> = log.lines().skip(1).filter_map(|l| l.split_once(' ')).map(|l| l.1).collect();
            assert!(lines == ["wrong", "no end"] || lines == ["no end", "wrong"], "{said:?}");
            assert!(!reason.contains("good\n") && reason.contains("exit code: 3"), "{said:?}");
        }
        // A command of several lines is told in one.
        world.dockerfile(&format!("FROM {base}\nRUN <<EOF\n{{ echo \"a\"; }}\n{{ exit 4; }}\nEOF\n"));
        let said = world.sandcrab(["build", "--progress=rawjson", "ctx"]).run().exits(4).stderr;
        let last = said.lines().last().expect("a reason");
        let wanted = r#"error: process "/bin/sh -c { echo \"a\"; }\n{ exit 4; }\n" did not complete"#;
        assert!(last.starts_with(wanted), "{last}");
        fields(&said);
    }

    fn raw_json_is_documented(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN echo out; echo err >&2\nCMD echo\n"));
        let build = |arguments: &[&str]| {
            let all = ["build", "--progress=rawjson"].iter().chain(arguments);
            world.sandcrab(all.copied()).arg("ctx").env("BUILDX_METADATA_WARNINGS", "1")
        };
        let mut printed = build(&["--metadata-file=meta", "-o", "type=oci,dest=o"]).ok().stderr;
        printed.push_str(&build(&[]).ok().stderr);
        let found = fields(&printed);
        // The same warning as a file has it.
        let meta = std::fs::read_to_string(world.path("meta")).expect("metadata");
        let meta: Value = serde_json::from_str(&meta).expect("JSON");
        let warning = &meta["buildx.build.warnings"][0];
        assert_eq!(warning["range"], json!([{"start": {"line": 3}, "end": {"line": 3}}]));
        assert!(printed.contains(warning["short"].as_str().expect("text")));
        let plain = build(&["--metadata-file=meta"]).env("BUILDX_METADATA_WARNINGS", "0").ok();
        assert!(fields(&plain.stderr).contains("warnings[].url"));
        let meta = std::fs::read_to_string(world.path("meta")).expect("metadata");
        assert!(!meta.contains("buildx.build.warnings"));

        world.dockerfile(&format!("FROM {base}\nRUN false\n"));
        printed.push_str(&build(&["--build-arg=NOBODY=1"]).run().exits(1).stderr);
        let error = printed.lines().find(|line| line.contains(r#""error":"process"#));
        assert!(error.is_some(), "{printed}");
        let mut found: BTreeSet<String> = found.into_iter().chain(fields(&printed)).collect();
        // A warning of a step, which none here has.
        found.insert("warnings[].vertex".to_owned());
        let documented: BTreeSet<String> = include_str!("../README.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|row| row.split(" |").next().unwrap_or_default().split(", "))
            .map(|name| name.trim_matches('`').to_owned())
            .filter(|name| name.contains("[]."))
            .collect();
        assert_eq!(found, documented);
    }

    fn output_is_whole(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let count = 4;
        let mut text = String::new();
        for n in 0..count {
            text.push_str(&format!(
                "FROM {base} AS s{n}\n\
                 RUN i=0; while [ $i -lt 500 ]; do echo out{n} $i; echo err{n} $i >&2; i=$((i+1)); done; \
                 head -c 3000000 /dev/zero | tr '\\0' {n}; echo; printf '\\377\\233\\303\\244\\n'; printf end{n}\n"
            ));
        }
        text.push_str(&format!("FROM {base}\n"));
        for n in 0..count {
            text.push_str(&format!("COPY --from=s{n} /bin/sh /s{n}\n"));
        }
        world.dockerfile(&text);
        let said = world.build([]).ok().stderr;
        for step in support::progress::steps(&said).iter().filter(|s| s.name.contains("RUN")) {
            let n = step.name.split("out").nth(1).and_then(|rest| rest.get(..1)).expect("a number");
            let lines = |start: &str| -> Vec<&str> {
                step.lines.iter().filter_map(|l| l.strip_prefix(start)).collect()
            };
            let numbers: Vec<String> = (0..500).map(|i| i.to_string()).collect();
            assert_eq!(lines(&format!("out{n} ")), numbers);
            assert_eq!(lines(&format!("err{n} ")), numbers);
            assert!(lines(&n.repeat(100)).iter().all(|l| l.chars().all(|c| n.contains(c))));
            let long: usize = lines(&n.repeat(100)).iter().map(|l| l.len() + 100).sum();
            assert_eq!(long, 3_000_000);
            assert!(step.lines.iter().any(|l| l == "\u{fffd}\u{fffd}\u{e4}"));
            assert_eq!(step.lines.last().map(String::as_str), Some(&*format!("end{n}")));
        }
    }
}
