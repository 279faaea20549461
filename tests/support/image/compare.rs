//! The differences between two images.
//!
//! Responsible for deciding what counts: paths, kinds, contents, owners, modes, attributes, and
//! the fields of the config that decide how a container runs. Times of making, history and
//! authorship never count. Must not read images.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::flatten::{Node, NodeKind, Tree, flatten};
use super::read::Image;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// Leave out these paths and what is below them; without a leading slash.
    pub ignore: Vec<PathBuf>,
    /// Leave out these keys of `config`, such as `Healthcheck`.
    pub ignore_config: Vec<String>,
    /// Leave out labels with these keys.
    pub ignore_labels: Vec<String>,
    /// Leave out extended attributes whose names begin so.
    pub ignore_xattrs: Vec<String>,
    /// Compare modification times, in seconds.
    pub mtime: bool,
    /// Compare uid and gid.
    pub owner: bool,
    /// Compare the configs.
    pub config: bool,
    /// Compare which names are hard links of each other.
    pub hard_links: bool,
    /// Compare kinds, modes and contents only.
    pub content_only: bool,
}

impl Options {
    /// Everything but times and hard links.
    pub fn standard() -> Self {
        Self {
            ignore: Vec::new(),
            ignore_config: Vec::new(),
            ignore_labels: Vec::new(),
            ignore_xattrs: Vec::new(),
            mtime: false,
            owner: true,
            config: true,
            hard_links: false,
            content_only: false,
        }
    }

    /// Adds paths to leave out.
    #[must_use]
    pub fn ignoring(mut self, paths: &[&str]) -> Self {
        self.ignore.extend(paths.iter().map(PathBuf::from));
        self
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// One line for each difference.
    pub differences: Vec<String>,
    /// How many paths the two images have.
    pub paths: (usize, usize),
    /// How many layers the two images have.
    pub layers: (usize, usize),
}

/// Keys of `config` that decide how a container runs.
const CONFIG_KEYS: [&str; 12] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// Compares two images.
///
/// # Errors
/// When one of them can't be read.
pub fn compare(a: &Image, b: &Image, options: &Options) -> Result<Comparison> {
    let (tree_a, tree_b) = (flatten(a)?, flatten(b)?);
    let mut differences = compare_trees(&tree_a, &tree_b, options);
    if options.config {
        differences.extend(compare_configs(&a.config, &b.config, options));
    }
    Ok(Comparison {
        differences,
        paths: (tree_a.len(), tree_b.len()),
        layers: (a.layer_count(), b.layer_count()),
    })
}

/// Expects that two images agree.
///
/// # Panics
/// When they don't, with every difference; and when one of them can't be read.
#[track_caller]
pub fn assert_same(a: &Image, b: &Image, options: &Options) {
    let found = compare(a, b, options).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(
        found.differences.is_empty(),
        "the images differ:\n{}",
        found.differences.join("\n")
    );
}

/// Compares two trees; one line for each difference.
pub fn compare_trees(a: &Tree, b: &Tree, options: &Options) -> Vec<String> {
    let (groups_a, groups_b) = (link_groups(a), link_groups(b));
    let paths: BTreeSet<&PathBuf> = a.keys().chain(b.keys()).collect();
    let mut differences = Vec::new();
    for path in paths {
        if options.ignore.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        let shown = path.display();
        match (a.get(path), b.get(path)) {
            (Some(a), None) => differences.push(format!("only in A: {shown} ({})", a.kind.name())),
            (None, Some(b)) => differences.push(format!("only in B: {shown} ({})", b.kind.name())),
            (Some(a), Some(b)) => {
                for (field, a, b) in differing_fields(a, b, options) {
                    differences.push(format!("{shown}: {field}: {a} != {b}"));
                }
                let same_links = groups_a.get(path.as_path()) == groups_b.get(path.as_path());
                if options.hard_links && !same_links {
                    differences.push(format!(
                        "{shown}: hard links: {:?} != {:?}",
                        groups_a
                            .get(path.as_path())
                            .map_or(&[] as &[_], Vec::as_slice),
                        groups_b
                            .get(path.as_path())
                            .map_or(&[] as &[_], Vec::as_slice),
                    ));
                }
            }
            (None, None) => {}
        }
    }
    differences
}

/// Maps each name of a file with several names to all of them.
fn link_groups(tree: &Tree) -> BTreeMap<&Path, Vec<&Path>> {
    let mut by_inode: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for (path, node) in tree {
        if node.kind != NodeKind::Directory {
            by_inode.entry(&node.inode).or_default().push(path);
        }
    }
    let mut groups = BTreeMap::new();
    for names in by_inode.into_values().filter(|names| names.len() > 1) {
        for name in &names {
            groups.insert(*name, names.clone());
        }
    }
    groups
}

/// Returns the fields in which two nodes differ; a kind of file lacks some of them.
fn differing_fields(a: &Node, b: &Node, options: &Options) -> Vec<(&'static str, String, String)> {
    let (a, b) = (fields(a, options), fields(b, options));
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let shown = |fields: &BTreeMap<_, String>, name| {
        fields
            .get(name)
            .map_or_else(|| "none".to_owned(), String::clone)
    };
    names
        .into_iter()
        .filter(|name| a.get(name) != b.get(name))
        .map(|name| (name, shown(&a, name), shown(&b, name)))
        .collect()
}

fn fields(node: &Node, options: &Options) -> BTreeMap<&'static str, String> {
    let mut fields = BTreeMap::from([("type", node.kind.name().to_owned())]);
    match &node.kind {
        NodeKind::File { size, sha256 } => {
            fields.insert("size", size.to_string());
            fields.insert("sha256", sha256[..16].to_owned());
        }
        NodeKind::Symlink(target) => {
            fields.insert("link", bytes(target));
        }
        device @ NodeKind::Device { .. } if !options.content_only => {
            fields.insert("dev", format!("{device:?}"));
        }
        _ => {}
    }
    // A symbolic link's mode means nothing to the kernel, and builders write different ones.
    if !matches!(node.kind, NodeKind::Symlink(_)) {
        fields.insert("mode", format!("{:#o}", node.mode));
    }
    if options.content_only {
        return fields;
    }
    if options.owner {
        fields.insert("uid", node.uid.to_string());
        fields.insert("gid", node.gid.to_string());
    }
    fields.insert("xattr", attributes(node, options));
    if options.mtime {
        fields.insert("mtime", node.mtime.to_string());
    }
    fields
}

