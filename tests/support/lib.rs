//! What the black-box tests and the benchmarks share: accounts to run as, peers to compare with,
//! base images, a registry, and a comparer of images.
//!
//! Responsible for the world around the programs under test. Must not use their libraries: what
//! is tested is only reached through its command line and the files it writes. Invariant: nothing
//! here makes a check pass because a tool is absent; what can't be run is said with [`skip`].

pub mod image;
