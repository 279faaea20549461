//! Mistakes in a Dockerfile: all in one run, each with its place and what to do.

use support::for_users;

/// Ten mistakes of different kinds: of the parser, of words, of stages and of steps.
const TEN: &str = "\
FROM scratch AS 1st
RUM make
FROM scratch AS tools
COPY --chwon=me a /
COPY onlyone
EXPOSE http
FROM scratch
COPY --from=7 /x /
RUN --network=nnoe x
WORKDIR ${HOME
STOPSIGNAL SIGTREM
HEALTHCHECK --interval=5 CMD x
";

for_users! {
    /// Ten mistakes make ten messages with positions.
    fn ten_mistakes(world) as [root, subids, plain] {
        world.dockerfile(TEN);
        let output = world.build([]).run().exits(1);
        let marked = output.stderr.lines().filter(|line| line.starts_with("error: "));
        let messages: Vec<&str> = marked.collect();
        let places: Vec<&str> = output
            .stderr
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--> "))
            .collect();
        let hints = output.stderr.lines().filter(|line| line.contains("= hint: "));
        let hints: Vec<&str> = hints.map(|line| line.trim().trim_start_matches("= hint: ")).collect();
        assert_eq!(
            messages,
            [
                "error: invalid stage name `1st`",
                "error: unknown instruction `RUM`",
                "error: unknown flag `--chwon` for COPY",
                "error: COPY requires at least two arguments",
                "error: invalid port `http`",
                "error: there is no stage number 7",
                "error: invalid network `nnoe`",
                "error: missing `}` in substitution",
                "error: invalid signal `SIGTREM`",
                "error: missing unit in duration `5`",
                "error: invalid Dockerfile",
            ],
            "{}",
            output.all()
        );
        assert_eq!(
            places,
            [
                "Dockerfile:1:17", "Dockerfile:2:1", "Dockerfile:4:6", "Dockerfile:5:1",
                "Dockerfile:6:8", "Dockerfile:8:13", "Dockerfile:9:15", "Dockerfile:10:9",
                "Dockerfile:11:12", "Dockerfile:12:24",
            ]
        );
        for hint in [
            "did you mean `RUN`?",
            "did you mean `--chown`?",
            "the last one is 2",
            "did you mean `none`?",
            "did you mean `SIGTERM`?",
            "write a duration as `30s`, `1m30s` or `500ms`",
        ] {
            assert!(hints.contains(&hint), "{hint}: {hints:?}");
        }
        // Each has its line and a mark below it.
        assert_eq!(output.stderr.lines().filter(|line| line.contains("| ") && line.contains('^')).count(), 10);
    }

    /// A misspelt FROM begins a stage all the same: what follows is not wrong because of it.
    fn one_mistake_is_one_message(world) as [plain] {
        world.dockerfile("FORM scratch AS a\nENV x=y\nFROM a\nCOPY --from=a /x /\nUSER ${x:?}\n");
        let output = world.build([]).run().exits(1).says(&["did you mean `FROM`?"]);
        assert_eq!(output.stderr.matches("error: ").count(), 2, "{}", output.all());
    }

    /// 200 stages in 2,000 lines are planned before anybody notices: far below the time that
    /// starting a quadratic search of them would take.
    fn many_stages(world) as [plain] {
        let mut source = String::from("FROM scratch AS s0\n");
        for stage in 1..200 {
            source.push_str(&format!("FROM s{} AS s{stage}\n", stage - 1));
            for line in 0..9 {
                source.push_str(&format!("COPY --from=s{} /a{line} /b\n", stage - 1));
            }
        }
        world.dockerfile(&source);
        let started = std::time::Instant::now();
        world.build(["--check"]).ok();
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}
