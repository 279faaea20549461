//! `list`: the containers under the state directory.

use std::ffi::OsStr;

use runtime::state::{Document, Listed, document};

use super::args::{Flag, Matches, Stop, invalid};
use super::context::Context;
use super::output;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "list",
    usage: "[OPTIONS]",
    about: "list containers",
    details: "Lists the containers of the directory that the global option --root names.",
    flags: &[&[
        Flag::value("format", "FORMAT", "`table` (default) or `json`").short(b'f'),
        Flag::switch("quiet", "show names only").short(b'q'),
    ]],
    arguments: (0, 0),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let table = format(matches)? == Format::Table;
    let root = context.open_root()?;
    let listed = root.list()?;
    if matches.switch("quiet") {
        let names = listed.iter().map(|entry| format!("{}\n", entry.id));
        return output::print(names.collect::<String>());
    }
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let mut records = Vec::with_capacity(listed.len());
    for Listed { id, found } in listed {
        let known = found.and_then(|(dir, record)| {
            let status = context.status_of(&record, &dir)?;
            Ok((record, status))
        });
        match known {
            Ok(known) => records.push(known),
            // One broken directory must not hide the others.
            Err(error) => context.log.warn(&format!(
                "container {id} can't be read: {}",
                super::log::render(&error.hint("`delete --force` removes it"))
            )),
        }
    }
    let documents: Vec<Document<'_>> = records
        .iter()
        .map(|(record, status)| Document {
            owner: user_name(&users, record.owner),
            ..document(record, *status)
        })
        .collect();
    if table {
        return output::print(render(&documents));
    }
    // runc's list is Go's nil when there is nothing, which Go writes as null.
    if documents.is_empty() {
        return output::print("null\n");
    }
    output::print_line(output::json(&documents)?)?;
    Ok(0)
}

/// How lists are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Columns.
    Table,
    /// A document.
    Json,
}

/// Reads `--format`.
///
/// # Errors
/// It is none of the two.
pub(super) fn format(matches: &Matches) -> runtime::Result<Format> {
    match matches.text("format")? {
        None | Some("table" | "") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some(other) => {
            let why = "it is neither table nor json";
            Err(invalid("format", OsStr::new(other), why))
        }
    }
}

/// Lays out columns as runc does: at least twelve wide, three blanks between them.
fn render(documents: &[Document<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = documents.iter().map(|it| {
        [
            it.id.to_string(),
            it.pid.to_string(),
            it.status.as_str().to_owned(),
            it.bundle.display().to_string(),
            it.created.to_owned(),
            it.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                text += cell;
                continue;
            }
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            let width = (widest.unwrap_or(0) + 3).max(12);
            text += &format!("{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

/// Finds the name of a user in passwd(5); `#ID`, as runc writes it, when there is none.
fn user_name(users: &[u8], id: u32) -> String {
    let id = id.to_string();
    let name = users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == id.as_bytes()).then_some(name)
    });
    match name {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => format!("#{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users() {
        let users = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100::/:\n";
        assert_eq!(user_name(users, 0), "root");
        assert_eq!(user_name(users, 1000), "ann");
        assert_eq!(user_name(users, 100), "#100");
    }

    #[test]
    fn an_empty_table_has_its_head() {
        // As runc 1.1.5 prints it.
        let head = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(render(&[]), head);
    }
}
