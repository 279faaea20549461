//! What a case of the corpus says about its image.
//!
//! Responsible for one line of an `expect` section: its form and whether it is true. Must not know
//! how the image was made.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::hash::sha256;
use support::image::{Image, Node, NodeKind, Tree};

/// One line.
#[derive(Debug)]
pub(super) enum Expectation {
    /// Something is at a path.
    Node {
        /// Without a leading slash.
        path: String,
        /// `file`, `dir`, `link`, `fifo` or `device`.
        kind: String,
        /// Contents of a file, target of a link.
        content: Option<String>,
        /// Permission bits.
        mode: Option<u32>,
        /// `UID:GID`.
        owner: Option<String>,
        /// `NAME:VALUE` of each attribute; empty where there is none.
        attributes: Option<String>,
    },
    /// Nothing is at a path.
    Absent(String),
    /// These are all paths.
    Paths(BTreeSet<String>),
    /// A key of the config has a value.
    Config(String, Value),
    /// The history of some step has a text.
    History(String),
    /// So many layers.
    Layers(usize),
}

impl Expectation {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Self {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let json = |text: &str| {
            serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        match what {
            "file" | "dir" | "link" | "fifo" => Self::node(what, rest, json),
            "absent" => Self::Absent(plain(rest)),
            "paths" => Self::Paths(rest.split_whitespace().map(plain).collect()),
            "config" => {
                let (key, value) = rest.split_once(' ').expect("config KEY JSON");
                Self::Config(key.to_owned(), json(value))
            }
            "history" => Self::History(rest.to_owned()),
            "layers" => Self::Layers(rest.parse().expect("a number")),
            _ => panic!("`{line}` is no expectation"),
        }
    }

    fn node(kind: &str, rest: &str, json: impl Fn(&str) -> Value) -> Self {
        let (words, content) = match rest.find(" \"") {
            Some(at) => {
                let content = json(&rest[at + 1..]);
                (&rest[..at], content.as_str().map(str::to_owned))
            }
            None => (rest, None),
        };
        let mut words = words.split_whitespace();
        let path = plain(words.next().expect("a path"));
        let (mut mode, mut owner, mut attributes) = (None, None, None);
        for word in words {
            match word.split_once('=') {
                Some(("mode", value)) => {
                    mode = Some(u32::from_str_radix(value, 8).expect("an octal mode"));
                }
                Some(("owner", value)) => owner = Some(value.to_owned()),
                Some(("xattr", value)) => attributes = Some(value.to_owned()),
                _ => panic!("`{rest}`: `{word}`?"),
            }
        }
        let kind = kind.to_owned();
        Self::Node {
            path,
            kind,
            content,
            mode,
            owner,
            attributes,
        }
    }

    /// Returns what is wrong, if something is.
    pub(super) fn check(&self, image: &Image, tree: &Tree) -> Option<String> {
        match self {
            Self::Node {
                path,
                kind,
                content,
                mode,
                owner,
                attributes,
            } => {
                let Some(node) = tree.get(Path::new(path)) else {
                    return Some(format!("nothing is at `{path}`"));
                };
                let owned = format!("{}:{}", node.uid, node.gid);
                let wrong = kind != name(node)
                    || content.as_ref().is_some_and(|text| !holds(node, text))
                    || mode.is_some_and(|mode| mode != node.mode)
                    || owner.as_ref().is_some_and(|owner| *owner != owned)
                    || attributes
                        .as_ref()
                        .is_some_and(|wanted| *wanted != noted(node));
                wrong.then(|| format!("wanted {self:?}, found {node:?}"))
            }
            Self::Absent(path) => tree
                .contains_key(Path::new(path))
                .then(|| format!("`{path}` is there")),
            Self::Paths(wanted) => {
                let found: BTreeSet<String> =
                    tree.keys().map(|path| path.display().to_string()).collect();
                (found != *wanted).then(|| format!("wanted {wanted:?}, found {found:?}"))
            }
            Self::Config(key, wanted) => {
                let found = match key.as_str() {
                    "author" => &image.config["author"],
                    key => &image.config["config"][key],
                };
                (found != wanted).then(|| format!("{key}: wanted {wanted}, found {found}"))
            }
            Self::History(text) => {
                let history = image.config["history"].as_array();
                let steps: Vec<&str> = history
                    .into_iter()
                    .flatten()
                    .filter_map(|step| step["created_by"].as_str())
                    .collect();
                let found = steps.iter().any(|step| step.contains(text));
                (!found).then(|| format!("no {text:?} in the history {steps:#?}"))
            }
            Self::Layers(count) => (image.layer_count() != *count)
                .then(|| format!("{} layers, not {count}", image.layer_count())),
        }
    }
}

fn plain(path: &str) -> String {
    path.trim_matches('/').to_owned()
}

/// Writes the attributes of a node as an expectation has them.
fn noted(node: &Node) -> String {
    let attributes = node.xattrs.iter();
    let noted: Vec<String> = attributes
        .map(|(name, value)| format!("{name}:{}", String::from_utf8_lossy(value)))
        .collect();
    noted.join(",")
}

fn name(node: &Node) -> &str {
    match node.kind {
        NodeKind::Symlink(_) => "link",
        _ => node.kind.name(),
    }
}

fn holds(node: &Node, text: &str) -> bool {
    match &node.kind {
        NodeKind::File { sha256: found, .. } => *found == sha256(text.as_bytes()),
        NodeKind::Symlink(target) => target == text.as_bytes(),
        _ => false,
    }
}
