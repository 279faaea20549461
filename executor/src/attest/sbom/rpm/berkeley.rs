//! Berkeley DB's hash tables, as rpm used them until version 4.16 (db, src/dbinc/db_page.h).
//!
//! Pages of entries have keys and values in turn. A value that is large is in a chain of pages of its own,
//! and all headers are; what is not is rpm's own counter.

use std::fs::File;

use super::{MAX_HEADER, Visit, bytes, short, u32_le};

const MAGIC: u32 = 0x0006_1561;
/// Types of pages: hash tables, sorted or not, and parts of large values.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// The type of an entry that is elsewhere.
const OFF_PAGE: u8 = 3;
/// Bytes before a page's entries or data.
const HEAD: usize = 26;

fn u16_le(bytes: &[u8], at: usize) -> Result<usize, String> {
    let part = bytes.get(at..at + 2).and_then(|part| part.try_into().ok());
    part.map(|part| u16::from_le_bytes(part).into())
        .ok_or_else(short)
}

pub(super) fn read(file: &File, visit: Visit<'_>) -> Result<(), String> {
    let head = bytes(file, 0, 512)?;
    match u32_le(&head, 12)? {
        MAGIC => {}
        other if other.swap_bytes() == MAGIC => {
            return Err("it was written on a machine with another byte order".to_owned());
        }
        _ => return Err("it has another format".to_owned()),
    }
    let size = u32_le(&head, 20)? as usize;
    if !size.is_power_of_two() || !(512..=65_536).contains(&size) {
        return Err(format!("its pages have {size} bytes"));
    }
    let last = u32_le(&head, 32)?;
    let page = |number: u32| bytes(file, u64::from(number) * size as u64, size);
    for number in 1..=last {
        let entries = page(number)?;
        if !matches!(entries[25], HASH | HASH_UNSORTED) {
            continue;
        }
        for value in (1..u16_le(&entries, 20)?).step_by(2) {
            let at = u16_le(&entries, HEAD + 2 * value)?;
            if entries.get(at) != Some(&OFF_PAGE) {
                continue;
            }
            let (mut next, length) = (
                u32_le(&entries, at + 4)?,
                u32_le(&entries, at + 8)? as usize,
            );
            if length > MAX_HEADER {
                return Err(format!("a package has {length} bytes"));
            }
            let mut blob = Vec::with_capacity(length);
            // Each page gives something, so that a loop ends.
            while next != 0 && blob.len() < length {
                let part = page(next)?;
                let used = u16_le(&part, 22)?;
                if part[25] != OVERFLOW || used == 0 {
                    return Err("a package is broken off".to_owned());
                }
                blob.extend_from_slice(part.get(HEAD..HEAD + used).ok_or_else(short)?);
                next = u32_le(&part, 16)?;
            }
            visit(&blob)?;
        }
    }
    Ok(())
}
