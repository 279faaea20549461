//! rpm's own database, ndb (rpm, lib/backend/ndb/rpmpkg.c).
//!
//! ```text
//! header   magic, version, generation, number of pages of slots; 32 bytes
//! slots    magic, package, block, number of blocks; 16 bytes each
//! blobs    at a block of 16 bytes: magic, package, generation, length; then the header
//! ```

use std::fs::File;

use super::{MAX_HEADER, Visit, bytes, u32_le};

const SLOT: usize = 16;
const PAGE: usize = 4096;
/// No database has more pages of slots.
const MAX_PAGES: usize = 1 << 10;

pub(super) fn read(file: &File, visit: Visit<'_>) -> Result<(), String> {
    let head = bytes(file, 0, 32)?;
    if &head[..4] != b"RpmP" {
        return Err("it has another format".to_owned());
    }
    let pages = u32_le(&head, 12)? as usize;
    if pages > MAX_PAGES {
        return Err(format!("it has {pages} pages of slots"));
    }
    for page in 0..pages {
        let slots = bytes(file, (page * PAGE) as u64, PAGE)?;
        // The header takes the place of the first two.
        let first = if page == 0 { 2 } else { 0 };
        for slot in slots.chunks_exact(SLOT).skip(first) {
            if &slot[..4] != b"Slot" {
                return Err("a slot is none".to_owned());
            }
            let (package, block) = (u32_le(slot, 4)?, u32_le(slot, 8)?);
            if package == 0 {
                continue;
            }
            let at = u64::from(block) * SLOT as u64;
            let head = bytes(file, at, SLOT)?;
            let length = u32_le(&head, 12)? as usize;
            if &head[..4] != b"BlbS" || u32_le(&head, 4)? != package || length > MAX_HEADER {
                return Err("a slot leads to something else".to_owned());
            }
            visit(&bytes(file, at + SLOT as u64, length)?)?;
        }
    }
    Ok(())
}
