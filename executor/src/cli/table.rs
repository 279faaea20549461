//! Tables and JSON lines: the forms in which commands list things.
//!
//! Responsible for aligning columns as Docker does (three spaces between them). Must not know
//! what is listed.

use std::io::Write;
use std::str::FromStr;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::error::{Error, Kind, Result, ResultExt};

const GAP: usize = 3;

/// The value of `--format` of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ListFormat {
    /// Aligned columns under a heading.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

impl FromStr for ListFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ if text.contains("{{") => Err(Error::new(format!(
                "unsupported format `{text}`: listings have no templates"
            ))
            .kind(Kind::Usage)
            .hint("use --format json, and jq to pick fields")),
            _ => Err(Error::new(format!("unknown format `{text}`"))
                .kind(Kind::Usage)
                .hint("formats are table and json")),
        }
    }
}

/// Writes rows under a heading.
pub(super) fn write_table(
    out: &mut dyn Write,
    heading: &[&str],
    rows: &[Vec<String>],
) -> Result<()> {
    let mut widths: Vec<usize> = heading.iter().map(|h| h.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut text = String::new();
    let heading: Vec<String> = heading.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        for (i, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < row.len() {
                let pad = widths.get(i).unwrap_or(&0) + GAP - cell.width();
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.push('\n');
    }
    write(out, text.as_bytes())
}

/// Writes one JSON object a line.
pub(super) fn write_json_lines<T: Serialize>(out: &mut dyn Write, values: &[T]) -> Result<()> {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, value).op("encode output")?;
        bytes.push(b'\n');
    }
    write(out, &bytes)
}

/// Writes data to standard output or what stands for it.
pub(super) fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .op("write output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        let rows = [
            vec!["long name".to_owned(), "1".into()],
            vec!["é".to_owned(), "2".into()],
        ];
        write_table(&mut out, &["NAME", "SIZE"], &rows).expect("table");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "NAME        SIZE\nlong name   1\né           2\n");
    }

    #[test]
    fn templates_are_refused_by_name() {
        let error = "{{.ID}}".parse::<ListFormat>().expect_err("template");
        assert!(error.to_string().contains("{{.ID}}"), "{error}");
    }
}
