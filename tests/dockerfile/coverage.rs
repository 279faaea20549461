//! COVERAGE.md is true: every test that it names exists.
//!
//! Responsible for comparing its tables with the tests, both read as text. Must not know what the
//! tests do.

use std::collections::BTreeSet;
use std::path::Path;

use support::user::repository;

use super::corpus;

/// A row of a table: what it is about, and the names of its tests.
struct Row<'a> {
    about: &'a str,
    cell: &'a str,
}

impl<'a> Row<'a> {
    fn tests(&self) -> Vec<&'a str> {
        self.cell.split('`').skip(1).step_by(2).collect()
    }
}

/// The rows of all tables, without their heads.
fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines
        .filter_map(|line| {
            let (about, cell) = line
                .trim_matches(['|', ' '])
                .rsplit_once(" | ")
                .unwrap_or_else(|| panic!("no row of two cells: {line}"));
            (!about.starts_with("---") && cell != "tests").then_some(Row { about, cell })
        })
        .collect()
}

/// Collects the tests in the sources below a directory, named by file and function: a module of
/// tests within a file is not part of the name.
fn functions(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(directory).expect("list sources");
    for entry in entries.flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = match &*stem {
            "mod" => prefix.to_owned(),
            stem => format!("{prefix}{stem}::"),
        };
        if path.is_dir() {
            functions(&path, &name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("read a source");
            found.extend(declared(&text).map(|function| format!("{name}{function}")));
        }
    }
}

/// The names of the functions of a source that are tests: by attribute, or by `for_users!`.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    let mut attributed = false;
    text.lines().map(str::trim).filter_map(move |line| {
        attributed |= line == "#[test]";
        let function = line.strip_prefix("fn ")?;
        let is_test = std::mem::take(&mut attributed) || function.contains("(world) as [");
        is_test.then(|| function.split(['(', '<']).next())?
    })
}

#[test]
fn every_test_exists() {
    let tests = repository().join("tests");
    let text = std::fs::read_to_string(tests.join("dockerfile/COVERAGE.md")).expect("read it");
    let mut found = BTreeSet::new();
    functions(&tests, "", &mut found);
    for library in ["executor", "runtime"] {
        let sources = repository().join(library).join("src");
        functions(&sources, &format!("{library}::"), &mut found);
    }
    for group in corpus::groups() {
        let cases = corpus::read(&group, &[]).into_iter();
        found.extend(cases.map(|case| format!("corpus::{}", case.name)));
    }
    let rows = rows(&text);
    assert!(rows.len() > 90, "the tables were not understood");
    let mut about = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in &rows {
        if !about.insert(row.about) {
            wrong.push(format!("{}: twice", row.about));
        }
        if row.tests().is_empty() {
            wrong.push(format!("{}: no test", row.about));
        }
        for test in row.tests() {
            if !found.contains(test) {
                wrong.push(format!("{}: `{test}` does not exist", row.about));
            }
        }
    }
    assert!(wrong.is_empty(), "COVERAGE.md: {wrong:#?}");
}
