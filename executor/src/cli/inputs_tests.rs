//! The grammar of named contexts, and files with build arguments.

use super::*;

fn given(texts: &[&str]) -> Result<BTreeMap<String, NamedContext>> {
    let args = InputArgs {
        contexts: texts.iter().map(|t| (*t).to_owned()).collect(),
        argument_files: Vec::new(),
    };
    args.contexts()
}

fn one(text: &str) -> (String, NamedContext) {
    let found = given(&[text]).expect(text);
    found.into_iter().next().expect(text)
}

#[test]
fn kinds_of_contexts() {
    let digest = Digest::of(b"");
    let layout = |path: &str, tag: Option<&str>, digest: Option<Digest>| {
        NamedContext::Layout(Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
            digest,
        })
    };
    let pinned = format!("docker.io/library/a=oci-layout://some/dir:v1@{digest}");
    let by_digest = format!("a=oci-layout:///d@{digest}");
    for (text, name, wanted) in [
        (
            "a=.",
            "a",
            NamedContext::Files(Location::Directory(".".into())),
        ),
        (
            "alpine:latest=docker-image://debian:13",
            "alpine",
            NamedContext::Image("debian:13".parse().expect("reference")),
        ),
        ("a=oci-layout://d", "a", layout("d", None, None)),
        ("a=oci-layout://d:t", "a", layout("d", Some("t"), None)),
        ("a=oci-layout:///x:y/d", "a", layout("/x:y/d", None, None)),
        (&by_digest, "a", layout("/d", None, Some(digest))),
        (&pinned, "a", layout("some/dir", Some("v1"), Some(digest))),
        (
            "a::linux/arm64=https://example.com/x.tar",
            "a::linux/arm64",
            NamedContext::Files(Location::Url("https://example.com/x.tar".into())),
        ),
    ] {
        assert_eq!(one(text), (name.to_owned(), wanted), "{text}");
    }
    let (_, git) = one("a=https://example.com/x.git#main");
    assert!(
        matches!(git, NamedContext::Files(Location::Git(_))),
        "{git:?}"
    );
}

#[test]
fn what_is_no_context_is_refused_by_name() {
    for (text, wanted) in [
        ("a", "--build-context names no source: `a`"),
        ("a=", "--build-context names no source: `a=`"),
        ("=b", "--build-context names no source: `=b`"),
        ("A=.", "invalid context name `A`"),
        ("a=-", "context `a` can't come from standard input"),
        (
            "a=target:b",
            "context `a` can't be a target: only bake files have those",
        ),
        (
            "a=input:b://c",
            "context `a` has an unknown scheme: `input:b://c`",
        ),
        ("a=oci-layout://", "oci-layout:// names no directory: ``"),
    ] {
        let error = given(&[text]).expect_err(text);
        assert_eq!(
            (error.to_string().as_str(), error.get_kind()),
            (wanted, Kind::Usage)
        );
    }
    assert!(given(&["a::nonsense/x/y/z=."]).is_err());
    let error = given(&["a=nowhere-at-all"]).expect_err("no directory");
    assert_eq!(
        error.to_string(),
        "context `a` is not a directory: `nowhere-at-all`"
    );
}

#[test]
fn lines_of_an_argument_file() {
    let environment = Environment::of(&[("SET", "from outside")]);
    let read = |text: &str| {
        let mut found = Vec::new();
        let path = Path::new("args");
        arguments(text.as_bytes(), path, &environment, &mut found).map(|()| found)
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let found = read("# a comment\n\nA=1\r\n  B= x=y \nSET\nUNSET\nC=").expect("arguments");
    let wanted = [
        pair("A", "1"),
        pair("B", " x=y "),
        pair("SET", "from outside"),
        pair("C", ""),
    ];
    assert_eq!(found, wanted);
    for (text, wanted) in [
        ("A=1\n=2\n", "`args`, line 2: `` is no argument's name"),
        (
            "two words\n",
            "`args`, line 1: `two words` is no argument's name",
        ),
    ] {
        assert_eq!(read(text).expect_err(text).to_string(), wanted);
    }
}
