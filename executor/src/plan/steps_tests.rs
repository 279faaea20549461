//! Steps, configs and histories of stages.

use super::super::stages::{Options, resolve};
use super::super::step::CopyFrom;
use super::super::step::{Run, StageHead};
use super::*;
use crate::dockerfile::mode::FileMode;
use crate::dockerfile::parse;
use crate::image::platform::Platform;

fn plan_with(source: &str, args: &[(&str, &str)]) -> Plan {
    let platform: Platform = "linux/arm64".parse().expect("platform");
    let options = Options {
        target: None,
        build_args: args
            .iter()
            .map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned())))
            .collect(),
        platform: platform.clone(),
        build_platform: platform,
        entitlements: Default::default(),
        contexts: Default::default(),
    };
    resolve(&parse(source.as_bytes()).expect(source), &options).expect(source)
}

fn scratch(instructions: &str, args: &[(&str, &str)]) -> Lowered {
    let plan = plan_with(&format!("FROM scratch\n{instructions}"), args);
    lower(&plan, 0, Origin::Scratch).expect(instructions)
}

fn error(instructions: &str) -> String {
    let plan = plan_with(&format!("FROM scratch\n{instructions}\n"), &[]);
    let error = lower(&plan, 0, Origin::Scratch).expect_err(instructions);
    error.diagnostics()[0].message.clone()
}

fn base(edit: impl FnOnce(&mut ContainerConfig)) -> ImageConfig {
    let mut image = ImageConfig::scratch("linux/arm64".parse().expect("platform"));
    edit(&mut image.config);
    image
}

fn runs(lowered: &Lowered) -> Vec<&Run> {
    lowered
        .steps
        .iter()
        .filter_map(|s| match &s.op {
            Op::Run(run) => Some(&**run),
            _ => None,
        })
        .collect()
}

fn env(run: &Run) -> Vec<&str> {
    run.env.entries().collect()
}

#[test]
fn history_reads_as_buildkits() {
    let source = "ARG A=1 B\nENV x=\"a b\" y=$x\nENV old style $x\nLABEL l=\"v w\"\nRUN make $x\n\
        WORKDIR w\nCOPY --chown=1:2 --chmod=0644 a b* $x/\nADD a .\nEXPOSE 80 53/udp 8000-8001\n\
        USER me:us\nVOLUME /v [x\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a \"b\"\n\
        ENTRYPOINT [\"e\", \"f g\"]\nRUN [\"true\", \"x y\"]\nONBUILD RUN t\nMAINTAINER me <m@x>\n\
        HEALTHCHECK --interval=90s CMD check it\nWORKDIR /\n";
    let lowered = scratch(source, &[]);
    let history: Vec<&str> = lowered
        .steps
        .iter()
        .map(|s| s.created_by.as_str())
        .collect();
    assert_eq!(
        history,
        [
            "ARG A=1 B",
            "ENV x=a b y=",
            "ENV old=style a b",
            "LABEL l=v w",
            "RUN |2 A=1 B= /bin/sh -c make $x",
            "WORKDIR /w",
            "COPY --chown=1:2 --chmod=0644 a b* a b/",
            "ADD a .",
            "EXPOSE [53/udp 80/tcp 8000/tcp 8001/tcp]",
            "USER me:us",
            "VOLUME [/v [x]",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/bash -c]",
            "CMD [\"/bin/bash\" \"-c\" \"a \\\"b\\\"\"]",
            "ENTRYPOINT [\"e\" \"f g\"]",
            "RUN |2 A=1 B= true x y",
            "MAINTAINER me <m@x>",
            "HEALTHCHECK {Test:[CMD-SHELL check it] Interval:1m30s Timeout:0s StartPeriod:0s \
             StartInterval:0s Retries:0}",
            "WORKDIR /",
        ]
    );
    let config = &lowered.config();
    assert_eq!(config.on_build, ["RUN t"]);
    assert_eq!(config.working_dir, "/");
    assert_eq!(config.user, "me:us");
    assert_eq!(
        config.healthcheck.as_ref().map(|h| h.interval),
        Some(90_000_000_000)
    );
    assert_eq!(
        config.env,
        [
            format!("PATH={DEFAULT_PATH}"),
            "x=a b".to_owned(),
            "y=".to_owned(),
            "old=style a b".to_owned()
        ]
    );
    assert_eq!(config.extra["ArgsEscaped"], Value::Bool(true));
    assert_eq!(lowered.author.as_deref(), Some("me <m@x>"));
}

