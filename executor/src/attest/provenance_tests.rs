//! What a provenance says of a small build.

use super::*;
use crate::attest::record::{Stage, Start, Step};
use crate::context::Version;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::reference::Reference;
use crate::plan::scope::Variables;
use crate::plan::step::{
    Copy, CopyFrom, CopySource, CopySourceKind, Mount, Permissions, Run, SecretMount,
};

const TEXT: &str = "FROM base AS a\nRUN --mount=type=secret,id=s \\\n  make PASS=hunter2\n\
                    FROM scratch\nCOPY --from=a /x /y\n";

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn layer(text: &str) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, digest(text), 7)
}

fn record() -> Record {
    let platform: Platform = "linux/arm64".parse().expect("platform");
    let base: Reference = "base".parse().expect("name");
    let run = Op::Run(Box::new(Run {
        argv: vec!["/bin/sh".into(), "-c".into(), "make PASS=hunter2".into()],
        env: Variables::of_image(&["PATH=/bin".to_owned()]),
        proxy: vec!["HTTP_PROXY=http://user:word@proxy".into()],
        cwd: "/".into(),
        user: "u".into(),
        network: None,
        insecure: false,
        devices: Vec::new(),
        mounts: vec![Mount {
            span: 0..0,
            kind: MountKind::Secret(SecretMount {
                id: "s".into(),
                target: Some("/run/secrets/s".into()),
                env: Some("S".into()),
                required: false,
                permissions: Permissions::DIRECTORY,
            }),
        }],
    }));
    let copy = Op::Copy(Box::new(Copy {
        from: CopyFrom::Stage(0),
        sources: vec![CopySource {
            span: 0..0,
            kind: CopySourceKind::Word("/x".into()),
        }],
        dest: "/y".into(),
        ..Copy::default()
    }));
    let step = |op, line: &str, online, layers| {
        let start = TEXT.find(line).expect("a line");
        Step {
            number: 2,
            key: digest(line),
            span: start..start + line.len(),
            op,
            online,
            layers,
        }
    };
    let run_line = "RUN --mount=type=secret,id=s \\\n  make PASS=hunter2";
    let first = Stage {
        platform: platform.clone(),
        start: Start::Image(base.to_string(), digest("base")),
        layers: vec![layer("base")],
        steps: vec![step(run, run_line, true, vec![layer("base"), layer("run")])],
    };
    let second = Stage {
        platform: platform.clone(),
        start: Start::Scratch,
        layers: Vec::new(),
        steps: vec![step(
            copy,
            "COPY --from=a /x /y",
            false,
            vec![layer("copy")],
        )],
    };
    Record {
        materials: BTreeSet::from([Material::image(&base, &platform, &digest("base"))]),
        images: BTreeMap::new(),
        stages: BTreeMap::from([(0, first), (1, second)]),
    }
}

fn invocation() -> Invocation {
    Invocation {
        context: None,
        dockerfile: None,
        path: "Dockerfile".into(),
        text: TEXT.into(),
        args: BTreeMap::from([
            ("build-arg:TOKEN".to_owned(), "is hunter2".to_owned()),
            ("label:a".to_owned(), "b".to_owned()),
            ("target".to_owned(), "t".to_owned()),
        ]),
        locals: vec!["context".into(), "dockerfile".into()],
        started: "2001-01-01T00:00:00Z".into(),
        finished: "2001-01-01T00:01:00Z".into(),
        id: Some("id".into()),
    }
}

fn make(mode: Mode, invocation: &Invocation) -> Value {
    let options = ProvenanceOptions {
        mode,
        ..ProvenanceOptions::default()
    };
    let hide = |text: &str| text.replace("hunter2", "****");
    predicate(&options, invocation, &record(), &hide)
}

#[test]
fn the_least() {
    let base = digest("base").hex();
    let wanted = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": { "path": "Dockerfile" },
                "request": {
                    "frontend": "dockerfile.v0",
                    "args": { "target": "t" },
                    "locals": [{ "name": "context" }, { "name": "dockerfile" }],
                },
            },
            "internalParameters": { "builderPlatform": Platform::host().to_string() },
            "resolvedDependencies": [{
                "uri": "pkg:docker/base@latest?platform=linux%2Farm64",
                "digest": { "sha256": base },
            }],
        },
        "runDetails": {
            "builder": { "id": BUILDER },
            "metadata": {
                "invocationId": "id",
                "startedOn": "2001-01-01T00:00:00Z",
                "finishedOn": "2001-01-01T00:01:00Z",
                "buildkit_hermetic": false,
                "buildkit_completeness": { "request": false, "resolvedDependencies": false },
                "buildkit_reproducible": false,
            },
        },
    });
    assert_eq!(make(Mode::Min, &invocation()), wanted);
}

