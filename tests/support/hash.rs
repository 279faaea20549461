//! SHA-256 as lower-case hexadecimal digits.
//!
//! Responsible for nothing else. Bytes pass through a fixed buffer, so that size doesn't matter.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Reads to the end; returns how many bytes there were and their digest.
///
/// # Errors
/// Those of the reader.
pub fn sha256_reader(mut reader: impl Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, hex(&hash.finalize())));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

/// Returns the digest of bytes.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