#[test]
fn names_are_shown_on_one_line() {
    let lowered = scratch(
        "ARG v=1\nrun echo $v '$v' \\\n  $u\ncopy \"a\" /$v\nWORKDIR /${v}x\n",
        &[],
    );
    let names: Vec<&str> = lowered.steps[1..].iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["RUN echo 1 '$v'   $u", "COPY a /1", "WORKDIR /1x"]);
}

#[test]
fn arguments_and_environment_hide_each_other_in_order() {
    let lowered = scratch(
        "ENV A=env\nRUN a\nARG A=arg\nRUN b\nENV A=again\nRUN c\nARG A\nRUN d\n",
        &[],
    );
    let values: Vec<&str> = runs(&lowered).iter().map(|r| env(r)[1]).collect();
    assert_eq!(values, ["A=env", "A=arg", "A=again", "A=again"]);
}

#[test]
fn build_arguments_count_only_where_declared() {
    let args = [
        ("given", "g"),
        ("empty", ""),
        ("HTTP_PROXY", "p"),
        ("no_proxy", "n"),
    ];
    let lowered = scratch(
        "RUN a\nARG given=d other=o empty=x unset TARGETARCH no_proxy\nRUN b\n",
        &args,
    );
    let found = runs(&lowered);
    assert_eq!(env(found[0]).len(), 1);
    assert_eq!(
        found[0].proxy,
        ["HTTP_PROXY=p", "http_proxy=p", "NO_PROXY=n", "no_proxy=n"]
    );
    assert_eq!(
        env(found[1])[1..],
        [
            "given=g",
            "other=o",
            "empty=",
            "TARGETARCH=arm64",
            "no_proxy=n"
        ]
    );
    assert!(!found[1].proxy.contains(&"no_proxy=n".to_owned()));
    assert_eq!(
        lowered.steps[2].created_by,
        "RUN |6 given=g other=o empty= unset= TARGETARCH=arm64 no_proxy=n /bin/sh -c b"
    );
}

#[test]
fn a_bare_argument_takes_the_global_value() {
    let plan = plan_with("ARG v=1\nFROM scratch\nARG v\nRUN x\n", &[]);
    let lowered = lower(&plan, 0, Origin::Scratch).expect("valid");
    assert_eq!(env(runs(&lowered)[0])[1], "v=1");
    assert_eq!(lowered.steps[0].created_by, "ARG v=1");
}

#[test]
fn children_of_a_stage_inherit() {
    let plan = plan_with(
        "FROM scratch AS p\nENV E=1\nARG A=a\nARG E=arg\nWORKDIR /w\nUSER u\nCMD [\"c\"]\n\
         ONBUILD ENV T=$A\nFROM p\nWORKDIR x\nRUN r\nENTRYPOINT [\"e\"]\n",
        &[],
    );
    let parent = lower(&plan, 0, Origin::Scratch).expect("parent");
    let child = lower(&plan, 1, Origin::Stage(&parent)).expect("child");
    assert_eq!(child.steps[0].created_by, "ENV T=a");
    assert_eq!(child.steps[0].name, "ONBUILD ENV T=a");
    assert_eq!(child.steps[0].span, plan.file.stages[1].span);
    assert!(child.config().on_build.is_empty());
    let run = runs(&child)[0];
    assert_eq!(run.cwd, "/w/x");
    assert_eq!(run.user, "u");
    assert!(env(run).contains(&"A=a"));
    // The ENV of the base counts anew.
    assert!(env(run).contains(&"E=1"));
    assert_eq!(child.config().cmd, None);
    assert_eq!(child.config().entrypoint, Some(vec!["e".to_owned()]));
    assert!(child.warnings.is_empty());
}

#[test]
fn configs_of_images_are_kept() {
    let image = base(|c| {
        c.env = vec!["PATH=/bin".into(), "K=1".into()];
        c.cmd = Some(vec!["old".into()]);
        c.shell = Some(vec!["/bin/ash".into(), "-c".into()]);
        c.working_dir = "/srv/".into();
        c.extra.insert("Mystery".into(), Value::Null);
        c.on_build = vec!["COPY . /src".into()];
    });
    let plan = plan_with("FROM a\nENV K=2\nCMD new\nENTRYPOINT e\n", &[]);
    let lowered = lower(&plan, 0, Origin::Image(&image)).expect("valid");
    let Op::Copy(copy) = &lowered.steps[0].op else {
        panic!("the trigger comes first");
    };
    assert_eq!(
        (copy.dest.as_str(), &copy.from),
        ("/src", &CopyFrom::Context)
    );
    let config = &lowered.config();
    assert_eq!(config.env, ["PATH=/bin", "K=2"]);
    assert_eq!(
        config.cmd.as_deref(),
        Some(&["/bin/ash", "-c", "new"].map(str::to_owned)[..])
    );
    assert_eq!(config.working_dir, "/srv");
    assert_eq!(config.extra["Mystery"], Value::Null);
    assert!(lowered.warnings.is_empty());
    let plain = lower(&plan_with("FROM a\n", &[]), 0, Origin::Image(&image)).expect("valid");
    assert_eq!(plain.config().cmd.as_deref(), Some(&["old".to_owned()][..]));
}