#[test]
fn the_most_has_arguments_and_steps_and_no_secret() {
    let value = make(Mode::Max, &invocation());
    let text = value.to_string();
    assert!(
        !text.contains("hunter2") && !text.contains("user:word"),
        "{text}"
    );
    let request = &value["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:TOKEN"], "is ****");
    assert_eq!(request["secrets"], json!([{ "id": "s", "optional": true }]));
    assert_eq!(request["ssh"], json!([]));
    let metadata = &value["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["request"], true);
    let source = &metadata["buildkit_metadata"]["source"];
    let data = source["infos"][0]["data"].as_str().expect("data");
    let data = String::from_utf8(STANDARD.decode(data).expect("base64")).expect("utf-8");
    assert_eq!(data, TEXT.replace("hunter2", "****"));

    let config = &value["buildDefinition"]["internalParameters"]["buildConfig"];
    let steps = config["llbDefinition"].as_array().expect("steps");
    let ids: Vec<&str> = steps.iter().filter_map(|s| s["id"].as_str()).collect();
    assert_eq!(ids, ["step0", "step1", "step2"]);
    let base = format!(
        "docker-image://docker.io/library/base:latest@{}",
        digest("base")
    );
    assert_eq!(steps[0]["op"]["Op"]["source"]["identifier"], base);
    assert_eq!(steps[1]["inputs"], json!(["step0:0"]));
    let exec = &steps[1]["op"]["Op"]["exec"];
    assert_eq!(exec["meta"]["args"][2], "make PASS=****");
    assert_eq!(exec["meta"]["env"], json!(["PATH=/bin"]));
    assert_eq!(exec["mounts"][1]["secretOpt"]["ID"], "s");
    assert_eq!(exec["secretenv"][0]["name"], "S");
    assert_eq!(steps[2]["inputs"], json!(["step1:0"]));
    let action = &steps[2]["op"]["Op"]["file"]["actions"][0];
    assert_eq!(
        action["Action"]["copy"],
        json!({ "src": "/x", "dest": "/y" })
    );
    assert_eq!(
        (&action["input"], &action["secondaryInput"]),
        (&json!(-1), &json!(0))
    );

    let lines = |step: &str| source["locations"][step]["locations"][0]["ranges"][0].clone();
    let range = |a, b| json!({ "start": { "line": a }, "end": { "line": b } });
    assert_eq!((lines("step1"), lines("step2")), (range(2, 3), range(5, 5)));
    let layers = &metadata["buildkit_metadata"]["layers"];
    assert_eq!(layers["step1:0"][0][1]["digest"], digest("run").to_string());
    assert_eq!(layers["step2:0"][0].as_array().expect("layers").len(), 1);
    let run = digest("RUN --mount=type=secret,id=s \\\n  make PASS=hunter2");
    assert_eq!(config["digestMapping"][run.to_string()], "step1");
}

#[test]
fn a_fetched_context_is_the_source_and_complete() {
    let origin = Origin {
        address: "https://example.com/a.git#main".into(),
        version: Version::Commit("4b220de5058abfd01ff619c9d2ff6b09a049bea0".into()),
    };
    let mut invocation = Invocation {
        context: Some(origin),
        locals: Vec::new(),
        args: BTreeMap::new(),
        ..invocation()
    };
    let value = make(Mode::Min, &invocation);
    let definition = &value["buildDefinition"];
    let source = &definition["externalParameters"]["configSource"];
    assert_eq!(source["uri"], "https://example.com/a.git#main");
    assert_eq!(
        source["digest"]["sha1"],
        "4b220de5058abfd01ff619c9d2ff6b09a049bea0"
    );
    assert_eq!(definition["resolvedDependencies"][0]["uri"], source["uri"]);
    let complete = &value["runDetails"]["metadata"]["buildkit_completeness"];
    assert_eq!(
        *complete,
        json!({ "request": true, "resolvedDependencies": true })
    );
    // Arguments don't show in the name of an invocation that has none of its own.
    invocation.id = None;
    let name = |args: &[(&str, &str)]| {
        let args = args.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        Invocation {
            args: args.collect(),
            ..invocation.clone()
        }
        .name()
    };
    assert_eq!(name(&[("build-arg:a", "1")]), name(&[("build-arg:a", "2")]));
    assert_ne!(name(&[("target", "1")]), name(&[("target", "2")]));
}
