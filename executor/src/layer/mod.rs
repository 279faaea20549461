//! Layers: directories as archives and back, and their compression.
//!
//! Must not know stores, registries or build steps. Everything that an archive says about a path
//! goes through [`runtime::path::Root`].

pub mod compress;
pub mod diff;
pub mod entry;
pub mod estargz;
mod gzip;
mod pax;
mod pool;
pub mod tar_apply;
pub mod tar_read;
pub mod tar_write;
mod xattr;

#[cfg(test)]
mod overlay_tests;
#[cfg(test)]
pub(crate) mod testing;
