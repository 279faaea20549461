//! The sandbox of sandcrab: identities, namespaces, root file systems, capabilities, seccomp.
//!
//! Synchronous; knows nothing of images, Dockerfiles or registries. Never prints and never reads
//! the environment. `unsafe` is confined to [`mod@sys`] and the clone site.

#![deny(unsafe_code)]

pub mod identity;
pub mod path;
