//! Every build check, and errors of all kinds in one run.

use super::*;
use crate::diagnostics::render;
use crate::dockerfile::{BuildArgs, read};
use crate::image::config::ImageConfig;
use crate::image::platform::Platform;
use crate::plan::{lower, resolve};

fn options(build_args: &[(&str, &str)]) -> Options {
    let platform: Platform = "linux/amd64".parse().expect("platform");
    Options {
        target: None,
        build_args: build_args
            .iter()
            .map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned())))
            .collect(),
        platform: platform.clone(),
        build_platform: platform,
        entitlements: Default::default(),
        contexts: Default::default(),
    }
}

fn look(source: &str) -> Survey {
    let parsed = read(source.as_bytes(), &BuildArgs::default());
    let excluded = |path: &str| path == "secret" || path.starts_with("secret/") || path == ".";
    survey(&parsed, &options(&[]), Extents::All, &excluded)
}

/// Returns `RULE:LINE: MESSAGE` of each finding.
fn findings(source: &str) -> Vec<String> {
    let survey = look(source);
    assert!(survey.errors.is_empty(), "{source}: {:?}", survey.errors);
    survey
        .warnings
        .iter()
        .map(|w| {
            let line = crate::diagnostics::line_number(source.as_bytes(), w.span.start);
            format!("{}:{line}: {}", w.rule.unwrap_or("-"), w.message)
        })
        .collect()
}

#[test]
fn each_check_has_its_text_and_place() {
    for (source, wanted) in [
        (
            "FROM scratch AS BadStageName\n",
            "StageNameCasing:1: Stage name 'BadStageName' should be lowercase",
        ),
        (
            "FROM scratch as base\n",
            "FromAsCasing:1: 'as' and 'FROM' keywords' casing do not match",
        ),
        (
            "FROM scratch\nCOPY a \\\n\n  b\n",
            "NoEmptyContinuation:2: Empty continuation line",
        ),
        (
            "FROM scratch\ncopy a b\nCOPY a c\n",
            "ConsistentInstructionCasing:2: Command 'copy' should match the case of the command \
             majority (uppercase)",
        ),
        (
            "FROM scratch AS b\nFROM scratch AS b\n",
            "DuplicateStageName:2: Duplicate stage name \"b\", stage names should be unique",
        ),
        (
            "FROM scratch AS context\n",
            "ReservedStageName:1: Stage name should not use the same name as reserved stage \
             \"context\"",
        ),
        (
            "FROM scratch\nCMD a b\n",
            "JSONArgsRecommended:2: JSON arguments recommended for CMD to prevent unintended \
             behavior related to OS signals",
        ),
        (
            "FROM scratch\nMAINTAINER me\n",
            "MaintainerDeprecated:2: Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "FROM busybox:${verison:-1}\nUSER u\nFROM a$b\n",
            "UndefinedArgInFrom:3: FROM argument 'b' is not declared",
        ),
        (
            "FROM scratch\nWORKDIR app/\n",
            "WorkdirRelativePath:2: Relative workdir \"app/\" can have unexpected results if the \
             base image changes",
        ),
        (
            "FROM scratch\nENV version=1\nUSER $verison\n",
            "UndefinedVar:3: Usage of undefined variable '$verison'",
        ),
        (
            "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\n",
            "MultipleInstructionsDisallowed:2: Multiple CMD instructions should not be used in \
             the same stage because only the last one will be used",
        ),
        (
            "FROM scratch\nENV a b\n",
            "LegacyKeyValueFormat:2: \"ENV key=value\" should be used instead of legacy \"ENV key \
             value\" format",
        ),
        (
            "FROM --platform=$TARGETPLATFORM a\n",
            "RedundantTargetPlatform:1: Setting platform to predefined $TARGETPLATFORM in FROM is \
             redundant as this is the default behavior",
        ),
        (
            "FROM scratch\nARG API_KEY\n",
            "SecretsUsedInArgOrEnv:2: Do not use ARG or ENV instructions for sensitive data (ARG \
             \"API_KEY\")",
        ),
        (
            "FROM --platform=linux/amd64 a AS b\n",
            "FromPlatformFlagConstDisallowed:1: FROM --platform flag should not use constant \
             value \"linux/amd64\"",
        ),
        (
            "FROM scratch\nADD secret/x /\n",
            "CopyIgnoredFile:2: Attempting to Add file \"secret/x\" that is excluded by \
             .dockerignore",
        ),
        (
            "FROM scratch\nCOPY a/../secret/./ /\n",
            "CopyIgnoredFile:2: Attempting to Copy file \"secret\" that is excluded by \
             .dockerignore",
        ),
        (
            "FROM scratch\nCOPY ./ /\n",
            "CopyIgnoredFile:2: Attempting to Copy file \".\" that is excluded by .dockerignore",
        ),
        (
            "FROM scratch\nEXPOSE 80/TcP\n",
            "ExposeProtoCasing:2: Defined protocol '80/TcP' in EXPOSE instruction should be \
             lowercase",
        ),
        (
            "FROM scratch\nEXPOSE 127.0.0.1:80:80\n",
            "ExposeInvalidFormat:2: EXPOSE instruction should not define an IP address or \
             host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "# check=experimental=all\n# nothing\nARG a=1\nFROM scratch\n",
            "InvalidDefinitionDescription:3: Comment for ARG should follow the format: `# a \
             <description>`",
        ),
    ] {
        assert_eq!(findings(source), [wanted], "{source}");
    }
}

