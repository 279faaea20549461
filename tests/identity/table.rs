//! Tables of what is wanted, and the comparison of what a step printed with them.
//!
//! Responsible for `name=value` lines. Must not know what they mean. Invariant: every row was
//! printed exactly once, and nothing that no row speaks of.
//!
//! A table has a row on each line, `NAME = VALUE`. Braces make several rows of one: `a.{x,y} = 1`.
//! Where a range of subordinate ids can't do what is wanted, what it answers follows after ` | `.

use std::collections::BTreeMap;

use support::progress::parse;
use support::{Output, User, World};

/// Builds the context and compares all that its steps printed with a table.
#[track_caller]
pub(super) fn assert_printed(world: &World, table: &str) -> Output {
    let output = world.build(["--no-cache", "--network=none"]).ok();
    assert_output(world, &output.stderr, table);
    output
}

/// Compares all that the steps of a plain log printed with a table.
#[track_caller]
pub(super) fn assert_output(world: &World, log: &str, table: &str) {
    let mut printed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in parse(log).iter().flat_map(|vertex| &vertex.lines) {
        if let Some((name, value)) = line.split_once('=')
            && is_name(name)
        {
            printed
                .entry(name.to_owned())
                .or_default()
                .push(value.trim().to_owned());
        }
    }
    let mut wrong = Vec::new();
    for (name, wanted) in rows(table, world.user) {
        match printed.remove(&name).as_deref() {
            None => wrong.push(format!("{name}: wanted `{wanted}`, got nothing")),
            Some([value]) if *value == wanted => {}
            Some(values) => wrong.push(format!(
                "{name}: wanted `{wanted}`, got `{}`",
                values.join("`, `")
            )),
        }
    }
    wrong.extend(
        printed
            .iter()
            .map(|(name, values)| format!("{name}: no row for {values:?}")),
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}\n\nof:\n{log}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn is_name(text: &str) -> bool {
    let mark =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    !text.is_empty() && text.bytes().all(mark)
}

/// Returns a table's rows for a kind of user.
fn rows(table: &str, user: User) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once(" =")
            .unwrap_or_else(|| panic!("no row: {line}"));
        let value = match value.split_once(" |") {
            Some((_, ranged)) if user != User::Plain => ranged,
            Some((wanted, _)) => wanted,
            None => value,
        };
        rows.extend(
            expand(name.trim())
                .into_iter()
                .map(|name| (name, value.trim().to_owned())),
        );
    }
    rows
}

/// Expands braces as a shell does.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (list, after) = rest
        .split_once('}')
        .unwrap_or_else(|| panic!("an open brace: {name}"));
    list.split(',')
        .flat_map(|word| expand(&format!("{before}{word}{after}")))
        .collect()
}

#[test]
fn rows_are_expanded_and_chosen() {
    let table = "a.{x,y}.{1,2} = 3:4 | EINVAL\n\n b = c=d\n";
    let names = |user| {
        rows(table, user)
            .into_iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(User::Plain),
        ["a.x.1=3:4", "a.x.2=3:4", "a.y.1=3:4", "a.y.2=3:4", "b=c=d"]
    );
    assert_eq!(names(User::Subids)[3..], ["a.y.2=EINVAL", "b=c=d"]);
}

#[test]
#[should_panic(expected = "wanted `1`, got `2`")]
fn another_value_is_told() {
    if let Some(world) = User::Root
        .account()
        .ok()
        .and_then(|_| World::new(User::Root, "identity::table::told"))
    {
        assert_output(&world, "#1 [1/1] RUN x\n#1 0.1 name=2\n", "name = 1");
    } else {
        panic!("wanted `1`, got `2`, but only root can look");
    }
}
