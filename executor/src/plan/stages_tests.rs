//! The graph of stages, its order, and what is wrong with it.

use super::*;
use crate::diagnostics::render;
use crate::dockerfile::parse;

fn options() -> Options {
    let platform: Platform = "linux/amd64".parse().expect("platform");
    Options {
        target: None,
        build_args: Vec::new(),
        platform: platform.clone(),
        build_platform: platform,
        entitlements: Default::default(),
        contexts: Default::default(),
    }
}

fn with_args(args: &[(&str, Option<&str>)]) -> Options {
    Options {
        build_args: args
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned)))
            .collect(),
        ..options()
    }
}

fn plan(source: &str, options: &Options) -> Plan {
    let file = parse(source.as_bytes()).expect(source);
    resolve(&file, options).expect(source)
}

fn indices(plan: &Plan) -> Vec<StageIndex> {
    plan.heads.iter().map(|h| h.index).collect()
}

fn messages(source: &str) -> Vec<String> {
    let file = parse(source.as_bytes()).expect(source);
    let error = resolve(&file, &options()).expect_err(source);
    error
        .diagnostics()
        .iter()
        .map(|d| d.message.clone())
        .collect()
}

#[test]
fn keeps_only_what_the_target_needs() {
    let source = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two /x /\n\
                  FROM c AS four\nFROM scratch\nCOPY --from=THREE /y /\nCOPY --from=0 /z /\n";
    let last = plan(source, &options());
    assert_eq!(indices(&last), [0, 1, 2, 4]);
    assert_eq!(last.heads[3].needs, [0, 2]);
    assert_eq!(last.heads[2].base, Base::Stage(0));
    assert_eq!(last.heads[0].display, "FROM a AS one");
    for (target, wanted) in [("one", &[0][..]), ("Three", &[0, 1, 2]), ("3", &[3])] {
        let options = Options {
            target: Some(target.into()),
            ..options()
        };
        assert_eq!(indices(&plan(source, &options)), wanted, "{target}");
    }
}

#[test]
fn a_target_that_is_missing_gives_a_suggestion() {
    let file = parse(b"FROM a AS build\nFROM b AS final\n").expect("valid");
    for (target, hint) in [
        ("biuld", "did you mean `build`?"),
        ("7", "the stages are: build, final"),
    ] {
        let options = Options {
            target: Some(target.into()),
            ..options()
        };
        let error = resolve(&file, &options).expect_err(target);
        assert_eq!(error.hints(), [hint]);
    }
}

#[test]
fn from_sees_globals_and_build_arguments() {
    let source =
        "ARG v=12 w=${v}-slim\nFROM debian:$w AS x\nFROM --platform=$TARGETPLATFORM $other\n";
    let found = plan(
        &source.replace("$other", "${v:+x}"),
        &with_args(&[("v", Some("13")), ("w", None)]),
    );
    assert_eq!(indices(&found), [0, 1]);
    assert_eq!(
        found.heads[0].base,
        Base::Image("debian:13-slim".parse().expect("ref"))
    );
    assert_eq!(found.heads[1].base, Base::Stage(0));
    assert_eq!(
        messages("ARG tag\nFROM $tag\n"),
        ["the base name `$tag` is empty"]
    );
    assert_eq!(messages("ARG x=${y?\"give y\"}\nFROM a\n"), ["y: give y"]);
}

#[test]
fn a_base_without_its_argument_says_what_is_missing() {
    let file = parse(b"ARG version\nFROM bash:$version\n").expect("valid");
    let error = resolve(&file, &options()).expect_err("no tag");
    let hint = error.diagnostics()[0].hint.as_deref();
    assert!(
        hint.is_some_and(|h| h.contains("--build-arg version=")),
        "{hint:?}"
    );
}

#[test]
fn undefined_arguments_in_from_are_warned_of() {
    let found = plan("ARG version=1\nFROM a${verison}\n", &options());
    assert_eq!(found.warnings[0].rule, Some("UndefinedArgInFrom"));
    assert_eq!(
        found.warnings[0].hint.as_deref(),
        Some("did you mean `$version`?")
    );
}

#[test]
fn names_hide_images_only_once_they_exist() {
    let found = plan("FROM alpine AS alpine\nFROM alpine\n", &options());
    assert_eq!(
        found.heads[0].base,
        Base::Image("alpine".parse().expect("ref"))
    );
    assert_eq!(found.heads[1].base, Base::Stage(0));
    let found = plan(
        "FROM a AS x\nFROM b AS x\nFROM scratch\nCOPY --from=x /a /\n",
        &options(),
    );
    assert_eq!(indices(&found), [1, 2]);
}

#[test]
fn copies_from_images() {
    let found = plan(
        "FROM a AS build\nFROM scratch\nCOPY --from=biuld /x /\nCOPY --from=quay.io/b:1 /x /\n",
        &options(),
    );
    assert_eq!(indices(&found), [1]);
    assert_eq!(found.heads[0].images.len(), 2);
    assert_eq!(
        found.warnings[0].message,
        "`biuld` is no stage: taking it as an image"
    );
    assert_eq!(
        found.warnings[0].hint.as_deref(),
        Some("did you mean `build`?")
    );
}

#[test]
fn triggers_of_a_stage_are_needs_of_its_children() {
    let found = plan(
        "FROM a AS tools\nFROM b AS base\nONBUILD COPY --from=tools /x /\nFROM base\n",
        &options(),
    );
    assert_eq!(indices(&found), [0, 1, 2]);
    assert!(found.heads[1].needs.is_empty());
    assert_eq!(found.heads[2].needs, [0, 1]);
}

