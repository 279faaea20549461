//! Contents of files that tests and benchmarks build with.
//!
//! Responsible for bytes that look like what they are for and are the same each time. Must not write them.

/// A sequence of numbers that looks random, and is the same each time.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins one; each seed has its own.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills a block with what doesn't compress.
    pub fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// Fills a block with what compresses to about half.
    pub fn fill_with_text(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(16) {
            let number = self.next();
            for (place, byte) in chunk.iter_mut().enumerate() {
                *byte = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
            }
        }
    }
}

/// Returns bytes that don't compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Numbers::new(seed).fill(&mut bytes);
    bytes
}

/// Returns lines of which no two are the same, and which compress well.
pub fn lines(count: u64) -> String {
    (0..count).map(|n| format!("line {}\n", n * n)).collect()
}
