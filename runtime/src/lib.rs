//! The sandbox of sandcrab: identities, namespaces, root file systems, capabilities, seccomp.
//!
//! Synchronous; knows nothing of images, Dockerfiles or registries. Never prints and never reads
//! the environment. `unsafe` is confined to `sys` and the clone sites.

#![deny(unsafe_code)]

pub mod binfmt;
pub mod caps;
pub mod cgroup;
pub mod container;
pub mod error;
pub mod features;
pub mod hooks;
pub mod identity;
pub mod labels;
pub mod namespaces;
pub mod net_devices;
pub mod oci_features;
pub mod path;
mod process;
pub mod procfs;
pub mod rlimits;
pub mod rootfs;
pub mod sandbox;
pub mod scheduling;
pub mod seccomp;
pub mod signals;
pub mod spawner;
pub mod spec;
pub mod state;
#[expect(dead_code, reason = "nothing is forwarded to it yet")]
mod supervisor;
#[allow(unsafe_code, reason = "the one place for raw system calls")]
mod sys;
pub mod sysctl;
pub mod tty;
pub mod validate;
pub mod weaken;

pub use error::{Error, Result};
