//! What the options of `build` are read as.

use super::super::Command;
use super::super::tests::parse;
use super::*;

fn request(args: &[&str], variables: &[(&str, &str)]) -> Result<Request> {
    let line: Vec<&str> = ["sandcrab", "build"].iter().chain(args).copied().collect();
    let Command::Build(args) = parse(&line).expect("a valid command line").command else {
        panic!("not a build");
    };
    args.request(&Environment::of(variables))
}

#[test]
fn a_fixed_date_is_a_build_argument_or_a_variable() {
    let of = |args: &[&str], value| {
        let request = request(args, &[("SOURCE_DATE_EPOCH", value)]);
        request.map(|r| (r.epoch, r.build_args.len())).ok()
    };
    assert_eq!(of(&["."], "1700000000"), Some((Some(1_700_000_000), 1)));
    let args = ["--build-arg=SOURCE_DATE_EPOCH=5", "."];
    assert_eq!(of(&args, "6"), Some((Some(5), 1)));
    let args = ["--build-arg=SOURCE_DATE_EPOCH=", "."];
    assert_eq!(of(&args, "6"), Some((None, 1)));
    assert_eq!(of(&["."], "").map(|(epoch, _)| epoch), Some(None));
    assert_eq!(of(&["."], "yesterday"), None);
    assert_eq!(of(&["."], "-1"), None);
}

#[test]
fn the_least_and_the_most() {
    let least = request(&["."], &[]).expect("request");
    assert_eq!(
        least,
        Request {
            context: Location::Directory(".".into()),
            dockerfile: DockerfileLocation::Default,
            contexts: BTreeMap::new(),
            target: None,
            build_args: Vec::new(),
            epoch: None,
            annotations: Annotations::default(),
            result: ResultOptions::default(),
            attests: Wanted::default(),
            metadata_provenance: Some(attest::options::Mode::Min),
            metadata_warnings: false,
            platform: Platform::host(),
            platforms: vec![Platform::host()],
            index: false,
            pull: PullPolicy::Missing,
            tags: Vec::new(),
            labels: Vec::new(),
            outputs: Vec::new(),
            iidfile: None,
            metadata_file: None,
            no_cache: false,
            caches: CacheRequest::default(),
            network: Network::Host,
            steps: StepOptions {
                device_directories: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
                ..StepOptions::default()
            },
            secrets: SecretRequest::default(),
            ssh: SshRequest::default(),
            call: None,
            progress: Mode::Auto,
            quiet: false,
        }
    );
    let most = request(
        &[
            "-f",
            "d/Dockerfile",
            "-t",
            "a",
            "--tag",
            "b:1",
            "--target=x",
            "--build-arg",
            "A=1",
            "--build-arg",
            "B",
            "--build-arg",
            "C",
            "--build-arg=A=2",
            "--label",
            "l=v=w",
            "--label",
            "m",
            "--no-cache",
            "--network=none",
            "-o",
            "type=oci,dest=x.tar",
            "--push",
            "--load",
            "--iidfile",
            "i",
            "--metadata-file",
            "m",
            "--progress=rawjson",
            "--pull",
            "--jobs",
            "3",
            "--isolation",
            "emulated",
            "-",
        ],
        &[("B", "from environment")],
    )
    .expect("request");
    assert_eq!(
        most.dockerfile,
        DockerfileLocation::Path("d/Dockerfile".into())
    );
    assert_eq!(most.context, Location::Stdin);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        most.build_args,
        [pair("B", "from environment"), pair("A", "2")]
    );
    assert_eq!(most.labels, [pair("l", "v=w"), pair("m", "")]);
    assert_eq!(most.network, Network::None);
    assert_eq!(most.pull, PullPolicy::Always);
    assert_eq!(most.progress, Mode::RawJson);
    assert_eq!(most.outputs.len(), 2);
    assert_eq!(most.outputs[1].target, Target::Image(ImageTarget::PUSH));
    assert_eq!(most.tags.len(), 2);
}

#[test]
fn contradictions_are_found() {
    for (args, wanted) in [
        (
            &["-f", "-", "-"][..],
            "context and Dockerfile can't both come from standard input",
        ),
        (
            &["-t", "a", "-o", "type=none", "."],
            "output type=none makes no image",
        ),
        (&["--annotation", "x", "."], "invalid annotation `x`"),
        (&["--push", "."], "an image without a name can't be pushed"),
        (&["-t", "UPPER", "."], "invalid image reference `UPPER`"),
        (
            &[
                "-t",
                "a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                ".",
            ],
            "a name for the result can't have a digest",
        ),
        (
            &["-o", "-", "-o", "type=oci,dest=-", "."],
            "only one output can go to standard output",
        ),
        (
            &["-o", "out", "-o", "type=oci,dest=out", "."],
            "two outputs go to `out`",
        ),
        (
            &["-q", "-o", "-", "."],
            "--quiet prints the id where the output should go",
        ),
        (&["--build-arg", "=x", "."], "build argument without a name"),
        (&["--pull=sometimes", "."], "--pull can't be `sometimes`"),
        (
            &["https://example.com/x.git?what=1"],
            "invalid git address `https://example.com/x.git?what=1`",
        ),
        (&[""], "the context is empty"),
    ] {
        let error = request(args, &[]).expect_err(wanted);
        assert_eq!(error.get_kind(), Kind::Usage, "{args:?}");
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
}

#[test]
fn the_progress_mode_has_an_order() {
    for (args, variables, wanted) in [
        (
            &["."][..],
            &[("BUILDKIT_PROGRESS", "plain")][..],
            Mode::Plain,
        ),
        (
            &["."],
            &[("BUILDKIT_PROGRESS", "plain"), ("SANDCRAB_PROGRESS", "tty")],
            Mode::Tty,
        ),
        (
            &["--progress=tty", "."],
            &[("SANDCRAB_PROGRESS", "plain")],
            Mode::Tty,
        ),
        (
            &["--progress=auto", "."],
            &[("SANDCRAB_PROGRESS", "plain")],
            Mode::Plain,
        ),
        (&["."], &[("CI", "true")], Mode::Plain),
        (&["-q", "."], &[("SANDCRAB_PROGRESS", "plain")], Mode::Quiet),
        (&["-q", "--progress=plain", "."], &[], Mode::Plain),
    ] {
        let request = request(args, variables).expect("request");
        assert_eq!(request.progress, wanted, "{args:?} {variables:?}");
    }
}
