//! The corpus: Dockerfiles with their contexts, as text.
//!
//! Responsible for the form of the files in `corpus/`, which `corpus/README.md` describes, and for
//! laying a case out on disk. Must not know what is built with it. Invariant: a word that is not
//! understood is a panic, never left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::World;
use support::user::repository;

use super::expectation::Expectation;

/// A Dockerfile with what it needs, and what should come of it.
#[derive(Debug)]
pub(super) struct Case {
    /// Name of its file and its own, as `parser::bom`.
    pub name: String,
    /// Arguments for every builder.
    pub arguments: Vec<String>,
    /// Arguments for ours alone.
    pub ours: Vec<String>,
    /// Variables of the builder's environment.
    pub environment: Vec<(String, String)>,
    /// What buildah makes of it doesn't count; why.
    pub alone: Option<String>,
    /// The build must fail, and say these with their places.
    pub fails: Vec<Failure>,
    /// What must be on standard error of a build that succeeds.
    pub warns: Vec<String>,
    /// What must be true of the image.
    pub expectations: Vec<Expectation>,
    files: Vec<Entry>,
}

/// A message that is expected.
#[derive(Debug)]
pub(super) struct Failure {
    /// `FILE:LINE:COLUMN`, or without the column where a step fails; unless it is about no place.
    pub place: Option<String>,
    /// A part of what it says.
    pub text: String,
}

/// Makes tar write a global header, as `git archive` does, and leave out what changes each time.
const PAX_OPTION: &str = "--pax-option=globexthdr.comment=files,delete=atime,delete=ctime";

#[derive(Debug)]
struct Entry {
    path: String,
    mode: Option<u32>,
    /// An extended attribute and its value.
    attribute: Option<(String, String)>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(Vec<u8>),
    Directory,
    Link(String),
    /// An archive of a directory of the context; its name says how it is compressed.
    Archive(String),
    /// One that has the directory's files and not the directories, after a global header.
    Files(String),
}

/// The directory with the files of the corpus.
pub(super) fn directory() -> PathBuf {
    repository().join("tests/dockerfile/corpus")
}

/// The names of the corpus' files.
pub(super) fn groups() -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory()).expect("list the corpus");
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".txt")?.to_owned()))
        .collect()
}

/// Reads all cases of a file. `bases` gives the references that stand for `@NAME@`.
pub(super) fn read(group: &str, bases: &[(&str, String)]) -> Vec<Case> {
    let path = directory().join(format!("{group}.txt"));
    let mut text = std::fs::read_to_string(path).expect("read a file of the corpus");
    for (name, reference) in bases {
        text = text.replace(&format!("@{name}@"), reference);
    }
    let mut names = BTreeSet::new();
    let cases = text.split("\n=== ").skip(1).map(|text| case(group, text));
    cases
        .inspect(|case| assert!(names.insert(case.name.clone()), "{} twice", case.name))
        .collect()
}

fn case(group: &str, text: &str) -> Case {
    let (title, rest) = text.split_once('\n').expect("a case has lines");
    let (name, about) = title
        .split_once(": ")
        .unwrap_or_else(|| panic!("`{title}` doesn't say what it is about"));
    assert!(!about.is_empty() && !name.contains(' '), "{title}");
    let mut case = Case {
        name: format!("{group}::{name}"),
        arguments: Vec::new(),
        ours: Vec::new(),
        environment: Vec::new(),
        alone: None,
        fails: Vec::new(),
        warns: Vec::new(),
        expectations: Vec::new(),
        files: Vec::new(),
    };
    let mut sections = rest.split("\n--- ");
    let head = sections.next().unwrap_or_default();
    // A head without lines leaves its section's mark at the beginning of the text.
    let (head, first) = match head.strip_prefix("--- ") {
        Some(section) => ("", Some(section)),
        None => (head, None),
    };
    for line in head.lines().filter(|line| !line.is_empty()) {
        header(&mut case, line);
    }
    for section in first.into_iter().chain(sections) {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        if title == "expect" {
            let lines = body.lines().filter(|line| !line.is_empty());
            case.expectations.extend(lines.map(Expectation::parse));
        } else {
            let file = entry(title, body);
            case.files.push(file);
        }
    }
    assert!(
        case.alone.is_none() || !case.fails.is_empty() || !case.expectations.is_empty(),
        "{}: nothing is expected",
        case.name
    );
    case
}

fn header(case: &mut Case, line: &str) {
    let (key, value) = line
        .split_once(": ")
        .unwrap_or_else(|| panic!("{}: `{line}`", case.name));
    let value = value.to_owned();
    match key {
        "arg" => case.arguments.push(value),
        "ours" => case.ours.push(value),
        "env" => {
            let (name, value) = value.split_once('=').expect("env: NAME=VALUE");
            case.environment.push((name.to_owned(), value.to_owned()));
        }
        "alone" => case.alone = Some(value),
        "warns" => case.warns.push(value),
        "fails" => {
            let (place, text) = value.split_once(' ').expect("fails: PLACE TEXT");
            let place = match place {
                "-" => None,
                at if at.starts_with(|first: char| first.is_ascii_digit()) => {
                    Some(format!("Dockerfile:{at}"))
                }
                at => Some(at.to_owned()),
            };
            case.fails.push(Failure {
                place,
                text: text.to_owned(),
            });
        }
        other => panic!("{}: there is no `{other}:`", case.name),
    }
}