fn bytes(value: &[u8]) -> String {
    format!("{:?}", OsStr::from_bytes(value))
}

fn attributes(node: &Node, options: &Options) -> String {
    let ignored = |name: &str| {
        options
            .ignore_xattrs
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let each = node
        .xattrs
        .iter()
        .filter(|(name, _)| !ignored(name))
        .map(|(name, value)| format!("{name}={}", bytes(value)));
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

/// Compares what the configs say about running a container and about the platform.
fn compare_configs(a: &Value, b: &Value, options: &Options) -> Vec<String> {
    let mut differences = Vec::new();
    for key in CONFIG_KEYS {
        if options.ignore_config.iter().any(|ignored| ignored == key) {
            continue;
        }
        let a = normal_field(key, &a["config"][key], options);
        let b = normal_field(key, &b["config"][key], options);
        if a != b {
            differences.push(format!("config.{key}: {a} != {b}"));
        }
    }
    for key in ["os", "architecture", "variant"] {
        let (a, b) = (normal_value(&a[key]), normal_value(&b[key]));
        if a != b {
            differences.push(format!("{key}: {a} != {b}"));
        }
    }
    differences
}

fn normal_field(key: &str, value: &Value, options: &Options) -> Value {
    let mut value = value.clone();
    match (&mut value, key) {
        (Value::Array(list), "Env") => list.sort_by_key(Value::to_string),
        (Value::Object(labels), "Labels") => {
            labels.retain(|label, _| !options.ignore_labels.contains(label));
        }
        // What a container's program starts in where nothing is said.
        (Value::String(directory), "WorkingDir") if directory == "/" => directory.clear(),
        _ => {}
    }
    normal_value(&value)
}

/// Empty and absent are the same: builders differ in which of them they write.
fn normal_value(value: &Value) -> Value {
    let empty = match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.is_empty(),
    };
    if empty { Value::Null } else { value.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn config_differences_are_those_that_a_container_sees() {
        let a = json!({"os": "linux", "created": "x", "history": [1],
            "config": {"Env": ["B=2", "A=1"], "Cmd": [], "Labels": {"k": "v", "tool": "a"}}});
        let b = json!({"os": "linux", "created": "y",
            "config": {"Env": ["A=1", "B=2"], "Labels": {"k": "v"}}});
        let mut options = Options::standard();
        assert_eq!(compare_configs(&a, &b, &options).len(), 1);
        options.ignore_labels.push("tool".to_owned());
        assert_eq!(compare_configs(&a, &b, &options), [] as [String; 0]);
        let c = json!({"os": "linux", "config": {"Env": ["A=1"], "Labels": {"k": "v"}}});
        assert_eq!(compare_configs(&a, &c, &options).len(), 1);
    }
}
