//! Sequences of changes, here and in the kernel.

use proptest::prelude::*;

use super::{change_both, changes, config, in_thread, is_root};

#[test]
fn changes_are_the_kernels() {
    if !is_root() {
        return;
    }
    proptest!(config(600), |(changes in changes(24))| {
        in_thread(move || change_both(&changes))?;
    });
}