#[test]
fn refuses_what_cannot_be_built() {
    for (source, message) in [
        (
            "FROM a\nCOPY --from=1 /a /\nFROM b AS y\nFROM 0\nCOPY --from=0 /b /\n",
            "stage `y` is used before it is defined",
        ),
        (
            "FROM a AS x\nCOPY --from=x /a /\n",
            "stage `x` can't copy from itself",
        ),
        ("FROM a\nCOPY --from=9 /a /\n", "there is no stage number 9"),
        (
            "FROM a\nCOPY --from=scratch /a /\n",
            "there is nothing in `scratch` to copy",
        ),
        (
            "FROM A\n",
            "invalid image reference `A`: the repository's name must be lower-case",
        ),
        ("FROM --platform=$nope a\n", "the platform `$nope` is empty"),
        ("FROM --platform=a/b/c/d a\n", "invalid platform `a/b/c/d`"),
    ] {
        assert_eq!(messages(source), [message], "{source}");
    }
}

#[test]
fn each_place_of_a_circle_is_shown() {
    let source = "FROM a AS x\nCOPY --from=z /a /\nFROM b AS y\nRUN --mount=from=x true\n\
        FROM y AS z\n";
    assert_eq!(
        messages(source),
        [
            "the stages need each other: `x` needs `z` needs `y` needs `x`",
            "of the same circle: `y` needs `x`",
            "of the same circle: `z` needs `y`",
        ]
    );
}

#[test]
fn stages_that_nothing_needs_may_be_wrong() {
    let source = "FROM --platform=linux/arm64 a AS x\nCOPY --from=x /a /\nFROM b\n";
    assert_eq!(indices(&plan(source, &options())), [1]);
}

#[test]
fn unused_build_arguments_are_warned_of() {
    let source = "ARG a\nFROM x\nARG b\n";
    let all = [
        ("a", Some("1")),
        ("b", Some("1")),
        ("bb", Some("1")),
        ("other", Some("1")),
        ("unset", None),
        ("http_proxy", Some("1")),
        ("TARGETARCH", Some("1")),
    ];
    let found = plan(source, &with_args(&all));
    let messages: Vec<_> = found.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        messages,
        ["one or more build-args [bb other] were not consumed"]
    );
}

#[test]
fn errors_are_drawn_where_they_are() {
    let source = "FROM a AS base\nFROM BASE2 AS b\nCOPY --from=3 x /\n";
    let file = parse(source.as_bytes()).expect("valid");
    let error = resolve(&file, &options()).expect_err("two errors");
    let text = render(
        error.diagnostics(),
        "Dockerfile",
        source.as_bytes(),
        false,
        100,
    );
    insta::assert_snapshot!(text, @r"
    error: invalid image reference `BASE2`: the repository's name must be lower-case
     --> Dockerfile:2:6
      |
    2 | FROM BASE2 AS b
      |      ^^^^^
      |
      = hint: did you mean `base`?

    error: there is no stage number 3
     --> Dockerfile:3:13
      |
    3 | COPY --from=3 x /
      |             ^
      |
      = hint: the last one is 1
    ");
}

fn with_contexts(contexts: &[(&str, &str)]) -> Options {
    let image = |text: &str| NamedContext::Image(text.parse().expect("reference"));
    let files = NamedContext::Files(crate::context::location::Location::Directory(".".into()));
    let contexts = contexts.iter().map(|(name, image_name)| {
        let context = match *image_name {
            "" => files.clone(),
            text => image(text),
        };
        ((*name).to_owned(), context)
    });
    Options {
        contexts: contexts.collect(),
        ..options()
    }
}

#[test]
fn contexts_replace_stages_and_images() {
    let source = "FROM a AS one\nCOPY --from=c /x /\nFROM one\nCOPY --from=0 /x /\n\
                  COPY --from=b:latest /y /\n";
    let replaced = plan(source, &with_contexts(&[("one", ""), ("b", "other")]));
    assert_eq!(replaced.heads[0].base, Base::Named("one".into()));
    assert_eq!(replaced.heads[0].display, "FROM one AS one");
    assert!(replaced.heads[0].images.is_empty(), "its steps are gone");
    assert_eq!(replaced.heads[1].needs, [0]);
    assert_eq!(
        replaced.heads[1].images,
        ["other".parse().expect("reference")]
    );
    let image = plan(
        source,
        &with_contexts(&[("docker.io/nobody/a", ""), ("a", "z")]),
    );
    assert_eq!(
        image.heads[0].base,
        Base::Image("z".parse().expect("reference"))
    );
    // What is nothing but a name of ours can't be replaced.
    let scratch = plan("FROM scratch\n", &with_contexts(&[("scratch", "z")]));
    assert_eq!(scratch.heads[0].base, Base::Scratch);
}

#[test]
fn contexts_for_a_platform() {
    let source = "FROM --platform=linux/arm64 a\nCOPY --from=s /x /\nFROM a\n";
    let mut options = with_contexts(&[("a::linux/arm64", "arm"), ("s::linux/amd64", "")]);
    options.target = Some("0".into());
    let found = plan(source, &options);
    assert_eq!(
        found.heads[0].base,
        Base::Image("arm".parse().expect("reference"))
    );
    assert_eq!(found.heads[0].images, ["s".parse().expect("reference")]);
    options.target = None;
    let found = plan(source, &options);
    assert_eq!(
        found.heads[0].base,
        Base::Image("a".parse().expect("reference"))
    );
}

#[test]
fn a_context_hides_a_later_stage() {
    let source = "FROM a\nCOPY --from=later /x /\nFROM b AS later\nFROM 0\n";
    let mut options = with_contexts(&[("later", "")]);
    options.target = Some("0".into());
    assert_eq!(indices(&plan(source, &options)), [0]);
}
