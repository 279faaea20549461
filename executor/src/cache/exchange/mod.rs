//! Caches that travel: what is said about steps to other stores.
//!
//! Responsible for the documents ([`mod@format`]) and for the options that name where they are
//! ([`options`]). Must not transfer anything: registries, layouts and images carry these documents
//! as they carry others.

pub mod format;
pub mod options;
