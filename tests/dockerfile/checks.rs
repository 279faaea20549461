//! Build checks, and questions that build nothing.

use support::{Output, for_users};

/// Stages, arguments and mounts with descriptions, and some findings.
const SOURCE: &str = "\
# VERSION of the base
ARG VERSION=1
# build makes it
FROM example.com/none:${VERSION} AS build
# MODE is one of two
ARG MODE=fast
RUN --mount=type=secret,id=token,required=true \\
    --mount=type=ssh --mount=type=cache,target=/cache make
USER $MOED
# ships nothing
FROM scratch as final
COPY --from=build /x /
CMD run it
";

/// Returns standard output with its JSON read.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.text()).unwrap_or_else(|e| panic!("{e}: {}", output.all()))
}

for_users! {
    /// `--check` needs neither a store nor the base, and its code says whether there are findings.
    fn check_text(world) as [root, subids, plain] {
        world.dockerfile(SOURCE);
        let output = world.build(["--check"]).run().exits(1);
        let text = output.text();
        assert!(text.starts_with("Check complete, 3 warnings have been found!\n\nWARNING: "), "{text}");
        let url = "https://docs.docker.com/go/dockerfile/rule/undefined-var/";
        let finding = format!(
            "WARNING: UndefinedVar - {url}\n\
             Usage of undefined variable '$MOED' (did you mean $MODE?)\n\
             Dockerfile:9\n--------------------\n"
        );
        assert!(text.contains(&finding), "{text}");
        assert!(text.contains("   9 | >>> USER $MOED\n"), "{text}");
        assert!(!world.path("store").join("blobs").exists(), "a store was made");

        world.dockerfile("FROM scratch\n");
        let output = world.build(["--call=lint"]).ok();
        assert_eq!(output.text(), "Check complete, no warnings found.\n");
    }

    /// The fields of BuildKit's lint subrequest.
    fn check_json(world) as [plain] {
        world.dockerfile("FROM scratch AS Bad\nCMD a \\\n\n  b\nRUM x\n");
        let output = world.build(["--call=check,format=json"]).run().exits(1);
        let found = json(&output);
        assert_eq!(found["warnings"][0]["ruleName"], "StageNameCasing");
        assert_eq!(found["warnings"][0]["description"], "Stage names should be lowercase");
        assert_eq!(found["warnings"][0]["detail"], "Stage name 'Bad' should be lowercase");
        assert_eq!(found["warnings"][0]["location"]["ranges"][0]["start"]["line"], 1);
        let places: Vec<_> = found["warnings"].as_array().expect("a list").iter()
            .map(|w| (w["ruleName"].as_str(), w["location"]["ranges"][0]["start"]["line"].as_u64()))
            .collect();
        assert!(places.contains(&(Some("NoEmptyContinuation"), Some(4))), "{places:?}");
        assert!(places.contains(&(Some("JSONArgsRecommended"), Some(2))), "{places:?}");
        assert_eq!(found["sources"][0]["filename"], "Dockerfile");
        assert_eq!(found["sources"][0]["language"], "Dockerfile");
        assert_eq!(found["buildError"]["message"], "unknown instruction `RUM`");
        assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 5);
    }

    /// Findings that are asked for, left out, or the end of the build.
    fn controls(world) as [plain] {
        world.dockerfile("FROM scratch\nCMD a\n");
        world.build(["--check", "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all"]).ok();
        world.build(["--call=check,ignorestatus=true"]).ok();
        let rule = "lint violation found for rules: JSONArgsRecommended";
        world.build(["--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true"]).run().exits(1).says(&[rule]);
        world.dockerfile("# check=error=true\nFROM scratch\n# check=skip=JSONArgsRecommended\nCMD a\n");
        world.build([]).ok();
        world.dockerfile("# check=skip=JSONArgsRecomended\nFROM scratch\nCMD a\n");
        world.build(["--check"]).run().exits(1)
            .says(&["no build check is called `JSONArgsRecomended`", "did you mean `JSONArgsRecommended`?"]);
    }

    /// The stages, with what the comments above say of them.
    fn targets(world) as [plain] {
        world.dockerfile(SOURCE);
        let output = world.build(["--call=targets"]).ok();
        assert_eq!(
            output.text(),
            "TARGET            DESCRIPTION\nbuild             makes it\nfinal (default)\n"
        );
        let found = json(&world.build(["--call=targets,format=json"]).ok());
        assert_eq!(found["targets"][0]["name"], "build");
        assert_eq!(found["targets"][0]["description"], "makes it");
        assert_eq!(found["targets"][0]["base"], "example.com/none:${VERSION}");
        assert_eq!(found["targets"][0]["location"]["ranges"][0]["start"]["line"], 4);
        assert_eq!(found["targets"][1]["default"], true);
    }

    /// What a target takes: arguments, secrets, agents and caches.
    fn outline(world) as [plain] {
        world.dockerfile(SOURCE);
        let output = world.build(["--call=outline"]).ok();
        assert_eq!(
            output.text(),
            "TARGET:   final\n\n\
             BUILD ARG   VALUE   DESCRIPTION\n\
             VERSION     1       of the base\n\
             MODE        fast    is one of two\n\n\
             SECRET   REQUIRED\n\
             token    true\n\n\
             SSH       REQUIRED\n\
             default\n\n\
             CACHE\n\
             /cache\n"
        );
        let given = ["--call=outline,format=json", "--target=build", "--build-arg=MODE=slow"];
        let found = json(&world.build(given).ok());
        assert_eq!(found["name"], "build");
        assert_eq!(found["description"], "makes it");
        assert_eq!(found["args"][1]["name"], "MODE");
        assert_eq!(found["args"][1]["value"], "slow");
        assert_eq!(found["args"][1]["location"]["ranges"][0]["start"]["line"], 6);
        assert_eq!(found["secrets"][0]["required"], true);
        assert_eq!(found["cache"][0]["ID"], "/cache");
    }

    /// Questions that nobody here can answer.
    fn unknown_questions(world) as [plain] {
        world.dockerfile("FROM scratch\n");
        world.build(["--call=target"]).run().exits(2).says(&["target", "did you mean `targets`?"]);
        world.build(["--call=convertllb"]).run().exits(2).says(&["--call can't be `convertllb`"]);
        world.build(["--call=check,format=yaml"]).run().exits(2).says(&["format=yaml"]);
        world.build(["--check", "--call=targets"]).run().exits(2).says(&["two questions"]);
    }
}