#[test]
fn a_default_that_gives_no_base_is_a_warning() {
    let parsed = read(b"ARG v\nFROM a:$v\n", &BuildArgs::default());
    let given = options(&[("v", "1")]);
    let found = survey(&parsed, &given, Extents::All, &|_| false);
    assert!(found.errors.is_empty());
    assert_eq!(
        found.warnings[0].message,
        "Default value for ARG a:$v results in empty or invalid base image name"
    );
}

#[test]
fn the_platform_of_a_base_is_compared() {
    let file = read(b"FROM a\n", &BuildArgs::default()).file;
    let plan = resolve(&file, &options(&[])).expect("valid");
    let image = ImageConfig::scratch("linux/arm64".parse().expect("platform"));
    let lowered = lower(&plan, 0, Origin::Image(&image)).expect("valid");
    assert_eq!(
        lowered.warnings[0].message,
        "Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for \
         current build"
    );
}

#[test]
fn checks_are_silent_about_what_is_well() {
    for source in [
        "FROM scratch AS a\nENV PUBLIC_KEY=1\nEXPOSE 80/tcp\nWORKDIR /a\nWORKDIR b\n",
        // What an unknown base may have is not missed.
        "FROM a\nENV x=$JAVA_HOME\nUSER ${who:?must be there}\nEXPOSE $port\n",
        "FROM --platform=$BUILDPLATFORM a\n",
        "FROM --platform=linux/amd64 a AS base-amd64\n",
        "FROM scratch\nEXPOSE :80\nCOPY --from=a secret /\n",
        "# check=skip=JSONArgsRecommended\nFROM scratch\nCMD a\n",
        "FROM scratch\n# check=skip=all\nCMD a\n",
        "FROM scratch\nSHELL [\"x\"]\nENTRYPOINT a\n",
    ] {
        assert_eq!(findings(source), [""; 0], "{source}");
    }
}

#[test]
fn checks_reach_every_stage_without_a_target() {
    let source = b"FROM scratch AS a\nCMD x\nFROM scratch\n";
    let parsed = read(source, &BuildArgs::default());
    for (target, extents, count) in [
        (None, Extents::All, 1),
        (None, Extents::Target, 0),
        (Some("1"), Extents::All, 0),
        (Some("a"), Extents::Target, 1),
    ] {
        let mut options = options(&[]);
        options.target = target.map(str::to_owned);
        let found = survey(&parsed, &options, extents, &|_| false);
        assert_eq!(found.warnings.len(), count, "{target:?} {extents:?}");
    }
}

#[test]
fn errors_of_all_kinds_come_together() {
    let source = "FROM scratch AS a\nRUM x\nCOPY --from=9 /a /\nEXPOSE ${p:-http}\n\
                  FROM a b\nWORKDIR ${x\nFORM a AS c\nCOPY --from=c /x /\n";
    let survey = look(source);
    let text = render(&survey.errors, "Dockerfile", source.as_bytes(), false, 80);
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_wrong_with_a_place_is_said_once() {
    let survey = look("ARG x\nFROM scratch\nCOPY --from=a-$X /a /\nENV a=1 # not a comment\n");
    let found: Vec<&str> = survey.errors.iter().map(|e| e.message.as_str()).collect();
    let wanted = ["variables are not expanded in `--from`", "no `=` in `#`"];
    assert_eq!(found, wanted);
    let hint = survey.errors[1].hint.as_deref();
    assert_eq!(hint, Some("a comment must be on a line of its own"));
}

#[test]
fn a_wrong_target_is_said_with_the_errors() {
    let parsed = read(b"FROM scratch AS a\nRUM\n", &BuildArgs::default());
    let mut options = options(&[]);
    options.target = Some("b".into());
    let mut found = survey(&parsed, &options, Extents::Target, &|_| false);
    let error = found.error().expect("two errors");
    assert_eq!(error.diagnostics().len(), 2);
}

#[test]
fn a_stage_that_many_ways_lead_to_is_looked_at_once() {
    // The ways double with every second stage: 2^50 of them could not be gone one by one.
    let mut source = String::from("FROM scratch AS s0\nFROM scratch AS s1\n");
    for stage in 2..100 {
        let (last, before) = (stage - 1, stage - 2);
        source.push_str(&format!(
            "FROM s{last} AS s{stage}\nCOPY --from=s{before} /a /b\n"
        ));
    }
    assert!(findings(&source).is_empty());
    // One with a bad head that nothing needs.
    let wrong = source + "FROM $x AS wrong\nFROM s99\nCOPY --from=s98 /a /b\n";
    assert_eq!(look(&wrong).errors.len(), 1);
}
