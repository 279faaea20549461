//! Files to work with.
//!
//! Responsible for writing large ones piece by piece. Must not know what they are for.

use std::io::Write as _;

use support::World;
use support::content::Numbers;

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
