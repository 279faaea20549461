//! What instructions do, where no peer can be asked: expectations written out.

use serde_json::json;
use support::image::{NodeKind, assert_file, flatten, node};
use support::progress::assert_all_cached;
use support::{base, for_users};

for_users! {
    /// The smallest build there is.
    fn scratch(world) as [root, subids, plain] {
        world.write("ctx/f", "hello\n");
        world.dockerfile("FROM scratch\nCOPY f /\n");
        let tree = world.tree([]);
        assert_eq!(tree.len(), 1);
        assert_file(&tree, "f", "hello\n");
        let file = node(&tree, "f");
        assert_eq!((file.mode, file.uid, file.gid), (0o644, 0, 0));
    }

    /// Multi-stage with files of one owner, as every kind of user.
    fn stages(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/main.txt", "source\n");
        world.dockerfile(&format!(
            "ARG GREETING=hello\n\
             FROM {base} AS build\n\
             ARG GREETING\n\
             WORKDIR /src\n\
             COPY main.txt .\n\
             RUN sed \"s/source/$GREETING/\" main.txt >built.txt && chmod 755 built.txt\n\
             FROM {base} AS unused\n\
             RUN exit 1\n\
             FROM scratch AS result\n\
             COPY --from=build /src/built.txt /\n\
             FROM result\n\
             ENV X=1\n"
        ));
        let image = world.built(["--build-arg", "GREETING=good morning"]);
        let tree = flatten(&image).unwrap();
        assert_eq!(tree.len(), 1, "{tree:?}");
        assert_file(&tree, "built.txt", "good morning\n");
        assert_eq!(node(&tree, "built.txt").mode, 0o755);
        assert!(image.config["config"]["Env"].as_array().unwrap().contains(&json!("X=1")));

        let tree = world.tree(["--target", "build"]);
        assert_file(&tree, "src/built.txt", "hello\n");
    }

    /// The config, as Docker writes it.
    fn config(world) as [root, subids, plain] {
        world.write("ctx/f", "");
        world.dockerfile(
            "FROM scratch\n\
             COPY f /\n\
             MAINTAINER me\n\
             ENV A=1\n\
             LABEL l=\"v w\"\n\
             EXPOSE 80 53/udp\n\
             VOLUME [\"/data\", \"/more\"]\n\
             WORKDIR /w/\n\
             USER 12:34\n\
             STOPSIGNAL SIGINT\n\
             SHELL [\"/bin/bash\", \"-c\"]\n\
             HEALTHCHECK --interval=1m30s --timeout=2s --start-period=1s --retries=4 CMD check it\n\
             ONBUILD RUN x\n\
             ENTRYPOINT run it\n\
             CMD [\"a\", \"b\"]\n",
        );
        let image = world.built(["--label", "extra=yes"]);
        let config = &image.config["config"];
        assert_eq!(config["Labels"], json!({"l": "v w", "extra": "yes"}));
        assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
        assert_eq!(config["Volumes"], json!({"/data": {}, "/more": {}}));
        assert_eq!(config["User"], "12:34");
        assert_eq!(config["WorkingDir"], "/w");
        assert_eq!(config["StopSignal"], "SIGINT");
        assert_eq!(config["Shell"], json!(["/bin/bash", "-c"]));
        assert_eq!(
            config["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "check it"], "Interval": 90_000_000_000_u64,
                "Timeout": 2_000_000_000, "StartPeriod": 1_000_000_000, "Retries": 4})
        );
        assert_eq!(config["OnBuild"], json!(["RUN x"]));
        assert_eq!(config["Entrypoint"], json!(["/bin/bash", "-c", "run it"]));
        assert_eq!(config["Cmd"], json!(["a", "b"]));
        assert_eq!(image.config["author"], "me");
        assert_eq!(image.config["os"], "linux");

        let history = image.config["history"].as_array().unwrap();
        let layers = history.iter().filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(layers, image.layer_count(), "{history:#?}");
        assert!(history.iter().any(|entry| entry["created_by"].as_str().unwrap().contains("ENV A=1")));
    }

    /// A second build does nothing, and says so; a changed file is noticed, whatever its times.
    fn cache(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/one", "1");
        world.write("ctx/two", "2");
        world.dockerfile(&format!(
            "FROM {base}\nWORKDIR /w\nCOPY one .\nRUN cat one >first\nCOPY two .\nRUN cat two >second\n"
        ));
        let first = world.build(["--tag=cached", "--iidfile=first"]).ok();
        assert!(!first.stderr.contains("CACHED\n#"), "{}", first.stderr);
        let second = world.build(["--tag=cached", "--iidfile=second"]).ok();
        assert_all_cached(&second.stderr, 5);
        let id = |file| std::fs::read_to_string(world.path(file)).unwrap();
        assert_eq!(id("first"), id("second"));

        // The same size and the same time, as a checkout in CI has them.
        let path = world.path("ctx/two");
        let times = std::fs::metadata(&path).unwrap().modified().unwrap();
        world.write("ctx/two", "3");
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
        let third = world.build([]).ok();
        let steps = support::progress::steps(&third.stderr);
        let cached: Vec<bool> = steps.iter().map(|step| step.cached).collect();
        assert_eq!(cached, [true, true, true, false, false], "{}", third.stderr);

        let forced = world.build(["--no-cache"]).ok();
        assert!(support::progress::steps(&forced.stderr).iter().all(|step| !step.cached));
    }

    /// ARG changes what is cached exactly where it is used.
    fn arguments(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "ARG OUTER=o\nFROM {base}\n\
             RUN echo \"[$OUTER][$HTTP_PROXY][$UNDECLARED]\" >/before\n\
             ARG OUTER\nARG OWN=default\nARG EMPTY\n\
             RUN echo \"[$OUTER][$OWN][${{EMPTY-unset}}]\" >/after\n"
        ));
        let tree = world.tree(["--build-arg=OWN=given", "--build-arg=HTTP_PROXY=http://p:1"]);
        assert_file(&tree, "before", "[][http://p:1][]\n");
        assert_file(&tree, "after", "[o][given][unset]\n");
        // The proxy is no part of what decides; OWN is, for the step that can see it.
        let again = world.build(["--build-arg=OWN=other", "--build-arg=HTTP_PROXY=http://q:2"]).ok();
        let cached: Vec<bool> =
            support::progress::steps(&again.stderr).iter().map(|step| step.cached).collect();
        assert_eq!(cached, [true, false], "{}", again.stderr);
        // Not declared anywhere: said, but no error, as Docker does it.
        world.build(["--build-arg=NOWHERE=1"]).ok().says(&["NOWHERE"]);
    }

    /// A value without `=` comes from the caller's environment.
    fn argument_from_environment(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nARG TOKEN=none\nRUN echo $TOKEN >/token\n"));
        world
            .build(["--build-arg=TOKEN", "--output=type=oci,dest=built.oci"])
            .env("TOKEN", "from outside")
            .ok();
        let tree = flatten(&world.image("built.oci")).unwrap();
        assert_file(&tree, "token", "from outside\n");
    }

    /// COPY from an image that is no stage.
    fn copy_from_image(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM scratch\nCOPY --from={base} /etc/passwd /copied\n"));
        let tree = world.tree([]);
        assert_eq!(tree.len(), 1);
        assert!(matches!(node(&tree, "copied").kind, NodeKind::File { .. }));
    }

    /// A wildcard may match nothing; a name may not.
    fn wildcard_without_match(world) as [plain] {
        world.write("ctx/f", "");
        world.dockerfile("FROM scratch\nCOPY f *.none /\n");
        assert_eq!(world.tree([]).len(), 1);
    }

    /// What Docker does with set-id bits and attributes of context files.
    fn copied_bits(world) as [root, subids, plain] {
        world.write("ctx/tool", "x");
        world.set_mode("ctx/tool", 0o4755);
        world.dockerfile("FROM scratch\nCOPY tool /\nCOPY --chmod=0600 tool /plain\n");
        let tree = world.tree([]);
        assert_eq!(node(&tree, "tool").mode, 0o4755);
        assert_eq!(node(&tree, "plain").mode, 0o600);
    }

    /// The same context and Dockerfile give the same layers on another day and machine.
    fn same_layers_again(world) as [subids, plain] {
        world.write("ctx/tree/a", "a");
        world.write("ctx/tree/b/c", "c");
        world.dockerfile("FROM scratch\nCOPY tree /tree\n");
        let first = world.built(["--no-cache"]);
        let second = world.built(["--no-cache"]);
        assert_eq!(first.config["rootfs"], second.config["rootfs"]);
    }

    /// `--platform` of this machine is accepted; what a base lacks is said by name.
    fn platform(world) as [subids] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM --platform=$TARGETPLATFORM {base}\nRUN true\n"));
        let host = format!("--platform=linux/{}", support::layer::architecture());
        world.build([host.as_str()]).ok();
        world.build(["--platform=linux/s390x"]).ok().says(&["is an image for", "s390x"]);
    }

    /// `run` starts the result as its config says.
    fn run_result(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nENV WHO=crab\nWORKDIR /tmp\nENTRYPOINT [\"sh\", \"-c\"]\n\
             CMD [\"echo $WHO in $(pwd); exit 7\"]\n"
        ));
        world.build(["--tag=started"]).ok();
        let output = world.sandcrab(["run", "started"]).run().exits(7);
        assert_eq!(output.text(), "crab in /tmp\n");
        let output = world.sandcrab(["run", "started", "echo other"]).ok();
        assert_eq!(output.text(), "other\n");
    }
}