#[test]
fn empty_commands_reset() {
    let lowered = scratch(
        "CMD [\"a\"]\nENTRYPOINT [\"b\"]\nCMD []\nENTRYPOINT []\n",
        &[],
    );
    assert_eq!(
        (lowered.config().cmd, lowered.config().entrypoint),
        (None, None)
    );
    assert_eq!(lowered.steps[2].created_by, "CMD []");
}

#[test]
fn copies_are_complete() {
    let plan = plan_with(
        "FROM a AS x\nFROM scratch\nARG d=e m=755\nWORKDIR /w\nCOPY --from=x --chmod=$m f ../$d/\n\
         COPY --from=quay.io/i:1 f .\nADD --checksum=sha256:\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://x/y /z\n",
        &[],
    );
    let lowered = lower(&plan, 1, Origin::Scratch).expect("valid");
    let copies: Vec<_> = lowered
        .steps
        .iter()
        .filter_map(|s| match &s.op {
            Op::Copy(copy) => Some(copy),
            _ => None,
        })
        .collect();
    assert_eq!(copies[0].from, CopyFrom::Stage(0));
    assert_eq!(
        (copies[0].dest.as_str(), copies[0].chmod.clone()),
        ("/e/", Some(FileMode::Octal(0o755)))
    );
    assert_eq!(copies[1].dest, "/w/");
    assert!(copies[2].add && copies[2].checksum.is_some());
    assert_eq!(lowered.needs, [0]);
    assert_eq!(lowered.images, ["quay.io/i:1".parse().expect("ref")]);
}

#[test]
fn mistakes_show_after_expansion() {
    for (instructions, message) in [
        ("ENV a=${b", "missing `}` in substitution"),
        ("ENV $u=1", "ENV names can't be blank"),
        ("ARG p=x\nEXPOSE $p", "invalid port `x`"),
        ("ARG s=FOO\nSTOPSIGNAL $s", "invalid signal `FOO`"),
        ("VOLUME $u", "a VOLUME can't be an empty string"),
        (
            "ARG m=u+y\nCOPY --chmod=$m a b",
            "invalid mode `u+y`: unknown permission `y`; modes are as in `755` or `u=rwX,go=rX`",
        ),
        (
            "ARG s=http://x/y\nCOPY $s b",
            "the source of COPY can't be a URL: use ADD",
        ),
        (
            "ADD --checksum=sha256:00 http://x/a http://x/b c/",
            "`--checksum` takes one source only",
        ),
        (
            "ADD --checksum=sha256:00 a b",
            "`--checksum` needs an http or https source, or a git repository",
        ),
        (
            "ADD --checksum=md5:00 http://x/a b",
            "unsupported digest algorithm `md5`",
        ),
        ("ARG a=${b:?'give b'}", "b: give b"),
    ] {
        assert_eq!(error(instructions), message, "{instructions}");
    }
}

#[test]
fn errors_point_into_the_word() {
    let plan = plan_with("FROM scratch\nENV a=1 \\\n  b=x${c\nENV d=${e:?}\n", &[]);
    let error = lower(&plan, 0, Origin::Scratch).expect_err("two errors");
    let spans: Vec<_> = error.diagnostics().iter().map(|d| d.span.clone()).collect();
    assert_eq!(spans, [28..31, 38..44]);
}

#[test]
fn triggers_of_images_may_need_stages_that_nothing_else_does() {
    let source = "FROM a AS low\nFROM low AS t\nFROM --platform=$NO a AS wrong\n\
        FROM wrong AS above\nFROM b\n";
    let plan = plan_with(source, &[]);
    let heads = |heads: &[StageHead]| heads.iter().map(|h| h.index).collect::<Vec<_>>();
    assert_eq!(heads(&plan.heads), [4]);
    assert_eq!(heads(&plan.spare), [0, 1, 3]);
    let image = |from| base(|c| c.on_build = vec![format!("COPY --from={from} /a /")]);
    let found = image("t");
    let lowered = lower(&plan, 4, Origin::Image(&found)).expect("valid");
    assert_eq!(lowered.needs, [1]);
    for from in ["wrong", "above"] {
        let image = image(from);
        let error = lower(&plan, 4, Origin::Image(&image)).expect_err(from);
        let [finding] = error.diagnostics() else {
            panic!("{error:?}");
        };
        assert_eq!(finding.message, "the platform `$NO` is empty");
    }
}

