//! Outputs: what a build leaves outside of the store.
//!
//! Responsible for archives, directories and the documents that describe a result. Must not run
//! steps or talk to registries; [`assemble`] prepares what a registry needs. Invariant: a
//! destination has the whole result or what was there before, and the same image gives the same
//! bytes.

pub mod archive;
pub mod assemble;
pub mod cache;
pub mod destination;
pub mod layout;
pub mod local;
pub mod metadata;
pub mod options;
pub mod packing;
pub mod tar;
pub mod transcode;
