//! SQLite's files (sqlite.org/fileformat2.html), as far as one table is read from first to last.
//!
//! What is only in a write-ahead log is not seen: rpm writes it back when it ends.

use std::collections::HashSet;
use std::fs::File;

use super::{MAX_HEADER, Visit, bytes, short, u32_be};

/// Types of pages of tables.
const LEAF: u8 = 13;
const INTERIOR: u8 = 5;
/// Bytes of the file's header, before the first page's own.
const HEAD: usize = 100;

fn u16_be(bytes: &[u8], at: usize) -> Result<usize, String> {
    let part = bytes.get(at..at + 2).and_then(|part| part.try_into().ok());
    part.map(|part| u16::from_be_bytes(part).into())
        .ok_or_else(short)
}

/// Reads a number of variable length; returns where it ends, too.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), String> {
    let mut value = 0_u64;
    for n in 0..9 {
        let byte = *bytes.get(at + n).ok_or_else(short)?;
        if n == 8 {
            return Ok((value << 8 | u64::from(byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Ok((value, at + n + 1));
        }
    }
    Err(short())
}

/// A column's value, of the kinds that are needed.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Splits a record into its columns.
fn columns(record: &[u8]) -> Result<Vec<Value<'_>>, String> {
    let (head, mut at) = varint(record, 0)?;
    let head = usize::try_from(head).map_err(|_| short())?;
    let mut body = record.get(head..).ok_or_else(short)?;
    let mut columns = Vec::new();
    while at < head {
        let (kind, end) = varint(record, at)?;
        at = end;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err("a column has no known kind".to_owned()),
            _ => (kind - 12) / 2,
        };
        let size = usize::try_from(size).map_err(|_| short())?;
        let value = body.get(..size).ok_or_else(short)?;
        body = &body[size..];
        columns.push(if kind < 12 {
            let constant = u64::from(kind == 9);
            Value::Number(value.iter().fold(constant, |n, b| n << 8 | u64::from(*b)))
        } else {
            Value::Bytes(value)
        });
    }
    Ok(columns)
}

struct Database<'a> {
    file: &'a File,
    page: usize,
    /// Bytes of a page that have content.
    usable: usize,
}

pub(super) fn read(file: &File, visit: Visit<'_>) -> Result<(), String> {
    let head = bytes(file, 0, HEAD)?;
    if !head.starts_with(b"SQLite format 3\0") {
        return Err("it has another format".to_owned());
    }
    let page = match u16_be(&head, 16)? {
        1 => 65_536,
        size => size,
    };
    let usable = page.saturating_sub(head[20].into());
    if !page.is_power_of_two() || page < 512 || usable < 480 {
        return Err(format!("its pages have {page} bytes"));
    }
    let database = Database { file, page, usable };
    let mut root = None;
    database.rows(1, &mut |record| {
        let columns = columns(record)?;
        if let [
            Value::Bytes(b"table"),
            Value::Bytes(b"Packages"),
            _,
            Value::Number(at),
            ..,
        ] = columns[..]
        {
            root = u32::try_from(at).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or("it has no table `Packages`")?;
    database.rows(root, &mut |record| {
        match columns(record)?[..] {
            // The number is the row's own, and not in the record.
            [_, Value::Bytes(blob), ..] => visit(blob),
            _ => Err("a package is no blob".to_owned()),
        }
    })
}

impl Database<'_> {
    fn page(&self, number: u32) -> Result<Vec<u8>, String> {
        let before = number.checked_sub(1).ok_or("it has a page number 0")?;
        bytes(self.file, u64::from(before) * self.page as u64, self.page)
    }

    /// Shows all rows of a table.
    fn rows(&self, root: u32, visit: Visit<'_>) -> Result<(), String> {
        let mut rest = vec![root];
        let mut seen = HashSet::new();
        while let Some(number) = rest.pop() {
            if !seen.insert(number) {
                return Err("its pages go round".to_owned());
            }
            let page = self.page(number)?;
            let head = if number == 1 { HEAD } else { 0 };
            let cells = u16_be(&page, head + 3)?;
            match page[head] {
                LEAF => {
                    for cell in 0..cells {
                        let at = u16_be(&page, head + 8 + 2 * cell)?;
                        visit(&self.payload(&page, at)?)?;
                    }
                }
                INTERIOR => {
                    let mut children = Vec::new();
                    for cell in 0..cells {
                        let at = u16_be(&page, head + 12 + 2 * cell)?;
                        children.push(u32_be(&page, at)?);
                    }
                    children.push(u32_be(&page, head + 8)?);
                    rest.extend(children.into_iter().rev());
                }
                _ => return Err("a page of its table is something else".to_owned()),
            }
        }
        Ok(())
    }

    /// Returns a row's record, which may go on in other pages.
    fn payload(&self, page: &[u8], at: usize) -> Result<Vec<u8>, String> {
        let (size, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let size = usize::try_from(size).map_err(|_| short())?;
        if size > MAX_HEADER {
            return Err(format!("a row has {size} bytes"));
        }
        let most = self.usable - 35;
        let local = if size <= most {
            size
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fitting = least + (size - least) % (self.usable - 4);
            if fitting <= most { fitting } else { least }
        };
        let mut record = page.get(at..at + local).ok_or_else(short)?.to_vec();
        let mut next = match size == local {
            true => 0,
            false => u32_be(page, at + local)?,
        };
        while next != 0 && record.len() < size {
            let page = self.page(next)?;
            next = u32_be(&page, 0)?;
            let part = page.get(4..self.usable).ok_or_else(short)?;
            record.extend_from_slice(&part[..part.len().min(size - record.len())]);
        }
        match record.len() == size {
            true => Ok(record),
            false => Err("a row is broken off".to_owned()),
        }
    }
}
