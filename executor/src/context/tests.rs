use super::*;
use crate::context::archive::tests::tar_of;
use crate::context::digest::NoDigests;
use crate::context::walk::Pick;
use std::fs;
use std::path::PathBuf;

struct Case {
    location: Location,
    dockerfile: DockerfileLocation,
    stdin: Vec<u8>,
}

impl Case {
    fn open(&self) -> Result<(Context, DockerfileText)> {
        let tmp = tempfile::tempdir().expect("temporary directory");
        let mut stdin = &self.stdin[..];
        let opened = open(OpenRequest {
            location: &self.location,
            dockerfile: &self.dockerfile,
            stdin: &mut stdin,
            tmp: tmp.path(),
            access: &Access::default(),
        });
        // What was unpacked belongs to the context, which the tests look at.
        drop(tmp.keep());
        opened
    }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }
    dir
}

fn select(context: &Context, source: &str) -> Result<Selection> {
    let sources = vec![source.to_owned()];
    let request = SelectRequest {
        pick: &Pick::plain(sources),
        chmod: None,
        owners: None,
        whole: false,
    };
    context.select(&request, &NoDigests)
}

fn local(dir: &tempfile::TempDir, dockerfile: DockerfileLocation) -> Case {
    Case {
        location: Location::Directory(dir.path().to_owned()),
        dockerfile,
        stdin: b"FROM stdin\n".to_vec(),
    }
}

#[test]
fn finds_the_dockerfile_and_its_ignore_file() {
    let dir = directory(&[
        ("Dockerfile", "FROM a"),
        ("Containerfile", "FROM b"),
        (".dockerignore", "x\nDockerfile\n"),
        ("sub/Other", "FROM c"),
        ("sub/Other.dockerignore", "y\n"),
        ("x", ""),
        ("y", ""),
    ]);
    let in_context = DockerfileLocation::Path(dir.path().join("sub/Other"));
    let relative = DockerfileLocation::Path(PathBuf::from("sub/Other"));
    for (dockerfile, text, hidden, seen) in [
        (DockerfileLocation::Default, "FROM a", "x", "y"),
        (in_context, "FROM c", "y", "x"),
        (relative, "FROM c", "y", "x"),
        (DockerfileLocation::Stdin, "FROM stdin\n", "x", "y"),
    ] {
        let (context, found) = local(&dir, dockerfile).open().expect(text);
        assert_eq!(found.bytes, text.as_bytes());
        assert!(select(&context, hidden).is_err(), "{text}");
        assert!(select(&context, seen).is_ok(), "{text}");
        assert!(!context.is_private());
    }
    fs::remove_file(dir.path().join("Dockerfile")).expect("remove");
    let (_, found) = local(&dir, DockerfileLocation::Default)
        .open()
        .expect("second");
    assert_eq!(
        (found.name.as_str(), found.bytes.as_slice()),
        ("Containerfile", &b"FROM b"[..])
    );
}

/// As Docker has it, wherever a file is called `Dockerfile` that is not there.
#[test]
fn a_dockerfile_may_be_in_lower_case() {
    let dir = directory(&[
        ("dockerfile", "FROM a"),
        ("Containerfile", "FROM b"),
        ("sub/dockerfile", "FROM c"),
        ("sub/dockerfile.dockerignore", "x\n"),
        ("x", ""),
    ]);
    let absolute = dir.path().join("sub/Dockerfile");
    for (dockerfile, name, text) in [
        (DockerfileLocation::Default, "dockerfile", "FROM a"),
        (
            DockerfileLocation::Path("sub/Dockerfile".into()),
            "sub/dockerfile",
            "FROM c",
        ),
        (
            DockerfileLocation::Path(absolute),
            "sub/dockerfile",
            "FROM c",
        ),
    ] {
        let (context, found) = local(&dir, dockerfile).open().expect(text);
        assert!(found.name.ends_with(name), "{}", found.name);
        assert_eq!(found.bytes, text.as_bytes());
        assert_eq!(select(&context, "x").is_err(), text == "FROM c");
    }
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let dir = directory(&[
        ("Dockerfiel", "FROM a"),
        ("bad/Dockerfile", ""),
        ("bad/.dockerignore", "a\n[\n"),
    ]);
    let error = local(&dir, DockerfileLocation::Default)
        .open()
        .expect_err("none");
    assert_eq!(error.get_kind(), Kind::NotFound);
    assert_eq!(error.hints(), ["there is a `Dockerfiel`; name it with -f"]);

    let named = DockerfileLocation::Path("Dockerfil".into());
    let error = local(&dir, named).open().expect_err("none");
    assert_eq!(error.hints(), ["did you mean `Dockerfiel`?"]);

    let mut case = local(&dir, DockerfileLocation::Default);
    case.location = Location::Directory(dir.path().join("bad"));
    let error = case.open().expect_err("bad pattern");
    assert!(
        error.to_string().contains("on line 2 of `.dockerignore`"),
        "{error}"
    );

    case.location = Location::Directory(dir.path().join("missing"));
    assert_eq!(case.open().expect_err("missing").get_kind(), Kind::NotFound);
    case.location = Location::Directory(dir.path().join("Dockerfiel"));
    let error = case.open().expect_err("a file");
    assert!(error.hints()[0].contains("redirect standard input"));
    case.location = Location::Stdin;
    case.dockerfile = DockerfileLocation::Stdin;
    assert_eq!(case.open().expect_err("both").get_kind(), Kind::Usage);
}

#[test]
fn a_dockerfile_that_is_no_file_does_not_block() {
    let dir = directory(&[]);
    let path = dir.path().join("Dockerfile");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("mkfifo");
    let error = local(&dir, DockerfileLocation::Default)
        .open()
        .expect_err("a FIFO");
    assert!(error.to_string().contains("not a regular file"));
    fs::remove_file(&path).expect("remove");
    std::os::unix::fs::symlink("/etc/hostname", &path).expect("symlink");
    let error = local(&dir, DockerfileLocation::Default)
        .open()
        .expect_err("a link");
    assert!(
        error
            .to_string()
            .contains("leads nowhere inside the context")
    );
}

#[test]
fn standard_input_is_an_archive_or_a_dockerfile() {
    let tar = tar_of(&[
        ("Dockerfile", b"FROM a"),
        ("sub/Other", b"FROM b"),
        (".dockerignore", b"x"),
        ("x", b""),
        ("y", b"Y"),
    ]);
    let mut case = Case {
        location: Location::Stdin,
        dockerfile: DockerfileLocation::Default,
        stdin: zstd::encode_all(&tar[..], 1).expect("zstd"),
    };
    let (context, found) = case.open().expect("archive");
    assert_eq!(found.bytes, b"FROM a");
    assert!(context.is_private());
    assert!(select(&context, "y").is_ok());
    assert!(select(&context, "x").is_err());
    case.dockerfile = DockerfileLocation::Path("sub/Other".into());
    assert_eq!(case.open().expect("named").1.bytes, b"FROM b");
    case.dockerfile = DockerfileLocation::Path("/etc/passwd".into());
    assert!(case.open().is_err());

    case.stdin = b"FROM scratch\n".to_vec();
    assert!(case.open().is_err(), "-f within a Dockerfile");
    case.dockerfile = DockerfileLocation::Default;
    let (context, found) = case.open().expect("Dockerfile");
    assert_eq!(found.bytes, b"FROM scratch\n");
    assert_eq!(select(&context, ".").expect("empty").files, 0);

    case.stdin = tar[..700].to_vec();
    let error = case.open().expect_err("truncated");
    assert!(
        error.chain().contains("unpack the context"),
        "{}",
        error.chain()
    );
}
