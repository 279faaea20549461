//! Image documents: digests, references, platforms, configs, manifests.
//!
//! Pure data: bytes in, bytes out. Must not open files or sockets.

pub mod annotations;
pub mod config;
pub mod digest;
mod hasher;
pub mod manifest;
pub mod platform;
pub mod reference;
