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
    /// Ten mistakes make ten messages, with positions, lines and hints: all of them is looked at.
    fn ten_mistakes(world) as [root, subids, plain] {
        world.dockerfile(TEN);
        let output = world.build([]).run().exits(1);
        // Not the progress before them, which has times.
        let (_, messages) = output.stderr.split_once("\n\n").unwrap_or_default();
        insta::assert_snapshot!("ten_mistakes", messages);
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