#[test]
fn triggers_of_images_are_checked() {
    let plan = plan_with(
        "FROM a AS t\nFROM b AS c\nFROM b\nCOPY --from=c /x /\n",
        &[],
    );
    for (trigger, message) in [
        (
            "NOPE",
            "trigger `NOPE` of the base: unknown instruction `NOPE`",
        ),
        (
            "COPY --from=2 /a /",
            "a trigger of the base copies from stage `2`, which comes later",
        ),
    ] {
        let image = base(|c| c.on_build = vec![trigger.into()]);
        let error = lower(&plan, 2, Origin::Image(&image)).expect_err(trigger);
        assert_eq!(error.diagnostics()[0].message, message);
    }
    let image = base(|c| c.on_build = vec!["COPY --from=c /a /".into()]);
    let lowered = lower(&plan, 2, Origin::Image(&image)).expect("valid");
    assert_eq!(lowered.needs, [1]);
}

#[test]
fn warnings() {
    for (instructions, rules) in [
        ("ENV a=$b", &["UndefinedVar"][..]),
        ("ARG b\nENV a=$b c=${d:-e} f=$$ g=$1", &[]),
        ("WORKDIR a\nWORKDIR b", &["WorkdirRelativePath"]),
        ("CMD a", &["JSONArgsRecommended"]),
        ("SHELL [\"x\"]\nCMD a", &[]),
        ("ENTRYPOINT a", &["JSONArgsRecommended"]),
        ("# check=skip=UndefinedVar\nENV a=$b", &[]),
    ] {
        let lowered = scratch(&format!("{instructions}\n"), &[]);
        let found: Vec<_> = lowered.warnings.iter().filter_map(|w| w.rule).collect();
        assert_eq!(found, rules, "{instructions}");
    }
    let lowered = scratch("COPY a b c\nADD a b c/\n", &[]);
    let found: Vec<_> = lowered
        .warnings
        .iter()
        .map(|w| w.message.as_str())
        .collect();
    let wanted = "COPY of more than one source needs a directory as its destination";
    assert_eq!(found, [wanted]);
    let lowered = scratch("ENV version=1\nUSER $verison\n", &[]);
    assert_eq!(
        lowered.warnings[0].hint.as_deref(),
        Some("did you mean `$version`?")
    );
}

#[test]
fn labels_of_the_command_line_win() {
    let mut config = scratch("LABEL a=1 b=2\n", &[]).config();
    apply_labels(
        &mut config,
        &[("b".into(), "3".into()), ("c".into(), String::new())],
    );
    let labels: Vec<_> = config
        .labels
        .into_iter()
        .map(|(k, v)| k + "=" + &v)
        .collect();
    assert_eq!(labels, ["a=1", "b=3", "c="]);
}

proptest::proptest! {
    #[test]
    fn any_words(lines in proptest::collection::vec(
        (
            "(ONBUILD )?(ARG|RUN|COPY|COPY --from=[a0]|ADD|ENV|LABEL|CMD|EXPOSE|VOLUME|USER|WORKDIR)",
            " [a-c0-2=$\"'\\\\:/{} ü-]{1,16}( b)?",
        ), 0..8)
    ) {
        let body: String = lines.into_iter().map(|(a, b)| a + &b + "\n").collect();
        let source = format!("FROM scratch AS a\n{body}FROM a\n{body}");
        let platform: Platform = "linux/arm64".parse().expect("platform");
        let options = Options {
            target: None,
            build_args: vec![("a".into(), Some("b c".into()))],
            platform: platform.clone(),
            build_platform: platform,
        entitlements: Default::default(),
        contexts: Default::default(),
        };
        let check = |found: &[Diagnostic]| {
            found.iter().all(|d| d.span.start <= d.span.end && d.span.end <= source.len())
        };
        let errors = |error: &Error| !error.diagnostics().is_empty() && check(error.diagnostics());
        let Ok(file) = parse(source.as_bytes()) else {
            return Ok(());
        };
        let plan = match resolve(&file, &options) {
            Ok(plan) => plan,
            Err(error) => {
                proptest::prop_assert!(errors(&error));
                return Ok(());
            }
        };
        // The last word of a line may have continued it, over the second FROM.
        let mut parent: Option<Lowered> = None;
        for head in &plan.heads {
            let origin = parent.as_ref().map_or(Origin::Scratch, Origin::Stage);
            match lower(&plan, head.index, origin) {
                Ok(lowered) => {
                    proptest::prop_assert!(check(&lowered.warnings));
                    parent = Some(lowered);
                }
                Err(error) => {
                    proptest::prop_assert!(errors(&error));
                    break;
                }
            }
        }
    }
}
