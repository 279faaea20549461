//! COVERAGE.md is complete and true.
//!
//! Responsible for comparing it with the specification's types and the tests, both read as text:
//! the libraries are not reached into.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    support::user::repository().join("tests/runtime")
}

fn table() -> String {
    std::fs::read_to_string(directory().join("COVERAGE.md")).expect("read COVERAGE.md")
}

/// The words in backticks of a cell.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The cells of the rows of all tables.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The JSON names of the fields of all types in the specification's modules.
fn fields() -> BTreeSet<String> {
    let sources = support::user::repository().join("runtime/src/spec");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(sources)
        .expect("list the types")
        .flatten()
    {
        let text = std::fs::read_to_string(entry.path()).expect("read a source");
        let text = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_owned();
        let mut renamed = None;
        for line in text.lines().map(str::trim) {
            if let Some((_, rest)) = line.split_once("rename = \"") {
                renamed = rest.split('"').next().map(str::to_owned);
            }
            let field = line
                .strip_prefix("pub ")
                .and_then(|rest| rest.split_once(": "));
            if let Some((name, _)) = field.filter(|(name, _)| !name.contains([' ', '('])) {
                names.insert(renamed.take().unwrap_or_else(|| camel_case(name)));
            }
        }
    }
    names
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (initial, rest) = word.split_at(1);
        text + &initial.to_uppercase() + rest
    })
}

/// The names of all tests, with their modules.
fn tests(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory)
        .expect("list the tests")
        .flatten()
    {
        let path = entry.path();
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            tests(&path, &format!("{prefix}{stem}::"), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("read a source");
            for line in text.lines().filter(|line| line.contains("(world) as [")) {
                let name = line.trim().trim_start_matches("fn ").split('(').next();
                found.insert(format!("{prefix}{stem}::{}", name.unwrap_or_default()));
            }
        }
    }
}

#[test]
fn every_field() {
    let text = table();
    let named: BTreeSet<String> = rows(&text)
        .iter()
        .filter(|cells| cells.len() == 2)
        .flat_map(|cells| words(cells[0]))
        .filter_map(|field| field.rsplit('.').next())
        .map(|field| field.trim_end_matches("[]").to_owned())
        .collect();
    let fields = fields();
    assert!(
        fields.len() > 100,
        "the types were not understood: {fields:?}"
    );
    let missing: Vec<&String> = fields.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "fields that COVERAGE.md does not have: {missing:?}"
    );
}

#[test]
fn every_test() {
    let text = table();
    let mut found = BTreeSet::new();
    tests(&directory(), "", &mut found);
    for cells in rows(&text)
        .iter()
        .filter(|cells| cells.last() != Some(&"tests"))
    {
        assert!(
            cells.iter().all(|cell| !cell.is_empty()),
            "an empty cell: {cells:?}"
        );
        let named = words(cells.last().expect("a row has cells"));
        assert!(!named.is_empty(), "no test: {cells:?}");
        for test in named {
            assert!(found.contains(test), "{test} does not exist: {cells:?}");
        }
    }
}
