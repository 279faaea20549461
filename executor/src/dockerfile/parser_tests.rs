//! Files as a whole: order, errors all at once, and inputs that are no Dockerfile.

use proptest::prelude::*;

use super::super::ast::Kind;
use super::*;
use crate::diagnostics::render;

fn errors(source: &str) -> String {
    let found = parse(source.as_bytes()).expect_err(source);
    render(&found, "Dockerfile", source.as_bytes(), false, 100)
}

#[test]
fn reads_stages_and_globals() {
    let source = "\u{feff}# syntax=docker/dockerfile:1\r\nARG v=12\r\nFROM --platform=linux/amd64 \
                  debian:$v AS Build\r\nRUN a && \\\r\n    b\r\n\r\nFROM scratch\r\nCOPY --from=build /x /\r\n";
    let file = parse(source.as_bytes()).expect("valid");
    assert_eq!(file.globals.len(), 1);
    assert_eq!(file.stages.len(), 2);
    let build = &file.stages[0];
    assert_eq!(build.base, "debian:$v");
    assert_eq!(build.name.as_deref(), Some("build"));
    assert_eq!(
        build.platform.as_ref().map(Text::as_str),
        Some("linux/amd64")
    );
    assert_eq!(build.instructions[0].text, "RUN a &&     b");
    assert_eq!(
        &source[build.instructions[0].span.clone()],
        "RUN a && \\\r\n    b"
    );
    assert!(matches!(file.stages[1].instructions[0].kind, Kind::Copy(_)));
}

#[test]
fn reports_every_error_with_its_place() {
    let text = errors(
        "FROM debian AS 9\nRUM make\nCOPY --chwon=me \\\n  a /\nRUN --network=nnoe x\nEXPOSE 80 http\n",
    );
    insta::assert_snapshot!(text, @r"
    error: invalid stage name `9`
     --> Dockerfile:1:16
      |
    1 | FROM debian AS 9
      |                ^
      |
      = hint: a name begins with a letter, then has letters, digits, `-`, `_` and `.`

    error: unknown instruction `RUM`
     --> Dockerfile:2:1
      |
    2 | RUM make
      | ^^^
      |
      = hint: did you mean `RUN`?

    error: unknown flag `--chwon` for COPY
     --> Dockerfile:3:6
      |
    3 | COPY --chwon=me \
      |      ^^^^^^^
      |
      = hint: did you mean `--chown`?

    error: invalid network `nnoe`
     --> Dockerfile:5:15
      |
    5 | RUN --network=nnoe x
      |               ^^^^
      |
      = hint: did you mean `none`?

    error: invalid port `http`
     --> Dockerfile:6:11
      |
    6 | EXPOSE 80 http
      |           ^^^^
    ");
}

#[test]
fn needs_a_stage() {
    assert_eq!(errors(""), "error: the Dockerfile is empty\n");
    assert_eq!(errors("# only this\n"), "error: the Dockerfile is empty\n");
    insta::assert_snapshot!(errors("ARG a\n"), @r"
    error: the Dockerfile has no stage to build
     |
     = hint: begin it with FROM
    ");
    insta::assert_snapshot!(errors("RUN a\nRUN b\nFROM c\n"), @r"
    error: RUN comes before the first FROM
     --> Dockerfile:1:1
      |
    1 | RUN a
      | ^^^
      |
      = hint: only ARG may come before FROM
    ");
}

#[test]
fn goes_on_after_a_heredoc() {
    let text = errors("FROM a\nRUN <<EOF\nFROM nowhere\nEOF\nRNU x\n");
    insta::assert_snapshot!(text, @r"
    error: unknown instruction `RNU`
     --> Dockerfile:5:1
      |
    5 | RNU x
      | ^^^
      |
      = hint: did you mean `RUN`?
    ");
    let found = parse(b"FROM a\nRUN <<EOF\nx").expect_err("not ended");
    assert!(found.iter().any(|d| d.message.contains("not ended")));
}

#[test]
fn the_escape_directive_holds() {
    let file = parse(b"# escape=`\nFROM a\nRUN b `\n  c\nCOPY x\\ y\\\n").expect("valid");
    assert_eq!(file.escape, '`');
    assert_eq!(file.stages[0].instructions[0].text, "RUN b   c");
    let Kind::Copy(copy) = &file.stages[0].instructions[1].kind else {
        panic!("not COPY");
    };
    assert_eq!(copy.dest, "y\\");
}

#[test]
fn triggers_take_the_place_of_the_from() {
    let trigger = parse_trigger("COPY a /b/", 3..9).expect("valid");
    assert_eq!(trigger.span, 3..9);
    let Kind::Copy(copy) = trigger.kind else {
        panic!("not COPY");
    };
    assert_eq!(copy.sources[0].word().span(), 3..9);
    for text in [
        "",
        "FROM x",
        "RUN a\nRUN b",
        "RUN --mount y",
        "NOPE",
        "RUN <<X",
    ] {
        assert!(parse_trigger(text, 0..1).is_err(), "{text:?}");
    }
}

#[test]
fn a_flood_of_errors_is_cut() {
    let source = "x\n".repeat(100_000);
    let found = parse(source.as_bytes()).expect_err("no Dockerfile");
    assert_eq!(found.len(), MOST_ERRORS + 1);
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let spans: Vec<_> = match parse(bytes) {
        Ok(file) => file
            .stages
            .iter()
            .flat_map(|s| s.instructions.iter().map(|i| i.span.clone()))
            .chain(file.warnings.iter().map(|w| w.span.clone()))
            .collect(),
        Err(found) => {
            prop_assert!(!found.is_empty());
            prop_assert!(!render(&found, "f", bytes, false, 80).is_empty());
            found.into_iter().map(|d| d.span).collect()
        }
    };
    for span in spans {
        prop_assert!(
            span.start <= span.end && span.end <= bytes.len(),
            "{span:?}"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn nearly_dockerfiles(lines in proptest::collection::vec(
        (
            "(# ?|#escape=|#check=|)(FROM|ARG|RUN|COPY|ADD|ENV|LABEL|CMD|ENTRYPOINT|EXPOSE|ONBUILD RUN|\
             VOLUME|USER|WORKDIR|SHELL|STOPSIGNAL|HEALTHCHECK|HEALTHCHECK CMD|MAINTAINER|X)",
            "[ \t]{0,2}(--[a-z]{0,6}=?)?[ a-z\\[\\]\"'$\\\\`=<ü:{}/-]{0,20}",
            "(\n|\r\n|\\\\\n|\n\n)",
        ), 0..12)
    ) {
        let source: String = lines.into_iter().map(|(a, b, c)| a + &b + &c).collect();
        check(source.as_bytes())?;
        check(format!("FROM a\n{source}").as_bytes())?;
    }
}