fn entry(title: &str, body: &str) -> Entry {
    // An empty line before the next mark belongs to the reader of the file, not to its content.
    let mut text = body.trim_end_matches('\n').to_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    let mut bytes = text.into_bytes();
    let mut words = title.split(' ');
    let path = words.next().unwrap_or_default();
    let mut entry = Entry {
        path: path.trim_end_matches('/').replace(r"\b", " "),
        mode: None,
        attribute: None,
        content: Content::Directory,
    };
    for word in words {
        match word.split_once('=') {
            Some(("mode", mode)) => {
                entry.mode = Some(u32::from_str_radix(mode, 8).expect("an octal mode"));
            }
            Some(("link", target)) => entry.content = Content::Link(target.to_owned()),
            Some(("packed", from)) => entry.content = Content::Archive(from.to_owned()),
            Some(("files", from)) => entry.content = Content::Files(from.to_owned()),
            Some(("xattr", attribute)) => {
                let (name, value) = attribute.split_once(':').expect("xattr=NAME:VALUE");
                entry.attribute = Some((name.to_owned(), value.to_owned()));
            }
            None if word == "escaped" => bytes = unescaped(&bytes),
            None if word == "open" => drop(bytes.pop()),
            _ => panic!("`{title}`: `{word}`?"),
        }
    }
    if !path.ends_with('/') && matches!(entry.content, Content::Directory) {
        entry.content = Content::File(bytes);
    }
    entry
}

/// Replaces `\r`, `\t`, `\b` (a blank), `\\` and `\xNN`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, length) = match rest {
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'b', ..] => (b' ', 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', a, b, ..] => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).expect("two digits");
                (u8::from_str_radix(digits, 16).expect("two digits"), 3)
            }
            _ => panic!("an unknown escape before {:?}", rest.first()),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

/// Makes an archive that is the same each time.
fn pack(world: &World, archive: &str, directory: &str, arguments: &[&str]) {
    world
        .command("tar")
        .args(["--create", "--auto-compress", "--sort=name"])
        .args(["--mtime=@1600000000", "--owner=0", "--group=0", "--file"])
        .arg(archive)
        .args(["--directory", directory])
        .args(arguments.iter().copied())
        .ok();
}

/// The files below a directory, by paths within it.
fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(place) = open.pop() {
        for entry in std::fs::read_dir(&place)
            .expect("list a directory")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let inside = path.strip_prefix(directory).expect("it is below");
            found.push(inside.to_str().expect("UTF-8").to_owned());
        }
    }
    found.sort();
    found
}

impl Case {
    /// Writes the files below a directory of a world. Paths that begin with `../` are beside the
    /// context.
    pub(super) fn lay_out(&self, world: &World, directory: &str) {
        world.make_dir(&format!("{directory}/ctx"));
        for entry in &self.files {
            let path = match entry.path.strip_prefix("../") {
                Some(beside) => format!("{directory}/{beside}"),
                None => format!("{directory}/ctx/{}", entry.path),
            };
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            world.make_dir(parent);
            match &entry.content {
                Content::File(bytes) => drop(world.write(&path, bytes)),
                Content::Directory => drop(world.make_dir(&path)),
                Content::Link(target) => world.link(&path, target),
                Content::Archive(_) | Content::Files(_) => continue,
            }
            if let Some((name, value)) = &entry.attribute {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(world.path(&path), name, value.as_bytes(), flags)
                    .unwrap_or_else(|error| panic!("set {name} of {path}: {error}"));
            }
        }
        // After all files, so that a directory that can't be written to can be filled.
        for entry in &self.files {
            if let Some(mode) = entry.mode {
                world.set_mode(&format!("{directory}/ctx/{}", entry.path), mode);
            }
        }
        // Last, with the modes that were set.
        for entry in &self.files {
            let archive = format!("{directory}/ctx/{}", entry.path);
            match &entry.content {
                Content::Archive(from) => {
                    pack(world, &archive, &format!("{directory}/ctx/{from}"), &["."]);
                }
                Content::Files(from) => {
                    let from = format!("{directory}/ctx/{from}");
                    let files = files_below(&world.path(&from));
                    let mut arguments = vec!["--format=pax", "--xattrs", PAX_OPTION];
                    arguments.extend(files.iter().map(String::as_str));
                    pack(world, &archive, &from, &arguments);
                }
                _ => {}
            }
        }
    }
}
