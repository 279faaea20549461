//! Files to work with.
//!
//! Responsible for contents that are the same in every run. Must not know what they are for.

use std::io::Write as _;

use support::World;

/// A sequence of numbers that looks random, and is the same each time.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills a block with what doesn't compress.
    pub(super) fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// Fills a block with what compresses to about half.
    pub(super) fn fill_with_text(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(16) {
            let number = self.next();
            for (place, byte) in chunk.iter_mut().enumerate() {
                *byte = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
            }
        }
    }
}

/// Writes a file that doesn't compress.
pub(super) fn random(world: &World, name: &str, mebibytes: usize, seed: u64) {
    let path = world.write(name, "");
    let mut file = std::fs::File::create(path).expect("make a file");
    let mut numbers = Numbers::new(seed);
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        numbers.fill(&mut block);
        file.write_all(&block).expect("write a file");
    }
}
